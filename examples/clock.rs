//! A server that sends by itself, for as long as the client stays:
//!
//! ```text
//! cargo run --example clock
//! ```

use std::time::Duration;

use ringback::{CloseCode, Config, Error, Handler, MessageSocket, Server};
use tokio::time::{Instant, interval};

fn main() -> Result<(), Error> {
    let config = Config::default();
    println!("a clock ticks at ws://{}", config.listen[0]);
    let handler = handler(Duration::from_secs(1));
    Server::builder(config).handler(handler).run()
}

pub(crate) fn handler(period: Duration) -> Handler {
    Handler::new(move |socket| tick(socket, period))
}

async fn tick(socket: MessageSocket, period: Duration) {
    let (sender, mut receiver) = socket.split();
    let draining = sender.draining();
    let ticking = async {
        let start = Instant::now();
        let mut interval = interval(period);
        loop {
            let elapsed = interval.tick().await - start;
            let line = format!("{} ms", elapsed.as_millis());
            if sender.send_text(line).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = ticking => {}
        // What the client sends is of no interest, but for its end.
        () = async { while let Some(Ok(_)) = receiver.recv().await {} } => {}
        () = draining => sender.close(CloseCode::GOING_AWAY, "the clock stops").await,
    }
}
