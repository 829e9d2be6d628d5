//! Memory for as many connections as there may be.

use super::finding::Finding;
use super::system::System;
use super::{Need, promise};
use crate::config::Config;
use crate::engine::EngineKind;

const CHECK: &str = "memory";

/// What the kernel keeps for an idle connection, buffers apart. On Linux 6.18,
/// 1.5 KiB are charged to the control group (file, inode, registration), and the
/// socket itself is 2.4 KiB, which newer kernels charge as well.
const KERNEL_BYTES: u64 = 4096;

/// Without any connection: code, stacks, the workers' buffers.
const SERVER_BYTES: u64 = 16 << 20;

/// What the server keeps for an idle connection, as `cargo bench --bench
/// idle_memory` has it, rounded up.
const fn user_bytes(engine: EngineKind) -> u64 {
    match engine {
        EngineKind::Epoll => 384,
        EngineKind::Ring => 192,
        EngineKind::TokioUring => 3584,
    }
}

/// ... for one over TLS, whatever the engine: keys and a task (docs/tls.md).
const TLS_BYTES: u64 = 5632;

pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let total = system
        .memory_total_bytes
        .map(|bytes| (bytes, "this machine has"));
    let group = system.cgroup.memory_max_bytes;
    let group = group.map(|bytes| (bytes, "the control group allows"));
    let (most, whose) = total
        .into_iter()
        .chain(group)
        .min_by_key(|&(bytes, _)| bytes)?;
    let need = Need::of(config, system);
    let mut each = user_bytes(need.engine);
    if !config.tls_listen.is_empty() {
        // All of them may come over TLS.
        each = each.max(TLS_BYTES);
    }
    each += KERNEL_BYTES;
    let connections = need.connections;
    let idle = connections
        .saturating_mul(each)
        .saturating_add(SERVER_BYTES);
    let found = format!(
        "{connections} idle connections take about {} MiB of the {} MiB that {whose}",
        mib(idle),
        mib(most)
    );
    let room = |each: u64| most.saturating_sub(SERVER_BYTES) / each;
    if idle > most {
        let change = format!(
            "--max-connections {}, or {}",
            room(each).max(1),
            raise(idle)
        );
        return Some(Finding::bad(promise(config), CHECK, found, change));
    }
    // Half a frame, and replies that are not read.
    let most_each = (config.window as u64).saturating_add(config.effective_max_backlog() as u64);
    let wanted = connections.saturating_mul(most_each);
    let held = config
        .max_held_bytes
        .map_or(wanted, |max| wanted.min(max.get() as u64));
    let worst = idle.saturating_add(held);
    if worst > most {
        let found = format!(
            "{found}, and {} MiB if they do not read their replies, up to --max-held-bytes",
            mib(worst),
        );
        let change = format!(
            "--max-held-bytes {}m, a smaller --max-connections, or {}",
            ((most - idle) >> 20).max(1),
            raise(worst)
        );
        return Some(Finding::warning(CHECK, found, change));
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
    use super::*;
    use std::num::NonZeroUsize;

    use crate::cgroup::Limits;
    use crate::doctor::Level;
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
        check(&config(max_connections), &system).expect("judged")
    }

    #[test]
    fn idle_connections_have_to_fit() {
        let fits = checked(1000, 2048, None);
        assert_eq!(fits.level, Level::Ok);
        assert!(
            fits.found.ends_with("2048 MiB that this machine has"),
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
    fn what_is_advised_fits() {
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
            let found = check(&config, &with_memory(total)).expect("judged");
            assert_eq!(found.level, Level::Ok, "{found:?}");
        }
    }

    #[test]
    fn connections_over_tls_take_more() {
        let system = System {
            memory_total_bytes: Some(1024 * MIB),
            ..system()
        };
        let plain = Config {
            max_held_bytes: NonZeroUsize::new(256 << 20),
            ..config(150_000)
        };
        let tls = Config {
            tls_listen: vec!["127.0.0.1:443".parse().expect("an address")],
            ..plain.clone()
        };
        let level = |config| check(&config, &system).expect("judged").level;
        assert_eq!(level(plain), Level::Ok);
        assert_eq!(level(tls), Level::Problem);
    }

    #[test]
    fn what_is_not_read_may_not_fit() {
        let found = checked(100, 512, None);
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.contains("do not read"), "{found:?}");
        // It is bounded by their number, too.
        assert_eq!(checked(1, 512, None).level, Level::Ok);
    }

    #[test]
    fn no_more_waits_than_may_be_held() {
        let system = System {
            memory_total_bytes: Some(128 * MIB),
            ..system()
        };
        let with = |max_held_mib: usize| Config {
            max_held_bytes: NonZeroUsize::new(max_held_mib << 20),
            ..config(10_000)
        };
        for (max_held_mib, level) in [(32, Level::Ok), (80, Level::Warning), (0, Level::Warning)] {
            let found = check(&with(max_held_mib), &system).expect("judged");
            assert_eq!(found.level, level, "{max_held_mib}: {found:?}");
        }
    }

    #[test]
    fn a_machine_that_does_not_tell_is_not_judged() {
        let system = System {
            memory_total_bytes: None,
            ..system()
        };
        assert_eq!(check(&config(1000), &system), None);
    }
}
