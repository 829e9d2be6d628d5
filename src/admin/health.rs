//! Whether the server is well, and whether it wants more connections.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::{Overview, Watched};
use crate::observe::metrics::Counters;

/// How long a worker's heartbeat may stand still. A worker that is well beats
/// at least once a second.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(5);

/// Why a server is not well, or not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It stops.
    Draining,
    /// A worker does not get around to its work.
    Standstill {
        worker: usize,
        for_at_least: Duration,
    },
    /// A worker has ended by a panic or an error.
    Failed { worker: usize },
    /// It holds as many connections as it may.
    Full { connections_max: NonZeroUsize },
}

impl Overview {
    /// Whether the server serves.
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

    /// Whether the server serves, and would serve one more.
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

    /// Whether a worker gets around to its work.
    pub(super) fn is_up(&self, worker: usize) -> bool {
        self.is_alive(worker).is_ok()
    }

    fn is_alive(&self, worker: usize) -> Result<(), Trouble> {
        is_alive(worker, &self.workers[worker].counters, self.epoch)
    }
}

/// Whether a worker gets around to its work, or else for how long it has not.
pub(crate) fn is_alive(worker: usize, counters: &Counters, epoch: Instant) -> Result<(), Trouble> {
    if counters.failed.get() > 0 {
        return Err(Trouble::Failed { worker });
    }
    let beat = Duration::from_millis(counters.beat_ms.get());
    let age = epoch.elapsed().saturating_sub(beat);
    if age <= STANDSTILL {
        return Ok(());
    }
    Err(Trouble::Standstill {
        worker,
        for_at_least: Duration::from_secs(age.as_secs()),
    })
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("draining: the server stops"),
            Self::Standstill {
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

    /// A server that was started so long ago and whose workers last showed
    /// themselves so many seconds after that.
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
    fn a_worker_whose_heartbeat_stands_still_is_named() {
        let age = Duration::from_secs(60);
        let (well, _trigger) = overview(age, [58, 59]);
        assert_eq!((well.health(), well.readiness()), (Ok(()), Ok(())));
        let (ill, _trigger) = overview(age, [59, 50]);
        let trouble = Trouble::Standstill {
            worker: 1,
            for_at_least: Duration::from_secs(10),
        };
        assert_eq!(ill.health(), Err(trouble));
        assert_eq!(ill.readiness(), Err(trouble));
        assert!(ill.is_up(0) && !ill.is_up(1));
        assert_eq!(trouble.to_string(), "worker 1 has stalled for 10s");
    }

    #[test]
    fn a_full_server_is_well_but_not_ready() {
        let (overview, _trigger) = overview(Duration::ZERO, [0, 0]);
        let admission = Admission::new(Arc::clone(&overview.server_limits), Arc::default());
        let inside = admission.enter();
        assert_eq!(overview.health(), Ok(()));
        let trouble = overview.readiness().expect_err("full");
        assert_eq!(trouble.to_string(), "full: 1 connections are open");
        drop(inside);
        assert_eq!(overview.readiness(), Ok(()));
    }

    /// Though the server drains by then.
    #[test]
    fn a_worker_that_has_failed_is_named() {
        let (overview, trigger) = overview(Duration::ZERO, [0, 0]);
        overview.workers[1].counters.failed.set(1);
        trigger.initiate(StopReason::Stopped);
        let trouble = overview.health().expect_err("half a server");
        assert_eq!(trouble.to_string(), "worker 1 has failed: see the log");
        assert_eq!(overview.readiness(), Err(trouble));
        assert!(overview.is_up(0) && !overview.is_up(1));
    }

    #[test]
    fn a_server_that_stops_is_neither() {
        let (overview, trigger) = overview(Duration::from_secs(60), [0, 0]);
        trigger.initiate(StopReason::Stopped);
        assert_eq!(overview.health(), Err(Trouble::Draining));
        assert_eq!(overview.readiness(), Err(Trouble::Draining));
    }
}
