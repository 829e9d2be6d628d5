//! How many connections a turn may ping or close because of their timeouts.
//!
//! Many may be due at once: those that fell silent together, or all of them after
//! the machine has paused. What is over the bound waits for the next turn, which
//! comes [soon](PAUSE), and everybody else is served in between.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

/// Connections that are pinged or closed in one turn of a worker: at some 10 µs
/// each, others wait for little more than a millisecond.
pub(crate) const PER_TURN: u32 = 128;

/// Between turns while more is due than one of them may do.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// What the turn has left.
#[derive(Debug, Default)]
pub(crate) struct TimerBudget {
    left: Cell<u32>,
    was_short: Cell<bool>,
    wanted: Notify,
}

impl TimerBudget {
    /// Begins a turn.
    pub(crate) fn refill(&self) {
        self.left.set(PER_TURN);
        self.was_short.set(false);
    }

    /// Whether one more connection may be served in this turn; it counts.
    pub(crate) fn take(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        self.was_short.set(self.was_short.get() || left.is_none());
        left.is_some()
    }

    /// A connection that was taken has cost nothing.
    pub(crate) fn put_back(&self) {
        self.left.set(self.left.get() + 1);
    }

    /// Has a turn begin at once.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a turn is to begin at once.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Something else has to wait for the next turn.
    pub(crate) fn cut_short(&self) {
        self.was_short.set(true);
    }

    /// Whether a connection has to wait for the next turn.
    pub(crate) fn was_short(&self) -> bool {
        self.was_short.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_serves_as_many_as_it_may_and_says_that_more_are_due() {
        let budget = TimerBudget::default();
        for _ in 0..2 {
            budget.refill();
            assert!((0..PER_TURN).all(|_| budget.take()));
            assert!(!budget.was_short());
            assert!(!budget.take());
            assert!(budget.was_short());
        }
    }
}
