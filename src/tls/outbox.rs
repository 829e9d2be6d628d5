//! Ciphertext on its way to a socket.

use std::mem;
use std::ops::Range;

/// What was encrypted and not sent yet.
///
/// Its buffer is lent by the worker, and goes back to it as soon as everything
/// is sent, or what is not has found a place of its own: an idle connection
/// holds none.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Initialised to its end.
    bytes: Vec<u8>,
    unsent: Range<usize>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.unsent.len()
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.unsent.clone()]
    }

    /// Takes the worker's buffer, if it has none.
    pub(super) fn borrow_from(&mut self, spare: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes = mem::take(spare);
            self.unsent = 0..0;
        }
    }

    /// Room for `len` bytes behind what is there.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.unsent.end + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.unsent.end..]
    }

    /// `len` bytes of that room are written.
    pub(super) fn written(&mut self, len: usize) {
        self.unsent.end += len;
    }

    /// `len` bytes are sent.
    pub(super) fn sent(&mut self, len: usize) {
        self.unsent.start += len;
    }

    /// Gives the buffer back to the worker; what is unsent is moved out of it.
    pub(super) fn give_back(&mut self, spare: &mut Vec<u8>) {
        let rest = self.unsent().to_vec();
        self.unsent = 0..rest.len();
        let lent = mem::replace(&mut self.bytes, rest);
        if lent.len() > spare.len() {
            *spare = lent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(outbox: &mut Outbox, bytes: &[u8]) {
        outbox.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        outbox.written(bytes.len());
    }

    #[test]
    fn what_is_not_sent_keeps_its_place_and_no_large_buffer() {
        let mut spare = vec![0; 1000];
        let mut outbox = Outbox::default();
        outbox.borrow_from(&mut spare);
        put(&mut outbox, b"abc");
        put(&mut outbox, b"def");
        outbox.sent(2);
        outbox.give_back(&mut spare);
        assert_eq!((outbox.unsent(), spare.len()), (&b"cdef"[..], 1000));
        assert!(outbox.bytes.capacity() < 10);
        outbox.borrow_from(&mut spare);
        put(&mut outbox, b"ghi");
        assert_eq!(outbox.unsent(), b"cdefghi");
        outbox.sent(7);
        outbox.give_back(&mut spare);
        assert!(outbox.is_empty());
        assert_eq!((outbox.bytes.capacity(), spare.len()), (0, 1000));
    }
}
