//! Whether a connection transfers in bulk, told from the sizes of its reads.

use super::pool::Size;

/// Bytes of a read that would have done with a part of a small buffer.
const SMALL_READ: usize = 2048;

/// Small reads in a row after which a transfer is no longer taken for one in
/// bulk.
const SMALL_READS: u8 = 8;

/// What the last reads of a connection looked like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reads {
    /// Small reads to come until this is no bulk transfer; 0 if it is none.
    bulk: u8,
    was_full: bool,
    was_large: bool,
    has_missed: bool,
}

impl Reads {
    /// Notes a read of `filled` bytes into a buffer of this size, which takes
    /// `len` of them.
    pub(super) fn note(&mut self, filled: usize, size: Size, len: usize) {
        self.was_large = size == Size::Large;
        self.has_missed = false;
        self.was_full = filled == len;
        if self.was_full {
            self.bulk = SMALL_READS;
        } else if filled < SMALL_READ {
            self.bulk = self.bulk.saturating_sub(1);
        }
    }

    /// Notes that bytes were there, but no buffer for them. Whoever waits for
    /// bytes first comes behind those that do not, who may take all buffers
    /// each time.
    pub(super) fn note_missed(&mut self) {
        self.has_missed = true;
    }

    /// Notes that the client reads more slowly than it sends.
    pub(super) fn note_slow_reader(&mut self) {
        self.bulk = SMALL_READS;
    }

    /// Whether large buffers fit this connection better than small ones.
    pub(super) fn are_bulk(self) -> bool {
        self.bulk > 0
    }

    /// Whether the last read has filled a large buffer.
    pub(super) fn flood(self) -> bool {
        self.was_full && self.was_large
    }

    /// Whether there is probably more to read than the last buffer took.
    pub(super) fn promise_more(self) -> bool {
        self.was_full || self.has_missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_begins_a_bulk_transfer_and_small_reads_end_it() {
        let mut reads = Reads::default();
        reads.note(4095, Size::Small, 4096);
        assert!(!reads.are_bulk() && !reads.promise_more());
        reads.note(4096, Size::Small, 4096);
        assert!(reads.are_bulk() && reads.promise_more() && !reads.flood());
        reads.note(65_536, Size::Large, 65_536);
        assert!(reads.flood());
        for _ in 1..SMALL_READS {
            reads.note(100, Size::Large, 65_536);
        }
        assert!(reads.are_bulk() && !reads.promise_more());
        reads.note(SMALL_READ, Size::Large, 65_536);
        assert!(reads.are_bulk(), "this would not fit a small buffer twice");
        reads.note(100, Size::Large, 65_536);
        assert!(!reads.are_bulk());
    }

    #[test]
    fn a_slow_reader_gets_one_buffer_at_a_time() {
        let mut reads = Reads::default();
        reads.note_slow_reader();
        assert!(reads.are_bulk() && !reads.promise_more());
    }

    #[test]
    fn who_found_no_buffer_looks_at_once_the_next_time() {
        let mut reads = Reads::default();
        reads.note(4096, Size::Small, 4096);
        reads.note(100, Size::Large, 65_536);
        assert!(!reads.promise_more());
        reads.note_missed();
        assert!(reads.are_bulk() && reads.promise_more() && !reads.flood());
        reads.note(100, Size::Large, 65_536);
        assert!(!reads.promise_more());
    }
}
