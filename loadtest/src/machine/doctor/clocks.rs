//! The cost of reading the clock, and the precision of timers.

use std::thread;
use std::time::{Duration, Instant};

use host::Root;
use host::finding::Finding;
use rustix::thread::current_timer_slack;

use crate::statistics::median;
use crate::units::format_ns;

/// Sources that are read without entering the kernel.
const FAST_SOURCES: [&str; 6] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "timebase",
    "riscv_clocksource",
];

/// A clock read in a batch costs the loop around it next to nothing.
const READS_PER_BATCH: u32 = 64;
const BATCHES: usize = 201;

const NAP: Duration = Duration::from_micros(100);
const NAPS: usize = 50;
/// Where timers are as coarse as the tick, fewer naps suffice.
const NAPPING_MAX: Duration = Duration::from_millis(200);

/// The clocks and timers of this machine.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    source: Option<String>,
    sources_available: String,
    /// Median cost of reading the clock.
    read_ns: u64,
    oversleep: Oversleep,
    timer_slack_ns: Option<u64>,
}

/// The lateness of short sleeps.
#[derive(Debug, Clone, Copy)]
struct Oversleep {
    naps: usize,
    median_ns: u64,
    max_ns: u64,
}

impl Clocks {
    pub(super) fn measure(root: &Root) -> Self {
        let sources = "/sys/devices/system/clocksource/clocksource0";
        Self {
            source: root.text(format!("{sources}/current_clocksource")),
            sources_available: root
                .text(format!("{sources}/available_clocksource"))
                .unwrap_or_default(),
            read_ns: measure_read_ns(),
            oversleep: Oversleep::measure(),
            timer_slack_ns: current_timer_slack().ok(),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::from_iter(self.judge_source());
        findings.push(self.judge_read());
        findings.push(self.judge_sleep());
        findings
    }

    fn judge_source(&self) -> Option<Finding> {
        const CHECK: &str = "clock source";
        let source = self.source.as_deref()?;
        if FAST_SOURCES.contains(&source) {
            return Some(Finding::ok(CHECK, source));
        }
        let finding = Finding::problem(CHECK, format!("{source}: each read enters the kernel"));
        let better = self
            .sources_available
            .split_whitespace()
            .find(|name| FAST_SOURCES.contains(name));
        Some(match better {
            Some(name) => finding.advise(format!(
                "echo {name} | tee \
                 /sys/devices/system/clocksource/clocksource0/current_clocksource"
            )),
            None => finding
                .advise("see why the kernel gave up the TSC: dmesg | grep -iE 'tsc|clocksource'"),
        })
    }

    fn judge_read(&self) -> Finding {
        const CHECK: &str = "clock reads";
        let found = format!("{} each (median)", format_ns(self.read_ns));
        let slow = format!("{found}: part of every message's cost");
        match self.read_ns {
            ..=100 => Finding::ok(CHECK, found),
            101..=300 => Finding::warning(CHECK, slow),
            _ => Finding::problem(CHECK, slow).advise("see to the clock source"),
        }
    }

    fn judge_sleep(&self) -> Finding {
        const CHECK: &str = "timer";
        let Oversleep {
            naps,
            median_ns,
            max_ns,
        } = self.oversleep;
        let slack = match self.timer_slack_ns {
            Some(slack_ns) => format!(", slack {}", format_ns(slack_ns)),
            None => String::new(),
        };
        let found = format!(
            "sleeps of 100 µs end {} late (median of {naps}), {} at most{slack}",
            format_ns(median_ns),
            format_ns(max_ns)
        );
        let advice = "--pace spin does not sleep before a send; idle states that take long \
                      to leave are kept out by: cpupower idle-set -D 20";
        match (median_ns, max_ns) {
            (..=100_000, ..=1_000_000) => Finding::ok(CHECK, found),
            (..=250_000, _) => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        }
    }
}

fn measure_read_ns() -> u64 {
    let batches_ns: Vec<u64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            let mut last = start;
            for _ in 0..READS_PER_BATCH {
                last = Instant::now();
            }
            elapsed_ns(last - start) / u64::from(READS_PER_BATCH)
        })
        .collect();
    median_ns(&batches_ns)
}

