//! Memory for the most connections.
//!
//! ```text
//! server + threads x worker + connections x (kernel + idle) + 2 x max-held-bytes
//! ```
//!
//! A connection in its handshake has no term: its memory in user space is part of the
//! buffered bytes. Those count twice, since more may be buffered before the next check,
//! and the allocator keeps freed memory for a while. `tests/kubernetes/fill.py` fills a
//! control group of the size that this formula gives for the pod of deploy/kubernetes.

use host::finding::Finding;

use super::system::System;
use super::{Need, shortfall_level};
use crate::config::Config;

const CHECK: &str = "memory";

/// Kernel memory of an idle connection, without buffers. Linux 6.18 charges 1.5 KiB to
/// the control group (file, inode, registration); the socket is 2.4 KiB more, which
/// newer kernels charge as well.
const KERNEL_BYTES: u64 = 4096;

/// Without any connection or worker: code, runtime and log.
const SERVER_BYTES: u64 = 14 << 20;

/// More than `max-held-bytes` may arrive before the next check.
const HELD_FACTOR: u64 = 2;

/// Bytes of an idle TLS connection, on every engine: keys and a task (docs/tls.md).
const TLS_BYTES: u64 = 5632;

pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let total = system
        .memory_total_bytes
        .map(|bytes| (bytes, "this machine has"));
    let group = system.cgroup.memory_max_bytes;
    let group = group.map(|bytes| (bytes, "the control group allows"));
    let (most, source) = total
        .into_iter()
        .chain(group)
        .min_by_key(|&(bytes, _)| bytes)?;
    let need = Need::of(config, system);
    let mut each = need.engine.spec().connection_bytes;
    if !config.tls_listen.is_empty() {
        // Every connection may use TLS.
        each = each.max(TLS_BYTES);
    }
    each += KERNEL_BYTES;
    let connections = need.connections;
    let server = SERVER_BYTES + need.threads.saturating_mul(need.engine.spec().worker_bytes);
    let idle = connections.saturating_mul(each).saturating_add(server);
    let found = format!(
        "{connections} idle connections take about {} MiB of the {} MiB that {source}",
        mib(idle),
        mib(most)
    );
    if idle > most {
        let room = most.saturating_sub(server) / each;
        let change = format!("--max-connections {}, or {}", room.max(1), raise(idle));
        return Some(Finding::new(shortfall_level(config), CHECK, found).advise(change));
    }
    // A partial frame and unread replies; a handshake needs less.
    let most_each = (config.window as u64).saturating_add(config.effective_max_backlog() as u64);
    let wanted = connections.saturating_mul(most_each);
    let held = config.max_held_bytes.map_or(wanted, |max| {
        wanted.min((max.get() as u64).saturating_mul(HELD_FACTOR))
    });
    let worst = idle.saturating_add(held);
    if worst > most {
        let found = format!(
            "{found}, and {} MiB if they do not end their handshakes or do not read their \
             replies: up to twice --max-held-bytes, as more may arrive before the next check",
            mib(worst),
        );
        let change = format!(
            "--max-held-bytes {}m, a smaller --max-connections, or {}",
            (((most - idle) / HELD_FACTOR) >> 20).max(1),
            raise(worst)
        );
        return Some(Finding::warning(CHECK, found).advise(change));
    }
    Some(Finding::ok(CHECK, found))
}

