//! Replies to a client, with the times they are due.

use std::collections::VecDeque;
use std::time::Instant;

/// Replies in the order in which they are written.
///
/// They are in one buffer, so that all that are due are one slice and go out with one write. A
/// reply that is due waits for those before it.
#[derive(Debug, Default)]
pub(super) struct ReplyQueue {
    bytes: Vec<u8>,
    /// The number of its bytes that were written.
    written: usize,
    /// The number of its bytes that were due; never less than `written`.
    released: usize,
    /// The entries that are not yet due.
    waiting: VecDeque<Queued>,
    /// The end was due.
    ended: bool,
}

#[derive(Debug)]
struct Queued {
    due: Instant,
    item: QueuedItem,
}

#[derive(Debug)]
enum QueuedItem {
    /// `len` bytes that echo `messages` messages.
    Reply { len: usize, messages: u64 },
    /// The end of the connection.
    End,
}

impl ReplyQueue {
    /// Adds a reply that echoes `messages` messages.
    pub(super) fn push(&mut self, reply: &[u8], messages: u64, due: Instant) {
        self.bytes.extend_from_slice(reply);
        let len = reply.len();
        let item = QueuedItem::Reply { len, messages };
        self.waiting.push_back(Queued { due, item });
    }

    /// Ends the connection after the replies so far, and not before `due`.
    pub(super) fn push_end(&mut self, due: Instant) {
        let item = QueuedItem::End;
        self.waiting.push_back(Queued { due, item });
    }

    /// Makes the entries due `now` writable; returns the number of messages they echo.
    pub(super) fn release(&mut self, now: Instant) -> u64 {
        let mut echoed = 0;
        while let Some(next) = self.waiting.front()
            && next.due <= now
        {
            match next.item {
                QueuedItem::Reply { len, messages } => {
                    self.released += len;
                    echoed += messages;
                }
                QueuedItem::End => self.ended = true,
            }
            self.waiting.pop_front();
        }
        echoed
    }

    /// Removes written bytes.
    pub(super) fn wrote(&mut self, len: usize) {
        self.written += len;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
            self.released = 0;
        } else if self.written > self.bytes.len() / 2 {
            // The move is shorter than the bytes written since the last one.
            self.bytes.drain(..self.written);
            self.released -= self.written;
            self.written = 0;
        }
    }

    /// The bytes that may be written now.
    pub(super) fn writable(&self) -> &[u8] {
        &self.bytes[self.written..self.released]
    }

    /// When the next entry is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|next| next.due)
    }

    /// The number of bytes not written, due or not.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether all was written and the connection is to end.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.writable().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replies_are_released_in_order_and_not_before_they_are_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut reply_queue = ReplyQueue::default();
        reply_queue.push(b"later ", 1, at(20));
        reply_queue.push(b"sooner ", 1, at(10));
        reply_queue.push(b"last", 0, at(30));
        reply_queue.push_end(at(40));
        assert_eq!(reply_queue.release(at(10)), 0);
        assert_eq!(reply_queue.writable(), b"");
        assert_eq!(reply_queue.next_due(), Some(at(20)));
        assert_eq!(reply_queue.release(at(20)), 2);
        assert_eq!(reply_queue.writable(), b"later sooner ");
        for _ in 0..13 {
            reply_queue.wrote(1);
        }
        assert_eq!((reply_queue.writable(), reply_queue.len()), (&b""[..], 4));
        assert_eq!(reply_queue.release(at(40)), 0);
        assert_eq!(reply_queue.writable(), b"last");
        assert!(!reply_queue.is_over());
        reply_queue.wrote(4);
        assert!(reply_queue.is_over());
        assert_eq!(reply_queue.next_due(), None);
    }
}
