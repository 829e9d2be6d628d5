//! `--print-messages`: a handler that prints and echoes each message.

use std::borrow::Cow;
use std::fmt;

use ringback::binary::output;
use ringback::{Message, MessageSocket};
use serde_json::Value;
use tracing::Level;

use crate::cli::logging::{LogFormat, object};

/// Most bytes of a text that are printed: a longer line would delay other
/// connections, and crowd out their lines.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Echoes the messages of one connection, and prints each on stdout.
pub(crate) async fn echo_and_print(mut socket: MessageSocket, format: LogFormat) {
    while let Ok(message) = socket.read_message().await {
        output::stdout().push(line(&socket, &message, format).as_bytes());
        if socket.write_message(&message).await.is_err() {
            break;
        }
    }
}

fn line(socket: &MessageSocket, message: &Message, format: LogFormat) -> String {
    let peer = socket.peer();
    match (message, format) {
        (Message::Text(text), LogFormat::Text) => format!("{peer} sent: {}\n", OneLine(&cut(text))),
        (Message::Binary(bytes), LogFormat::Text) => {
            format!("{peer} sent: {} bytes\n", bytes.len())
        }
        (message, LogFormat::Json) => {
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

/// The first [`TEXT_BYTES_MAX`] bytes of a text, with `…` if there are more.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text.into();
    }
    let mut ends = (0..=TEXT_BYTES_MAX).rev();
    let end = ends.find(|&end| text.is_char_boundary(end));
    format!("{}…", &text[..end.unwrap_or(0)]).into()
}

/// Text with its control characters escaped: a peer could forge lines with them, or
/// control the terminal.
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
    fn control_characters_are_escaped_and_other_text_is_unchanged() {
        let shown = |text| OneLine(text).to_string();
        assert_eq!(shown("Grüße, \"Welt\" \\ 🦀"), "Grüße, \"Welt\" \\ 🦀");
        assert_eq!(shown("a\nb\r\n"), "a\\nb\\r\\n");
        assert_eq!(shown("\u{1b}[2J\u{7f}"), "\\u{1b}[2J\\u{7f}");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn text_is_cut_at_its_limit_between_characters() {
        let longest = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&longest), longest);
        assert_eq!(cut(&format!("{longest}x")), format!("{longest}…"));
        let within = format!("{}🦀", &longest[1..]);
        assert_eq!(cut(&within), format!("{}…", &longest[1..]));
    }
}
