//! Which connections of an engine are to be served, and in which order.

use std::collections::VecDeque;
use std::mem;

/// The connections that are due. Each is listed once at a time, which the engine sees
/// to.
#[derive(Default)]
pub(super) struct Schedule {
    /// In this order.
    due: Vec<u32>,
    /// Where `due` goes while it is worked off, to come back empty.
    serving: Vec<u32>,
    /// Those in bulk. They wait for all others, and not the other way round: each turn
    /// serves everybody in `due`, and few of these.
    bulk: VecDeque<u32>,
}

impl Schedule {
    pub(super) fn list(&mut self, key: u32, is_bulk: bool) {
        if is_bulk {
            self.bulk.push_back(key);
        } else {
            self.due.push(key);
        }
    }

    /// Takes one off that is over: its key may be another's before it would be served.
    pub(super) fn forget(&mut self, key: u32) {
        self.due.retain(|&due| due != key);
        self.bulk.retain(|&bulk| bulk != key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.bulk.is_empty()
    }

    /// Begins a turn, for all that are due now and this many of those in bulk. One that
    /// turns out to be in bulk has been served in this turn.
    pub(super) fn take(&mut self, bulk_per_turn: usize) -> Turn {
        mem::swap(&mut self.due, &mut self.serving);
        Turn {
            next: 0,
            bulk: self.bulk.len().min(bulk_per_turn),
        }
    }

    /// The next connection of a turn.
    pub(super) fn next(&mut self, turn: &mut Turn) -> Option<u32> {
        if let Some(&key) = self.serving.get(turn.next) {
            turn.next += 1;
            return Some(key);
        }
        self.serving.clear();
        turn.next = 0;
        turn.bulk = turn.bulk.checked_sub(1)?;
        self.bulk.pop_front()
    }
}

/// What is left of a turn.
pub(super) struct Turn {
    next: usize,
    bulk: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_served_before_few_of_those_in_bulk() {
        let mut schedule = Schedule::default();
        for (key, is_bulk) in [(1, true), (2, false), (3, true), (4, false), (5, true)] {
            schedule.list(key, is_bulk);
        }
        let mut served = Vec::new();
        let mut turn = schedule.take(2);
        while let Some(key) = schedule.next(&mut turn) {
            served.push(key);
            // Who has more to do waits for the next turn.
            schedule.list(key, false);
        }
        assert_eq!(served, [2, 4, 1, 3]);
        schedule.forget(4);
        let mut turn = schedule.take(0);
        let served: Vec<_> = std::iter::from_fn(|| schedule.next(&mut turn)).collect();
        assert_eq!(served, [2, 1, 3]);
        assert!(!schedule.is_empty());
    }
}
