//! Measuring the cost of processes, and starting servers.
//!
//! - [`ProcessTree`] watches a server: a process and all its descendants.
//! - [`ThreadGroup`] watches some threads of this process.
//! - Both give a [`Sample`] at any time; two of them make a [`Usage`].
//! - [`ServerCommand`] starts a server and stops it, [`ServerGroup`] kills it
//!   from elsewhere, a guard where this program was killed ([`guard_if_requested`]).
//!
//! All numbers come from `/proc`, so this works on Linux only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod accounting;
mod command;
mod error;
mod group;
mod guard;
mod port;
mod process;
mod procfs;
mod sample;
mod server_output;
mod threads;
mod watched;

pub use command::{STOP_TIMEOUT, ServerCommand, StopResult};
pub use error::{UnexpectedExit, WatchError};
pub use group::ServerGroup;
pub use guard::guard_if_requested;
pub use port::ensure_free;
pub use process::ProcessTree;
pub use sample::Sample;
pub use server_output::ServerOutput;
pub use threads::ThreadGroup;
pub use watched::Watched;

/// The cost of some threads between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// CPU time in nanoseconds, as the scheduler counts it.
    pub cpu_ns: u64,
    /// Time on run queues in nanoseconds, all threads together: runnable, but without a core.
    /// Null where the kernel does not count it.
    #[serde(default)]
    pub run_queue_wait_ns: Option<u64>,
    /// The part of it in user space. The kernel counts it in ticks, so this is
    /// `cpu_ns` divided in the proportion of the ticks.
    pub user_ns: u64,
    /// The part of it in the kernel, likewise.
    pub system_ns: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
    /// Resident memory of the process before its first connection, in bytes.
    pub rss_before: u64,
    /// Resident memory of the process at the end of the measurement, in bytes.
    pub rss_after: u64,
    /// The number of threads.
    pub threads: u32,
}

impl Usage {
    /// Time on run queues as a share of the time that the threads wanted to run, which is that
    /// and their run time, 0 to 1. `None` where the kernel does not count it, and where no thread
    /// wanted to run.
    ///
    /// It is not a share of elapsed time, which would be small for a mostly idle thread even if
    /// it waited for longer than it ran.
    pub fn run_queue_wait_share(&self) -> Option<f64> {
        let wait_ns = self.run_queue_wait_ns? as f64;
        let wanted_ns = wait_ns + self.cpu_ns as f64;
        (wanted_ns > 0.0).then(|| wait_ns / wanted_ns)
    }

    /// Resident memory that came with the connections, per connection.
    pub fn rss_per_connection(&self, connections: u64) -> Option<u64> {
        self.rss_after
            .saturating_sub(self.rss_before)
            .checked_div(connections)
    }
}

/// The longest wait of a test.
#[cfg(test)]
const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// Polls until there is a value.
#[cfg(test)]
fn poll<T>(ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + WAIT_TIMEOUT;
    command::poll_until(deadline, ask).expect("an answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_share_of_the_time_that_threads_wanted_to_run() {
        let share = |cpu_ns, run_queue_wait_ns| {
            let usage = Usage {
                cpu_ns,
                run_queue_wait_ns,
                ..Usage::default()
            };
            usage.run_queue_wait_share()
        };
        assert_eq!(share(250, Some(750)), Some(0.75));
        assert_eq!(share(250, Some(0)), Some(0.0));
        assert_eq!(share(0, Some(0)), None, "nobody wanted to run");
        assert_eq!(share(250, None), None, "not counted");
    }
}
