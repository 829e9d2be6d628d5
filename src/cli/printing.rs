//! The loop that this server grew from: read a message, print who sent what,
//! write it back, and end at the first error.

use std::borrow::Cow;
use std::fmt;

use ringback::{Message, MessageSocket, output};
use serde_json::Value;
use tracing::Level;

use crate::cli::logging::{Format, object};

/// Bytes of a text that are printed, so that nobody's message keeps the other
/// connections waiting, or hides the lines of others.
const TEXT_BYTES_MAX: usize = 64 * 1024;

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
        (Message::Text(text), Format::Text) => format!("{peer} sent: {}\n", OneLine(&cut(text))),
        (Message::Binary(bytes), Format::Text) => format!("{peer} sent: {} bytes\n", bytes.len()),
        (message, Format::Json) => {
            let sent: (&str, Value) = match message {
                Message::Text(text) => ("text", (&*cut(text)).into()),
                Message::Binary(bytes) => ("bytes", bytes.len().into()),
            };
            let fields = [("peer", peer.to_string().into()), sent];
            let fields = fields.map(|(name, value)| (name.to_owned(), value));
            object(Level::INFO, "sent", fields.into_iter().collect())
        }
    }
}

/// As much of a text as is printed. A longer one ends in `…`.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text.into();
    }
    let mut ends = (0..=TEXT_BYTES_MAX).rev();
    let end = ends.find(|&end| text.is_char_boundary(end));
    format!("{}…", &text[..end.unwrap_or(0)]).into()
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

    #[test]
    fn a_long_text_is_cut() {
        let longest = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&longest), longest);
        assert_eq!(cut(&format!("{longest}x")), format!("{longest}…"));
        let within = format!("{}🦀", &longest[1..]);
        assert_eq!(cut(&within), format!("{}…", &longest[1..]));
    }
}
