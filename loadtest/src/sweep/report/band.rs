//! The runs of a rate together: the median, the least and the most.

use crate::percentile::Percentile;
use crate::report::cells::UNKNOWN;
use crate::result::ResultFile;
use crate::statistics::median;
use crate::units::{format_ns, format_rate};

/// Values of one kind, of all runs of a rate.
pub(super) struct Band {
    /// Ascending; empty where any run has none.
    values: Vec<f64>,
    /// Whether one of them is only known to be longer.
    is_bound: bool,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    PerSecond,
    /// With the unit that fits.
    Time,
    /// In nanoseconds, so that values can be subtracted easily.
    Nanoseconds,
}

impl Band {
    pub(super) fn of_rate(runs: &[ResultFile]) -> Self {
        Self::of(runs, Unit::PerSecond, |run| Some(run.summary.rate_per_s))
    }

    pub(super) fn of_percentile(runs: &[ResultFile], percentile: Percentile) -> Self {
        let name = percentile.to_string();
        let is_censored = |run: &ResultFile| {
            percentile.is_censored(run.summary.response_ns.samples, run.counts.unanswered)
        };
        Self {
            is_bound: runs.iter().any(is_censored),
            ..Self::of(runs, Unit::Time, |run| {
                let ns = run.summary.response_ns.percentiles.get(&name);
                ns.copied().flatten().map(|ns| ns as f64)
            })
        }
    }

    pub(super) fn of_max(runs: &[ResultFile]) -> Self {
        Self {
            is_bound: runs.iter().any(|run| run.counts.unanswered > 0),
            ..Self::of(runs, Unit::Time, |run| {
                run.summary.response_ns.max.map(|ns| ns as f64)
            })
        }
    }

    pub(super) fn of_cpu(runs: &[ResultFile]) -> Self {
        Self::of(runs, Unit::Nanoseconds, |run| {
            run.summary.server.as_ref()?.cpu_ns_per_message
        })
    }

    fn of(runs: &[ResultFile], unit: Unit, value: impl Fn(&ResultFile) -> Option<f64>) -> Self {
        let values: Option<Vec<_>> = runs.iter().map(value).collect();
        let mut values = values.unwrap_or_default();
        values.sort_by(f64::total_cmp);
        Self {
            values,
            is_bound: false,
            unit,
        }
    }

    /// The middle value; of an even number, the mean of the two in the middle.
    pub(super) fn middle(&self) -> Option<f64> {
        median(&self.values)
    }

    /// The median as text.
    pub(super) fn median(&self) -> String {
        let bound = if self.is_bound { "≥" } else { "" };
        self.middle().map_or_else(
            || UNKNOWN.to_owned(),
            |value| format!("{bound}{}", self.written(value)),
        )
    }

    /// From the least to the most, as text.
    pub(super) fn range(&self) -> String {
        let (Some(&least), Some(&most)) = (self.values.first(), self.values.last()) else {
            return UNKNOWN.to_owned();
        };
        let (least, most) = (self.written(least), self.written(most));
        // A unit that both have is written once.
        match (least.split_once(' '), most.split_once(' ')) {
            (Some((number, unit)), Some((_, same))) if unit == same => format!("{number}–{most}"),
            _ => format!("{least}–{most}"),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    fn written(&self, value: f64) -> String {
        match self.unit {
            Unit::PerSecond => format_rate(value),
            Unit::Time => format_ns(value.round() as u64),
            Unit::Nanoseconds => format!("{value:.0} ns"),
        }
    }
}
