//! Validation of UTF-8 that arrives in pieces cut anywhere.

use std::ops::Range;
use std::str;

use super::violation::Violation;

/// The validator's memory between two pieces: the bytes of a sequence that
/// was cut, at most three of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    cut: [u8; 3],
    cut_len: u8,
}

/// The bytes so far cannot be the start of any UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

impl Utf8 {
    /// A validator at the start of a text.
    pub const fn new() -> Self {
        Self {
            cut: [0; 3],
            cut_len: 0,
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Invalid`] as soon as a byte is wrong, even in a sequence that is not
    /// complete yet.
    #[inline]
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), Invalid> {
        if self.cut_len > 0 {
            piece = self.complete_cut(piece)?;
        }
        let Err(error) = simdutf8::compat::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        self.keep(&piece[error.valid_up_to()..]);
        Ok(())
    }

    /// Takes the next piece, of which is known that it is ASCII.
    ///
    /// # Errors
    /// [`Invalid`] if it comes where a cut sequence has to go on.
    #[inline]
    pub const fn feed_ascii(&self, piece: &[u8]) -> Result<(), Invalid> {
        if self.is_complete() || piece.is_empty() {
            Ok(())
        } else {
            Err(Invalid)
        }
    }

    /// Whether the text may end here, that is, between two characters.
    #[inline]
    pub const fn is_complete(&self) -> bool {
        self.cut_len == 0
    }

    /// Ends the cut sequence with bytes of `piece`; returns those behind it.
    fn complete_cut<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Invalid> {
        let mut sequence = [0; 4];
        let mut len = usize::from(self.cut_len);
        sequence[..len].copy_from_slice(&self.cut[..len]);
        for (taken, &byte) in piece.iter().enumerate() {
            sequence[len] = byte;
            len += 1;
            match str::from_utf8(&sequence[..len]) {
                Ok(_) => {
                    self.cut_len = 0;
                    return Ok(&piece[taken + 1..]);
                }
                Err(error) if error.error_len().is_some() => return Err(Invalid),
                // No sequence is longer than four bytes, so with the fourth it
                // is either complete or wrong and the loop has ended.
                Err(_) => {}
            }
        }
        self.keep(&sequence[..len]);
        Ok(&[])
    }

    fn keep(&mut self, cut: &[u8]) {
        self.cut[..cut.len()].copy_from_slice(cut);
        self.cut_len = u8::try_from(cut.len()).expect("a cut sequence has at most three bytes");
    }
}

/// Shorter texts, at which simdutf8 looks byte by byte, take less time filled up
/// with zeros to the length that it handles in one go. A character that is not
/// complete is as wrong before a zero as at the end.
const FILLED_UP: Range<usize> = 24..64;

/// Checks a text that is there in one piece.
///
/// # Errors
/// [`Violation::InvalidText`].
pub fn check_whole(text: &[u8]) -> Result<(), Violation> {
    let checked = if FILLED_UP.contains(&text.len()) {
        let mut chunk = [0; FILLED_UP.end];
        chunk[..text.len()].copy_from_slice(text);
        simdutf8::basic::from_utf8(&chunk).is_ok()
    } else {
        simdutf8::basic::from_utf8(text).is_ok()
    };
    if checked {
        Ok(())
    } else {
        Err(Violation::InvalidText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` cut at `cuts`; what a peer would be told, and at which byte.
    fn feed(pieces: &[&[u8]]) -> Result<bool, Invalid> {
        let mut utf8 = Utf8::new();
        for piece in pieces {
            utf8.feed(piece)?;
        }
        Ok(utf8.is_complete())
    }

    const SAMPLES: [&[u8]; 12] = [
        b"",
        b"plain ASCII, longer than one vector register of sixteen bytes",
        "κόσμε".as_bytes(),
        "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        b"\xc0\xaf",         // overlong
        b"\xed\xa0\x80",     // a surrogate
        b"\xf4\x90\x80\x80", // beyond U+10FFFF
        b"\xf8\x88\x80\x80", // five bytes were never valid
        b"abc\x80",          // a continuation of nothing
        b"ab\xe2\x82",       // cut at the end
        b"\xf0\x9f\x98",     // cut at the end
        b"a\xffb",
    ];

    #[test]
    fn every_cut_gives_the_answer_of_the_whole() {
        for sample in SAMPLES {
            let whole = feed(&[sample]);
            let std_says = match str::from_utf8(sample) {
                Ok(_) => Ok(true),
                Err(error) if error.error_len().is_none() => Ok(false),
                Err(_) => Err(Invalid),
            };
            assert_eq!(whole, std_says, "{sample:x?}");
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let pieces = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(feed(&pieces), whole, "{sample:x?} at {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn a_text_in_one_piece_is_judged_as_the_standard_library_does() {
        for sample in SAMPLES {
            for before in 0..140 {
                for after in [0, 1, 40] {
                    let text = [&vec![b'x'; before], sample, &vec![b'y'; after]].concat();
                    let expected = str::from_utf8(&text).map_err(|_| Violation::InvalidText);
                    assert_eq!(check_whole(&text), expected.map(|_| ()), "{text:x?}");
                }
            }
        }
    }

    #[test]
    fn ascii_is_refused_where_a_character_has_to_go_on() {
        let mut utf8 = Utf8::new();
        assert_eq!(utf8.feed_ascii(b"plain"), Ok(()));
        utf8.feed(b"\xe2").expect("the start of a character");
        assert_eq!(utf8.feed_ascii(b""), Ok(()));
        assert_eq!(utf8.feed_ascii(b"x"), Err(Invalid));
        utf8.feed(b"\x82\xac").expect("the rest of it");
        assert_eq!(utf8.feed_ascii(b"x"), Ok(()));
    }

    #[test]
    fn the_first_wrong_byte_is_refused_at_once() {
        for sample in SAMPLES {
            let Err(error) = str::from_utf8(sample) else {
                continue;
            };
            if error.error_len().is_none() {
                continue;
            }
            let mut utf8 = Utf8::new();
            let refused = sample
                .iter()
                .position(|&byte| utf8.feed(&[byte]).is_err())
                .expect("refused");
            let shortest = (1..=sample.len())
                .find(|&len| {
                    str::from_utf8(&sample[..len]).is_err_and(|error| error.error_len().is_some())
                })
                .expect("wrong somewhere");
            assert_eq!(refused + 1, shortest, "{sample:x?}");
        }
    }
}
