//! Buffers that all connections of a worker receive into.
//!
//! A receive names no buffer but a group of them: the kernel takes one from the
//! ring that is registered for the group when bytes are there, so a connection
//! that waits for bytes holds none. A buffer that came back is given out again
//! before one that has rested longer, and no more are given out than have been
//! missed lately, so that the memory in use is small and in the cache.
//!
//! ```text
//! slot │ headroom │ data: the kernel writes here │ tail room │
//!        └ what a connection kept goes here, right before what came next
//! ```
//!
//! Only large buffers have headroom.
//!
//! The small buffers are for multishot receives. The kernel fills up to 32 of
//! them for one connection before it looks at the next (`MULTISHOT_MAX_RETRY`
//! in its `io_uring/net.c`), so their size bounds what a client can make the
//! server take that it has not asked for. The large ones are for connections
//! that fill small ones, which get one at a time.

mod block;
mod group;
mod poison;

use std::io;

use super::uring::Uring;
use group::Group;

/// The number of a buffer, over both groups.
pub(super) type BufferId = u16;

/// The sizes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Small = 0,
    Large = 1,
}

impl Size {
    /// The group that a receive names.
    pub(super) const fn group(self) -> u16 {
        self as u16
    }
}

/// Bytes that a small buffer takes.
pub(super) const SMALL_LEN: usize = 4096;

/// Buffers of each size, powers of two. They take address space; memory only
/// as far as they are used.
const SMALL_BUFFERS: u16 = 1024;
const LARGE_BUFFERS: u16 = 32;

/// Buffers that are given out at least.
const SMALL_WANTED: u16 = 64;
const LARGE_WANTED: u16 = 16;

/// No buffer.
const NONE: BufferId = BufferId::MAX;

/// The buffers of one worker.
pub(super) struct Pool {
    small: Group,
    large: Group,
    /// Whether a buffer is ours to read and write; the others are the
    /// kernel's, or nobody's.
    taken: Box<[bool]>,
    links: Box<[Link]>,
}

/// A buffer's place in a [`Line`].
#[derive(Clone, Copy)]
struct Link {
    next: BufferId,
    filled: u32,
}

/// Buffers that a connection has received and not yet served, in order.
#[derive(Clone, Copy)]
pub(super) struct Line {
    first: BufferId,
    last: BufferId,
}

/// What one or several reads have brought.
pub(super) struct Received {
    pub(super) buffer: BufferId,
    pub(super) filled: usize,
    pub(super) reads: u64,
}

impl Line {
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    pub(super) const fn is_empty(self) -> bool {
        self.first == NONE
    }
}

impl Pool {
    /// Small buffers, and large ones for `large_len` bytes and up to `headroom`
    /// bytes before them.
    pub(super) fn new(headroom: usize, large_len: usize) -> Self {
        assert!(
            large_len >= SMALL_LEN,
            "small buffers are joined in a large one"
        );
        let small = Group::new(0..SMALL_BUFFERS, SMALL_WANTED, 0, SMALL_LEN);
        let large = SMALL_BUFFERS..SMALL_BUFFERS + LARGE_BUFFERS;
        let large = Group::new(large, LARGE_WANTED, headroom, large_len);
        let count = usize::from(SMALL_BUFFERS + LARGE_BUFFERS);
        let unused = Link {
            next: NONE,
            filled: 0,
        };
        Self {
            small,
            large,
            taken: vec![false; count].into_boxed_slice(),
            links: vec![unused; count].into_boxed_slice(),
        }
    }

    /// Tells a ring of the buffers. It must end before them.
    pub(super) fn register(&self, uring: &Uring) -> io::Result<()> {
        self.small.register(uring, Size::Small)?;
        self.large.register(uring, Size::Large)
    }

    /// Bytes that one buffer takes.
    pub(super) fn data_len(&self, size: Size) -> usize {
        match size {
            Size::Small => self.small.data_len,
            Size::Large => self.large.data_len,
        }
    }

    /// Bytes that fit before the data of a buffer.
    pub(super) fn headroom(&self, id: BufferId) -> usize {
        self.group(id).headroom
    }

