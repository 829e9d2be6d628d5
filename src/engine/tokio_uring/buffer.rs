//! How large a connection's buffer is, and has to be.

use std::cell::Cell;

use crate::proto::TAIL_ROOM;

/// Bytes of the buffer that an idle connection waits with.
pub(super) const IDLE_BUFFER: usize = 2048;

/// How much larger a buffer gets when a read has filled it.
const GROWTH: usize = 4;

/// What is known of the buffer, whoever has it.
#[derive(Debug, Default)]
pub(super) struct BufferUse {
    capacity: Cell<usize>,
    /// The most that has stood in it since the last tick.
    filled: Cell<usize>,
    /// It is to be no larger than that.
    limit: Cell<Option<usize>>,
}

impl BufferUse {
    pub(super) fn set_capacity(&self, capacity: usize) {
        self.capacity.set(capacity);
    }

    /// Notes that so many bytes stand in the buffer.
    #[inline]
    pub(super) fn note(&self, filled: usize) {
        self.filled.set(self.filled.get().max(filled));
        if self.limit.get().is_some_and(|limit| !fits(filled, limit)) {
            self.limit.set(None);
        }
    }

    /// Bytes that are held beside the buffer that every connection has, or in that, if
    /// there is no other.
    pub(super) fn held(&self, kept: usize) -> usize {
        match self.capacity.get().saturating_sub(IDLE_BUFFER) {
            0 => kept,
            large => large,
        }
    }

    /// Whether it is larger than that of an idle connection.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.capacity.get() > IDLE_BUFFER
    }

    /// The size for a buffer that a read has filled.
    pub(super) fn grown(&self, largest: usize) -> usize {
        self.capacity.get().saturating_mul(GROWTH).min(largest)
    }

    /// To be called with each tick: whether a smaller buffer would have done since the
    /// last one, with room behind what is kept.
    pub(super) fn tick(&self, kept: usize) -> bool {
        let filled = self.filled.replace(kept);
        let mut enough = kept + IDLE_BUFFER;
        while !fits(filled, enough) {
            enough *= GROWTH;
        }
        let limit = (enough < self.capacity.get()).then_some(enough);
        self.limit.set(limit);
        limit.is_some()
    }

    /// The size that the last tick has found to be enough, once.
    pub(super) fn take_limit(&self, kept: usize) -> Option<usize> {
        let limit = self.limit.take()?.max(kept + IDLE_BUFFER);
        (limit < self.capacity.get()).then_some(limit)
    }
}

/// Whether a read that leaves so many bytes in a buffer of this size does not fill it.
fn fits(filled: usize, size: usize) -> bool {
    filled + TAIL_ROOM < size
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 64 * 1024;

    fn large() -> BufferUse {
        let buffer = BufferUse::default();
        buffer.set_capacity(LARGE);
        buffer
    }

    #[test]
    fn a_buffer_stays_while_it_is_needed_and_then_goes() {
        let buffer = large();
        buffer.note(LARGE - TAIL_ROOM);
        assert!(!buffer.tick(0));
        assert_eq!(buffer.take_limit(0), None);
        buffer.note(100);
        assert!(buffer.tick(0));
        assert_eq!(buffer.take_limit(0), Some(IDLE_BUFFER));
        assert_eq!(buffer.take_limit(0), None);
    }

    #[test]
    fn it_gets_no_smaller_than_what_it_is_used_for() {
        let buffer = large();
        buffer.note(IDLE_BUFFER - TAIL_ROOM);
        assert!(buffer.tick(0));
        assert_eq!(buffer.take_limit(0), Some(GROWTH * IDLE_BUFFER));
        // What is kept comes with room behind it.
        assert!(buffer.tick(10_000));
        assert_eq!(buffer.take_limit(20_000), Some(20_000 + IDLE_BUFFER));
    }

    #[test]
    fn what_is_filled_after_all_stays() {
        let buffer = large();
        assert!(buffer.tick(0));
        buffer.note(LARGE / 2);
        assert_eq!(buffer.take_limit(0), None);
    }

    #[test]
    fn what_every_connection_has_is_not_held() {
        let buffer = BufferUse::default();
        buffer.set_capacity(IDLE_BUFFER);
        assert_eq!((buffer.held(0), buffer.held(500)), (0, 500));
        assert_eq!(large().held(500), LARGE - IDLE_BUFFER);
    }
}
