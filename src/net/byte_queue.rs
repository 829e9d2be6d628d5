//! Bytes in order, in memory that goes back as they go.
//!
//! What is dropped with many bytes in it gives some of its memory back at once, and
//! leaves the rest to the thread, which does so [bit by bit](free_some): the kernel
//! takes 8 us for a chunk, and others would wait for a thousand of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;

use memmap2::MmapMut;

/// Bytes of the largest chunk: what is freed at a time.
const CHUNK: usize = 64 * 1024;

/// Chunks that are freed in one turn.
const FREED_PER_TURN: usize = 64;

thread_local! {
    /// Chunks of queues that were dropped.
    static DROPPED: RefCell<Vec<Chunk>> = const { RefCell::new(Vec::new()) };
}

/// Frees some of what the thread's queues have left behind. Answers how many bytes it
/// still has.
pub(crate) fn free_some() -> usize {
    DROPPED.with_borrow_mut(|dropped| {
        dropped.truncate(dropped.len().saturating_sub(FREED_PER_TURN));
        if dropped.is_empty() {
            *dropped = Vec::new();
        }
        dropped.len() * CHUNK
    })
}

/// Bytes that are put at the end and taken from the front. Neither moves those
/// that stay.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    /// Each of them is freed once its bytes are taken.
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are taken.
    taken: usize,
    len: usize,
    /// Bytes that the chunks have room for.
    room: usize,
}

impl ByteQueue {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if let Some(last) = self.chunks.back_mut() {
            let fits = last.put(bytes);
            self.len += fits;
            bytes = &bytes[fits..];
        }
        while !bytes.is_empty() {
            // As much again as there is, so that small pieces need few chunks.
            let capacity = bytes.len().max(self.len).min(CHUNK);
            let mut chunk = Chunk::new(capacity);
            let fits = chunk.put(bytes);
            self.room += chunk.capacity();
            self.chunks.push_back(chunk);
            self.len += fits;
            bytes = &bytes[fits..];
        }
    }

    /// The first bytes, as far as they stand together; none if there are none.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks
            .front()
            .map_or(&[], |first| &first.bytes()[self.taken..])
    }

    /// Takes `len` bytes of the [front](Self::front).
    pub(crate) fn advance(&mut self, len: usize) {
        assert!(len <= self.front().len(), "no more than there are");
        self.taken += len;
        self.len -= len;
        if self.len == 0 {
            *self = Self::default();
        } else if self.front().is_empty() {
            let chunk = self.chunks.pop_front().expect("it is taken");
            self.room -= chunk.capacity();
            self.taken = 0;
        }
    }

    /// Takes all, and `end` behind it, as one. Chunks go as they are copied, so that
    /// no more than one of them is held twice.
    pub(crate) fn take_with(&mut self, end: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len + end.len());
        while !self.is_empty() {
            let front = self.front();
            let len = front.len();
            all.extend_from_slice(front);
            self.advance(len);
        }
        all.extend_from_slice(end);
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that this holds.
    pub(crate) fn capacity(&self) -> usize {
        self.room + self.chunks.capacity() * size_of::<Chunk>()
    }
}

impl Drop for ByteQueue {
    fn drop(&mut self) {
        if self.chunks.len() > FREED_PER_TURN {
            let rest = mem::take(&mut self.chunks).into_iter().skip(FREED_PER_TURN);
            // At the end of a thread everything goes at once.
            let _ = DROPPED.try_with(|dropped| dropped.borrow_mut().extend(rest));
        }
    }
}

/// A part of a queue that is freed at once.
#[derive(Debug)]
enum Chunk {
    Small(Vec<u8>),
    /// Pages of its own: an allocator would keep them for itself for as long as
    /// nothing else is allocated. The first `len` bytes are in use.
    Mapped {
        pages: MmapMut,
        len: usize,
    },
}

impl Chunk {
    fn new(capacity: usize) -> Self {
        if capacity == CHUNK
            && let Ok(pages) = MmapMut::map_anon(CHUNK)
        {
            return Self::Mapped { pages, len: 0 };
        }
        Self::Small(Vec::with_capacity(capacity))
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.capacity(),
            Self::Mapped { pages, .. } => pages.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Mapped { pages, len } => &pages[..*len],
        }
    }

    /// Puts as much of `bytes` behind what there is as there is room for; says how
    /// much.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let fits = bytes.len().min(self.capacity() - self.bytes().len());
        match self {
            Self::Small(all) => all.extend_from_slice(&bytes[..fits]),
            Self::Mapped { pages, len } => {
                pages[*len..*len + fits].copy_from_slice(&bytes[..fits]);
                *len += fits;
            }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dropped_queue_held_is_freed_bit_by_bit() {
        let chunks = 3 * FREED_PER_TURN + 1;
        for queues in 1..=2 {
            for _ in 0..queues {
                let mut queue = ByteQueue::default();
                queue.push(&vec![0; chunks * CHUNK]);
            }
            let mut left = queues * (chunks - FREED_PER_TURN);
            while left > 0 {
                left = left.saturating_sub(FREED_PER_TURN);
                assert_eq!(free_some(), left * CHUNK);
            }
        }
        drop(ByteQueue::default());
        assert_eq!(free_some(), 0);
    }

    #[test]
    fn a_queue_that_is_taken_leaves_nothing_behind() {
        let mut queue = ByteQueue::default();
        queue.push(&vec![0; 2 * FREED_PER_TURN * CHUNK]);
        while !queue.is_empty() {
            queue.advance(queue.front().len());
        }
        assert_eq!(free_some(), 0);
    }
}
