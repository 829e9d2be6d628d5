//! The handshakes in progress of one worker: limits, buffered bytes, and eviction.
//!
//! A connection is in its handshake from its accept until it is upgraded or closed. All
//! memory that it takes is counted, and belongs to the
//! [buffered bytes](crate::limits::memory_budget). There are three limits:
//!
//! * their number: one too many evicts the oldest. A healthy client's handshake takes a
//!   few round trips, an attacker's the whole timeout;
//! * while the handshakes of a worker exceed their share, one that exceeds
//!   [`SMALL_BYTES`] is evicted as soon as it grows;
//! * while all buffered bytes exceed their limit, handshakes are evicted before any
//!   upgraded connection: those that exceed [`SMALL_BYTES`] or are older than [`YOUNG`],
//!   and any others until the handshakes are within their share.
//!
//! So a client that keeps the rules completes its handshake during an attack, and no
//! upgraded connection is evicted for handshakes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::Config;
use crate::observe::metrics::label::RefusalReason;

/// Memory of a handshake besides its client's bytes: a task with its future, the socket's
/// registration, and the record for the log.
pub(crate) const HANDSHAKE_BYTES: usize = 4096;

/// The most that the handshake of a healthy client takes besides: the state of its TLS
/// handshake, and its request.
const SMALL_BYTES: usize = 8192;

/// For this time, such a handshake is not evicted for buffered bytes.
const YOUNG: Duration = Duration::from_secs(1);

/// Growth by this part of the share since the last check causes another one soon.
const GROWTH_SHARE: usize = 8;

/// The handshakes of one worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    count_max: usize,
    bytes_max: usize,
    /// In the order of accept, without evicted ones.
    entries: RefCell<BTreeMap<u64, Rc<Entry>>>,
    entered: Cell<u64>,
    count: Cell<usize>,
    held: Cell<usize>,
    /// The part of `held` that evicted ones still take.
    leaving: Cell<usize>,
    grown: Cell<usize>,
    has_grown: Notify,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    /// Bytes besides those of [`HandshakeSlot::hold`].
    base: Cell<usize>,
    held: Cell<usize>,
    eviction: Cell<Option<RefusalReason>>,
    evicted: Notify,
}

/// A handshake's slot, until this is dropped.
#[derive(Debug)]
pub(crate) struct HandshakeSlot {
    handshakes: Rc<Handshakes>,
    key: u64,
    entry: Rc<Entry>,
}

impl Handshakes {
    /// For one of `workers`, which share the configured limits equally.
    pub(crate) fn new(config: &Config, workers: usize) -> Rc<Self> {
        let share = |all: usize| all.div_ceil(workers);
        let bytes_max = config
            .max_held_bytes
            .map_or(usize::MAX, |max| max.get() / 2);
        Rc::new(Self {
            count_max: share(config.effective_max_handshakes()),
            bytes_max: share(bytes_max),
            entries: RefCell::default(),
            entered: Cell::new(0),
            count: Cell::new(0),
            held: Cell::new(0),
            leaving: Cell::new(0),
            grown: Cell::new(0),
            has_grown: Notify::new(),
        })
    }

    /// Adds the handshake of a connection that was accepted at `since`.
    pub(crate) fn enter(self: &Rc<Self>, since: Instant) -> HandshakeSlot {
        if self.entries.borrow().len() >= self.count_max {
            self.evict_oldest();
        }
        let entry = Rc::new(Entry {
            since,
            base: Cell::new(HANDSHAKE_BYTES),
            held: Cell::new(0),
            eviction: Cell::new(None),
            evicted: Notify::new(),
        });
        let key = self.entered.replace(self.entered.get() + 1);
        self.entries.borrow_mut().insert(key, Rc::clone(&entry));
        self.count.set(self.count.get() + 1);
        let slot = HandshakeSlot {
            handshakes: Rc::clone(self),
            key,
            entry,
        };
        slot.hold(0);
        slot
    }

