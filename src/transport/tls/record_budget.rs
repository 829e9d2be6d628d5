//! A limit on records without data.

use std::time::{Duration, Instant};

use crate::sys::calls;

/// Records without data that a peer may send in a row: those of its handshake, empty
/// ones, key updates and others. A key update costs as much as many frames, and rustls
/// accepts 32 of them before each byte of data.
const RECORDS_MAX: u32 = 32;

/// One more is allowed per interval. Keys need an update once in millions of records (RFC
/// 8446, section 5.5).
const REFILL: Duration = Duration::from_secs(1);

/// The budget of a peer.
#[derive(Debug, Default)]
pub(super) struct RecordBudget {
    used: u32,
    /// The time of `used`.
    at: Option<Instant>,
}

impl RecordBudget {
    /// Takes one record's share; `false` if there is none.
    pub(super) fn take(&mut self) -> bool {
        self.take_at(calls::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let at = *self.at.get_or_insert(now);
        let refills = now.saturating_duration_since(at).as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        if refills > 0 {
            self.used = self.used.saturating_sub(refills);
            self.at = Some(now);
        }
        let is_left = self.used < RECORDS_MAX;
        self.used += u32::from(is_left);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_exhausted_by_records_in_a_row() {
        let start = Instant::now();
        let mut budget = RecordBudget::default();
        let mut taken = |now| (0..100).filter(|_| budget.take_at(now)).count();
        assert_eq!(taken(start), 32);
        assert_eq!(taken(start), 0);
    }

    #[test]
    fn one_record_per_second_is_always_allowed_and_the_budget_refills() {
        let start = Instant::now();
        let mut budget = RecordBudget::default();
        assert!((0..1000).all(|second| budget.take_at(start + second * REFILL)));
        let later = start + 2000 * REFILL;
        assert_eq!((0..100).filter(|_| budget.take_at(later)).count(), 32);
    }
}