fn raise(bytes: u64) -> String {
    let mib = mib(bytes);
    format!(
        "{mib} MiB: MemoryMax={mib}M in the unit, docker update --memory {mib}m, limits.memory of the pod"
    )
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use host::cgroup::Limits;
    use host::finding::Level;

    use super::*;
    use crate::config::engine_kind::EngineKind;
    use std::num::NonZeroUsize;

    use crate::config::engine_kind::EngineChoice;
    use crate::doctor::tests::{config, system};

    const MIB: u64 = 1 << 20;

    fn checked(max_connections: usize, total: u64, group: Option<u64>) -> Finding {
        let system = System {
            memory_total_bytes: Some(total * MIB),
            cgroup: Limits {
                memory_max_bytes: group.map(|group| group * MIB),
                ..Limits::default()
            },
            ..system()
        };
        check(&config(max_connections), &system).expect("a finding")
    }

    #[test]
    fn idle_connections_that_do_not_fit_are_a_problem_if_the_number_is_set() {
        let fits = checked(1000, 4096, None);
        assert_eq!(fits.level, Level::Ok);
        assert!(
            fits.found.ends_with("4096 MiB that this machine has"),
            "{fits:?}"
        );
        let group = checked(100_000, 65_536, Some(128));
        assert_eq!(group.level, Level::Problem);
        assert!(
            group
                .found
                .ends_with("128 MiB that the control group allows"),
            "{group:?}"
        );
        assert_eq!(checked(1_000_000, 65_536, Some(128)).level, Level::Warning);
    }

    /// The number of the first piece of advice.
    fn advised(finding: &Finding) -> &str {
        let change = finding.change.as_deref().expect("advice");
        change.split([' ', ',']).nth(1).expect("a number")
    }

    fn with_memory(mib: u64) -> System {
        System {
            memory_total_bytes: Some(mib * MIB),
            ..system()
        }
    }

    #[test]
    fn the_advice_fits() {
        for total in [64, 128, 1000] {
            let idle = checked(3_000_000, total, None);
            assert_eq!(idle.level, Level::Problem, "{idle:?}");
            let connections = advised(&idle).parse().expect("a number");
            let idle = checked(connections, total, None);
            assert_eq!(idle.level, Level::Warning, "{idle:?}");

            let connections = connections / 2;
            let held = checked(connections, total, None);
            assert_eq!(held.level, Level::Warning, "{held:?}");
            let mib = advised(&held).trim_end_matches('m').parse();
            let mib: usize = mib.expect("a number");
            let config = Config {
                max_held_bytes: NonZeroUsize::new(mib << 20),
                ..config(connections)
            };
            let found = check(&config, &with_memory(total)).expect("a finding");
            assert_eq!(found.level, Level::Ok, "{found:?}");
        }
    }

    #[test]
    fn a_tls_connection_needs_more_memory() {
        let system = System {
            memory_total_bytes: Some(1024 * MIB),
            ..system()
        };
        let plain = Config {
            max_held_bytes: NonZeroUsize::new(128 << 20),
            ..config(150_000)
        };
        let tls = Config {
            tls_listen: vec!["127.0.0.1:443".parse().expect("an address")],
            ..plain.clone()
        };
        let level = |config| check(&config, &system).expect("a finding").level;
        assert_eq!(level(plain), Level::Ok);
        assert_eq!(level(tls), Level::Problem);
    }

    #[test]
    fn unread_replies_that_do_not_fit_are_a_warning() {
        let found = checked(100, 512, None);
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.contains("do not read"), "{found:?}");
        // The number of connections bounds it, too.
        assert_eq!(checked(1, 512, None).level, Level::Ok);
    }

    #[test]
    fn max_held_bytes_bounds_the_unread_replies() {
        let system = System {
            memory_total_bytes: Some(128 * MIB),
            ..system()
        };
        let with = |max_held_mib: usize| Config {
            max_held_bytes: NonZeroUsize::new(max_held_mib << 20),
            ..config(10_000)
        };
        for (max_held_mib, level) in [(32, Level::Ok), (80, Level::Warning), (0, Level::Warning)] {
            let found = check(&with(max_held_mib), &system).expect("a finding");
            assert_eq!(found.level, level, "{max_held_mib}: {found:?}");
        }
    }

    /// The value of a variable of the container, or of the first field of this name.
    fn deployed<T: std::str::FromStr>(name: &str) -> T {
        const MANIFEST: &str = include_str!("../../deploy/kubernetes/deployment.yaml");
        let (_, rest) = MANIFEST.split_once(name).expect("it is there");
        let is_digit = |c: char| c.is_ascii_digit();
        let digits = rest.trim_start_matches(|c| !is_digit(c));
        let end = digits.find(|c| !is_digit(c)).expect("a line ends");
        digits[..end].parse().ok().expect("a number")
    }

    #[test]
    fn the_memory_limit_of_the_manifest_is_enough_and_not_much_more() {
        let held_mib: usize = deployed("RINGBACK_MAX_HELD_BYTES");
        let pod = Config {
            max_held_bytes: NonZeroUsize::new(held_mib << 20),
            threads: NonZeroUsize::new(deployed("cpu:")),
            ..config(deployed("RINGBACK_MAX_CONNECTIONS"))
        };
        let level = |engine, memory_mib| {
            let config = Config {
                engine: EngineChoice::Only(engine),
                ..pod.clone()
            };
            let found = check(&config, &with_memory(memory_mib)).expect("a finding");
            found.level
        };
        let memory_mib = deployed("memory:");
        for engine in [EngineKind::Epoll, EngineKind::Ring] {
            assert_eq!(level(engine, memory_mib), Level::Ok, "{engine}");
            let less = memory_mib - memory_mib / 16;
            assert_eq!(level(engine, less), Level::Warning, "{engine}");
        }
    }

    #[test]
    fn without_the_size_of_the_memory_there_is_no_finding() {
        let system = System {
            memory_total_bytes: None,
            ..system()
        };
        assert_eq!(check(&config(1000), &system), None);
    }
}
