//! A bound on the lines of the log that peers can cause, whatever they do: a
//! disk is not to be filled by strangers, nor a worker to be kept writing.
//!
//! Lines of one kind share a [`LogLimit`], over all workers. What is over its
//! bound is counted, and the count is logged when its interval is over. Access lines
//! have a bound of their own ([`LogLimit::of_rate`]). Lines of the level trace are not
//! bounded: they are for those who ask for them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::Level;

use crate::config::rate::Rate;

/// Lines of a kind that are logged, for those who look for something.
const DEBUG_LINES: u32 = 100;
const DEBUG_INTERVAL: Duration = Duration::from_secs(10);

/// ... and of what operators should know, which need not be said twice.
const WARN_LINES: u32 = 1;
const WARN_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) static ACCEPT_PAUSED: LogLimit = LogLimit::warn("accept paused");
pub(crate) static NO_TAKEOVER: LogLimit = LogLimit::warn("cannot take over a connection");
pub(crate) static BUFFERED_BYTES: LogLimit = LogLimit::warn("buffered bytes exceed max-held-bytes");
pub(crate) static TCP_MEMORY: LogLimit = LogLimit::warn("TCP memory exceeds max-tcp-memory");
pub(crate) static HANDLER_PANICS: LogLimit = LogLimit::warn("a handler panicked");
pub(crate) static STDOUT_LOST: LogLimit = LogLimit::warn("lines for stdout dropped");
pub(crate) static ACCESS_LINES: LogLimit = LogLimit::warn("access lines dropped");
pub(crate) static ACCEPT_FAILS: LogLimit = LogLimit::debug("accept failed");
pub(crate) static CUT_OFF: LogLimit = LogLimit::debug("a handshake was cut off");
pub(crate) static PROXY_FAILS: LogLimit = LogLimit::warn("no PROXY header");
pub(crate) static FORWARDED_FAILS: LogLimit = LogLimit::warn("no forwarded address");
pub(crate) static TLS_FAILS: LogLimit = LogLimit::debug("a TLS handshake failed");
pub(crate) static TLS_BROKEN: LogLimit = LogLimit::debug("a client broke TLS");
pub(crate) static REFUSED: LogLimit = LogLimit::debug("a request was refused");
pub(crate) static HANDSHAKE_TIMEOUT: LogLimit = LogLimit::debug("a handshake timed out");
pub(crate) static ENDED_EARLY: LogLimit =
    LogLimit::debug("a connection ended before it was served");
pub(crate) static SLOW_READER: LogLimit = LogLimit::debug("a client was cut off");
pub(crate) static EVICTED: LogLimit = LogLimit::debug("a client was evicted");
pub(crate) static VIOLATION: LogLimit = LogLimit::debug("a client broke the protocol");

/// All of them, to be looked after.
static ALL: [&LogLimit; 19] = [
    &ACCEPT_PAUSED,
    &NO_TAKEOVER,
    &BUFFERED_BYTES,
    &TCP_MEMORY,
    &HANDLER_PANICS,
    &STDOUT_LOST,
    &ACCESS_LINES,
    &ACCEPT_FAILS,
    &CUT_OFF,
    &PROXY_FAILS,
    &FORWARDED_FAILS,
    &TLS_FAILS,
    &TLS_BROKEN,
    &REFUSED,
    &HANDSHAKE_TIMEOUT,
    &ENDED_EARLY,
    &SLOW_READER,
    &EVICTED,
    &VIOLATION,
];

/// Logs a line unless there were too many of its kind: `throttled!(debug, &KIND,
/// …)`, with the rest as `tracing` has it.
macro_rules! log_limited {
    (debug, $log_limit:expr, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::DEBUG) && $log_limit.passes() {
            tracing::debug!($($line)+);
        }
    };
    (warn, $log_limit:expr, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::WARN) && $log_limit.passes() {
            tracing::warn!($($line)+);
        }
    };
}
pub(crate) use log_limited;

