//! Who sets the clock of the cores.

use host::finding::Finding;

use super::system::System;

const CHECK: &str = "CPU governor";

pub(super) fn check(system: &System) -> Finding {
    let names: Vec<_> = system.governors.iter().map(String::as_str).collect();
    match names[..] {
        [] => Finding::ok(CHECK, "none: the firmware or the hypervisor sets the clock"),
        // Who fixed the clock knows at what.
        ["performance" | "userspace"] => Finding::ok(CHECK, names[0]),
        _ => Finding::warning(
            CHECK,
            format!(
                "{}: a core that was idle answers at a lower clock first",
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
    fn a_clock_that_follows_the_load_is_told() {
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