impl Oversleep {
    fn measure() -> Self {
        let begin = Instant::now();
        let mut late_ns = Vec::with_capacity(NAPS);
        while late_ns.len() < NAPS && begin.elapsed() < NAPPING_MAX {
            let start = Instant::now();
            thread::sleep(NAP);
            late_ns.push(elapsed_ns(start.elapsed().saturating_sub(NAP)));
        }
        Self {
            naps: late_ns.len(),
            median_ns: median_ns(&late_ns),
            max_ns: late_ns.into_iter().max().unwrap_or(0),
        }
    }
}

/// The median in whole nanoseconds, 0 of none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive, and far below where whole numbers end"
)]
fn median_ns(times_ns: &[u64]) -> u64 {
    let times_ns: Vec<_> = times_ns.iter().map(|&ns| ns as f64).collect();
    median(&times_ns).map_or(0, |ns| ns.round() as u64)
}

fn elapsed_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    fn clocks() -> Clocks {
        Clocks {
            source: Some("tsc".to_owned()),
            sources_available: "tsc hpet acpi_pm".to_owned(),
            read_ns: 25,
            oversleep: Oversleep {
                naps: 50,
                median_ns: 58_000,
                max_ns: 300_000,
            },
            timer_slack_ns: Some(50_000),
        }
    }

    #[test]
    fn the_median_of_an_even_number_of_times_is_the_mean_of_the_middle_two() {
        assert_eq!(median_ns(&[40, 10, 30, 20]), 25);
        assert_eq!(median_ns(&[9, 1, 5]), 5);
        assert_eq!(median_ns(&[]), 0);
    }

    #[test]
    fn a_fast_source_is_good() {
        for source in FAST_SOURCES {
            let found = Clocks {
                source: Some(source.to_owned()),
                ..clocks()
            }
            .judge_source()
            .unwrap();
            assert_eq!(found.level, Level::Ok);
        }
        let unknown = Clocks {
            source: None,
            ..clocks()
        };
        assert_eq!(unknown.judge_source(), None);
    }

    #[test]
    fn a_slow_source_is_bad_and_a_better_one_named() {
        let slow = Clocks {
            source: Some("hpet".to_owned()),
            ..clocks()
        };
        let found = slow.judge_source().unwrap();
        assert_eq!(found.level, Level::Problem);
        assert!(found.change.unwrap().starts_with("echo tsc | tee"));
        let found = Clocks {
            sources_available: "hpet acpi_pm".to_owned(),
            ..slow
        }
        .judge_source()
        .unwrap();
        assert!(found.change.unwrap().contains("dmesg"));
    }

    #[test]
    fn slow_reads_are_bad() {
        for (read_ns, level) in [
            (25, Level::Ok),
            (150, Level::Warning),
            (1_400, Level::Problem),
        ] {
            let found = Clocks {
                read_ns,
                ..clocks()
            }
            .judge_read();
            assert_eq!(found.level, level, "{read_ns}");
        }
    }

    #[test]
    fn late_timers_are_bad() {
        for (median_ns, max_ns, level) in [
            (58_000, 300_000, Level::Ok),
            (58_000, 4_000_000, Level::Warning),
            (180_000, 300_000, Level::Warning),
            (3_900_000, 4_000_000, Level::Problem),
        ] {
            let found = Clocks {
                oversleep: Oversleep {
                    naps: 50,
                    median_ns,
                    max_ns,
                },
                ..clocks()
            }
            .judge_sleep();
            assert_eq!(found.level, level, "{found:?}");
            assert_eq!(found.change.is_some(), level > Level::Ok);
        }
        assert_eq!(
            clocks().judge_sleep().found,
            "sleeps of 100 µs end 58.0 µs late (median of 50), 300 µs at most, slack 50.0 µs"
        );
    }

    #[test]
    fn measuring_gives_numbers() {
        let clocks = Clocks::measure(&Root::of_this_machine());
        assert!(clocks.oversleep.naps > 0);
        assert!(clocks.oversleep.median_ns <= clocks.oversleep.max_ns);
    }
}
