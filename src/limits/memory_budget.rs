//! The buffered bytes of all workers, and their limit.
//!
//! A worker reports the buffered bytes of its connections at each tick, so reads and
//! writes cost nothing, and between two ticks the limit may be exceeded. The excess is
//! bounded twice: by the bytes that arrive in that time, a tick of [`TICK_WHEN_HIGH`]
//! from half of the limit on; and by the most of a connection besides its backlog: a
//! window, the replies to one read, and the bytes that arrived meanwhile. All backlogs
//! together grow by no more than the [room](MemoryBudget::room) within the limit.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The interval of reports from half of the limit on.
pub(crate) const TICK_WHEN_HIGH: Duration = Duration::from_millis(50);

/// The buffered bytes of all workers.
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

    pub(crate) fn max(&self) -> Option<NonZeroUsize> {
        self.max
    }

    /// Adds a worker, before its first report.
    pub(crate) fn join(&self) {
        self.workers.fetch_add(1, Relaxed);
    }

    /// A worker's share of the room within the limit, by which its backlogs may grow until
    /// its next report.
    pub(crate) fn room(&self) -> usize {
        let total = self.total.load(Relaxed);
        let left = |max: NonZeroUsize| max.get().saturating_sub(total);
        self.max.map_or(usize::MAX, left) / self.workers.load(Relaxed).max(1)
    }

    /// Whether more than half of the limit is used.
    pub(crate) fn is_high(&self) -> bool {
        let total = self.total.load(Relaxed);
        self.max.is_some_and(|max| total > max.get() / 2)
    }

    /// Replaces a worker's part of the total. Returns its share of the excess, which the
    /// worker has to evict and which is no longer counted: each worker evicts its share at
    /// its own tick, so the excess lasts some ticks, but no worker evicts too much.
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

    fn budget(max: usize) -> MemoryBudget {
        MemoryBudget::new(NonZeroUsize::new(max))
    }

    #[test]
    fn nothing_is_evicted_up_to_the_limit() {
        let budget = budget(100);
        assert_eq!(budget.report(0, 40), 0);
        assert!(!budget.is_high());
        assert_eq!(budget.report(40, 100), 0);
        assert!(budget.is_high());
        assert_eq!(budget.report(100, 101), 1);
        assert_eq!(budget.report(100, 0), 0);
        assert!(!budget.is_high());
    }

    #[test]
    fn each_worker_evicts_its_share() {
        let budget = budget(100);
        let parts = [10, 150, 340];
        let shares = parts.map(|part| budget.report(0, part));
        // The first two cannot know of the third yet.
        assert_eq!(shares, [0, 57, 264]);
        let mut rests = [0, 1, 2].map(|worker| parts[worker] - shares[worker]);
        let mut ticks = 0;
        while rests.iter().sum::<usize>() > 100 {
            for rest in &mut rests {
                *rest -= budget.report(*rest, *rest);
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
    fn workers_share_the_room_equally() {
        let budget = budget(100);
        budget.join();
        assert_eq!(budget.room(), 100);
        budget.join();
        budget.report(0, 40);
        assert_eq!(budget.room(), 30);
        budget.report(0, 200);
        assert_eq!(budget.room(), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_evicted() {
        let budget = MemoryBudget::new(None);
        assert_eq!(budget.report(0, usize::MAX), 0);
        assert!(!budget.is_high());
    }
}
