//! The queue of ciphertext to a socket.

use std::mem;
use std::ops::Range;

use crate::net::byte_queue::ByteQueue;

/// Ciphertext that is not sent yet.
///
/// Its buffer is the worker's, and returned as soon as everything is sent or moved to a
/// queue: an idle connection has none.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The worker's buffer, initialised to its end.
    lent: Vec<u8>,
    /// The bytes in `lent`, after those in `waiting`.
    fresh: Range<usize>,
    waiting: Option<Box<ByteQueue>>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.waiting.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.waiting.as_ref().map_or(0, |waiting| waiting.len())
    }

    /// Bytes of its own memory.
    pub(super) fn capacity(&self) -> usize {
        self.waiting
            .as_ref()
            .map_or(0, |waiting| waiting.capacity())
    }

    /// The first contiguous bytes to send.
    pub(super) fn front(&self) -> &[u8] {
        match &self.waiting {
            Some(waiting) => waiting.front(),
            None => &self.lent[self.fresh.clone()],
        }
    }

    /// Takes the worker's buffer, if it has none.
    pub(super) fn borrow_from(&mut self, spare: &mut Vec<u8>) {
        if self.lent.is_empty() {
            self.lent = mem::take(spare);
            self.fresh = 0..0;
        }
    }

    /// Room for `len` more bytes.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.fresh.end + len;
        if self.lent.len() < end {
            self.lent.resize(end, 0);
        }
        &mut self.lent[self.fresh.end..]
    }

    /// Adds `len` bytes that were written to the room.
    pub(super) fn written(&mut self, len: usize) {
        self.fresh.end += len;
    }

    /// Removes `len` sent bytes of the [front](Self::front).
    pub(super) fn sent(&mut self, len: usize) {
        match &mut self.waiting {
            Some(waiting) => {
                waiting.advance(len);
                if waiting.is_empty() {
                    self.waiting = None;
                }
            }
            None => self.fresh.start += len,
        }
    }

    /// Returns the buffer to the worker, after moving unsent bytes out of it.
    pub(super) fn give_back(&mut self, spare: &mut Vec<u8>) {
        let rest = &self.lent[self.fresh.clone()];
        if !rest.is_empty() {
            self.waiting.get_or_insert_default().push(rest);
        }
        self.fresh = 0..0;
        let lent = mem::take(&mut self.lent);
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
    fn unsent_bytes_keep_their_order_without_the_lent_buffer() {
        let mut spare = vec![0; 1000];
        let mut outbox = Outbox::default();
        outbox.borrow_from(&mut spare);
        put(&mut outbox, b"abc");
        put(&mut outbox, b"def");
        outbox.sent(2);
        outbox.give_back(&mut spare);
        assert_eq!((outbox.front(), spare.len()), (&b"cdef"[..], 1000));
        assert!(outbox.lent.capacity() == 0 && outbox.capacity() < 1000);
        outbox.borrow_from(&mut spare);
        put(&mut outbox, b"ghi");
        assert_eq!((outbox.front(), outbox.len()), (&b"cdef"[..], 7));
        outbox.sent(4);
        assert_eq!(outbox.front(), b"ghi");
        outbox.sent(3);
        outbox.give_back(&mut spare);
        assert!(outbox.is_empty());
        assert_eq!((outbox.capacity(), spare.len()), (0, 1000));
    }
}
