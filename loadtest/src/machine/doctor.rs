//! Checks of what disturbs a measurement on this machine, with advice.
//!
//! Each file below has one subject: a plain struct with values read or measured, and functions
//! that make [`Finding`]s from it alone. A value that the machine does not export is left out
//! of the report.

mod clocks;
mod cores;
mod kernel;
mod memory;
mod other_load;
mod speed;
mod tcp;

use std::fmt;

use host::Root;
use host::finding::{Finding, Level, count, write_table};
use serde::Serialize;

use self::clocks::Clocks;
use self::cores::CoreTopology;
use self::kernel::Kernel;
use self::memory::Memory;
use self::other_load::OtherLoad;
use self::speed::Speed;
use self::tcp::Tcp;
use crate::terminal::{COLUMNS_DEFAULT, wrapped};

/// Examines this machine, which takes about a quarter of a second: most of it goes into
/// watching the other processes and the timers. Nothing is changed.
pub fn examine() -> Vec<Finding> {
    let root = &Root::of_this_machine();
    let mut findings = Vec::new();
    // First, as the other checks cause load.
    findings.extend(OtherLoad::watch(root).judge());
    findings.extend(CoreTopology::read(root).judge());
    findings.extend(Speed::read(root).judge());
    findings.extend(Clocks::measure(root).judge());
    findings.extend(Memory::read(root).judge());
    findings.extend(Tcp::read(root).judge());
    findings.extend(Kernel::read(root).judge());
    findings
}

/// A finding as a script reads it.
#[derive(Serialize)]
struct JsonFinding<'a> {
    check: &'a str,
    level: &'a str,
    found: &'a str,
    advice: Option<&'a str>,
}

/// Findings as a JSON array, with a line break at its end.
#[expect(clippy::missing_panics_doc, reason = "findings are text")]
pub fn to_json(findings: &[Finding]) -> String {
    let entries = findings.iter().map(|finding| JsonFinding {
        check: finding.check,
        level: ["good", "note", "bad"][finding.level as usize],
        found: &finding.found,
        advice: finding.change.as_deref(),
    });
    let entries: Vec<_> = entries.collect();
    let mut text = serde_json::to_string_pretty(&entries).expect("findings are text");
    text.push('\n');
    text
}

/// Findings as a table for a terminal, with advice below each, and a summary line.
#[derive(Debug, Clone, Copy)]
pub struct DoctorReport<'a>(pub &'a [Finding]);

impl fmt::Display for DoctorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |text: &str, indent| wrapped(text, COLUMNS_DEFAULT - indent);
        write_table(f, self.0, ["ok", "note", "BAD"], lines)?;
        f.write_str(&self.summary())
    }
}

impl DoctorReport<'_> {
    fn summary(&self) -> String {
        let count = |level| count(self.0, level);
        let fixes = match count(Level::Problem) {
            0 => "nothing to fix".to_owned(),
            1 => "1 thing to fix".to_owned(),
            bad => format!("{bad} things to fix"),
        };
        match count(Level::Warning) {
            0 => fixes,
            notes => format!("{fixes}, {notes} to know"),
        }
    }
}

/// Writes bytes with the unit that leaves up to four digits before the point;
/// [`crate::units::format_size`] is exact, and long.
fn format_rough_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 99.95 && value.fract() != 0.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Writes a share of 0 to 1 in percent: whole, except below 1 %.
fn percent(share: f64) -> String {
    let decimals = match share {
        _ if share >= 0.095 || share == 0.0 => 0,
        _ if share >= 0.0095 => 1,
        _ => 2,
    };
    format!("{:.decimals$} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_report_is_a_table_with_advice_below_and_a_sum_at_the_end() {
        let findings = [
            Finding::ok("cores", "8 usable").advise("never shown"),
            Finding::problem("CPU governor", "powersave")
                .advise("cpupower frequency-set -g performance"),
            Finding::warning("swap", "3 MiB in use"),
        ];
        assert_eq!(
            DoctorReport(&findings).to_string(),
            "\
ok    cores         8 usable
BAD   CPU governor  powersave
                    -> cpupower frequency-set -g performance
note  swap          3 MiB in use
1 thing to fix, 1 to know"
        );
    }

    #[test]
    fn the_sum_counts_things() {
        let (good, note, bad) = (
            Finding::ok("a", ""),
            Finding::warning("b", ""),
            Finding::problem("c", ""),
        );
        for (findings, sum) in [
            (vec![], "nothing to fix"),
            (vec![&good], "nothing to fix"),
            (vec![&good, &note], "nothing to fix, 1 to know"),
            (vec![&bad, &bad], "2 things to fix"),
            (
                vec![&bad, &note, &bad, &note, &note],
                "2 things to fix, 3 to know",
            ),
        ] {
            let findings: Vec<Finding> = findings.into_iter().cloned().collect();
            assert_eq!(DoctorReport(&findings).summary(), sum);
        }
    }

    #[test]
    fn an_examination_has_findings() {
        let start = Instant::now();
        let findings = examine();
        // Under a second on a machine that is not as busy as a test's may be.
        assert!(start.elapsed() < Duration::from_secs(30));
        for check in ["usable cores", "timer", "clock reads", "open files"] {
            assert!(findings.iter().any(|found| found.check == check), "{check}");
        }
        for finding in &findings {
            assert!(!finding.found.is_empty(), "{finding:?}");
            assert!(!finding.found.contains('\n'), "{finding:?}");
        }
    }

    #[test]
    fn findings_are_json() {
        let finding = Finding::problem("CPU governor", "powersave").advise("fix it");
        assert_eq!(
            to_json(&[finding]),
            "\
[
  {
    \"check\": \"CPU governor\",
    \"level\": \"bad\",
    \"found\": \"powersave\",
    \"advice\": \"fix it\"
  }
]
"
        );
    }

    #[test]
    fn sizes_and_shares_are_rounded() {
        assert_eq!(format_rough_size(0), "0 B");
        assert_eq!(format_rough_size(4096), "4 KiB");
        assert_eq!(format_rough_size(25_276_502_016), "23.5 GiB");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.5), "50 %");
        assert_eq!(percent(0.025), "2.5 %");
        assert_eq!(percent(0.0003), "0.03 %");
    }
}
