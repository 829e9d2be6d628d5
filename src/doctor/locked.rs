//! The limit on locked memory, to which the kernel may charge rings.

use host::finding::Finding;

use super::Need;
use super::system::System;
use crate::config::Config;
use crate::config::engine_kind::{EngineChoice, EngineKind};
use crate::engine::spec::AUTO;

const CHECK: &str = "locked memory";

/// The first kernel that charges rings to the limit, unlike the manual's 5.12 and later:
/// reported for 6.14, measured on 6.18. Earlier ones charge registered buffers only,
/// which are not used here.
const CHARGED_FROM: (u32, u32) = (6, 14);

/// The charge for a server at its start. The probe's ring is freed a little later.
const fn start_kib(engine: EngineKind, threads: u64) -> u64 {
    (threads + 1) * engine.spec().ring_kib
}

/// The charge while a server is replaced, with the rings of the old one.
const fn replacement_kib(engine: EngineKind, threads: u64) -> u64 {
    start_kib(engine, threads) + threads * engine.spec().ring_kib
}

/// Whether the limit allows a ring for each of `threads` workers. The kernel charges the
/// user, over all processes; other processes are not counted here.
pub(super) fn fits(engine: EngineKind, threads: u64, system: &System) -> bool {
    !is_charged(engine, system)
        || limit_kib(system).is_none_or(|limit| limit >= start_kib(engine, threads))
}

fn is_charged(engine: EngineKind, system: &System) -> bool {
    engine.spec().ring_kib > 0
        && !system.may_lock_memory
        && system
            .kernel_version
            .is_none_or(|version| version >= CHARGED_FROM)
}

fn limit_kib(system: &System) -> Option<u64> {
    system.locked_memory.current.map(|limit| limit / 1024)
}

pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let threads = Need::of(config, system).threads;
    let engine = match config.engine {
        EngineChoice::Only(engine) => engine,
        // Even if it does not work for another reason.
        EngineChoice::Auto => AUTO[0],
    };
    if !is_charged(engine, system) {
        return None;
    }
    let Some(limit) = limit_kib(system) else {
        return Some(Finding::ok(CHECK, "no limit"));
    };
    let needed = start_kib(engine, threads);
    let replacement = replacement_kib(engine, threads);
    let found = format!("{limit} KiB at most (ulimit -l), {needed} needed for {threads} rings");
    let change = || {
        format!(
            "LimitMEMLOCK={replacement}K in the unit, docker run --ulimit memlock={}, fewer \
             --threads, or --engine epoll",
            replacement * 1024
        )
    };
    Some(if limit >= replacement {
        Finding::ok(CHECK, found)
    } else if limit >= needed {
        let meanwhile = "while SIGUSR2 replaces the server";
        let found = format!("{found}, but {replacement} {meanwhile}");
        Finding::warning(CHECK, found).advise(change())
    } else if config.engine == EngineChoice::Auto {
        let found = format!("{found}, so auto takes epoll");
        Finding::warning(CHECK, found).advise(change())
    } else {
        let found = format!("{found}: the server will not start");
        Finding::problem(CHECK, found).advise(change())
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::{limit, system};

    const RING: EngineChoice = EngineChoice::Only(EngineKind::Ring);

    fn found(engine: EngineChoice, limit_kib: u64, change: fn(&mut System)) -> Option<Finding> {
        let config = Config {
            engine,
            threads: NonZeroUsize::new(4),
            ..Config::default()
        };
        let mut system = System {
            locked_memory: limit(Some(limit_kib * 1024)),
            kernel_version: Some((6, 18)),
            ..system()
        };
        change(&mut system);
        check(&config, &system)
    }

    fn level(engine: EngineChoice, limit_kib: u64) -> Option<Level> {
        found(engine, limit_kib, |_| {}).map(|found| found.level)
    }

    #[test]
    fn the_limit_must_allow_the_rings_of_server_and_replacement() {
        assert_eq!(level(RING, 799), Some(Level::Problem));
        assert_eq!(level(RING, 800), Some(Level::Warning));
        assert_eq!(level(RING, 1439), Some(Level::Warning));
        assert_eq!(level(RING, 1440), Some(Level::Ok));
        let other = EngineChoice::Only(EngineKind::TokioUring);
        assert_eq!(level(other, 519), Some(Level::Problem));
        assert_eq!(level(other, 520), Some(Level::Warning));
        assert_eq!(level(other, 936), Some(Level::Ok));
    }

    #[test]
    fn auto_below_the_limit_is_a_warning() {
        let finding = found(EngineChoice::Auto, 799, |_| {}).expect("charged");
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.found.ends_with("auto takes epoll"), "{finding:?}");
        let change = finding.change.expect("advice");
        assert!(change.starts_with("LimitMEMLOCK=1440K "), "{change}");
        assert!(change.contains("memlock=1474560,"), "{change}");
    }

    #[test]
    fn without_a_charge_there_is_no_finding() {
        assert_eq!(level(EngineChoice::Only(EngineKind::Epoll), 0), None);
        let changes: [fn(&mut System); 2] = [
            |system| system.may_lock_memory = true,
            |system| system.kernel_version = Some((6, 8)),
        ];
        for change in changes {
            assert_eq!(found(RING, 0, change), None);
        }
        let unlimited = found(RING, 0, |system| system.locked_memory = limit(None));
        assert_eq!(unlimited, Some(Finding::ok(CHECK, "no limit")));
    }
}
