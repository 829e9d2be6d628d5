//! Properties of terminals, and text for them.

use std::env;
use std::os::fd::AsFd;

use rustix::termios::{isatty, tcgetwinsize};

/// The width of a terminal that does not report one.
pub const COLUMNS_DEFAULT: usize = 80;

/// Whether colors may be used on a stream: it is a terminal with control sequences, and
/// `NO_COLOR` is not set (<https://no-color.org>).
pub fn color_allowed(stream: impl AsFd) -> bool {
    is_terminal(stream) && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether a stream is a terminal that can do more than print line after line.
pub fn is_terminal(stream: impl AsFd) -> bool {
    isatty(stream) && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The number of characters that fit on a line of a stream.
pub fn columns(stream: impl AsFd) -> usize {
    match tcgetwinsize(stream) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => COLUMNS_DEFAULT,
    }
}

/// Replaces control characters: errors may quote a server's bytes, which must not control the
/// terminal.
pub fn sanitized(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Text in lines of a width, broken between words. A word that is longer has a
/// line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let len = line.chars().count() + 1 + word.chars().count();
        if len > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        } else if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_is_no_terminal() {
        let file = File::open("/dev/null").unwrap();
        assert!(!is_terminal(&file));
        assert!(!color_allowed(&file));
        assert_eq!(columns(&file), COLUMNS_DEFAULT);
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("ab cd", 5), ["ab cd"]);
        assert_eq!(wrapped("ab cde f", 5), ["ab", "cde f"]);
        assert_eq!(wrapped("a bcdefgh i", 3), ["a", "bcdefgh", "i"]);
        assert_eq!(wrapped("a   b", 9), ["a   b"], "blanks stay");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(sanitized("a\x1b[2Jb\r\nµ"), "a [2Jb  µ");
    }
}
