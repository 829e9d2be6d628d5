//! The CPU frequency governor.

use host::finding::Finding;

use super::system::System;

const CHECK: &str = "CPU governor";

pub(super) fn check(system: &System) -> Finding {
    let names: Vec<_> = system.governors.iter().map(String::as_str).collect();
    match names[..] {
        [] => Finding::ok(CHECK, "none: the firmware or the hypervisor sets the clock"),
        // `userspace`: the operator sets the clock.
        ["performance" | "userspace"] => Finding::ok(CHECK, names[0]),
        _ => Finding::warning(
            CHECK,
            format!(
                "{}: an idle core starts at a lower clock, which adds latency",
                names.join(", ")
            ),
        )
        .advise("cpupower frequency-set -g performance"),
    }
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::system;

    #[test]
    fn a_governor_that_scales_the_clock_is_a_warning() {
        for (governors, level) in [
            (&[][..], Level::Ok),
            (&["performance"], Level::Ok),
            (&["userspace"], Level::Ok),
            (&["powersave"], Level::Warning),
            (&["performance", "schedutil"], Level::Warning),
        ] {
            let system = System {
                governors: governors.iter().map(|&name| name.to_owned()).collect(),
                ..system()
            };
            assert_eq!(check(&system).level, level, "{governors:?}");
        }
    }
}
