//! Health and readiness of the server.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::{Overview, Watched};
use crate::observe::metrics::Counters;

/// The longest time between two heartbeats of a healthy worker, which are at most a
/// second apart.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a server is not healthy, or not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Draining,
    /// A worker's heartbeat is older than [`STALL_TIMEOUT`].
    Stalled {
        worker: usize,
        for_at_least: Duration,
    },
    /// A worker has ended by a panic or an error.
    Failed {
        worker: usize,
    },
    /// As many connections are open as are allowed.
    Full {
        connections_max: NonZeroUsize,
    },
}

impl Overview {
    /// `Ok` if every worker runs and the server does not stop.
    pub(crate) fn health(&self) -> Result<(), Trouble> {
        let failed = |worker: &Watched| worker.counters.failed.get() > 0;
        if let Some(worker) = self.workers.iter().position(failed) {
            return Err(Trouble::Failed { worker });
        }
        if self.is_draining() {
            return Err(Trouble::Draining);
        }
        (0..self.workers.len()).try_for_each(|worker| self.is_alive(worker))
    }

    /// `Ok` if the server is healthy and would accept another connection.
    pub(crate) fn readiness(&self) -> Result<(), Trouble> {
        self.health()?;
        if self.shutdown.is_announced() {
            return Err(Trouble::Draining);
        }
        if self.server_limits.is_full() {
            return Err(Trouble::Full {
                connections_max: self.server_limits.capacity(),
            });
        }
        Ok(())
    }

    /// Whether the server stops.
    pub(super) fn is_draining(&self) -> bool {
        self.shutdown.is_initiated()
    }

    /// Whether a worker's heartbeat is recent.
    pub(super) fn is_up(&self, worker: usize) -> bool {
        self.is_alive(worker).is_ok()
    }

    fn is_alive(&self, worker: usize) -> Result<(), Trouble> {
        is_alive(worker, &self.workers[worker].counters, self.epoch)
    }
}

/// `Ok` if a worker's heartbeat is recent.
pub(crate) fn is_alive(worker: usize, counters: &Counters, epoch: Instant) -> Result<(), Trouble> {
    if counters.failed.get() > 0 {
        return Err(Trouble::Failed { worker });
    }
    let beat = Duration::from_millis(counters.beat_ms.get());
    let age = epoch.elapsed().saturating_sub(beat);
    if age <= STALL_TIMEOUT {
        return Ok(());
    }
    Err(Trouble::Stalled {
        worker,
        for_at_least: Duration::from_secs(age.as_secs()),
    })
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("draining: the server stops"),
            Self::Stalled {
                worker,
                for_at_least,
            } => write!(f, "worker {worker} has stalled for {for_at_least:?}"),
            Self::Failed { worker } => write!(f, "worker {worker} has failed: see the log"),
            Self::Full { connections_max } => {
                write!(f, "full: {connections_max} connections are open")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::config::engine_kind::EngineKind;
    use crate::limits::admission::{Admission, ServerLimits};
    use crate::limits::descriptors::REJECTS_MAX;
    use crate::sys::shutdown::{self, StopReason, Trigger};

    /// A server that was started `age` ago; the workers' heartbeats are `beats_s` seconds
    /// after that.
    fn overview(age: Duration, beats_s: [u64; 2]) -> (Overview, Trigger) {
        let (trigger, shutdown) = shutdown::channel();
        let overview = Overview {
            engine: EngineKind::Epoll,
            workers: beats_s.map(|_| Watched::new(Arc::default(), 0)).into(),
            server_limits: ServerLimits::new(
                &Config {
                    max_connections: NonZeroUsize::MIN,
                    ..Config::default()
                },
                REJECTS_MAX,
            ),
            tls: None,
            epoch: Instant::now().checked_sub(age).expect("the machine is up"),
            shutdown,
        };
        for (worker, beat_s) in overview.workers.iter().zip(beats_s) {
            worker.counters.beat_ms.set(beat_s * 1000);
        }
        (overview, trigger)
    }

    #[test]
    fn stalled_worker_is_named() {
        let age = Duration::from_secs(60);
        let (healthy, _trigger) = overview(age, [58, 59]);
        assert_eq!((healthy.health(), healthy.readiness()), (Ok(()), Ok(())));
        let (stalled, _trigger) = overview(age, [59, 50]);
        let trouble = Trouble::Stalled {
            worker: 1,
            for_at_least: Duration::from_secs(10),
        };
        assert_eq!(stalled.health(), Err(trouble));
        assert_eq!(stalled.readiness(), Err(trouble));
        assert!(stalled.is_up(0) && !stalled.is_up(1));
        assert_eq!(trouble.to_string(), "worker 1 has stalled for 10s");
    }

    #[test]
    fn full_server_is_healthy_but_not_ready() {
        let (overview, _trigger) = overview(Duration::ZERO, [0, 0]);
        let admission = Admission::new(Arc::clone(&overview.server_limits), Arc::default());
        let connection = admission.enter();
        assert_eq!(overview.health(), Ok(()));
        let trouble = overview.readiness().expect_err("full");
        assert_eq!(trouble.to_string(), "full: 1 connections are open");
        drop(connection);
        assert_eq!(overview.readiness(), Ok(()));
    }

    #[test]
    fn failed_worker_is_named_during_a_drain() {
        let (overview, trigger) = overview(Duration::ZERO, [0, 0]);
        overview.workers[1].counters.failed.set(1);
        trigger.initiate(StopReason::Stopped);
        let trouble = overview.health().expect_err("half a server");
        assert_eq!(trouble.to_string(), "worker 1 has failed: see the log");
        assert_eq!(overview.readiness(), Err(trouble));
        assert!(overview.is_up(0) && !overview.is_up(1));
    }

    #[test]
    fn draining_server_is_neither_healthy_nor_ready() {
        let (overview, trigger) = overview(Duration::from_secs(60), [0, 0]);
        trigger.initiate(StopReason::Stopped);
        assert_eq!(overview.health(), Err(Trouble::Draining));
        assert_eq!(overview.readiness(), Err(Trouble::Draining));
    }
}