/// The bound on lines of one kind.
#[derive(Debug)]
pub(crate) struct LogLimit {
    kind: &'static str,
    level: Level,
    lines: u32,
    interval: Duration,
    /// The number of the interval in which a line was last logged, and in the
    /// lower half how many were. The first interval has the number 1.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    const fn debug(kind: &'static str) -> Self {
        Self::new(kind, Level::DEBUG, DEBUG_LINES, DEBUG_INTERVAL)
    }

    const fn warn(kind: &'static str) -> Self {
        Self::new(kind, Level::WARN, WARN_LINES, WARN_INTERVAL)
    }

    const fn new(kind: &'static str, level: Level, lines: u32, interval: Duration) -> Self {
        Self {
            kind,
            level,
            lines,
            interval,
            last: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// As many lines as the rate names in each of its units of time.
    pub(crate) const fn of_rate(kind: &'static str, rate: Rate) -> Self {
        Self::new(kind, Level::WARN, rate.count().get(), rate.unit())
    }

    /// Lines that were suppressed since [`take_suppressed`](Self::take_suppressed).
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }

    /// Whether a line may be logged now; it counts.
    pub(crate) fn passes(&self) -> bool {
        self.passes_at(uptime())
    }

    fn passes_at(&self, now: Duration) -> bool {
        let number = self.number(now);
        let lines = u64::from(self.lines);
        let passed = self.last.fetch_update(Relaxed, Relaxed, |last| {
            if last >> u32::BITS == number {
                (last & u64::from(u32::MAX) < lines).then_some(last + 1)
            } else {
                Some(number << u32::BITS | 1)
            }
        });
        if passed.is_err() {
            self.suppressed.fetch_add(1, Relaxed);
        }
        passed.is_ok()
    }

    /// How many lines were suppressed in intervals that are over, once.
    fn take_suppressed(&self, now: Duration) -> u64 {
        let is_over = self.last.load(Relaxed) >> u32::BITS != self.number(now);
        // Nobody else need own the cache line most of the time.
        if is_over && self.suppressed.load(Relaxed) > 0 {
            self.suppressed.swap(0, Relaxed)
        } else {
            0
        }
    }

    fn number(&self, now: Duration) -> u64 {
        let number = now.as_millis() / self.interval.as_millis() + 1;
        // It wraps after a thousand years.
        u64::try_from(number).unwrap_or(0) & u64::from(u32::MAX)
    }

    fn tell(&self, suppressed: u64) {
        if suppressed == 0 {
            return;
        }
        let kind = self.kind;
        if self.level == Level::DEBUG {
            tracing::debug!(kind, suppressed, "lines were suppressed");
        } else {
            tracing::warn!(kind, suppressed, "lines were suppressed");
        }
    }
}

/// Logs how many lines were suppressed, of intervals that are over. To be called
/// every now and then.
pub(crate) fn reschedule() {
    let now = uptime();
    for log_limit in ALL {
        log_limit.tell(log_limit.take_suppressed(now));
    }
}

/// Logs how many lines were suppressed, since there will be no other time.
pub(crate) fn finish() {
    for log_limit in ALL {
        log_limit.tell(log_limit.suppressed.swap(0, Relaxed));
    }
}

/// The time since somebody first asked.
fn uptime() -> Duration {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn so_many_pass_in_an_interval_and_the_others_are_counted_once() {
        let log_limit = LogLimit::new("test", Level::DEBUG, 3, 10 * S);
        let passed = |now| (0..5).filter(|_| log_limit.passes_at(now)).count();
        assert_eq!(passed(Duration::ZERO), 3);
        assert_eq!(passed(9 * S), 0);
        assert_eq!(log_limit.take_suppressed(9 * S), 0, "it is not over");
        assert_eq!(log_limit.take_suppressed(10 * S), 7);
        assert_eq!(log_limit.take_suppressed(10 * S), 0);
        assert_eq!(passed(10 * S), 3);
        assert_eq!(log_limit.take_suppressed(30 * S), 2);
        assert_eq!(passed(30 * S), 3);
    }

    #[test]
    fn the_bound_holds_over_all_threads() {
        static THROTTLE: LogLimit = LogLimit::new("test", Level::DEBUG, 100, S);
        let threads: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| (0..1000).filter(|_| THROTTLE.passes_at(S)).count()))
            .collect();
        let passed: usize = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum();
        assert_eq!(passed, 100);
        assert_eq!(THROTTLE.take_suppressed(2 * S), 3900);
    }
}
