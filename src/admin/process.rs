//! CPU time, memory and start of this process. A value that the kernel does not give is
//! `None`.

use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host::root::read_again;
use host::stat::{Schedstat, Stat};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::time::{ClockId, clock_gettime};

/// The CPU time of one thread.
#[derive(Debug)]
pub(super) struct ThreadClock {
    /// Kept open, to be readable when there are no descriptors left.
    schedstat: Option<File>,
}

impl ThreadClock {
    pub(super) fn open(thread_id: i32) -> Self {
        let path = format!("/proc/self/task/{thread_id}/schedstat");
        Self {
            schedstat: File::open(path).ok(),
        }
    }

    /// The time the thread has run so far; `None` once it has ended.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let text = read_again(self.schedstat.as_ref()?)?;
        let schedstat = Schedstat::parse(text.as_bytes())?;
        Some(Duration::from_nanos(schedstat.cpu_ns))
    }
}

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    statm: Option<File>,
    started: Option<Duration>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) resident: u64,
    pub(super) virtual_: u64,
}

impl Process {
    pub(super) fn open() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
            started: start_time(),
        }
    }

    /// The time from 1970 to the start of the process.
    pub(super) fn started(&self) -> Option<Duration> {
        self.started
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        let text = read_again(self.statm.as_ref()?)?;
        let mut pages = text.split(' ').map(str::parse::<u64>);
        let mut next = || Some(pages.next()?.ok()? * page_size() as u64);
        Some(Memory {
            virtual_: next()?,
            resident: next()?,
        })
    }

    /// CPU time of all threads, including ended ones.
    pub(super) fn cpu_time() -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(secs) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
    }
}

#[expect(clippy::disallowed_methods, reason = "the metric is a time of day")]
fn start_time() -> Option<Duration> {
    let ticks = Stat::parse(&fs::read("/proc/self/stat").ok()?)?.start_ticks;
    let after_boot = Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime = Duration::try_from_secs_f64(uptime.split(' ').next()?.parse().ok()?).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    (now + after_boot).checked_sub(uptime)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the metric is a time of day")]
    fn this_process_has_a_start_memory_and_cpu_time() {
        let process = Process::open();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
        let started = process.started().expect("known");
        assert!(started < now && now < started + Duration::from_secs(3600));
        let memory = process.memory().expect("known");
        assert!(0 < memory.resident && memory.resident <= memory.virtual_);
        assert!(Process::cpu_time() > Duration::ZERO);
    }

    #[test]
    fn cpu_time_of_a_thread_is_none_after_its_end() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender
                .send(rustix::thread::gettid().as_raw_nonzero().get())
                .expect("received");
            let _ = stopped.recv();
        });
        let clock = ThreadClock::open(receiver.recv().expect("sent"));
        let ran = clock.cpu_time().expect("alive");
        assert!(ran <= Process::cpu_time(), "{ran:?}");
        drop(stop);
        thread.join().expect("ended");
        // The kernel gives the thread up a moment after it is joined.
        let deadline = Instant::now() + Duration::from_secs(300);
        while clock.cpu_time().is_some() {
            assert!(Instant::now() < deadline, "still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
