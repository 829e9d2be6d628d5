//! When it pays to look for the next event again instead of sleeping until it
//! comes.
//!
//! A thread that sleeps is woken by an interrupt and a scheduler, which on a
//! virtual machine takes ten times as long as the echo. One that looks for
//! events without pause sees them at once and uses its core up. [`Spin`] is the
//! decision between the two, without any I/O: the engine tells it of events and
//! asks it whether to look again.

use std::time::{Duration, Instant};

/// Events in a row that come too late to be spun for, after which spinning
/// stops until some come quickly again: peers that speak once in a while would
/// have a core spin for nothing.
const FAILURES_MAX: u32 = 4;

/// One worker's busy polling.
///
/// ```text
/// loop {
///     look for events;
///     if there were any { serve them; spin.event(now) }
///     if !spin.goes_on(now) { sleep until there is one }
/// }
/// ```
#[derive(Debug)]
pub(crate) struct Spin {
    limit: Duration,
    last_event: Option<Instant>,
    /// Events that came later than `limit` after the one before.
    failures: u32,
}

impl Spin {
    /// Spins for at most `limit` after each event; zero never does.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            last_event: None,
            failures: 0,
        }
    }

    /// Whether there is anything to decide. Where not, nothing needs to read
    /// the clock.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.limit.is_zero()
    }

    /// Notes that there were events, and that they are served by `now`. Wanted
    /// of those that ended a sleep as well: they are what brings a spin back.
    #[inline]
    pub(crate) fn event(&mut self, now: Instant) {
        let is_late = |last| now.saturating_duration_since(last) >= self.limit;
        if self.last_event.is_some_and(is_late) {
            self.failures = self.failures.saturating_add(1);
        } else {
            self.failures = 0;
        }
        self.last_event = Some(now);
    }

    /// Whether to look for events again, instead of sleeping until there are
    /// some.
    #[inline]
    pub(crate) fn goes_on(&self, now: Instant) -> bool {
        self.failures < FAILURES_MAX
            && self
                .last_event
                .is_some_and(|last| now.saturating_duration_since(last) < self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(100);
    const SOON: Duration = Duration::from_micros(99);

    #[test]
    fn it_goes_on_for_the_limit_after_the_last_event() {
        let mut spin = Spin::new(LIMIT);
        let start = Instant::now();
        assert!(!spin.goes_on(start), "nothing has happened yet");
        for event in [start, start + SOON] {
            spin.event(event);
            assert!(spin.goes_on(event));
            assert!(spin.goes_on(event + SOON));
            assert!(!spin.goes_on(event + LIMIT));
        }
    }

    #[test]
    fn without_a_limit_it_never_does() {
        let mut spin = Spin::new(Duration::ZERO);
        assert!(!spin.is_on());
        let now = Instant::now();
        spin.event(now);
        assert!(!spin.goes_on(now));
    }

    #[test]
    fn it_stops_where_it_does_not_pay_and_returns_where_it_does() {
        let mut spin = Spin::new(LIMIT);
        let mut now = Instant::now();
        spin.event(now);
        for _ in 0..FAILURES_MAX {
            assert!(spin.goes_on(now));
            now += LIMIT;
            spin.event(now);
        }
        for _ in 0..10 {
            assert!(!spin.goes_on(now), "the last events all came too late");
            now += LIMIT;
            spin.event(now);
        }
        now += SOON;
        spin.event(now);
        assert!(spin.goes_on(now));
    }

    #[test]
    fn one_pause_is_no_reason_to_stop() {
        let mut spin = Spin::new(LIMIT);
        let mut now = Instant::now();
        for _ in 0..10 * FAILURES_MAX {
            now += LIMIT;
            spin.event(now);
            assert!(spin.goes_on(now));
            now += SOON;
            spin.event(now);
            assert!(spin.goes_on(now));
        }
    }
}
