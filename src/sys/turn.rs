//! How long one connection keeps the others of its worker waiting.
//!
//! A turn is what a worker does for one connection before another's: serving it
//! once, or a poll of its task. It is measured in CPU time of the thread, so that a
//! machine that others use as well does not matter. To read that clock is a system
//! call, so it is read in builds with debug assertions only.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const IS_MEASURED: bool = cfg!(debug_assertions);

/// Turns that are remembered. A thread may be charged once in a while for what an
/// interrupt or a hypervisor takes: what says something is the shortest of these.
const REMEMBERED: usize = 3;

thread_local! {
    /// The longest one first.
    static LONGEST: Cell<[Duration; REMEMBERED]> = const { Cell::new([Duration::ZERO; REMEMBERED]) };
}

/// Does the work of a turn.
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

/// Logs the longest turns of this thread, where they are measured.
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
