//! The part of a frame that a connection has received, until the rest comes.

use crate::proto::TAIL_ROOM;

/// Memory that a connection may have over from more that it kept before.
const SPARE: usize = 1024;

/// What is longer than this is copied only to where more than that has come: the
/// work for a byte does not depend on how many came before it.
const COPIED_MAX: usize = 16 * 1024;

/// Such a part. An idle connection holds no memory for it: an empty vector has none.
/// Neither does one that once kept much hold it for a little.
#[derive(Debug, Default)]
pub(super) struct Partial(Vec<u8>);

impl Partial {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of memory that this holds.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Whether `len` bytes that have come are to be [put behind](Self::take_with) this,
    /// rather than have it copied [before](Self::prepend) them.
    #[inline]
    pub(super) fn outweighs(&self, len: usize) -> bool {
        self.0.len() > COPIED_MAX && self.0.len() > len
    }

    /// Copies this to the front of `buf`.
    pub(super) fn prepend(&self, buf: &mut [u8]) {
        buf[..self.0.len()].copy_from_slice(&self.0);
    }

    /// Keeps `rest`, and nothing else.
    pub(super) fn save(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.clear();
            return;
        }
        self.0.clear();
        self.0.extend_from_slice(rest);
        self.trim();
    }

    /// Takes it all, with `bytes` behind it and [`TAIL_ROOM`] behind those.
    pub(super) fn take_with(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buf = std::mem::take(&mut self.0);
        buf.reserve(bytes.len() + TAIL_ROOM);
        buf.extend_from_slice(bytes);
        buf.resize(buf.len() + TAIL_ROOM, 0);
        buf
    }

    /// Keeps what was [taken](Self::take_with), less the bytes that are done with.
    pub(super) fn restore(&mut self, mut buf: Vec<u8>, consumed: usize) {
        buf.truncate(buf.len() - TAIL_ROOM);
        if consumed > 0 {
            buf.drain(..consumed);
        }
        self.0 = buf;
        self.trim();
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    fn trim(&mut self) {
        if self.0.is_empty() {
            self.clear();
        } else if self.0.capacity() > 4 * self.0.len() + SPARE {
            self.0.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_with_what_is_kept() {
        let mut partial = Partial::default();
        partial.save(&[1; 16_000]);
        assert_eq!(partial.0, [1; 16_000]);
        partial.save(&[2; 3]);
        assert_eq!(partial.0, [2; 3]);
        assert!(partial.capacity() <= 3 * 4 + SPARE, "{partial:?}");
        partial.save(&[]);
        assert_eq!(partial.capacity(), 0);
    }

    #[test]
    fn what_comes_is_put_behind_much_and_much_stays_where_it_is() {
        let mut partial = Partial::default();
        partial.save(&vec![1; COPIED_MAX]);
        assert!(!partial.outweighs(1));
        partial.save(&vec![1; COPIED_MAX + 1]);
        assert!(partial.outweighs(COPIED_MAX) && !partial.outweighs(COPIED_MAX + 1));
        // From the second byte on there is room for many more.
        let mut moves = 0;
        for _ in 0..1000 {
            let before = partial.0.as_ptr();
            let buf = partial.take_with(&[2]);
            assert_eq!(buf[buf.len() - TAIL_ROOM - 1], 2);
            partial.restore(buf, 0);
            moves += usize::from(partial.0.as_ptr() != before);
        }
        assert!(moves <= 1, "{moves}");
        let buf = partial.take_with(&[3; 5]);
        let consumed = buf.len() - TAIL_ROOM - 5;
        partial.restore(buf, consumed);
        assert_eq!(partial.0, [3; 5]);
        assert!(partial.capacity() <= 5 * 4 + SPARE, "{partial:?}");
    }
}
