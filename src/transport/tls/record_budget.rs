//! A bound on records that bring no data.

use std::time::{Duration, Instant};

use crate::sys::calls;

/// Records without data that a peer may send in a row: those of its handshake, empty
/// ones, updates of its keys, and whatever else TLS has. An update costs as much as
/// many frames do, and rustls takes 32 of them before each byte of data.
const RECORDS_MAX: u32 = 32;

/// ... and one more each time that this has passed. Keys need an update once in
/// millions of records (RFC 8446, section 5.5).
const REFILL: Duration = Duration::from_secs(1);

/// What a peer may still send without data.
#[derive(Debug, Default)]
pub(super) struct RecordBudget {
    used: u32,
    /// When `used` was last right.
    at: Option<Instant>,
}

impl RecordBudget {
    /// Takes one record's share; whether there was one.
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
    fn a_budget_is_used_up_and_comes_back_with_time() {
        let start = Instant::now();
        let mut budget = RecordBudget::default();
        let mut taken = |now| (0..100).filter(|_| budget.take_at(now)).count();
        assert_eq!(taken(start), 32);
        assert_eq!(taken(start), 0);
    }

    #[test]
    fn one_in_a_second_is_never_too_much() {
        let start = Instant::now();
        let mut budget = RecordBudget::default();
        assert!((0..1000).all(|second| budget.take_at(start + second * REFILL)));
        let later = start + 2000 * REFILL;
        assert_eq!((0..100).filter(|_| budget.take_at(later)).count(), 32);
    }
}
