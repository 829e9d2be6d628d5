//! A room in which everybody hears everybody, whichever worker serves them:
//!
//! ```text
//! cargo run --example chat
//! ```
//!
//! A client says who it is in its request: `ws://127.0.0.1:9001/?ada`.

use ringback::handler::{Request, StatusCode};
use ringback::{Config, Error, Handler, Message, MessageSocket, Server, Utf8Bytes};
use tokio::sync::broadcast::{self, error::RecvError};

/// Lines that a client may be behind.
const LINES: usize = 1024;

type Room = broadcast::Sender<Utf8Bytes>;

fn main() -> Result<(), Error> {
    let config = Config::default();
    println!("a room is open at ws://{}/?NAME", config.listen[0]);
    Server::builder(config).handler(handler()).run()
}

pub(crate) fn handler() -> Handler {
    let room = Room::new(LINES);
    Handler::new(move |socket| talk(socket, room.clone())).accepting(has_name)
}

fn has_name(request: &Request) -> Result<(), StatusCode> {
    match request.query() {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

async fn talk(mut socket: MessageSocket, room: Room) {
    let mut lines = room.subscribe();
    let name = socket.request().query().unwrap_or_default().to_owned();
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    // This client hears it, so that there is somebody.
                    let _ = room.send(format!("{name}: {text}").into());
                }
                Some(Ok(Message::Binary(_))) => {}
                Some(Err(_)) | None => break,
            },
            line = lines.recv() => match line {
                Ok(line) => if socket.send(line).await.is_err() {
                    break;
                },
                // It has missed some lines, and goes on with the next one.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
        }
    }
}
