//! Whole messages, and one that is still being received.

use std::fmt;
use std::ops::Deref;
use std::str::{self, Utf8Error};

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

use crate::proto::Violation;
use crate::proto::sequence::Kind;
use crate::proto::utf8::Utf8;

/// Bytes of a message from which on it has pages of its own, where it does not move
/// as it grows.
const MAPPED_MIN: usize = 1024 * 1024;

/// Address space that is reserved at once, if the longest message has as much.
const RESERVED_MIN: usize = 1 << 30;

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(Utf8Bytes),
    /// Anything.
    Binary(Bytes),
}

/// Bytes that are UTF-8. A clone shares them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Utf8Bytes(Bytes);

impl Message {
    /// The payload, whatever its type.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => &text.0,
            Self::Binary(bytes) => bytes,
        }
    }

    /// As [`as_bytes`](Self::as_bytes), without a copy.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.0,
            Self::Binary(bytes) => bytes,
        }
    }
}

impl Utf8Bytes {
    /// The text.
    pub fn as_str(&self) -> &str {
        // SAFETY: the field is private to this file, in which it is set from a `String`
        // or `&str`, from bytes that `str::from_utf8` has accepted, and from a
        // `Collected` each byte of which has passed `Utf8`, the last one at the end of a
        // character.
        unsafe { str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes of the text, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl From<Utf8Bytes> for Message {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// What has come of a message. Its memory grows as bytes come in, not as they are
/// announced.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    memory: Memory,
    utf8: Utf8,
}

#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    /// Pages of which the first `len` bytes are in use, and none of the others is there.
    Mapped {
        pages: MmapMut,
        len: usize,
    },
}

impl Collected {
    /// Takes the next bytes, behind which `announced` more follow in the message,
    /// [`usize::MAX`] if that is not known.
    ///
    /// # Errors
    /// They are to be text and are not UTF-8.
    pub(crate) fn push(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        announced: usize,
        longest: usize,
    ) -> Result<(), Violation> {
        if kind == Kind::Text {
            let checked = self.utf8.feed(bytes);
            checked.map_err(|_invalid| Violation::InvalidText)?;
        }
        self.memory.push(bytes, announced, longest);
        Ok(())
    }

    /// The message, all of which has come.
    ///
    /// # Errors
    /// It ends in the middle of a character.
    pub(crate) fn take(&mut self, kind: Kind) -> Result<Message, Violation> {
        let Self { memory, utf8 } = std::mem::take(self);
        let bytes = memory.into_bytes();
        match kind {
            Kind::Binary => Ok(Message::Binary(bytes)),
            Kind::Text if utf8.is_complete() => Ok(Message::Text(Utf8Bytes(bytes))),
            Kind::Text => Err(Violation::InvalidText),
        }
    }

    /// Bytes of memory that this holds.
    pub(crate) fn held(&self) -> usize {
        match &self.memory {
            Memory::Heap(bytes) => bytes.capacity(),
            Memory::Mapped { len, .. } => *len,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Memory {
    fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Mapped { len, .. } => *len,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Mapped { pages, .. } => pages.len(),
        }
    }

    fn push(&mut self, bytes: &[u8], announced: usize, longest: usize) {
        let end = self.len() + bytes.len();
        if end > self.capacity() {
            self.grow(end, end.saturating_add(announced), longest);
        }
        match self {
            Self::Heap(all) => all.extend_from_slice(bytes),
            Self::Mapped { pages, len } => {
                pages[*len..end].copy_from_slice(bytes);
                *len = end;
            }
        }
    }

    /// Makes room for `end` bytes, of as many as are `announced`.
    fn grow(&mut self, end: usize, announced: usize, longest: usize) {
        if end >= MAPPED_MIN {
            // What is reserved and never written takes no memory.
            let reserved = (2 * end).max(RESERVED_MIN).min(longest).max(end);
            let mut map = MmapOptions::new();
            if let Ok(mut pages) = map.len(reserved).no_reserve_swap().map_anon() {
                let len = self.len();
                pages[..len].copy_from_slice(self.bytes());
                *self = Self::Mapped { pages, len };
                return;
            }
        }
        let mut all = match std::mem::take(self) {
            Self::Heap(all) => all,
            mapped @ Self::Mapped { .. } => mapped.bytes().to_vec(),
        };
        let wanted = (2 * end).min(announced).min(longest).max(end);
        all.reserve_exact(wanted - all.len());
        *self = Self::Heap(all);
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped { pages, len } => &pages[..*len],
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Heap(mut bytes) => {
                bytes.shrink_to_fit();
                bytes.into()
            }
            mapped @ Self::Mapped { .. } => Bytes::from_owner(mapped),
        }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message that comes in pieces of this length, of one frame or of many.
    fn collect(kind: Kind, bytes: &[u8], piece: usize, is_one: bool) -> Result<Message, Violation> {
        let mut collected = Collected::default();
        let mut announced = bytes.len();
        for piece in bytes.chunks(piece) {
            announced -= piece.len();
            let announced = if is_one { announced } else { 0 };
            collected.push(kind, piece, announced, 4 * MAPPED_MIN)?;
        }
        collected.take(kind)
    }

    #[test]
    fn characters_are_cut_anywhere() {
        for text in ["aé日🦀z".to_owned(), "aé日🦀".repeat(MAPPED_MIN / 5)] {
            for piece in [1, 3, 1000, 70_001] {
                if piece < 1000 && text.len() > MAPPED_MIN {
                    continue;
                }
                for is_one in [true, false] {
                    let message = collect(Kind::Text, text.as_bytes(), piece, is_one);
                    assert!(message == Ok(text.as_str().into()), "{piece}");
                    let message = collect(Kind::Binary, text.as_bytes(), piece, is_one);
                    assert!(message == Ok(text.clone().into_bytes().into()), "{piece}");
                }
            }
        }
    }

    #[test]
    fn text_that_is_no_utf8_is_refused() {
        for wrong in [&b"a\xffb"[..], b"\xf0\x9f\xa6", b"\xc3\xa9\xed\xa0\x80"] {
            for piece in 1..=wrong.len() {
                let text = collect(Kind::Text, wrong, piece, true);
                assert_eq!(text, Err(Violation::InvalidText));
            }
        }
    }

    #[test]
    fn an_announced_length_reserves_no_more_than_twice_what_has_come() {
        let mut collected = Collected::default();
        for len in [100, 400, 40_000] {
            let push = collected.push(Kind::Binary, &vec![7; len], 1 << 40, 1 << 41);
            push.expect("binary");
            let len = collected.memory.len();
            assert!((len..=2 * len).contains(&collected.held()), "{len}");
        }
    }

    #[test]
    fn what_is_long_does_not_move() {
        let mut collected = Collected::default();
        let mut moves = 0;
        let mut place = std::ptr::null();
        for _ in 0..64 {
            let piece = vec![7; MAPPED_MIN / 16];
            // More frames follow.
            let push = collected.push(Kind::Binary, &piece, usize::MAX, 4 * MAPPED_MIN);
            push.expect("binary");
            let now = collected.memory.bytes().as_ptr();
            moves += usize::from(now != place);
            place = now;
        }
        assert!(moves <= 6, "{moves}");
        assert_eq!(collected.held(), 4 * MAPPED_MIN);
    }
}
