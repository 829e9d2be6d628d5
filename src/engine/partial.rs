//! The part of a frame that a connection has received, until the rest comes.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::proto::TAIL_ROOM;

/// Memory that a connection may have over from more that it kept before.
const SPARE: usize = 1024;

/// What is longer than this is copied only to where more than that has come: the
/// work for a byte does not depend on how many came before it.
const COPIED_MAX: usize = 16 * 1024;

/// Such a part. An idle connection holds no memory for it, but an empty vector once there
/// was one, and neither does one that once kept much hold it for a little.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a word in each idle connection instead of three"
)]
pub(super) struct Partial(Option<Box<Vec<u8>>>);

/// A part of a frame with what has come of it since behind it, and [`TAIL_ROOM`] behind
/// that.
pub(super) struct Joined<'a> {
    /// Bytes that have come, in all.
    pub(super) filled: usize,
    bytes: Bytes<'a>,
}

impl Joined<'_> {
    /// Whether it stands in the buffer that was read into.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.bytes, Bytes::Shared(_))
    }
}

enum Bytes<'a> {
    /// In the buffer that was read into.
    Shared(&'a mut [u8]),
    /// In memory of the connection.
    Own(Vec<u8>),
}

impl Deref for Joined<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Shared(buf) => buf,
            Bytes::Own(buf) => buf,
        }
    }
}

impl DerefMut for Joined<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Shared(buf) => buf,
            Bytes::Own(buf) => buf,
        }
    }
}

impl Partial {
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Bytes of memory that this holds.
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.capacity())
    }

    /// Puts this before `len` bytes that have come, for which `buf` has left room: they
    /// stand there from its [`len`](Self::len) on.
    #[inline]
    pub(super) fn join<'a>(&mut self, buf: &'a mut [u8], len: usize) -> Joined<'a> {
        let kept = self.len();
        let filled = kept + len;
        if kept > COPIED_MAX && kept > len {
            return Joined {
                filled,
                bytes: Bytes::Own(self.take_with(&buf[kept..filled])),
            };
        }
        buf[..kept].copy_from_slice(self.bytes());
        Joined {
            filled,
            bytes: Bytes::Shared(buf),
        }
    }

    /// As [`join`](Self::join), for bytes that stand elsewhere.
    pub(super) fn join_copied(&mut self, bytes: &[u8]) -> Joined<'static> {
        Joined {
            filled: self.len() + bytes.len(),
            bytes: Bytes::Own(self.take_with(bytes)),
        }
    }

    /// Keeps what was joined, less the bytes that are done with.
    #[inline]
    pub(super) fn keep(&mut self, joined: Joined<'_>, consumed: usize) {
        match joined.bytes {
            Bytes::Shared(buf) => self.save(&buf[consumed..joined.filled]),
            Bytes::Own(buf) => self.restore(buf, consumed),
        }
    }

    /// Keeps `rest`, and nothing else.
    pub(super) fn save(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.clear();
            return;
        }
        let kept = self.0.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(rest);
        trim(kept);
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        if let Some(kept) = &mut self.0 {
            **kept = Vec::new();
        }
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |kept| kept)
    }

    /// Takes it all, with `bytes` behind it and [`TAIL_ROOM`] behind those.
    fn take_with(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buf = self
            .0
            .as_mut()
            .map_or_else(Vec::new, |kept| mem::take(kept));
        buf.reserve(bytes.len() + TAIL_ROOM);
        buf.extend_from_slice(bytes);
        buf.resize(buf.len() + TAIL_ROOM, 0);
        buf
    }

    fn restore(&mut self, mut buf: Vec<u8>, consumed: usize) {
        buf.truncate(buf.len() - TAIL_ROOM);
        if consumed > 0 {
            buf.drain(..consumed);
        }
        trim(&mut buf);
        **self.0.get_or_insert_default() = buf;
    }
}

fn trim(kept: &mut Vec<u8>) {
    if kept.is_empty() {
        *kept = Vec::new();
    } else if kept.capacity() > 4 * kept.len() + SPARE {
        kept.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_with_what_is_kept() {
        let mut partial = Partial::default();
        partial.save(&[1; 16_000]);
        assert_eq!(partial.bytes(), [1; 16_000]);
        partial.save(&[2; 3]);
        assert_eq!(partial.bytes(), [2; 3]);
        assert!(partial.capacity() <= 3 * 4 + SPARE, "{partial:?}");
        partial.save(&[]);
        assert_eq!(partial.capacity(), 0);
    }

    #[test]
    fn what_comes_is_put_behind_much_and_much_stays_where_it_is() {
        let is_own = |joined: &Joined| matches!(joined.bytes, Bytes::Own(_));
        let mut buf = vec![2; 3 * COPIED_MAX];
        let mut partial = Partial::default();
        partial.save(&vec![1; COPIED_MAX]);
        assert!(!is_own(&partial.join(&mut buf, 1)));
        partial.save(&vec![1; COPIED_MAX + 1]);
        assert!(!is_own(&partial.join(&mut buf, COPIED_MAX + 1)));
        // From the second byte on there is room for many more.
        let mut moves = 0;
        for _ in 0..1000 {
            let before = partial.bytes().as_ptr();
            let end = partial.len();
            buf[end] = 2;
            let joined = partial.join(&mut buf, 1);
            assert!(is_own(&joined));
            assert_eq!((joined.filled, joined[end]), (end + 1, 2));
            partial.keep(joined, 0);
            moves += usize::from(partial.bytes().as_ptr() != before);
        }
        assert!(moves <= 1, "{moves}");
        let joined = partial.join_copied(&[3; 5]);
        let consumed = joined.filled - 5;
        partial.keep(joined, consumed);
        assert_eq!(partial.bytes(), [3; 5]);
        assert!(partial.capacity() <= 5 * 4 + SPARE, "{partial:?}");
    }
}
