//! The loop that this server grew from: read a message, print who sent what,
//! write it back, and end at the first error.

use std::fmt;
use std::io::{self, Write};
use std::sync::Once;

use ringback::{Message, MessageSocket};

/// Echoes the messages of one connection and prints each on stdout.
pub(crate) async fn echo_and_print(mut socket: MessageSocket) {
    while let Ok(message) = socket.read_message().await {
        if let Err(error) = print(&socket, &message) {
            // Once, not for every message that somebody cares to send.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(%error, "stdout is gone, so messages are no longer printed");
            });
        }
        if socket.write_message(&message).await.is_err() {
            break;
        }
    }
}

fn print(socket: &MessageSocket, message: &Message) -> io::Result<()> {
    let peer = socket.peer();
    let mut stdout = io::stdout().lock();
    match message {
        Message::Text(text) => writeln!(stdout, "{peer} sent: {}", OneLine(text))?,
        Message::Binary(bytes) => writeln!(stdout, "{peer} sent: {} bytes", bytes.len())?,
    }
    stdout.flush()
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
