//! CPU time of the calling thread.

use rustix::time::{ClockId, clock_gettime};

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
    fn work_takes_cpu_time() {
        let before_ns = this_thread_ns();
        while this_thread_ns() == before_ns {
            std::hint::spin_loop();
        }
        assert!(this_thread_ns() > before_ns);
    }
}
