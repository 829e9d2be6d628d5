//! What is asked of the statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::MetricFinding;
use crate::metric::Metric;

/// How often a comparison of two servers that do not differ may find a
/// difference, all metrics together.
pub const LEVEL: f64 = 0.05;

/// What is asked of the statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// By what the servers are compared.
    pub metrics: Vec<Metric>,
    /// The least difference that is of interest, as a share.
    pub min_effect: f64,
    /// Servers are called alike if the whole interval is this close to 1, as a share,
    /// instead of each metric's own margin.
    pub margin: Option<f64>,
    /// How often a difference may be found where there is none.
    pub level: f64,
    /// Whether the load leaves the throughput to the servers.
    pub is_closed_loop: bool,
    /// Where the bootstrap's samples come from.
    pub seed: u64,
}

impl Settings {
    /// What intervals are to contain the truth with.
    pub fn confidence(&self) -> f64 {
        1.0 - self.level
    }

    /// How far from 1 the interval of a metric may reach for the sides to be alike.
    pub(super) fn margin(&self, metric: Metric) -> f64 {
        self.margin
            .unwrap_or_else(|| metric.margin())
            .max(self.min_effect)
    }

    /// The metrics that a comparison stands and falls with: those that the load
    /// leaves to the servers and the machine's noise does not drown.
    pub(super) fn decisive(&self) -> [Metric; 2] {
        if self.is_closed_loop {
            [Metric::CpuPerMessage, Metric::Throughput]
        } else {
            [Metric::CpuPerMessage, Metric::P50]
        }
    }

    /// What was found of those; all findings where none of them was measured.
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
