//! The limit on locked memory, which a ring may be charged to.

use super::Need;
use super::finding::Finding;
use super::system::System;
use crate::config::Config;
use crate::engine::EngineKind;

const CHECK: &str = "locked memory";

/// From this kernel on rings are charged to the limit, whatever the manual says
/// of 5.12 and later: reported of 6.14, measured on 6.18. Only registered
/// buffers were in between, and there are none.
const CHARGED_FROM: (u32, u32) = (6, 14);

/// What the ring of a worker is charged with, measured on 6.18 and rounded up.
const RING_BYTES: u64 = 160 << 10;

/// What is charged is the user's, over all processes; others are not counted
/// here. The ring that a probe leaves behind is freed a little later.
pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let Need { engine, threads } = Need::of(config, system);
    let is_charged = engine != EngineKind::Epoll
        && !system.may_lock_memory
        && system
            .kernel_version
            .is_none_or(|version| version >= CHARGED_FROM);
    if !is_charged {
        return None;
    }
    let needed_kib = (threads + 1) * RING_BYTES / 1024;
    let Some(limit) = system.locked_memory.current else {
        return Some(Finding::ok(CHECK, "no limit"));
    };
    let found = format!(
        "{} KiB at most (ulimit -l), {needed_kib} needed for {threads} rings",
        limit / 1024
    );
    if limit / 1024 >= needed_kib {
        return Some(Finding::ok(CHECK, found));
    }
    Some(Finding::problem(
        CHECK,
        format!("{found}: the server will not start"),
        format!(
            "LimitMEMLOCK={needed_kib}K in the unit, docker run --ulimit memlock={}, fewer \
             --threads, or --engine epoll",
            needed_kib * 1024
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::doctor::Level;
    use crate::doctor::tests::{limit, system};
    use crate::engine::EngineChoice;

    const KIB: u64 = 1024;

    fn checked(engine: EngineKind, limit_kib: u64, change: fn(&mut System)) -> Option<Level> {
        let config = Config {
            engine: EngineChoice::Only(engine),
            threads: NonZeroUsize::new(4),
            ..Config::default()
        };
        let mut system = System {
            locked_memory: limit(Some(limit_kib * KIB)),
            kernel_version: Some((6, 18)),
            ..system()
        };
        change(&mut system);
        check(&config, &system).map(|found| found.level)
    }

    #[test]
    fn every_worker_has_a_ring() {
        assert_eq!(checked(EngineKind::Ring, 800, |_| {}), Some(Level::Ok));
        assert_eq!(checked(EngineKind::Ring, 799, |_| {}), Some(Level::Problem));
        assert_eq!(
            checked(EngineKind::TokioUring, 64, |_| {}),
            Some(Level::Problem)
        );
    }

    #[test]
    fn the_limit_does_not_bind_everybody() {
        assert_eq!(checked(EngineKind::Epoll, 0, |_| {}), None);
        let capable: fn(&mut System) = |system| system.may_lock_memory = true;
        assert_eq!(checked(EngineKind::Ring, 0, capable), None);
        let old: fn(&mut System) = |system| system.kernel_version = Some((6, 8));
        assert_eq!(checked(EngineKind::Ring, 0, old), None);
        let unlimited: fn(&mut System) = |system| system.locked_memory = limit(None);
        assert_eq!(checked(EngineKind::Ring, 0, unlimited), Some(Level::Ok));
    }
}
