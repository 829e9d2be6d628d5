//! What an operator has to change on this machine before the server does what
//! its settings promise.
//!
//! Each check is a function of the configuration and a [`System`], which is what
//! was read and tried, once; the checks look at nothing else, and change
//! nothing.
//!
//! * `descriptors`, `locked`, `threads`, `memory`: limits, of the process and of
//!   its control groups, against what the settings ask for
//! * `queue`, `addresses`, `ports`, `tcp_memory`: sockets
//! * `certificate`: the files for TLS; `pid_file`
//! * `engines`: an echo through each
//! * `clock`: the CPU governor
//!
//! What is not checked does not matter here: swap and huge pages, which nothing
//! of the server depends on.

mod addresses;
mod attempts;
mod certificate;
mod clock;
mod descriptors;
mod engines;
mod locked;
mod memory;
mod pid_file;
mod ports;
mod queue;
mod report;
mod system;
mod tcp_memory;
mod threads;

use std::num::NonZeroUsize;

use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::limits::descriptors::{DescriptorBudget, besides_connections};
use crate::server::cores;

pub use host::finding::{Finding, Level};
pub use report::Report;
pub use system::System;

/// Judges a machine by what a server with this configuration needs.
pub fn examine(config: &Config, system: &System) -> Report {
    let mut findings = vec![descriptors::check(config, system)];
    findings.extend(locked::check(config, system));
    findings.extend(queue::check(config, system));
    findings.extend(addresses::check(system));
    findings.extend(certificate::check(config, system));
    findings.extend(pid_file::check(config, system));
    findings.extend(ports::check(config, system));
    findings.extend(engines::check(config, system));
    findings.extend(threads::check(config, system));
    findings.extend(memory::check(config, system));
    findings.extend(tcp_memory::check(config, system));
    findings.push(clock::check(system));
    Report::new(findings)
}

/// What a server would run with.
struct Need {
    engine: EngineKind,
    threads: u64,
    /// What is asked for, or what the limit on open files allows.
    connections: u64,
}

impl Need {
    fn of(config: &Config, system: &System) -> Self {
        let quota = system.cgroup.cpu_cores_max;
        let threads = config.threads.map_or_else(
            || cores::default_threads(system.cores.len(), quota),
            NonZeroUsize::get,
        );
        let threads = threads as u64;
        let besides = besides_connections(config, threads);
        // Where nothing is left, nothing depends on how many there are.
        let connections = DescriptorBudget::share_out(config, besides, system.open_files.maximum)
            .map_or(config.max_connections, |budget| budget.connections);
        Self {
            engine: engines::chosen(config.engine, threads, system),
            threads,
            connections: connections.get() as u64,
        }
    }
}

/// How bad it is if not all of `max_connections` fit: the default of a million
/// is a ceiling that nobody chose, as is no limit at all.
fn promise(config: &Config) -> Level {
    let unchosen = [Config::default().max_connections, NonZeroUsize::MAX];
    if unchosen.contains(&config.max_connections) {
        Level::Warning
    } else {
        Level::Problem
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rustix::process::Rlimit;

    use super::*;

    /// A machine that tells nothing.
    pub(super) fn system() -> System {
        System::silent()
    }

    pub(super) fn config(max_connections: usize) -> Config {
        Config {
            max_connections: NonZeroUsize::new(max_connections).expect("not zero"),
            ..Config::default()
        }
    }

    pub(super) fn limit(bytes: Option<u64>) -> Rlimit {
        Rlimit {
            current: bytes,
            maximum: bytes,
        }
    }

    #[test]
    fn this_machine_is_judged_and_every_finding_is_a_line() {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            ..config(10)
        };
        let system = System::read(&config);
        let report = examine(&config, &system);
        for check in [
            "open files",
            "accept queue",
            "listen address",
            "local ports",
        ] {
            let mut findings = report.findings().iter();
            assert!(findings.any(|found| found.check == check), "{check}");
        }
        for finding in report.findings() {
            assert!(!finding.found.contains('\n'), "{finding:?}");
            assert_eq!(
                finding.change.is_some(),
                finding.level > Level::Ok,
                "{finding:?}"
            );
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_problem() {
        let report = examine(&config(10), &system());
        assert!(!report.has_problem(), "{report}");
    }
}