    /// The number of handshakes in progress.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Bytes that they hold.
    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// Evicts old and large handshakes, and others while all exceed their share, the
    /// largest first, until `bytes` are evicted. Returns the evicted bytes, including
    /// those of earlier evictions that are still in memory.
    pub(crate) fn evict(&self, bytes: usize, now: Instant) -> usize {
        let mut candidates: Vec<_> = {
            let entries = self.entries.borrow();
            let order = |entry: &Entry| (entry.is_spared(now), Reverse(entry.held.get()));
            entries
                .iter()
                .map(|(&key, entry)| (order(entry), key))
                .collect()
        };
        candidates.sort_unstable();
        for ((is_spared, _), key) in candidates {
            let stays = is_spared && self.held.get() - self.leaving.get() <= self.bytes_max;
            if stays || self.leaving.get() >= bytes {
                break;
            }
            self.evict_one(key, RefusalReason::HeldBytes);
        }
        self.leaving.get()
    }

    fn evict_oldest(&self) {
        let oldest = self.entries.borrow().keys().next().copied();
        if let Some(key) = oldest {
            self.evict_one(key, RefusalReason::Handshakes);
        }
    }

    fn evict_one(&self, key: u64, reason: RefusalReason) {
        if let Some(entry) = self.entries.borrow_mut().remove(&key) {
            self.leaving.set(self.leaving.get() + entry.held.get());
            entry.eviction.set(Some(reason));
            entry.evicted.notify_one();
        }
    }

    /// Waits until the buffered bytes have grown much since the last call.
    pub(crate) async fn grown(&self) {
        self.grown.set(0);
        self.has_grown.notified().await;
    }

    fn grow(&self, bytes: usize) {
        self.grown.set(self.grown.get() + bytes);
        if self.grown.get() > self.bytes_max / GROWTH_SHARE {
            self.has_grown.notify_waiters();
        }
    }
}

impl Entry {
    fn is_small(&self) -> bool {
        self.held.get() <= HANDSHAKE_BYTES + SMALL_BYTES
    }

    /// Whether it looks like the handshake of a healthy client.
    fn is_spared(&self, now: Instant) -> bool {
        self.is_small() && now.saturating_duration_since(self.since) < YOUNG
    }
}

impl HandshakeSlot {
    /// Adds `bytes` to its base.
    pub(crate) fn hold_besides(&self, bytes: usize) {
        let base = &self.entry.base;
        base.set(base.get() + bytes);
        self.hold(0);
    }

    /// Sets its bytes besides the base.
    pub(crate) fn hold(&self, bytes: usize) {
        let Self {
            handshakes,
            key,
            entry,
        } = self;
        let now = entry.base.get() + bytes;
        let before = entry.held.replace(now);
        let settle = |sum: &Cell<usize>| sum.set(sum.get() - before + now);
        settle(&handshakes.held);
        if entry.eviction.get().is_some() {
            settle(&handshakes.leaving);
        } else if now > before {
            handshakes.grow(now - before);
            if handshakes.held.get() > handshakes.bytes_max && !entry.is_small() {
                handshakes.evict_one(*key, RefusalReason::HeldBytes);
            }
        }
    }

