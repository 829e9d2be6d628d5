//! Buffers of one size, and the ring through which the kernel gets them.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::block::Block;
use super::{BufferId, Size, poison};
use crate::engine::ring::uring::Uring;
use crate::proto::TAIL_ROOM;

const CACHE_LINE: usize = 64;

pub(super) struct Group {
    entries: Block,
    slots: Block,
    pub(super) headroom: usize,
    pub(super) data_len: usize,
    stride: usize,
    /// The numbers of its buffers begin here.
    pub(super) first: BufferId,
    count: u16,
    /// Buffers that the kernel does not have, the latest on top.
    pub(super) spare: Vec<BufferId>,
    /// How many the kernel has.
    pub(super) given_out: u16,
    /// How many it is to have, and at least.
    wanted: u16,
    wanted_min: u16,
    missed: bool,
    tail: u16,
}

impl Group {
    /// Buffers of these numbers, as many as a power of two, of which the kernel
    /// is to have at least `wanted`.
    pub(super) fn new(ids: Range<BufferId>, wanted: u16, headroom: usize, data_len: usize) -> Self {
        let count = ids.end - ids.start;
        let headroom = headroom.next_multiple_of(CACHE_LINE);
        // An odd number of lines: successive slots would otherwise share one
        // set of the cache for their first bytes.
        let lines = (headroom + data_len + TAIL_ROOM).div_ceil(CACHE_LINE) | 1;
        let stride = lines * CACHE_LINE;
        let slots = Block::zeroed(usize::from(count) * stride);
        poison::forbid(slots.start, slots.layout.size());
        Self {
            entries: Block::zeroed(usize::from(count) * size_of::<BufRingEntry>()),
            slots,
            headroom,
            data_len,
            stride,
            first: ids.start,
            count,
            spare: ids.rev().collect(),
            given_out: 0,
            wanted,
            wanted_min: wanted,
            missed: false,
            tail: 0,
        }
    }

    pub(super) fn register(&self, uring: &Uring, size: Size) -> io::Result<()> {
        let address = self.entries.start.addr().get() as u64;
        // SAFETY: the block is aligned to a page, holds as many entries, and
        // lives as long as the pool, which is dropped after the ring.
        unsafe { uring.register_buffers(address, self.count, size.group()) }
    }

    pub(super) fn missed(&mut self) {
        self.missed = true;
        self.wanted = self.wanted.saturating_mul(2).min(self.count);
    }

    pub(super) fn relax(&mut self) {
        if !self.missed {
            self.wanted = self.wanted_min.max(self.wanted / 2);
        }
        self.missed = false;
    }

    pub(super) fn replenish(&mut self) {
        let before = self.tail;
        while self.given_out < self.wanted
            && let Some(id) = self.spare.pop()
        {
            self.put_entry(id);
            self.given_out += 1;
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Lets this process look at a buffer again.
    pub(super) fn allow(&self, id: BufferId) {
        if poison::IS_WATCHED {
            poison::allow(self.start(id), self.stride);
        }
    }

    /// Keeps this process from looking at a buffer, where something watches it.
    pub(super) fn forbid(&self, id: BufferId) {
        if poison::IS_WATCHED {
            poison::forbid(self.start(id), self.stride);
        }
    }

    fn start(&self, id: BufferId) -> NonNull<u8> {
        let offset = usize::from(id - self.first) * self.stride;
        assert!(offset < self.slots.layout.size());
        // SAFETY: within the block.
        unsafe { self.slots.start.add(offset) }
    }

    /// Where the data of a buffer begins.
    pub(super) fn data(&self, id: BufferId) -> NonNull<u8> {
        // SAFETY: a slot is longer than its headroom.
        unsafe { self.start(id).add(self.headroom) }
    }

    /// As [`Pool::slot`](super::Pool::slot), which checks that the buffer is ours.
    pub(super) fn slot(&mut self, id: BufferId, before: usize) -> &mut [u8] {
        assert!(before <= self.headroom, "more is kept than a window");
        let start = self.data(id).as_ptr().wrapping_sub(before);
        let len = before + self.data_len + TAIL_ROOM;
        // SAFETY: the slot lies within the block, was zeroed when allocated,
        // and is not the kernel's, which gets it only after `give_back`. The
        // borrow of the group keeps others from making a second slice.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// How many buffers the kernel is to have.
    #[cfg(test)]
    pub(super) fn wanted(&self) -> u16 {
        self.wanted
    }

    /// What the kernel sees: the tail of its ring, and the entry at a place.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[cfg(test)]
    pub(super) fn seen_by_kernel(&self, head: u16) -> (u16, &BufRingEntry) {
        let base = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: the base of a ring of buffers.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: as above.
        let tail = unsafe { tail.read() };
        // SAFETY: a place within the block.
        let entry = unsafe { base.add(usize::from(head & (self.count - 1))) };
        // SAFETY: as above, and zeroed, if it was never put.
        (tail, unsafe { entry.as_ref() })
    }

    fn put_entry(&mut self, id: BufferId) {
        let data = self.data(id);
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: the place lies within the block.
        let entry = unsafe { self.entries.start.cast::<BufRingEntry>().add(place) };
        // SAFETY: the block is aligned for entries and was zeroed, which is a
        // valid entry. The kernel reads only those up to the tail that it was
        // shown, and has read all that stood here before.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(data.addr().get() as u64);
        entry.set_len(u32::try_from(self.data_len).expect("a buffer's length"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all entries that were put.
    fn publish(&self) {
        let base = self.entries.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the base of a ring of buffers, whose first entry holds the
        // tail where other entries hold nothing.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: aligned, within the block, and only ever accessed as an
        // atomic: the kernel reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
