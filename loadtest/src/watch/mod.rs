//! Watching what processes cost, and starting the ones that are watched.
//!
//! - [`ProcessTree`] watches a server: a process and all its descendants.
//! - [`ThreadGroup`] watches some threads of this process.
//! - Both give a [`Sample`] at any time; two of them make a [`Usage`].
//! - [`ServerCommand`] starts a server and stops it, [`ServerGroup`] kills it
//!   from elsewhere.
//!
//! All numbers come from `/proc`, so this works on Linux only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod command;
mod error;
mod group;
mod ledger;
mod port;
mod printed;
mod process;
mod procfs;
mod sample;
mod threads;

pub use command::{Ending, STOP_TIMEOUT, ServerCommand};
pub use error::WatchError;
pub use group::ServerGroup;
pub use port::ensure_free;
pub use printed::Printed;
pub use process::ProcessTree;
pub use sample::Sample;
pub use threads::ThreadGroup;

/// What some threads took between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// CPU time in nanoseconds, as the scheduler counts it.
    pub cpu_ns: u64,
    /// The part of it in user space. The kernel counts it in ticks, so this is
    /// `cpu_ns` divided in the proportion of the ticks.
    pub user_ns: u64,
    /// The part of it in the kernel, likewise.
    pub system_ns: u64,
    /// Context switches because there was nothing to do.
    pub voluntary_switches: u64,
    /// Context switches because others wanted the core.
    pub involuntary_switches: u64,
    /// Resident memory of the process before its first connection, in bytes.
    pub rss_before: u64,
    /// Resident memory of the process at the end of the measurement, in bytes.
    pub rss_after: u64,
    /// Threads that were there.
    pub threads: u32,
}

impl Usage {
    /// Resident memory that came with the connections, shared out over them.
    pub fn rss_per_connection(&self, connections: u64) -> Option<u64> {
        self.rss_after
            .saturating_sub(self.rss_before)
            .checked_div(connections)
    }
}

/// How long a test waits for what is bound to happen.
#[cfg(test)]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Asks again and again until there is an answer.
#[cfg(test)]
fn poll<T>(ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    command::poll_until(deadline, ask).expect("an answer in time")
}
