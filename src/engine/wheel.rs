//! When the timers of connections are due: a hierarchical timing wheel.
//!
//! A timer is a [`Link`] in the list of one slot of one of the [`LEVELS`], so that
//! setting and cancelling one costs the same however many there are, and to advance
//! costs what has become due. The slots of a level are as long as all slots of the
//! level below together: what stands there moves down when its time comes nearer.

#![allow(
    clippy::cast_possible_truncation,
    reason = "levels and slots are few, and of a tick the lower half is meant"
)]

use super::Millis;

/// Milliseconds of a slot of the lowest level.
const TICK: u64 = 4;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// They reach for 18 hours. A timer beyond that comes early.
const LEVELS: usize = 4;

/// Ticks that the levels reach for.
const FARTHEST: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

/// The list of what is due, behind those of the slots.
const DUE: u16 = (LEVELS * SLOTS) as u16;
const LISTS: usize = LEVELS * SLOTS + 1;

/// No key, or no list.
const NO_KEY: u32 = u32::MAX;
const NO_LIST: u16 = u16::MAX;

/// The place of one timer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    previous: u32,
    next: u32,
    /// When it is due: the lower half of the tick.
    at: u32,
    list: u16,
}

/// Where the links are, each at its key.
pub(super) trait Links {
    fn link(&mut self, key: u32) -> &mut Link;
}

impl Default for Link {
    fn default() -> Self {
        Self {
            previous: NO_KEY,
            next: NO_KEY,
            at: 0,
            list: NO_LIST,
        }
    }
}

