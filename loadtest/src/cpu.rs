//! CPU time of threads.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time some threads of this process have used, in nanoseconds, or `None`
/// where the kernel does not tell (no `CONFIG_SCHED_INFO`, no `/proc`).
///
/// The source is the first number of `/proc/self/task/TID/schedstat`. The
/// scheduler brings it up to date at every switch and tick, so for a thread
/// that is running it lags by at most one tick (1 to 10 ms).
pub fn threads_ns(thread_ids: &[i32]) -> Option<u64> {
    thread_ids
        .iter()
        .map(|id| {
            let stat = fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
            stat.split_ascii_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// CPU time the calling thread has used, in nanoseconds.
pub fn this_thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither part of a CPU time is ever negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_thread_has_no_cpu_time() {
        assert_eq!(threads_ns(&[-1]), None);
        assert_eq!(threads_ns(&[]), Some(0));
        assert!(this_thread_ns() > 0);
    }
}
