//! One check: an expected and a reported value.

use std::fmt;
use std::ops::RangeInclusive;

use crate::units::{format_count, format_ns};

/// The result of a check. Ordered: the worst of several decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CheckResult {
    /// The report is as expected.
    Holds,
    /// The difference can be explained by a busy machine. Worth another attempt.
    Disturbed,
    /// It differs, and a busy machine cannot explain it.
    Wrong,
}

/// The direction in which a busy machine may change a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slack {
    /// On neither.
    None,
    /// Above: durations get longer on a busy machine, never shorter.
    Above,
    /// On both.
    Both,
}

/// One comparison.
#[derive(Debug, Clone)]
pub(super) struct Check {
    what: String,
    expected: String,
    reported: String,
    pub(super) result: CheckResult,
}

impl Check {
    /// A condition.
    pub(super) fn fact(what: &str, expected: &str, reported: String, holds: bool) -> Self {
        let result = if holds {
            CheckResult::Holds
        } else {
            CheckResult::Wrong
        };
        Self {
            what: what.to_owned(),
            expected: expected.to_owned(),
            reported,
            result,
        }
    }

    /// A number of things.
    pub(super) fn count(
        what: &str,
        expected: RangeInclusive<u64>,
        reported: u64,
        slack: Slack,
    ) -> Self {
        Self {
            what: what.to_owned(),
            expected: range(&expected, format_count),
            reported: format_count(reported),
            result: judge(&expected, reported, slack),
        }
    }

    /// The number of things that there have to be.
    pub(super) fn exact(what: &str, expected: u64, reported: u64) -> Self {
        Self::count(what, expected..=expected, reported, Slack::None)
    }

    /// A latency in nanoseconds.
    pub(super) fn time(
        what: &str,
        expected_ns: RangeInclusive<u64>,
        reported_ns: u64,
        slack: Slack,
    ) -> Self {
        Self {
            what: what.to_owned(),
            expected: range(&expected_ns, format_ns),
            reported: format_ns(reported_ns),
            result: judge(&expected_ns, reported_ns, slack),
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.result == CheckResult::Holds
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was {}, expected {}",
            self.what, self.reported, self.expected
        )
    }
}

fn judge(expected: &RangeInclusive<u64>, reported: u64, slack: Slack) -> CheckResult {
    if expected.contains(&reported) {
        CheckResult::Holds
    } else if slack == Slack::Both || (slack == Slack::Above && reported > *expected.end()) {
        CheckResult::Disturbed
    } else {
        CheckResult::Wrong
    }
}

fn range(expected: &RangeInclusive<u64>, format: fn(u64) -> String) -> String {
    match (*expected.start(), *expected.end()) {
        (low, high) if low == high => format(low),
        (0, high) => format!("at most {}", format(high)),
        (low, u64::MAX) => format!("at least {}", format(low)),
        (low, high) => format!("{} to {}", format(low), format(high)),
    }
}

/// The widths of the columns but the last, which holds sentences as well.
const WIDTHS: [usize; 2] = [31, 36];

/// The lines of a table, one per check.
pub(super) fn rows(checks: &[Check], tries: u32) -> String {
    let [what, expected] = WIDTHS;
    let nth = match tries {
        1 => "",
        2 => " (2nd try)",
        _ => " (3rd try)",
    };
    let row = |check: &Check| {
        let result = if check.holds() { "ok" } else { "FAILED" };
        format!(
            "  {result:<6}{nth}  {:what$}  {:expected$}  {}\n",
            check.what, check.expected, check.reported,
        )
    };
    checks.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slack_excuses_a_number() {
        let result = |reported, slack| Check::count("it", 5..=10, reported, slack).result;
        for slack in [Slack::None, Slack::Above, Slack::Both] {
            assert_eq!(result(5, slack), CheckResult::Holds);
            assert_eq!(result(10, slack), CheckResult::Holds);
        }
        assert_eq!(result(4, Slack::None), CheckResult::Wrong);
        assert_eq!(result(11, Slack::None), CheckResult::Wrong);
        assert_eq!(result(4, Slack::Above), CheckResult::Wrong);
        assert_eq!(result(11, Slack::Above), CheckResult::Disturbed);
        assert_eq!(result(4, Slack::Both), CheckResult::Disturbed);
    }

    #[test]
    fn rows_show_what_was_expected_and_what_was_reported() {
        let checks = [
            Check::exact("due", 2_000, 2_000),
            Check::time("p50", 5_000_000..=6_500_000, 7_000_000, Slack::Above),
        ];
        let text = rows(&checks, 2);
        let rows: Vec<Vec<_>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
            })
            .map(Iterator::collect)
            .collect();
        assert_eq!(rows[0], ["ok", "(2nd try)", "due", "2,000", "2,000"]);
        assert_eq!(rows[1][0], "FAILED (2nd try)");
        assert_eq!(rows[1][1..], ["p50", "5.00 ms to 6.50 ms", "7.00 ms"]);
    }

    #[test]
    fn ranges_are_formatted_with_units() {
        let text = |expected| range(&expected, format_count);
        assert_eq!(text(7..=7), "7");
        assert_eq!(text(0..=7), "at most 7");
        assert_eq!(text(7..=u64::MAX), "at least 7");
        assert_eq!(text(7..=8), "7 to 8");
    }
}
