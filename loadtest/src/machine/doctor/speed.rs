//! Whether the cores run at the same speed all the time.

use std::collections::BTreeSet;

use host::finding::Finding;
use host::{Root, cores};

use crate::machine::frequency::Turbo;

/// The frequency settings of the cores.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    governors: BTreeSet<String>,
    turbo: Option<Turbo>,
}

impl Speed {
    pub(super) fn read(root: &Root) -> Self {
        let cores = cores::usable().unwrap_or_default();
        Self {
            governors: cores::governors(root, &cores),
            turbo: Turbo::read(root),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        [Some(self.judge_governor()), self.judge_turbo()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn judge_governor(&self) -> Finding {
        const CHECK: &str = "CPU governor";
        let names = self.governors.iter().map(String::as_str);
        let names = names.collect::<Vec<_>>();
        let found = names.join(", ");
        match names[..] {
            [] => {
                let found = "none here: the firmware or the hypervisor sets the clock";
                Finding::warning(CHECK, found)
            }
            ["performance"] => Finding::ok(CHECK, found),
            // The clock was fixed on purpose.
            ["userspace"] => Finding::warning(CHECK, found),
            _ => Finding::problem(CHECK, format!("{found}: the clock follows the load"))
                .advise("cpupower frequency-set -g performance"),
        }
    }

    fn judge_turbo(&self) -> Option<Finding> {
        const CHECK: &str = "turbo boost";
        let turbo = self.turbo?;
        if !turbo.on {
            return Some(Finding::ok(CHECK, "off"));
        }
        let found = "on: the clock depends on heat and on how many cores work";
        Some(Finding::warning(CHECK, found).advise(turbo.off_command))
    }
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    fn governed(governors: &[&str]) -> Finding {
        let governors = governors.iter().map(|&name| name.to_owned()).collect();
        Speed {
            governors,
            turbo: None,
        }
        .judge_governor()
    }

    #[test]
    fn a_clock_that_follows_the_load_is_bad() {
        assert_eq!(governed(&["performance"]).level, Level::Ok);
        assert_eq!(governed(&["userspace"]).level, Level::Warning);
        for governors in [
            &["powersave"][..],
            &["schedutil"],
            &["ondemand", "performance"],
        ] {
            let found = governed(governors);
            assert_eq!(found.level, Level::Problem, "{governors:?}");
            assert_eq!(
                found.change.unwrap(),
                "cpupower frequency-set -g performance"
            );
        }
    }

    #[test]
    fn a_missing_governor_is_no_problem() {
        let speed = Speed {
            governors: BTreeSet::new(),
            turbo: None,
        };
        assert_eq!(speed.judge_governor().level, Level::Warning);
        assert_eq!(speed.judge().len(), 1);
    }

    #[test]
    fn turbo_is_reported_with_its_command() {
        let turbo = |on| {
            Speed {
                governors: BTreeSet::new(),
                turbo: Some(Turbo {
                    on,
                    off_command: "switch it off",
                }),
            }
            .judge_turbo()
            .unwrap()
        };
        assert_eq!(turbo(false).level, Level::Ok);
        assert_eq!(turbo(false).change, None);
        assert_eq!(turbo(true).level, Level::Warning);
        assert_eq!(turbo(true).change.unwrap(), "switch it off");
    }
}
