//! Replies that a socket has not taken: they are kept, and their client is read
//! on, so that one that sends a large message before it reads gets its answer.
//!
//! A client whose socket takes bytes is not read while any wait: it reads as it
//! writes, and what it reads makes room. So its backlog is the rest of one reply,
//! whatever the size of its messages. Only one whose socket has taken nothing for
//! [`SLOW_READER`] is read on, up to `max-backlog`:
//!
//! ```text
//!            nothing taken for SLOW_READER
//!   Paused ────────────────────────────────▶ ReadOn ──▶ Full
//!     ▲  ▲──────────── bytes taken ─────────────┘        │
//!     └───────────── half of it is drained ──────────────┘
//! ```
//!
//! The write timeout counts from when a read's worth of bytes last moved, out of
//! the backlog or into it: a client that still sends is not cut for not reading
//! yet, but comes to the end of `max-backlog`, and a trickle moves too little.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;

use super::{Buffered, Millis, SLOW_READER, Settings};
use crate::net::byte_queue::ByteQueue;

/// How long a connection has moved no byte, in either direction, before it makes
/// no progress: of those that hold memory, these are evicted first. How long its
/// socket has taken none before its client may be one that does not read.
const STALLED: Duration = Duration::from_secs(1);

/// A connection that reached its limit is read again once this part of the limit
/// has been drained.
const DRAINED_PART: usize = 2;

/// Bytes that the backlogs of a worker may still grow by until its next tick, which
/// is when it is known what all workers hold: many clients that are read on at the
/// same time cannot take more than the limit leaves.
#[derive(Debug)]
pub(crate) struct BacklogRoom(Cell<usize>);

impl BacklogRoom {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Begins anew with this many.
    pub(crate) fn set(&self, bytes: usize) {
        self.0.set(bytes);
    }

    /// Counts bytes that are there already; whether there is room for more.
    fn take(&self, bytes: usize) -> bool {
        self.0.set(self.0.get().saturating_sub(bytes));
        self.is_left()
    }

    fn is_left(&self) -> bool {
        self.0.get() > 0
    }
}

/// What waits for one client, in order. While there is one, all that is to be
/// sent goes through it.
#[derive(Debug)]
pub(crate) struct Backlog {
    unsent: ByteQueue,
    pub(super) wait: Wait,
}

impl Backlog {
    /// One that has yet to get its bytes, unless they wait in the stream that encrypts
    /// them.
    pub(crate) fn begin(settings: &Settings, now: Millis) -> Self {
        settings.backlog_begun.notify_one();
        Self {
            unsent: ByteQueue::default(),
            wait: Wait::begin(now),
        }
    }

    /// Puts `bytes` behind what waits.
    pub(crate) fn push(&mut self, bytes: &[u8], settings: &Settings, now: Millis) {
        self.unsent.push(bytes);
        let waiting = self.unsent.len();
        self.wait.added(bytes.len(), waiting, settings, now);
    }

    /// As [`push`](Self::push), without a copy of what is long.
    pub(crate) fn push_shared(&mut self, bytes: Bytes, settings: &Settings, now: Millis) {
        let len = bytes.len();
        self.unsent.push_shared(bytes);
        self.wait.added(len, self.unsent.len(), settings, now);
    }

    /// The next bytes to be sent.
    pub(crate) fn front(&self) -> &[u8] {
        self.unsent.front()
    }

    /// The socket has taken `len` bytes of the [front](Self::front); `ahead` have been
    /// received meanwhile and are not answered.
    pub(crate) fn advance(&mut self, len: usize, ahead: usize, settings: &Settings, now: Millis) {
        self.unsent.advance(len);
        let waiting = self.unsent.len() + ahead;
        self.wait.taken(len, waiting, settings, now);
    }

    /// The stream that encrypts them has taken `len` bytes of the [front](Self::front).
    pub(crate) fn move_on(&mut self, len: usize) {
        self.unsent.advance(len);
    }

    pub(crate) fn len(&self) -> usize {
        self.unsent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Bytes of memory for what waits.
    pub(crate) fn capacity(&self) -> usize {
        self.unsent.capacity()
    }

    /// What a connection with this backlog, or none, holds; `others` are its bytes
    /// beside that.
    pub(crate) fn buffered(backlog: Option<&Self>, others: usize, now: Millis) -> Buffered {
        let waiting = backlog.map_or(0, |backlog| backlog.unsent.capacity());
        let wait = backlog.map(|backlog| &backlog.wait);
        Wait::buffered(wait, others + waiting, now)
    }
}

/// How long replies have waited for their client, and whether it is read
/// meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    initiated: Millis,
    /// When the socket last took a byte.
    taken_at: Millis,
    /// When it did, or more was put behind what waits.
    moved_at: Millis,
    /// What the write timeout counts from, and the bytes that have moved since.
    since: Millis,
    moved: usize,
    /// The timeout has started again without that.
    is_extended: bool,
    reading: Reading,
}

