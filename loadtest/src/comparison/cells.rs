//! Numbers of a comparison as text.

use super::finding::{MetricFinding, Outlook};
use super::{Comparison, Design};
use crate::metric::Metric;
use crate::report::cells::UNKNOWN;
use crate::statistics::ConfidenceInterval;
use crate::units::format_percent;

/// The ratio from which on it is shown instead of a percentage.
const RATIO_SHOWN_FROM: f64 = 2.0;

/// A smaller p-value is shown as below this.
const P_VALUE_MIN: f64 = 0.001;

pub(super) fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}")
}

pub(super) fn ratios(interval: ConfidenceInterval) -> String {
    format!("{} to {}", ratio(interval.low), ratio(interval.high))
}

/// The difference of a ratio from 1, in percent.
pub(super) fn change(ratio: f64) -> String {
    if (RATIO_SHOWN_FROM.recip()..RATIO_SHOWN_FROM).contains(&ratio) {
        format!("{:+.1} %", (ratio - 1.0) * 100.0)
    } else {
        format!("×{ratio:.2}")
    }
}

pub(super) fn changes(finding: &MetricFinding) -> String {
    format!(
        "{} {} ({} to {})",
        finding.metric.title(),
        change(finding.ratio),
        change(finding.interval.low),
        change(finding.interval.high)
    )
}

pub(super) fn p_value(p_value: f64) -> String {
    if p_value < P_VALUE_MIN {
        format!("<{P_VALUE_MIN}")
    } else {
        format!("{p_value:.3}")
    }
}

/// A metric's value, where there is one.
pub(super) fn value(metric: Metric, value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| metric.format(value))
}

/// A metric's values, from the least to the most.
pub(super) fn values(metric: Metric, interval: Option<ConfidenceInterval>) -> String {
    interval.map_or_else(
        || UNKNOWN.to_owned(),
        |it| format!("{} to {}", metric.format(it.low), metric.format(it.high)),
    )
}

/// A verdict, and the runs still needed.
pub(super) fn verdict(finding: &MetricFinding, unit: &str) -> String {
    match finding.outlook {
        None => finding.verdict.to_string(),
        Some(outlook) => format!("{}, {}", finding.verdict, self::outlook(outlook, unit)),
    }
}

pub(super) fn outlook(outlook: Outlook, unit: &str) -> String {
    match outlook {
        Outlook::More(1) => format!("about 1 more {unit} needed"),
        Outlook::More(count) => format!("about {count} more {unit}s needed"),
        Outlook::AtLeast(1) => format!("at least 1 more {unit} needed"),
        Outlook::AtLeast(count) => format!("at least {count} more {unit}s needed"),
        Outlook::TooNoisy => format!("too noisy for any number of {unit}s"),
        Outlook::Invalid => "of INVALID runs".to_owned(),
    }
}

/// The unit that runs are counted in.
pub(super) fn unit(comparison: &Comparison) -> &'static str {
    match (comparison.design, comparison.sides.len()) {
        (Design::Paired, 0..=2) => "pair",
        (Design::Paired, _) => "round",
        (Design::Unpaired, _) => "run",
    }
}

/// The design of the comparison as a sentence.
pub(super) fn design(comparison: &Comparison) -> String {
    let confidence = format_percent(comparison.settings.confidence());
    let sides = &comparison.sides;
    match comparison.design {
        Design::Paired => {
            let runs = sides.iter().map(|side| side.runs).min().unwrap_or(0);
            let unit = unit(comparison);
            format!(
                "{runs} {unit}s of runs in random order; ratios are medians of {unit}s, with \
                 {confidence} intervals"
            )
        }
        Design::Unpaired => {
            let runs = sides
                .iter()
                .map(|it| format!("{} of {}", it.runs, it.label));
            let runs: Vec<_> = runs.collect();
            format!(
                "runs: {}; ratios are those of medians, with {confidence} intervals",
                runs.join(", ")
            )
        }
    }
}

/// The distance of the far end of a finding's interval from 1.
pub(super) fn reach(finding: &MetricFinding) -> String {
    let share = super::decide::reach(finding.interval);
    format!("±{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_percentages_until_they_are_large() {
        let texts = [0.3, 0.5, 0.948, 1.0, 1.052, 1.999, 2.0, 31.25].map(change);
        assert_eq!(
            texts,
            [
                "×0.30", "-50.0 %", "-5.2 %", "+0.0 %", "+5.2 %", "+99.9 %", "×2.00", "×31.25"
            ]
        );
    }

    #[test]
    fn a_small_p_value_is_shown_as_below_a_limit() {
        assert_eq!(
            [0.0, 0.0009, 0.001, 0.5, 1.0].map(p_value),
            ["<0.001", "<0.001", "0.001", "0.500", "1.000"]
        );
    }

    #[test]
    fn an_outlook_has_the_number_of_runs() {
        assert_eq!(
            outlook(Outlook::More(1), "pair"),
            "about 1 more pair needed"
        );
        assert_eq!(
            outlook(Outlook::More(14), "run"),
            "about 14 more runs needed"
        );
        assert_eq!(
            [Outlook::AtLeast(1), Outlook::AtLeast(7)].map(|it| outlook(it, "pair")),
            [
                "at least 1 more pair needed",
                "at least 7 more pairs needed"
            ]
        );
        let noisy = outlook(Outlook::TooNoisy, "pair");
        assert_eq!(noisy, "too noisy for any number of pairs");
    }
}