    /// Waits until it is evicted; returns the reason.
    pub(crate) async fn evicted(&self) -> RefusalReason {
        loop {
            if let Some(reason) = self.entry.eviction.get() {
                return reason;
            }
            self.entry.evicted.notified().await;
        }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let Self {
            handshakes,
            key,
            entry,
        } = self;
        let held = entry.held.get();
        handshakes.held.set(handshakes.held.get() - held);
        handshakes.count.set(handshakes.count.get() - 1);
        if entry.eviction.get().is_some() {
            handshakes.leaving.set(handshakes.leaving.get() - held);
        } else {
            handshakes.entries.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    /// The handshakes of one of two workers.
    fn handshakes(max_handshakes: usize, max_held_bytes: usize) -> Rc<Handshakes> {
        let config = Config {
            max_handshakes: Some(max_handshakes),
            max_held_bytes: NonZeroUsize::new(max_held_bytes),
            ..Config::default()
        };
        Handshakes::new(&config, 2)
    }

    fn eviction(slot: &HandshakeSlot) -> Option<RefusalReason> {
        slot.entry.eviction.get()
    }

    #[test]
    fn one_too_many_evicts_the_oldest() {
        let handshakes = handshakes(4, 0);
        let now = Instant::now();
        let slots = [0, 1, 2].map(|_| handshakes.enter(now));
        let evictions = slots.each_ref().map(eviction);
        assert_eq!(evictions, [Some(RefusalReason::Handshakes), None, None]);
        assert_eq!(handshakes.count(), 3, "until it is dropped");
        drop(slots);
        assert_eq!((handshakes.count(), handshakes.held()), (0, 0));
        assert_eq!(handshakes.leaving.get(), 0);
    }

    #[test]
    fn without_a_limit_none_is_evicted() {
        let handshakes = handshakes(0, 0);
        let slots: Vec<_> = (0..1000)
            .map(|_| handshakes.enter(Instant::now()))
            .collect();
        for slot in &slots {
            slot.hold(1 << 30);
        }
        assert!(slots.iter().all(|slot| eviction(slot).is_none()));
    }

    #[test]
    fn bytes_count_from_accept_until_drop() {
        let handshakes = handshakes(0, 0);
        let slot = handshakes.enter(Instant::now());
        assert_eq!(handshakes.held(), HANDSHAKE_BYTES);
        slot.hold(100);
        assert_eq!(handshakes.held(), HANDSHAKE_BYTES + 100);
        slot.hold_besides(1000);
        assert_eq!(handshakes.held(), HANDSHAKE_BYTES + 1000);
        slot.hold(10);
        assert_eq!(handshakes.held(), HANDSHAKE_BYTES + 1010);
        drop(slot);
        assert_eq!(handshakes.held(), 0);
    }

    #[test]
    fn largest_are_evicted_first_and_no_more_than_necessary() {
        let handshakes = handshakes(0, 0);
        let now = Instant::now();
        let slots = [SMALL_BYTES, 10_000, 30_000, 20_000].map(|bytes| {
            let slot = handshakes.enter(now);
            slot.hold(bytes);
            slot
        });
        let evicted = || slots.each_ref().map(|slot| eviction(slot).is_some());
        assert_eq!(handshakes.evict(1, now), HANDSHAKE_BYTES + 30_000);
        assert_eq!(evicted(), [false, false, true, false]);
        // Bytes of evicted ones count, so that no other is evicted for them.
        assert_eq!(handshakes.evict(30_000, now), HANDSHAKE_BYTES + 30_000);
        assert_eq!(evicted(), [false, false, true, false]);
        let young = handshakes.evict(usize::MAX, now);
        assert_eq!(young, 3 * HANDSHAKE_BYTES + 60_000);
        assert_eq!(evicted(), [false, true, true, true]);
        handshakes.evict(usize::MAX, now + YOUNG);
        assert_eq!(evicted(), [true; 4]);
    }

    #[test]
    fn small_ones_are_evicted_until_they_are_within_their_share() {
        let handshakes = handshakes(0, 80 * HANDSHAKE_BYTES);
        let now = Instant::now();
        let slots: Vec<_> = (0..50).map(|_| handshakes.enter(now)).collect();
        assert_eq!(handshakes.evict(usize::MAX, now), 30 * HANDSHAKE_BYTES);
        let evicted = |slot: &&HandshakeSlot| eviction(slot).is_some();
        assert_eq!(slots[..30].iter().filter(evicted).count(), 30, "the oldest");
    }

    #[test]
    fn over_the_share_only_large_ones_are_evicted_as_they_grow() {
        let share = 1 << 20;
        let handshakes = handshakes(0, 4 * share);
        let slots: Vec<_> = (0..1000)
            .map(|_| {
                let slot = handshakes.enter(Instant::now());
                slot.hold(SMALL_BYTES);
                slot
            })
            .collect();
        assert!(handshakes.held() > share);
        assert!(slots.iter().all(|slot| eviction(slot).is_none()));
        slots[7].hold(SMALL_BYTES + 1);
        assert_eq!(eviction(&slots[7]), Some(RefusalReason::HeldBytes));
        assert_eq!(slots.iter().filter_map(eviction).count(), 1);
    }
}
