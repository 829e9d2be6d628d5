//! The loop that this server grew from: read a message, print who sent what,
//! write it back, and end at the first error.

use std::fmt;

use ringback::{Message, MessageSocket, output};
use serde_json::Value;
use tracing::Level;

use crate::logging::{Format, object};

/// Echoes the messages of one connection and prints each on stdout.
pub(crate) async fn echo_and_print(mut socket: MessageSocket, format: Format) {
    while let Ok(message) = socket.read_message().await {
        output::stdout().push(line(&socket, &message, format).as_bytes());
        if socket.write_message(&message).await.is_err() {
            break;
        }
    }
}

fn line(socket: &MessageSocket, message: &Message, format: Format) -> String {
    let peer = socket.peer();
    match (message, format) {
        (Message::Text(text), Format::Text) => format!("{peer} sent: {}\n", OneLine(text)),
        (Message::Binary(bytes), Format::Text) => format!("{peer} sent: {} bytes\n", bytes.len()),
        (message, Format::Json) => {
            let sent: (&str, Value) = match message {
                Message::Text(text) => ("text", (&**text).into()),
                Message::Binary(bytes) => ("bytes", bytes.len().into()),
            };
            let fields = [("peer", peer.to_string().into()), sent];
            let fields = fields.map(|(name, value)| (name.to_owned(), value));
            object(Level::INFO, "sent", fields.into_iter().collect())
        }
    }
}

/// Text as it is, but without the control characters with which a peer could
/// write lines of its own or talk to the terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(char::is_control) {
            let plain = piece.trim_end_matches(char::is_control);
            write!(f, "{plain}{}", piece[plain.len()..].escape_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_printed_as_it_is_on_one_line() {
        let shown = |text| OneLine(text).to_string();
        assert_eq!(shown("Grüße, \"Welt\" \\ 🦀"), "Grüße, \"Welt\" \\ 🦀");
        assert_eq!(shown("a\nb\r\n"), "a\\nb\\r\\n");
        assert_eq!(shown("\u{1b}[2J\u{7f}"), "\\u{1b}[2J\\u{7f}");
        assert_eq!(shown(""), "");
    }
}
