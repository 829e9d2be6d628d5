//! The colors of verdicts on a terminal.

use crate::verdict::Verdict;

/// Gives text the color of a verdict, where colors are allowed.
pub fn paint(text: &str, verdict: Verdict, color: bool) -> String {
    let code = match verdict {
        Verdict::Valid => "32",
        Verdict::Suspect => "33",
        Verdict::Invalid => "1;31",
    };
    if color {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_colors_where_they_are_allowed() {
        assert_eq!(paint("x", Verdict::Valid, true), "\x1b[32mx\x1b[0m");
        assert_eq!(paint("x", Verdict::Invalid, true), "\x1b[1;31mx\x1b[0m");
        assert_eq!(paint("x", Verdict::Suspect, false), "x");
    }
}
