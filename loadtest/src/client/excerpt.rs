//! Excerpts of received bytes, for one line of a report.

use std::fmt::Write;

/// The most bytes that are quoted.
const EXCERPT_LEN_MAX: usize = 48;

/// The first bytes: quoted if they are text, else in hexadecimal, without control characters.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let part = &bytes[..bytes.len().min(EXCERPT_LEN_MAX)];
    let more = if part.len() < bytes.len() { "…" } else { "" };
    if let Some(text) = text_of(part, !more.is_empty()) {
        return format!("\"{}\"{more}", text.escape_debug());
    }
    let mut hex = String::from("0x");
    for byte in &part[..part.len().min(EXCERPT_LEN_MAX / 3)] {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    let is_cut = bytes.len() > EXCERPT_LEN_MAX / 3;
    hex + if is_cut { "…" } else { "" }
}

/// The text that these bytes are. A character that the excerpt cuts is left out.
fn text_of(bytes: &[u8], is_cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_and_other_bytes_are_hexadecimal() {
        assert_eq!(excerpt(b""), "\"\"");
        assert_eq!(excerpt("say \"hö\"\r\n".as_bytes()), r#""say \"hö\"\r\n""#);
        assert_eq!(excerpt(&[0x82, 0x7e, 0x01]), "0x827e01");
        assert_eq!(excerpt(b"\x1b[2J"), "0x1b5b324a");
    }

    #[test]
    fn long_text_is_cut_at_a_character_boundary() {
        let text = "ö".repeat(100);
        assert_eq!(excerpt(text.as_bytes()), format!("\"{}\"…", "ö".repeat(24)));
        let odd = format!("a{text}");
        assert_eq!(excerpt(odd.as_bytes()), format!("\"a{}\"…", "ö".repeat(23)));
        let bytes = [0xff; 100];
        assert_eq!(excerpt(&bytes), format!("0x{}…", "ff".repeat(16)));
    }
}
