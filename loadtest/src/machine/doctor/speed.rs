//! Whether the cores run at the same speed all the time.

use std::collections::BTreeSet;

use super::Finding;
use crate::machine::frequency::{self, Turbo};
use crate::machine::topology;

/// Who sets the clocks.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    governors: Option<BTreeSet<String>>,
    turbo: Option<Turbo>,
}

impl Speed {
    pub(super) fn read() -> Self {
        let cores = topology::cores_allowed().unwrap_or_default();
        Self {
            governors: frequency::governors(&cores),
            turbo: Turbo::read(),
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
        let Some(governors) = &self.governors else {
            let found = "none here: the firmware or the hypervisor sets the clock";
            return Finding::note(CHECK, found);
        };
        let names = governors.iter().map(String::as_str).collect::<Vec<_>>();
        let found = names.join(", ");
        match names[..] {
            ["performance"] => Finding::good(CHECK, found),
            // Somebody fixed the clock, and will know at what.
            ["userspace"] => Finding::note(CHECK, found),
            _ => Finding::bad(CHECK, format!("{found}: the clock follows the load"))
                .advise("cpupower frequency-set -g performance"),
        }
    }

    fn judge_turbo(&self) -> Option<Finding> {
        const CHECK: &str = "turbo boost";
        let turbo = self.turbo?;
        if !turbo.on {
            return Some(Finding::good(CHECK, "off"));
        }
        let found = "on: the clock depends on heat and on how many cores work";
        Some(Finding::note(CHECK, found).advise(turbo.off_command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Level;

    fn governed(governors: &[&str]) -> Finding {
        let governors = governors.iter().map(|&name| name.to_owned()).collect();
        Speed {
            governors: Some(governors),
            turbo: None,
        }
        .judge_governor()
    }

    #[test]
    fn a_clock_that_follows_the_load_is_bad() {
        assert_eq!(governed(&["performance"]).level, Level::Good);
        assert_eq!(governed(&["userspace"]).level, Level::Note);
        for governors in [
            &["powersave"][..],
            &["schedutil"],
            &["ondemand", "performance"],
        ] {
            let found = governed(governors);
            assert_eq!(found.level, Level::Bad, "{governors:?}");
            assert_eq!(
                found.advice.unwrap(),
                "cpupower frequency-set -g performance"
            );
        }
    }

    #[test]
    fn without_a_governor_somebody_else_decides() {
        let speed = Speed {
            governors: None,
            turbo: None,
        };
        assert_eq!(speed.judge_governor().level, Level::Note);
        assert_eq!(speed.judge().len(), 1);
    }

    #[test]
    fn turbo_is_told_with_its_switch() {
        let turbo = |on| {
            Speed {
                governors: None,
                turbo: Some(Turbo {
                    on,
                    off_command: "switch it off",
                }),
            }
            .judge_turbo()
            .unwrap()
        };
        assert_eq!(turbo(false).level, Level::Good);
        assert_eq!(turbo(false).advice, None);
        assert_eq!(turbo(true).level, Level::Note);
        assert_eq!(turbo(true).advice.unwrap(), "switch it off");
    }
}
