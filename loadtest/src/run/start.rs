//! The start of the load: as soon as all threads are ready, or so that the measurement begins
//! at a time by the wall clock.

use std::time::{Duration, SystemTime};

/// The notice that threads get at least before the load begins, so that all begin together.
pub(super) const START_DELAY: Duration = Duration::from_millis(30);

/// The notice before the load resumes after a pause. Threads poll more often then.
pub(super) const RESUME_DELAY: Duration = Duration::from_millis(5);

/// The notice before a load that begins by the wall clock. Until then, adjustments of the clock
/// are followed.
const NOTICE: Duration = Duration::from_secs(1);

/// The next action for the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartAction {
    /// Nothing yet.
    Wait,
    /// Notify the threads that the load begins after this time.
    Begin(Duration),
    /// The start time has passed.
    Late,
}

/// The action at the time `now`. The measurement is to begin at `start_at`, if given, and after a
/// warm-up.
pub(super) fn step(
    is_ready: bool,
    start_at: Option<SystemTime>,
    warmup: Duration,
    now: SystemTime,
) -> StartAction {
    let Some(start_at) = start_at else {
        return if is_ready {
            StartAction::Begin(START_DELAY)
        } else {
            StartAction::Wait
        };
    };
    let until_load = start_at
        .duration_since(now)
        .unwrap_or_default()
        .checked_sub(warmup);
    match until_load {
        Some(time) if time >= START_DELAY => {
            if is_ready && time <= NOTICE {
                StartAction::Begin(time)
            } else {
                StartAction::Wait
            }
        }
        _ => StartAction::Late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARMUP: Duration = Duration::from_secs(2);
    const START: SystemTime = SystemTime::UNIX_EPOCH;

    /// The action this long before the measurement begins.
    fn before(ahead_ms: u64, is_ready: bool) -> StartAction {
        let start_at = START + Duration::from_secs(1_000);
        let now = start_at - Duration::from_millis(ahead_ms);
        step(is_ready, Some(start_at), WARMUP, now)
    }

    #[test]
    fn without_a_time_it_begins_when_all_are_ready() {
        assert_eq!(step(false, None, WARMUP, START), StartAction::Wait);
        assert_eq!(
            step(true, None, WARMUP, START),
            StartAction::Begin(START_DELAY)
        );
    }

    #[test]
    fn the_warm_up_lies_before_the_time() {
        assert_eq!(before(60_000, true), StartAction::Wait);
        assert_eq!(before(3_001, true), StartAction::Wait);
        for ahead_ms in [3_000, 2_500, 2_030] {
            let until_load = Duration::from_millis(ahead_ms - 2_000);
            assert_eq!(before(ahead_ms, true), StartAction::Begin(until_load));
            assert_eq!(before(ahead_ms, false), StartAction::Wait);
        }
    }

    #[test]
    fn unready_threads_at_the_start_time_are_late() {
        for ahead_ms in [2_029, 2_000, 1_000, 0] {
            assert_eq!(before(ahead_ms, false), StartAction::Late);
            assert_eq!(before(ahead_ms, true), StartAction::Late);
        }
        let passed = START + Duration::from_secs(5);
        assert_eq!(step(true, Some(START), WARMUP, passed), StartAction::Late);
    }
}
