//! A handler that changes the message before it answers:
//!
//! ```text
//! cargo run --example shout
//! ```

use ringback::{Config, Error, Message, serve};

fn main() -> Result<(), Error> {
    let config = Config::default();
    println!("shouting on ws://{}", config.listen[0]);
    serve(config, async |mut socket| {
        // An error ends the loop; the connection is closed by then.
        while let Ok(message) = socket.read_message().await {
            let answer = match message {
                Message::Text(text) => Message::Text(text.to_uppercase()),
                Message::Binary(mut bytes) => {
                    bytes.reverse();
                    Message::Binary(bytes)
                }
            };
            if socket.write_message(&answer).await.is_err() {
                break;
            }
        }
    })
}
