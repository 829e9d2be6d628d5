//! The bytes that all workers hold together, and how many that may be.
//!
//! A worker reports what its connections hold at each tick, so nothing is
//! counted when bytes come and go, and between two ticks there may be more than
//! the limit. By how much is bounded twice: by what arrives in that time, a tick
//! of [`TICK_WHEN_HIGH`] from half of the limit on; and by what each connection
//! may hold beside a backlog, which is a window, the replies to one read, and what
//! came meanwhile. All backlogs together grow by no more than the limit
//! [leaves](MemoryBudget::room).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// How often workers report when half of the limit is reached.
pub(crate) const TICK_WHEN_HIGH: Duration = Duration::from_millis(50);

/// What all workers hold.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    max: Option<NonZeroUsize>,
    total: AtomicUsize,
    workers: AtomicUsize,
}

impl MemoryBudget {
    pub(crate) fn new(max: Option<NonZeroUsize>) -> Self {
        Self {
            max,
            total: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
        }
    }

    /// How many bytes there may be.
    pub(crate) fn max(&self) -> Option<NonZeroUsize> {
        self.max
    }

    /// Counts a worker, before it reports.
    pub(crate) fn join(&self) {
        self.workers.fetch_add(1, Relaxed);
    }

    /// A worker's share of what the limit leaves: what backlogs may grow by until
    /// it reports again.
    pub(crate) fn room(&self) -> usize {
        let total = self.total.load(Relaxed);
        let left = |max: NonZeroUsize| max.get().saturating_sub(total);
        self.max.map_or(usize::MAX, left) / self.workers.load(Relaxed).max(1)
    }

    /// Whether there is little room left.
    pub(crate) fn is_high(&self) -> bool {
        let total = self.total.load(Relaxed);
        self.max.is_some_and(|max| total > max.get() / 2)
    }

    /// Replaces the part of a worker. Answers how many bytes of it have to go,
    /// which are not a part of it any more: each worker lets go of its share of
    /// what is too much when its turn comes, so that it takes some ticks until
    /// all of that is gone, but nobody lets go of more.
    pub(crate) fn report(&self, before: usize, now: usize) -> usize {
        let more = now.wrapping_sub(before);
        let total = self.total.fetch_add(more, Relaxed).wrapping_add(more);
        let Some(excess) = self.max.and_then(|max| total.checked_sub(max.get())) else {
            return 0;
        };
        let share = (excess as u128 * now as u128).div_ceil((total as u128).max(1));
        let share = usize::try_from(share).unwrap_or(now).min(now);
        self.total.fetch_sub(share, Relaxed);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(max: usize) -> MemoryBudget {
        MemoryBudget::new(NonZeroUsize::new(max))
    }

    #[test]
    fn nothing_has_to_go_up_to_the_limit() {
        let held = held(100);
        assert_eq!(held.report(0, 40), 0);
        assert!(!held.is_high());
        assert_eq!(held.report(40, 100), 0);
        assert!(held.is_high());
        assert_eq!(held.report(100, 101), 1);
        assert_eq!(held.report(100, 0), 0);
        assert!(!held.is_high());
    }

    #[test]
    fn each_worker_lets_go_of_its_share() {
        let held = held(100);
        let parts = [10, 150, 340];
        let shares = parts.map(|part| held.report(0, part));
        // The first two cannot know of the third yet.
        assert_eq!(shares, [0, 57, 264]);
        let mut rests = [0, 1, 2].map(|worker| parts[worker] - shares[worker]);
        let mut ticks = 0;
        while rests.iter().sum::<usize>() > 100 {
            for rest in &mut rests {
                *rest -= held.report(*rest, *rest);
            }
            ticks += 1;
            assert!(ticks < 10, "{rests:?}");
        }
        assert!(
            (95..=100).contains(&rests.iter().sum::<usize>()),
            "{rests:?}"
        );
        assert!(rests.iter().all(|&rest| rest > 0), "{rests:?}");
    }

    #[test]
    fn workers_share_what_is_left() {
        let held = held(100);
        held.join();
        assert_eq!(held.room(), 100);
        held.join();
        held.report(0, 40);
        assert_eq!(held.room(), 30);
        held.report(0, 200);
        assert_eq!(held.room(), 0);
    }

    #[test]
    fn without_a_limit_nothing_has_to_go() {
        let held = MemoryBudget::new(None);
        assert_eq!(held.report(0, usize::MAX), 0);
        assert!(!held.is_high());
    }
}