pub(super) struct Wheel {
    /// The tick that has passed.
    now: u64,
    heads: Box<[u32; LISTS]>,
    /// Slots that are not empty, a bit each.
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            heads: Box::new([NO_KEY; LISTS]),
            occupied: [0; LEVELS],
        }
    }

    /// Sets the timer of this key, which may be set already.
    pub(super) fn set(&mut self, links: &mut impl Links, key: u32, at: Millis) {
        self.cancel(links, key);
        links.link(key).at = self.low_at(at);
        self.insert(links, key);
    }

    /// Whether the timer of this key is not set, or to a later time.
    pub(super) fn is_sooner(&self, links: &mut impl Links, key: u32, at: Millis) -> bool {
        let link = links.link(key);
        link.list == NO_LIST || self.low_at(at).wrapping_sub(link.at).cast_signed() < 0
    }

    pub(super) fn cancel(&mut self, links: &mut impl Links, key: u32) {
        let Link {
            previous,
            next,
            list,
            ..
        } = *links.link(key);
        if list == NO_LIST {
            return;
        }
        links.link(key).list = NO_LIST;
        if next != NO_KEY {
            links.link(next).previous = previous;
        }
        if previous != NO_KEY {
            links.link(previous).next = next;
            return;
        }
        self.heads[usize::from(list)] = next;
        if next == NO_KEY && list != DUE {
            let (level, slot) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// Has time pass. What becomes due is there for [`next_due`](Self::next_due).
    pub(super) fn advance(&mut self, links: &mut impl Links, now: Millis) {
        let target = now.0 / TICK;
        while self.now < target {
            let Some(level) = self.occupied.iter().position(|&slots| slots != 0) else {
                self.now = target;
                return;
            };
            // Until the next slot of this level begins, nothing happens.
            let slot_len = 1 << (SLOT_BITS * level as u32);
            self.now = ((self.now | (slot_len - 1)) + 1).min(target);
            self.pull_down(links);
            self.move_all(links, 0, self.now as usize % SLOTS);
        }
    }

    /// Takes one of those that are due.
    pub(super) fn next_due(&mut self, links: &mut impl Links) -> Option<u32> {
        let key = self.heads[usize::from(DUE)];
        if key == NO_KEY {
            return None;
        }
        self.cancel(links, key);
        Some(key)
    }

    /// Whether any are.
    pub(super) fn has_due(&self) -> bool {
        self.heads[usize::from(DUE)] != NO_KEY
    }

    /// Where a slot of a higher level has begun, moves what stands there.
    fn pull_down(&mut self, links: &mut impl Links) {
        for level in 1..LEVELS {
            let shift = SLOT_BITS * level as u32;
            if self.now.trailing_zeros() < shift {
                return;
            }
            let slot = (self.now >> shift) as usize % SLOTS;
            self.move_all(links, level, slot);
        }
    }

    /// Has everything of a slot find its place anew.
    fn move_all(&mut self, links: &mut impl Links, level: usize, slot: usize) {
        if self.occupied[level] & (1 << slot) == 0 {
            return;
        }
        self.occupied[level] &= !(1 << slot);
        let head = &mut self.heads[level * SLOTS + slot];
        let mut key = std::mem::replace(head, NO_KEY);
        while key != NO_KEY {
            let next = links.link(key).next;
            self.insert(links, key);
            key = next;
        }
    }

    fn insert(&mut self, links: &mut impl Links, key: u32) {
        let list = self.list_for(links.link(key).at);
        if list != DUE {
            let (level, slot) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
            self.occupied[level] |= 1 << slot;
        }
        let head = &mut self.heads[usize::from(list)];
        let next = std::mem::replace(head, key);
        if next != NO_KEY {
            links.link(next).previous = key;
        }
        let link = links.link(key);
        (link.previous, link.next, link.list) = (NO_KEY, next, list);
    }

    /// The lower half of the tick at which this is due.
    fn low_at(&self, at: Millis) -> u32 {
        let ticks = at.0.div_ceil(TICK).saturating_sub(self.now);
        low(self.now + ticks.min(FARTHEST))
    }

    /// The list of what is due at a tick, of which this is the lower half.
    fn list_for(&self, at: u32) -> u16 {
        let left = at.wrapping_sub(low(self.now)).cast_signed();
        if left <= 0 {
            return DUE;
        }
        let at = self.now + u64::from(left.cast_unsigned());
        // The highest level on which the two stand in different slots.
        let level = ((at ^ self.now).ilog2() / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = (at >> (SLOT_BITS * level)) as usize % SLOTS;
        (level as usize * SLOTS + slot) as u16
    }
}

/// The lower half.
fn low(tick: u64) -> u32 {
    tick as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Links for Vec<Link> {
        fn link(&mut self, key: u32) -> &mut Link {
            &mut self[key as usize]
        }
    }

    const KEYS: u32 = 20;

    #[derive(Clone, Debug)]
    enum Call {
        Set { key: u32, after: u64 },
        Cancel { key: u32 },
        Pass { time: u64 },
    }

    fn call() -> impl Strategy<Value = Call> {
        let time = || {
            prop_oneof![
                0..10_u64,
                0..2_000_u64,
                0..2_000_000_u64,
                0..200_000_000_u64,
                Just(1 << 50),
            ]
        };
        prop_oneof![
            (0..KEYS, time()).prop_map(|(key, after)| Call::Set { key, after }),
            (0..KEYS).prop_map(|key| Call::Cancel { key }),
            time().prop_map(|time| Call::Pass { time }),
        ]
    }

    fn due(wheel: &mut Wheel, links: &mut Vec<Link>) -> Vec<u32> {
        let mut keys: Vec<_> = std::iter::from_fn(|| wheel.next_due(links)).collect();
        assert!(!wheel.has_due());
        keys.sort_unstable();
        keys
    }

    proptest! {
        #[test]
        fn what_is_due_is_found_in_time_and_nothing_else(
            start in prop_oneof![Just(0), Just((u64::from(u32::MAX) - 100) * TICK)],
            calls in prop::collection::vec(call(), 1..200),
        ) {
            let mut links = vec![Link::default(); KEYS as usize];
            let mut wheel = Wheel::new();
            wheel.now = start / TICK;
            let mut now = start;
            let mut set = BTreeMap::new();
            for call in calls {
                match call {
                    Call::Set { key, after } => {
                        wheel.set(&mut links, key, Millis(now + after));
                        set.insert(key, now + after.min(FARTHEST * TICK));
                    }
                    Call::Cancel { key } => {
                        wheel.cancel(&mut links, key);
                        set.remove(&key);
                    }
                    Call::Pass { time } => {
                        now += time;
                        wheel.advance(&mut links, Millis(now));
                        let found = due(&mut wheel, &mut links);
                        for (&key, &at) in &set {
                            prop_assert!(found.contains(&key) || at + TICK > now, "{key} is late");
                        }
                        for key in found {
                            let at = set.remove(&key);
                            prop_assert!(at.is_some_and(|at| at <= now), "{key} is early: {at:?}, {now}");
                        }
                    }
                }
            }
        }
    }
}
