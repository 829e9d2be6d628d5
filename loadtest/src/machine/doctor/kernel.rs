//! Settings of the kernel that affect system calls.

use std::collections::BTreeMap;

use host::Root;
use host::finding::Finding;
use ringback::EngineKind;

use crate::machine::environment;

/// Settings of the kernel that change what a system call costs.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    mitigations: BTreeMap<String, String>,
    /// Why the server's `io_uring` engine does not work here, if so.
    io_uring_obstacle: Option<String>,
}

impl Kernel {
    pub(super) fn read(root: &Root) -> Self {
        Self {
            mitigations: environment::mitigations(root),
            // Whether the sysctl, a seccomp filter or the kernel's age is in
            // the way shows only in an attempt.
            io_uring_obstacle: match EngineKind::TokioUring.probe() {
                Ok(()) => None,
                Err(error) => Some(error.to_string()),
            },
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        vec![self.judge_mitigations(), self.judge_io_uring()]
    }

    fn judge_mitigations(&self) -> Finding {
        const CHECK: &str = "mitigations";
        let in_force: Vec<&str> = self
            .mitigations
            .iter()
            .filter(|(_, state)| state.starts_with("Mitigation"))
            .map(|(name, _)| name.as_str())
            .collect();
        if in_force.is_empty() {
            return Finding::ok(CHECK, "none in force");
        }
        Finding::warning(
            CHECK,
            format!(
                "{}: system calls cost more, for every server alike",
                in_force.join(", ")
            ),
        )
    }

    fn judge_io_uring(&self) -> Finding {
        const CHECK: &str = "io_uring";
        match &self.io_uring_obstacle {
            None => Finding::ok(CHECK, "works"),
            Some(obstacle) => Finding::warning(CHECK, obstacle.replace('\n', " "))
                .advise("sysctl -w kernel.io_uring_disabled=0, or measure with epoll"),
        }
    }
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    #[test]
    fn mitigations_are_named_and_the_rest_is_not() {
        let state = |name: &str, state: &str| (name.to_owned(), state.to_owned());
        let kernel = Kernel {
            mitigations: BTreeMap::from([
                state("meltdown", "Not affected"),
                state("spec_store_bypass", "Vulnerable"),
                state("spectre_v2", "Mitigation: Retpolines"),
            ]),
            ..Kernel::default()
        };
        let found = kernel.judge_mitigations();
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.starts_with("spectre_v2: "), "{found:?}");
        assert_eq!(Kernel::default().judge_mitigations().level, Level::Ok);
    }

    #[test]
    fn io_uring_is_a_note_when_it_does_not_work() {
        assert_eq!(Kernel::default().judge_io_uring().level, Level::Ok);
        let without = Kernel {
            io_uring_obstacle: Some("switched off".to_owned()),
            ..Kernel::default()
        };
        let found = without.judge_io_uring();
        assert_eq!(found.level, Level::Warning);
        assert!(found.change.unwrap().contains("io_uring_disabled=0"));
    }
}
