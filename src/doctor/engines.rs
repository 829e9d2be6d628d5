//! The engines, each probed by an echo.

use host::finding::Finding;

use super::system::{Probe, System};
use super::{Need, locked};
use crate::config::Config;
use crate::config::engine_kind::{EngineChoice, EngineKind};
use crate::engine::spec::AUTO;

/// The engine that a server with `threads` workers would use, or has to by its settings.
pub(super) fn chosen(choice: EngineChoice, threads: u64, system: &System) -> EngineKind {
    let [preferred @ .., last] = AUTO;
    let works = |&engine: &EngineKind| {
        let mut probes = system.probes.iter();
        probes.any(|probe| probe.engine == engine && probe.result.is_ok())
            && locked::fits(engine, threads, system)
    };
    match choice {
        EngineChoice::Only(engine) => engine,
        EngineChoice::Auto => preferred.into_iter().find(works).unwrap_or(last),
    }
}

pub(super) fn check(config: &Config, system: &System) -> Vec<Finding> {
    let need = Need::of(config, system);
    let judge = |probe| judge(probe, &need, config.engine, system);
    system.probes.iter().map(judge).collect()
}

fn judge(probe: &Probe, need: &Need, choice: EngineChoice, system: &System) -> Finding {
    let check = probe.engine.spec().check;
    let chosen = need.engine;
    let is_chosen = probe.engine == chosen;
    let Err(reason) = &probe.result else {
        let found = if !locked::fits(probe.engine, need.threads, system) {
            "works, but the limit does not allow a ring for each thread: see locked memory"
        } else if is_chosen {
            "works, and is used"
        } else {
            "works"
        };
        return Finding::ok(check, found);
    };
    let change = || remedy(probe.engine, system);
    if is_chosen {
        let found = format!("does not work, and the server does not start: {reason}");
        let change = format!("--engine auto, or {}", change());
        return Finding::problem(check, found).advise(change);
    }
    if choice == EngineChoice::Auto && AUTO.contains(&probe.engine) {
        let found = format!("does not work, so auto takes {chosen}: {reason}");
        return Finding::warning(check, found).advise(change());
    }
    Finding::ok(check, format!("does not work, and is not used: {reason}"))
}

/// The advice for an `io_uring` engine that does not work, the most general first.
fn remedy(engine: EngineKind, system: &System) -> String {
    if let (Some((major, minor)), Some((here, minor_here))) =
        (engine.spec().min_kernel, system.kernel_version)
        && (here, minor_here) < (major, minor)
    {
        return format!("Linux {major}.{minor} or later; this is {here}.{minor_here}");
    }
    match system.io_uring_disabled {
        Some(2..) => return "sysctl -w kernel.io_uring_disabled=0".to_owned(),
        Some(1) => {
            return "sysctl -w kernel.io_uring_disabled=0, or a group in kernel.io_uring_group"
                .to_owned();
        }
        _ => {}
    }
    if system.seccomp_filters {
        return "a seccomp profile with io_uring_setup, io_uring_enter and io_uring_register: \
                docker run --security-opt seccomp=deploy/seccomp.json"
            .to_owned();
    }
    "see the reason".to_owned()
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;
    use crate::doctor::system::probe_all;
    use crate::doctor::tests::system;

    const BLOCKED: &str = "io_uring is forbidden here";

    /// A machine on which only `epoll` works.
    fn blocked() -> System {
        System {
            probes: probes(&Err(BLOCKED.to_owned())),
            seccomp_filters: true,
            ..system()
        }
    }

    fn probes(io_uring: &Result<(), String>) -> Vec<Probe> {
        let result = |engine| match engine {
            EngineKind::Epoll => Ok(()),
            _ => io_uring.clone(),
        };
        let probe = |&engine: &EngineKind| Probe {
            engine,
            result: result(engine),
        };
        EngineKind::ALL.iter().map(probe).collect()
    }

    #[track_caller]
    fn finding(engine: EngineKind, choice: EngineChoice, system: &System) -> Finding {
        let config = Config {
            engine: choice,
            ..Config::default()
        };
        let findings = check(&config, system);
        assert_eq!(findings.len(), EngineKind::ALL.len());
        let is_of_engine = |found: &Finding| found.check == engine.spec().check;
        findings.into_iter().find(is_of_engine).expect("a finding")
    }

    #[test]
    fn auto_takes_the_first_engine_that_works() {
        let works = System {
            probes: probes(&Ok(())),
            ..system()
        };
        let ring = finding(EngineKind::Ring, EngineChoice::Auto, &works);
        assert_eq!(ring, Finding::ok("engine ring", "works, and is used"));
        let epoll = finding(EngineKind::Epoll, EngineChoice::Auto, &works);
        assert_eq!(epoll, Finding::ok("engine epoll", "works"));
    }

    #[test]
    fn a_fallback_of_auto_is_a_warning_and_an_unused_engine_is_ok() {
        let ring = finding(EngineKind::Ring, EngineChoice::Auto, &blocked());
        assert_eq!(ring.level, Level::Warning);
        assert!(ring.found.contains("auto takes epoll"), "{ring:?}");
        let other = finding(EngineKind::TokioUring, EngineChoice::Auto, &blocked());
        assert_eq!(other.level, Level::Ok);
        let epoll = finding(EngineKind::Epoll, EngineChoice::Auto, &blocked());
        assert_eq!(epoll.found, "works, and is used");
    }

    #[test]
    fn a_named_engine_that_does_not_work_is_a_problem() {
        for engine in [EngineKind::Ring, EngineKind::TokioUring] {
            let found = finding(engine, EngineChoice::Only(engine), &blocked());
            assert_eq!(found.level, Level::Problem);
            assert!(found.found.ends_with(BLOCKED), "{found:?}");
            let change = found.change.expect("advice");
            assert!(change.starts_with("--engine auto, or"), "{change}");
        }
        let epoll = EngineChoice::Only(EngineKind::Epoll);
        let ring = finding(EngineKind::Ring, epoll, &blocked());
        assert_eq!(ring.level, Level::Ok);
    }

    #[test]
    fn the_advice_fits_the_reason() {
        let remedy = |change: fn(&mut System)| {
            let mut system = blocked();
            change(&mut system);
            remedy(EngineKind::Ring, &system)
        };
        assert!(remedy(|_| {}).contains("seccomp=deploy/seccomp.json"));
        let old = remedy(|system| system.kernel_version = Some((5, 15)));
        assert_eq!(old, "Linux 6.1 or later; this is 5.15");
        assert!(remedy(|system| system.io_uring_disabled = Some(2)).contains("disabled=0"));
        assert!(remedy(|system| system.io_uring_disabled = Some(1)).contains("io_uring_group"));
    }

    #[test]
    fn every_engine_is_probed() {
        let probes = probe_all();
        assert_eq!(probes.len(), EngineKind::ALL.len());
        assert!(
            probes
                .iter()
                .any(|probe| probe.engine == EngineKind::Epoll && probe.result.is_ok())
        );
        let system = System { probes, ..system() };
        let engine = EngineChoice::Auto.start(Ok).expect("epoll at least");
        assert_eq!(chosen(EngineChoice::Auto, 1, &system), engine);
    }
}
