//! The CPU time of turns, during which a worker's other connections wait.
//!
//! A turn is a worker's work for one connection before another's: serving it once, or a
//! poll of its task. The CPU time of the thread does not depend on the machine's load.
//! Reading that clock is a system call, so only builds with debug assertions do it.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const IS_MEASURED: bool = cfg!(debug_assertions);

/// The longest turns that are kept. A thread may be charged for an interrupt or the
/// hypervisor once in a while, so the shortest of these is the reliable one.
const REMEMBERED: usize = 3;

thread_local! {
    /// The longest one first.
    static LONGEST: Cell<[Duration; REMEMBERED]> = const { Cell::new([Duration::ZERO; REMEMBERED]) };
}

/// Runs and measures a turn.
#[inline]
pub(crate) fn turn<T>(work: impl FnOnce() -> T) -> T {
    if !IS_MEASURED {
        return work();
    }
    let start = cpu_time();
    let result = work();
    remember(cpu_time().saturating_sub(start));
    result
}

/// Logs the longest turns of this thread, if they are measured.
pub(crate) fn log_longest() {
    if IS_MEASURED {
        let [first, second, third] = LONGEST.get();
        let third_us = third.as_micros();
        tracing::debug!(?first, ?second, third_us, "the longest turns");
    }
}

fn remember(turn: Duration) {
    let [first, second, third] = LONGEST.get();
    if turn > third {
        let mut longest = [first, second, turn];
        longest.sort_unstable_by(|a, b| b.cmp(a));
        LONGEST.set(longest);
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
