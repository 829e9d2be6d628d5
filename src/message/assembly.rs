//! A long message, made whole bit by bit: others get their turn in between.

use std::mem;

use super::Message;
use crate::net::byte_queue::ByteQueue;
use crate::proto::Violation;

/// Bytes that are moved, or written, in one turn.
pub(super) const BYTES_PER_TURN: usize = 1024 * 1024;

/// Bytes of a character, at most.
const CHARACTER_BYTES_MAX: usize = 4;

/// A message all of which has come.
#[derive(Debug)]
pub(super) struct Assembly {
    pieces: ByteQueue,
    whole: Whole,
}

/// As much of the message as was moved.
#[derive(Debug)]
enum Whole {
    Binary(Vec<u8>),
    Text {
        text: String,
        /// A character that ends in the next piece.
        cut: Vec<u8>,
    },
}

impl Assembly {
    pub(super) fn binary(pieces: ByteQueue) -> Self {
        let whole = Whole::Binary(Vec::with_capacity(pieces.len()));
        Self { pieces, whole }
    }

    pub(super) fn text(pieces: ByteQueue) -> Self {
        let whole = Whole::Text {
            text: String::with_capacity(pieces.len()),
            cut: Vec::new(),
        };
        Self { pieces, whole }
    }

    /// Bytes of memory that are in use.
    pub(super) fn held(&self) -> usize {
        let whole = match &self.whole {
            Whole::Binary(bytes) => bytes.len(),
            Whole::Text { text, .. } => text.len(),
        };
        self.pieces.capacity() + whole
    }

    /// Does a turn's work; the message, once it is whole.
    ///
    /// # Errors
    /// The text is no UTF-8.
    pub(super) fn advance(&mut self) -> Result<Option<Message>, Violation> {
        let mut left = BYTES_PER_TURN;
        while left > 0 && !self.pieces.is_empty() {
            let piece = self.pieces.front();
            let len = piece.len().min(left);
            self.whole.push(&piece[..len])?;
            self.pieces.advance(len);
            left -= len;
        }
        if self.pieces.is_empty() {
            self.whole.take().map(Some)
        } else {
            Ok(None)
        }
    }
}

impl Whole {
    fn push(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let (text, cut) = match self {
            Self::Binary(bytes) => {
                bytes.extend_from_slice(piece);
                return Ok(());
            }
            Self::Text { text, cut } => (text, cut),
        };
        let mut piece = piece;
        while let (false, [next, rest @ ..]) = (cut.is_empty(), piece) {
            cut.push(*next);
            piece = rest;
            if let Ok(character) = str::from_utf8(cut) {
                text.push_str(character);
                cut.clear();
            } else if cut.len() >= CHARACTER_BYTES_MAX {
                return Err(Violation::InvalidText);
            }
        }
        let (whole, rest) = piece.split_at(piece.len() - unfinished(piece));
        text.push_str(simdutf8::basic::from_utf8(whole).map_err(|_utf8| Violation::InvalidText)?);
        cut.extend_from_slice(rest);
        Ok(())
    }

    fn take(&mut self) -> Result<Message, Violation> {
        match self {
            Self::Binary(bytes) => Ok(Message::Binary(mem::take(bytes))),
            Self::Text { text, cut } if cut.is_empty() => Ok(Message::Text(mem::take(text))),
            Self::Text { .. } => Err(Violation::InvalidText),
        }
    }
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3);
    let Some(back) = last
        .clone()
        .position(|byte| byte & 0b1100_0000 != 0b1000_0000)
    else {
        return 0;
    };
    let first = bytes[bytes.len() - 1 - back];
    let len = first.leading_ones() as usize;
    if len > back + 1 { back + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(bytes: &[u8]) -> ByteQueue {
        let mut queue = ByteQueue::default();
        queue.push(bytes);
        queue
    }

    fn assemble(mut assembly: Assembly) -> (Result<Message, Violation>, usize) {
        for turn in 1.. {
            match assembly.advance() {
                Ok(None) => {}
                Ok(Some(message)) => return (Ok(message), turn),
                Err(violation) => return (Err(violation), turn),
            }
        }
        unreachable!("it ends");
    }

    #[test]
    fn characters_are_cut_anywhere() {
        let long = "aé日🦀".repeat(BYTES_PER_TURN / 3);
        for start in ["", "a", "ab", "abc"] {
            let text = format!("{start}{long}");
            let (message, turns) = assemble(Assembly::text(queue(text.as_bytes())));
            assert_eq!(turns, text.len().div_ceil(BYTES_PER_TURN));
            assert!(message == Ok(Message::Text(text.clone())));
            let (message, _) = assemble(Assembly::binary(queue(text.as_bytes())));
            assert!(message == Ok(Message::Binary(text.into_bytes())));
        }
    }

    #[test]
    fn pieces_of_a_byte_are_characters_in_the_end() {
        let text = "aé日🦀z";
        let mut whole = Whole::Text {
            text: String::new(),
            cut: Vec::new(),
        };
        for byte in text.bytes() {
            whole.push(&[byte]).expect("valid so far");
        }
        assert_eq!(whole.take(), Ok(Message::Text(text.to_owned())));
    }

    #[test]
    fn what_is_no_text_is_none_here_too() {
        for wrong in ["a\u{ff}b", "🦀"].map(str::as_bytes) {
            let end = wrong.len() - 1;
            let wrong = [&wrong[..end], b"\xff\xff\xff\xff"].concat();
            let (message, _) = assemble(Assembly::text(queue(&wrong)));
            assert_eq!(message, Err(Violation::InvalidText));
        }
        let (message, _) = assemble(Assembly::text(queue(&"🦀".as_bytes()[..3])));
        assert_eq!(message, Err(Violation::InvalidText));
    }
}
