//! An echo that changes what it sends back:
//!
//! ```text
//! cargo run --example shout
//! ```

use ringback::{Config, Error, Handler, Message, Server};

fn main() -> Result<(), Error> {
    let config = Config::default();
    println!("shouting on ws://{}", config.listen[0]);
    Server::builder(config).handler(handler()).run()
}

pub(crate) fn handler() -> Handler {
    Handler::new(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let answer: Message = match message {
                Message::Text(text) => text.to_uppercase().into(),
                Message::Binary(bytes) => bytes.iter().rev().copied().collect::<Vec<_>>().into(),
            };
            if socket.send(answer).await.is_err() {
                break;
            }
        }
    })
}
