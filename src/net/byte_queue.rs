//! A queue of bytes whose memory is freed as they are taken.
//!
//! A long queue that is dropped frees some of its memory at once, and leaves the rest to
//! the thread, which [frees it in turns](free_some): the kernel takes 8 µs for a chunk,
//! and other connections would wait for a thousand of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use memmap2::MmapMut;

/// Bytes of the largest chunk, the unit of freeing.
const CHUNK: usize = 64 * 1024;

/// Bytes that are shared rather than copied where they are given as such.
const SHARED_MIN: usize = 4096;

/// Chunks that are freed in one turn.
const FREED_PER_TURN: usize = 64;

thread_local! {
    /// Chunks of queues that were dropped.
    static DROPPED: RefCell<Vec<Chunk>> = const { RefCell::new(Vec::new()) };
}

/// Frees some chunks of the thread's dropped queues. Returns the bytes that are left.
pub(crate) fn free_some() -> usize {
    DROPPED.with_borrow_mut(|dropped| {
        dropped.truncate(dropped.len().saturating_sub(FREED_PER_TURN));
        if dropped.is_empty() {
            *dropped = Vec::new();
        }
        dropped.len() * CHUNK
    })
}

/// Bytes that are pushed at the end and taken from the front. Neither moves the others.
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

    /// As [`push`](Self::push), without a copy of what is long.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.push(&bytes);
        }
        self.len += bytes.len();
        self.room += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// The first contiguous bytes.
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

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of allocated memory.
    pub(crate) fn capacity(&self) -> usize {
        self.room + self.chunks.capacity() * size_of::<Chunk>()
    }
}

impl Drop for ByteQueue {
    fn drop(&mut self) {
        if self.chunks.len() > FREED_PER_TURN {
            let rest = mem::take(&mut self.chunks).into_iter().skip(FREED_PER_TURN);
            // At the end of the thread, everything is freed at once.
            let _ = DROPPED.try_with(|dropped| dropped.borrow_mut().extend(rest));
        }
    }
}

/// A part of a queue, freed as a whole.
#[derive(Debug)]
enum Chunk {
    Small(Vec<u8>),
    /// Pages from the kernel: an allocator would not return them. The first `len` bytes
    /// are in use.
    Mapped {
        pages: MmapMut,
        len: usize,
    },
    /// Full, and somebody else's as well.
    Shared(Bytes),
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
            Self::Shared(bytes) => bytes.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Mapped { pages, len } => &pages[..*len],
            Self::Shared(bytes) => bytes,
        }
    }

    /// Appends as much of `bytes` as fits; returns its length.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let fits = bytes.len().min(self.capacity() - self.bytes().len());
        match self {
            Self::Small(all) => all.extend_from_slice(&bytes[..fits]),
            Self::Mapped { pages, len } => {
                pages[*len..*len + fits].copy_from_slice(&bytes[..fits]);
                *len += fits;
            }
            Self::Shared(_) => {}
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_queue_is_freed_in_turns() {
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
    fn what_is_shared_keeps_its_place_and_is_not_copied() {
        let mut queue = ByteQueue::default();
        let long = Bytes::from(vec![2; SHARED_MIN]);
        queue.push(&[1; 10]);
        queue.push_shared(long.clone());
        queue.push_shared(Bytes::from_static(&[3; 10]));
        assert_eq!(
            (queue.len(), queue.front()),
            (SHARED_MIN + 20, &[1; 10][..])
        );
        queue.advance(10);
        assert_eq!(queue.front().as_ptr(), long.as_ptr());
        queue.advance(SHARED_MIN);
        assert_eq!(queue.front(), [3; 10]);
        queue.advance(10);
        assert!(queue.is_empty() && queue.capacity() == 0);
    }

    #[test]
    fn emptied_queue_leaves_nothing_to_free() {
        let mut queue = ByteQueue::default();
        queue.push(&vec![0; 2 * FREED_PER_TURN * CHUNK]);
        while !queue.is_empty() {
            queue.advance(queue.front().len());
        }
        assert_eq!(free_some(), 0);
    }
}
