//! Limits on the log lines that peers can cause, so that no peer can fill the disk or
//! keep a worker writing.
//!
//! Lines of one kind share a [`LogLimit`], over all workers. Lines over the limit are
//! counted, and the count is logged after the interval. Access lines have a limit of
//! their own ([`LogLimit::of_rate`]). Trace lines have none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::Level;

use crate::config::rate::Rate;

const DEBUG_LINES: u32 = 100;
const DEBUG_INTERVAL: Duration = Duration::from_secs(10);

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

/// All limits whose counts are logged.
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

/// Logs a line within the limit of its kind: `log_limited!(debug, KIND, …)`, with
/// the arguments of `tracing::debug!`.
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

/// The limit on lines of one kind.
#[derive(Debug)]
pub(crate) struct LogLimit {
    kind: &'static str,
    level: Level,
    lines: u32,
    interval: Duration,
    /// Upper half: the number, from 1, of the interval of the last logged line. Lower
    /// half: the lines logged in it.
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

    /// The rate's count of lines in each of its units of time.
    pub(crate) const fn of_rate(kind: &'static str, rate: Rate) -> Self {
        Self::new(kind, Level::WARN, rate.count().get(), rate.unit())
    }

    /// Lines that were suppressed since [`take_suppressed`](Self::take_suppressed).
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }

    /// Counts a line; whether it may be logged.
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

    /// Returns and resets the lines suppressed in intervals that are over.
    fn take_suppressed(&self, now: Duration) -> u64 {
        let is_over = self.last.load(Relaxed) >> u32::BITS != self.number(now);
        // Most of the time, no worker takes the cache line.
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

    fn report(&self, suppressed: u64) {
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

/// Logs the numbers of lines suppressed in intervals that are over. Called once a tick.
pub(crate) fn report_suppressed() {
    let now = uptime();
    for log_limit in ALL {
        log_limit.report(log_limit.take_suppressed(now));
    }
}

/// Logs the numbers of suppressed lines at the end of the process.
pub(crate) fn finish() {
    for log_limit in ALL {
        log_limit.report(log_limit.suppressed.swap(0, Relaxed));
    }
}

/// The time since the first call.
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
    fn lines_over_the_limit_are_suppressed_and_counted_once() {
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
    fn limit_holds_over_all_threads() {
        static LIMIT: LogLimit = LogLimit::new("test", Level::DEBUG, 100, S);
        let threads: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| (0..1000).filter(|_| LIMIT.passes_at(S)).count()))
            .collect();
        let passed: usize = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum();
        assert_eq!(passed, 100);
        assert_eq!(LIMIT.take_suppressed(2 * S), 3900);
    }
}
