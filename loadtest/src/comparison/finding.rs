//! The findings of a comparison, by metric and overall.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::statistics::ConfidenceInterval;

/// One side against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contrast {
    /// Its label.
    pub side: String,
    /// The baseline's label.
    pub baseline: String,
    /// A finding for each metric.
    pub findings: Vec<MetricFinding>,
    /// The verdict over all metrics.
    pub verdict: ComparisonVerdict,
}

/// One metric of one side against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricFinding {
    /// The metric.
    pub metric: Metric,
    /// The number of pairs that have it, or of runs in the smaller group.
    pub runs: usize,
    /// The baseline's median.
    pub baseline: f64,
    /// The other side's median.
    pub value: f64,
    /// The other side over the baseline: the median ratio of the pairs, or the
    /// ratio of the medians.
    pub ratio: f64,
    /// Its confidence interval.
    pub interval: ConfidenceInterval,
    /// The probability of such a difference between servers that do not differ: of the sign-flip
    /// test for pairs, of Mann and Whitney's for groups.
    pub p_value: f64,
    /// The same, corrected for the number of metrics by Holm's procedure.
    pub adjusted_p_value: f64,
    /// There is no difference if the whole interval is this close to 1, as a share.
    pub margin: f64,
    /// The verdict.
    pub verdict: ComparisonVerdict,
    /// The runs still needed, where it is inconclusive.
    pub outlook: Option<Outlook>,
}

/// What a conclusion still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// About this many more pairs, or runs of each side, at the present noise.
    More(usize),
    /// This many more pairs, or runs of each side, before anything can be found or the noise be
    /// estimated.
    AtLeast(usize),
    /// More runs than are practical: the noise has to become less.
    TooNoisy,
    /// Runs that are VALID: of INVALID ones nothing follows.
    Invalid,
}

/// The verdict of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonVerdict {
    /// The side is better than the baseline.
    Better,
    /// It is worse.
    Worse,
    /// It is better in one metric and worse in another.
    Mixed,
    /// No relevant difference was found, and the whole interval is within the margin.
    NoDifference,
    /// No relevant difference was found, but the interval exceeds the margin, so one may have
    /// been missed. Or runs were INVALID.
    Inconclusive,
}

impl fmt::Display for ComparisonVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Mixed => "mixed",
            Self::NoDifference => "no difference",
            Self::Inconclusive => "inconclusive",
        })
    }
}

impl Contrast {
    /// The finding of a metric.
    pub fn finding(&self, metric: Metric) -> Option<&MetricFinding> {
        self.findings.iter().find(|it| it.metric == metric)
    }

    /// Whether any metric is worse than the baseline's.
    pub fn is_regression(&self) -> bool {
        self.findings
            .iter()
            .any(|it| it.verdict == ComparisonVerdict::Worse)
    }
}