/// Whether a client whose replies wait is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Not while its socket takes bytes, or may be about to.
    Paused,
    /// It has to send the rest before it reads.
    ReadOn,
    /// Not beyond the limit.
    Full,
}

/// What a timer has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    Wait,
    /// The write timeout is over.
    Cut,
}

impl Wait {
    pub(crate) fn begin(now: Millis) -> Self {
        Self {
            initiated: now,
            taken_at: now,
            moved_at: now,
            since: now,
            moved: 0,
            is_extended: false,
            reading: Reading::Paused,
        }
    }

    /// The socket has taken `len` bytes, and `waiting` are left.
    pub(crate) fn taken(&mut self, len: usize, waiting: usize, settings: &Settings, now: Millis) {
        if len == 0 {
            return;
        }
        self.taken_at = now;
        self.moved(len, settings, now);
        let is_drained = waiting <= settings.max_backlog / DRAINED_PART;
        if self.reading != Reading::Full || is_drained {
            self.reading = Reading::Paused;
        }
    }

    /// `len` bytes were put behind what waits, which is `waiting` now.
    pub(crate) fn added(&mut self, len: usize, waiting: usize, settings: &Settings, now: Millis) {
        self.moved(len, settings, now);
        let has_room = settings.backlog_room.take(len);
        if waiting >= settings.max_backlog {
            self.reading = Reading::Full;
        } else if !has_room && self.reading == Reading::ReadOn {
            self.reading = Reading::Paused;
        }
    }

    /// Whether the client is to be read though its replies wait.
    pub(crate) fn reads_on(&self) -> bool {
        self.reading == Reading::ReadOn
    }

    /// Whether [`judge`](Self::judge) may find something: what the socket takes is
    /// to be sent before.
    pub(crate) fn is_due(&self, settings: &Settings, now: Millis) -> bool {
        self.may_read_on(now) || self.since.is_over(settings.write_timeout, now)
    }

    /// When to look again, at the latest: a timer may have to be judged, or the client
    /// has become a slow reader, or makes no progress.
    pub(crate) fn next_look(&self, settings: &Settings, now: Millis) -> Millis {
        let mut next = now.after(SLOW_READER);
        let is_paused = self.reading == Reading::Paused;
        let looks = [
            Some((self.initiated, SLOW_READER)),
            Some((self.moved_at, STALLED)),
            Some((self.since, settings.write_timeout)),
            is_paused.then_some((self.taken_at, SLOW_READER)),
        ];
        let ahead = looks.into_iter().flatten();
        let ahead = ahead.map(|(since, time)| since.after(time));
        if let Some(first) = ahead.filter(|&at| at > now).min() {
            // One that waits for room in the limit on held bytes is looked at again.
            next = if is_paused { first.min(next) } else { first };
        }
        next
    }

    /// Decides whether the client is read on, or cut off. The write timeout starts
    /// again, once, where the socket has taken something right `now`: that it took
    /// nothing before may be because the machine was paused.
    pub(crate) fn judge(&mut self, settings: &Settings, now: Millis) -> Verdict {
        if self.since.is_over(settings.write_timeout, now) {
            if self.taken_at != now || self.is_extended {
                return Verdict::Cut;
            }
            self.since = now;
            self.is_extended = true;
        }
        if self.may_read_on(now) && settings.backlog_room.is_left() {
            self.reading = Reading::ReadOn;
        }
        Verdict::Wait
    }

    /// What a connection holds that waits so, or does not wait, if it is `bytes`.
    pub(crate) fn buffered(wait: Option<&Self>, bytes: usize, now: Millis) -> Buffered {
        let is = |is_so: fn(&Self, Millis) -> bool| wait.is_some_and(|wait| is_so(wait, now));
        Buffered {
            bytes,
            slow_readers: is(|wait, now| wait.initiated.is_over(SLOW_READER, now)).into(),
            stalled: is(|wait, now| wait.moved_at.is_over(STALLED, now)).into(),
            unread: wait.is_some_and(|wait| wait.is_unread(now)).into(),
            paused: is(|wait, _now| wait.reading == Reading::Paused).into(),
        }
    }

    /// Whether the socket has taken nothing for [`STALLED`].
    pub(crate) fn is_unread(&self, now: Millis) -> bool {
        self.taken_at.is_over(STALLED, now)
    }

    fn may_read_on(&self, now: Millis) -> bool {
        self.reading == Reading::Paused && self.taken_at.is_over(SLOW_READER, now)
    }

    fn moved(&mut self, len: usize, settings: &Settings, now: Millis) {
        self.moved_at = now;
        self.moved += len;
        if self.moved >= settings.read_size {
            self.moved = 0;
            self.since = now;
            self.is_extended = false;
        }
    }
}

#[cfg(test)]
mod tests;
