//! What was found of a metric, and of all together.

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
    /// What was found, metric by metric.
    pub findings: Vec<MetricFinding>,
    /// What they come to.
    pub verdict: ComparisonVerdict,
}

/// One metric of one side against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricFinding {
    /// Which metric.
    pub metric: Metric,
    /// Pairs that have it, or runs of the smaller group.
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
    /// How likely such a difference is where there is none: of the sign-flip
    /// test for pairs, of Mann and Whitney's for groups.
    pub p_value: f64,
    /// The same, corrected for the number of metrics by Holm's procedure.
    pub adjusted_p_value: f64,
    /// There is no difference if the whole interval is this close to 1, as a share.
    pub margin: f64,
    /// What it means.
    pub verdict: ComparisonVerdict,
    /// What it would take to know, where it is inconclusive.
    pub outlook: Option<Outlook>,
}

/// What it would take to come to a conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// About so many more pairs, or runs of each side, at the noise there is.
    More(usize),
    /// So many more pairs, or runs of each side, before anything can be found or the
    /// noise be told.
    AtLeast(usize),
    /// More than anybody will wait for: the noise has to become less.
    TooNoisy,
    /// Runs that are VALID: of INVALID ones nothing follows.
    Invalid,
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonVerdict {
    /// The side is better than the baseline.
    Better,
    /// It is worse.
    Worse,
    /// It is better in one metric and worse in another.
    Mixed,
    /// Nothing of interest was found, and the whole interval is within the margin.
    NoDifference,
    /// Nothing of interest was found, and the interval reaches beyond the margin: it
    /// could have been missed. Or runs were INVALID.
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
    /// What was found of a metric.
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
