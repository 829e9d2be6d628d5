//! Checks whether this machine allows what the server's settings promise, and advises
//! what to change.
//!
//! Each check is a function of the configuration and a [`System`], which is read once;
//! the checks read nothing else, and change nothing.
//!
//! * `descriptors`, `locked`, `threads`, `memory`: limits of the process and its
//!   control groups
//! * `queue`, `addresses`, `ports`, `tcp_memory`: sockets
//! * `certificate`: the files for TLS; `pid_file`
//! * `engines`: an echo through each
//! * `clock`: the CPU governor
//!
//! Swap and huge pages are not checked: the server does not depend on them.

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

/// Checks a machine against the needs of a server with this configuration.
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

/// The engine and the sizes that a server would run with.
struct Need {
    engine: EngineKind,
    threads: u64,
    /// `max_connections`, or what the limit on open files allows.
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
        // Without a budget the server does not start: any number will do.
        let connections = DescriptorBudget::share_out(config, besides, system.open_files.maximum)
            .map_or(config.max_connections, |budget| budget.connections);
        Self {
            engine: engines::chosen(config.engine, threads, system),
            threads,
            connections: connections.get() as u64,
        }
    }
}

/// The level if not all of `max_connections` fit: a warning for the default and for no
/// limit, which no operator has set as a goal.
fn shortfall_level(config: &Config) -> Level {
    let defaults = [Config::default().max_connections, NonZeroUsize::MAX];
    if defaults.contains(&config.max_connections) {
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

    /// A machine of which nothing can be read.
    pub(super) fn system() -> System {
        System::unreadable()
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
    fn every_finding_is_one_line_with_advice_unless_ok() {
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
    fn an_unreadable_machine_has_no_problem() {
        let report = examine(&config(10), &system());
        assert!(!report.has_problem(), "{report}");
    }
}
