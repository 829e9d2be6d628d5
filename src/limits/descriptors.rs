//! The limit on open files, which is the limit on connections.

use std::num::NonZeroUsize;

use host::open_files::{how_to_raise, limit, open_descriptors};

use crate::config::Config;
use crate::config::error::Error;

/// Connections over a limit that are answered at a time, if there are enough
/// descriptors. More are closed without an answer.
pub(crate) const REJECTS_MAX: usize = 256;

/// Connections of the admin listener at a time, if there are enough descriptors.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Admin connections in any case: the probes of a supervisor, a scraper, an operator.
const ADMIN_CONNECTIONS_MIN: u64 = 4;

/// The reserve for these two, at least and at most.
const RESERVE_MIN: u64 = 2 * ADMIN_CONNECTIONS_MIN;
const RESERVE_MAX: u64 = (REJECTS_MAX + ADMIN_CONNECTIONS_MAX) as u64;

/// The reserve is this part of the descriptors that are left for connections.
const RESERVE_SHARE: u64 = 4;

/// Descriptors of a worker besides connections and listeners: its runtime's and its
/// engine's epoll, ring, eventfds and timer, a clock that the metrics read, and a
/// connection that is being accepted or closed.
const PER_WORKER: u64 = 9;

/// Descriptors of each listening socket: the worker's, one kept for the replacement, and
/// one in transfer to it.
const PER_LISTENER: u64 = 3;

/// Descriptors open before the server starts: standard streams, and those for signals.
const AT_START: u64 = 12;

/// The admin listener and its runtime, the files of its metrics, the pid file, the
/// service manager's socket, certificates that are reloaded, and the pipes to a
/// replacement.
const PER_PROCESS: u64 = 21;

/// The distribution of this process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorBudget {
    /// Connections of clients that may be open at a time.
    pub(crate) connections: NonZeroUsize,
    /// Connections over a limit that are answered at a time.
    pub(crate) rejects: usize,
    /// Connections of the admin listener at a time.
    pub(crate) admin_connections: usize,
    /// `Some` if `connections` is less than `max-connections`.
    shortfall: Option<Shortfall>,
}

impl DescriptorBudget {
    /// Distributes the descriptors that the limit of this process allows; with a
    /// shortfall if that is less than `max-connections`. `inherited` sockets become those
    /// of listeners.
    ///
    /// # Errors
    /// [`Error::OpenFiles`]: nothing is left for connections.
    pub(crate) fn of_this_process(
        config: &Config,
        threads: usize,
        inherited: usize,
    ) -> Result<Self, Error> {
        let limit = limit();
        // A program around this server may have opened more than ringback does.
        let open = open_descriptors().unwrap_or(0);
        let open = AT_START.max(open.saturating_sub(inherited as u64));
        let besides = open + besides_connections(config, threads as u64) - AT_START;
        let mut budget = Self::share_out(config, besides, limit).ok_or(Error::OpenFiles {
            limit: limit.unwrap_or(u64::MAX),
            needed: besides + room_for(NonZeroUsize::MIN),
        })?;
        let asked = config.max_connections;
        budget.shortfall = limit
            // The maximum means no limit.
            .filter(|_| budget.connections < asked && asked < NonZeroUsize::MAX)
            .map(|limit| Shortfall {
                asked,
                limit,
                needed: besides.saturating_add(room_for(asked)),
            });
        Ok(budget)
    }

    /// Distributes the descriptors that a limit leaves after `besides`, those of the
    /// server itself; `None` if nothing is left for connections.
    pub(crate) fn share_out(config: &Config, besides: u64, limit: Option<u64>) -> Option<Self> {
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(besides));
        let reserve = reserve(room);
        let connections = usize::try_from(room.saturating_sub(reserve)).unwrap_or(usize::MAX);
        let connections = NonZeroUsize::new(connections)?.min(config.max_connections);
        let rejects_share = RESERVE_MAX / ADMIN_CONNECTIONS_MAX as u64;
        let admin = (reserve / rejects_share).max(ADMIN_CONNECTIONS_MIN);
        let count = |descriptors| usize::try_from(descriptors).expect("at most the reserve");
        Some(Self {
            connections,
            rejects: count(reserve - admin),
            admin_connections: count(admin),
            shortfall: None,
        })
    }

    /// Logs the shortfall, if any, and the remedy.
    pub(crate) fn log_shortfall(self) {
        if let Some(shortfall) = self.shortfall {
            tracing::warn!(
                max_connections = shortfall.asked,
                allowed = self.connections,
                open_files = shortfall.limit,
                "the limit on open files allows fewer connections than max-connections: lower \
                 that, or {}",
                how_to_raise(shortfall.needed)
            );
        }
    }
}

/// Fewer connections than configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortfall {
    asked: NonZeroUsize,
    limit: u64,
    /// The limit on open files that would allow all of them.
    needed: u64,
}

/// Descriptors for anything but clients' connections.
pub(crate) fn besides_connections(config: &Config, threads: u64) -> u64 {
    let listeners = (config.listen.len() + config.tls_listen.len()) as u64;
    AT_START + PER_PROCESS + threads * (PER_WORKER + PER_LISTENER * listeners)
}

/// Descriptors for these connections and their reserve.
pub(crate) fn room_for(connections: NonZeroUsize) -> u64 {
    let connections = connections.get() as u64;
    // The smallest number that leaves `connections` after its reserve.
    let reserve = ((connections - 1) / (RESERVE_SHARE - 1)).clamp(RESERVE_MIN, RESERVE_MAX);
    connections.saturating_add(reserve)
}

/// The reserve of `room` descriptors.
fn reserve(room: u64) -> u64 {
    (room / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared_out(limit: Option<u64>, max_connections: usize) -> Option<DescriptorBudget> {
        let config = Config {
            max_connections: NonZeroUsize::new(max_connections).expect("not zero"),
            ..Config::default()
        };
        DescriptorBudget::share_out(&config, besides_connections(&config, 2), limit)
    }

    #[test]
    fn distributed_descriptors_do_not_exceed_the_limit() {
        let besides = besides_connections(&Config::default(), 2);
        for limit in (besides + RESERVE_MIN + 1..3000).chain([20_000, 1 << 20]) {
            let budget = shared_out(Some(limit), 1_000_000).expect("some are left");
            let DescriptorBudget {
                connections,
                rejects,
                admin_connections,
                ..
            } = budget;
            let all = besides + (connections.get() + rejects + admin_connections) as u64;
            assert!(all <= limit, "{budget:?} of {limit}");
            assert!((4..=REJECTS_MAX).contains(&rejects), "{budget:?}");
            assert!((4..=ADMIN_CONNECTIONS_MAX).contains(&admin_connections));
            // `needed` is enough for these connections, and no more than this limit.
            let needed = besides + room_for(connections);
            assert!(needed <= limit, "{needed} of {limit} for {budget:?}");
            let again = shared_out(Some(needed), 1_000_000).expect("some are left");
            assert!(again.connections >= connections, "{again:?} of {needed}");
        }
        assert_eq!(shared_out(Some(besides + RESERVE_MIN), 1), None);
        assert_eq!(shared_out(Some(3), 1), None);
    }

    #[test]
    fn high_limit_allows_the_configured_connections() {
        for limit in [None, Some(1 << 20)] {
            let budget = shared_out(limit, 10_000).expect("some are left");
            assert_eq!(budget.connections.get(), 10_000);
            assert_eq!(budget.rejects, REJECTS_MAX);
            assert_eq!(budget.admin_connections, ADMIN_CONNECTIONS_MAX);
        }
    }
}
