//! The settings of the statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::MetricFinding;
use crate::metric::Metric;

/// The probability of a false alarm in a comparison of two servers that do not differ, over all
/// metrics.
pub const LEVEL: f64 = 0.05;

/// The settings of the statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The metrics to compare.
    pub metrics: Vec<Metric>,
    /// The smallest relevant difference, as a share.
    pub min_effect: f64,
    /// Servers do not differ if the whole interval is this close to 1, as a share, instead of
    /// each metric's own margin.
    pub margin: Option<f64>,
    /// The significance level over all metrics.
    pub level: f64,
    /// Whether the load leaves the throughput to the servers.
    pub is_closed_loop: bool,
    /// The bootstrap's seed.
    pub seed: u64,
}

impl Settings {
    /// The confidence level of the intervals.
    pub fn confidence(&self) -> f64 {
        1.0 - self.level
    }

    /// The margin of a metric: sides whose interval is within it do not differ.
    pub(super) fn margin(&self, metric: Metric) -> f64 {
        self.margin
            .unwrap_or_else(|| metric.margin())
            .max(self.min_effect)
    }

    /// The metrics that decide the overall verdict: those that depend on the servers rather than
    /// the load or the machine's noise.
    pub(super) fn decisive(&self) -> [Metric; 2] {
        if self.is_closed_loop {
            [Metric::CpuPerMessage, Metric::Throughput]
        } else {
            [Metric::CpuPerMessage, Metric::P50]
        }
    }

    /// The findings of those metrics; all findings where none of them was measured.
    pub(super) fn deciding<'a>(&self, findings: &'a [MetricFinding]) -> Vec<&'a MetricFinding> {
        let is_decisive = |finding: &&MetricFinding| self.decisive().contains(&finding.metric);
        let decisive: Vec<_> = findings.iter().filter(is_decisive).collect();
        if decisive.is_empty() {
            findings.iter().collect()
        } else {
            decisive
        }
    }
}