    /// Notes that the kernel has put `filled` bytes into a buffer, and puts it
    /// at the end of `line`.
    pub(super) fn receive(&mut self, line: &mut Line, id: BufferId, filled: u32) {
        self.take(id);
        self.group_mut(id).given_out -= 1;
        self.links[usize::from(id)] = Link { next: NONE, filled };
        if line.is_empty() {
            line.first = id;
        } else {
            self.links[usize::from(line.last)].next = id;
        }
        line.last = id;
    }

    /// Takes the first buffer out of `line`, and how many bytes came in it.
    pub(super) fn take_first(&mut self, line: &mut Line) -> Option<(BufferId, usize)> {
        if line.is_empty() {
            return None;
        }
        let id = line.first;
        let Link { next, filled } = self.links[usize::from(id)];
        line.first = next;
        Some((id, filled as usize))
    }

    /// Takes what came in the first buffers of `line`. Where several small ones
    /// wait, or what was kept before them needs headroom, they are joined in
    /// one large buffer, as far as they fit, so that they get one reply.
    pub(super) fn take_joined(&mut self, line: &mut Line, kept: usize) -> Option<Received> {
        if line.is_empty() {
            return None;
        }
        let is_alone = line.first == line.last && kept <= self.headroom(line.first);
        if !is_alone
            && line.first < self.large.first
            && let Some(large) = self.large.spare.pop()
        {
            self.take(large);
            return Some(self.join(line, large));
        }
        self.take_first(line).map(|(buffer, filled)| Received {
            buffer,
            filled,
            reads: 1,
        })
    }

    fn join(&mut self, line: &mut Line, large: BufferId) -> Received {
        let mut joined = Received {
            buffer: large,
            filled: 0,
            reads: 0,
        };
        while line.first < self.large.first
            && joined.filled + self.links[usize::from(line.first)].filled as usize
                <= self.large.data_len
            && let Some((small, filled)) = self.take_first(line)
        {
            let from = self.small.slot(small, 0);
            let to = self.large.slot(large, 0);
            to[joined.filled..joined.filled + filled].copy_from_slice(&from[..filled]);
            joined.filled += filled;
            joined.reads += 1;
            self.give_back(small);
        }
        joined
    }

    /// The buffer from `before` bytes of headroom to the end of its tail room.
    pub(super) fn slot(&mut self, id: BufferId, before: usize) -> &mut [u8] {
        assert!(self.taken[usize::from(id)], "the kernel may write there");
        self.group_mut(id).slot(id, before)
    }

    /// Lets go of a buffer.
    pub(super) fn give_back(&mut self, id: BufferId) {
        assert!(self.taken[usize::from(id)], "a buffer is given back once");
        self.taken[usize::from(id)] = false;
        self.group(id).forbid(id);
        self.group_mut(id).spare.push(id);
    }

    /// Lets go of all buffers in `line`.
    pub(super) fn give_back_all(&mut self, line: &mut Line) {
        while let Some((id, _filled)) = self.take_first(line) {
            self.give_back(id);
        }
    }

    /// Notes that a receive found no buffer of this size.
    pub(super) fn missed(&mut self, size: Size) {
        match size {
            Size::Small => self.small.missed(),
            Size::Large => self.large.missed(),
        }
    }

    /// Gives the kernel as many buffers as it is to have.
    pub(super) fn replenish(&mut self) {
        self.small.replenish();
        self.large.replenish();
    }

    /// To be called now and then: wants fewer buffers if none were missed.
    pub(super) fn relax(&mut self) {
        self.small.relax();
        self.large.relax();
    }

    fn take(&mut self, id: BufferId) {
        assert!(!self.taken[usize::from(id)], "the kernel had this buffer");
        self.taken[usize::from(id)] = true;
        self.group(id).allow(id);
    }

    fn group(&self, id: BufferId) -> &Group {
        if id < self.large.first {
            &self.small
        } else {
            &self.large
        }
    }

    fn group_mut(&mut self, id: BufferId) -> &mut Group {
        if id < self.large.first {
            &mut self.small
        } else {
            &mut self.large
        }
    }
}

#[cfg(test)]
mod tests;
