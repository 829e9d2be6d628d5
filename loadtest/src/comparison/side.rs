//! One side of a comparison.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::result::ResultFile;
use crate::statistics::{median, median_interval};

use super::settings::Settings;
use crate::statistics::ConfidenceInterval;

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The label in reports.
    pub label: String,
    /// The command that started its server, if it is known.
    pub command: Option<String>,
    /// The SHA-256 of its server's binary, if it could be read.
    pub binary_sha256: Option<String>,
    /// The number of runs.
    pub runs: usize,
    /// The number of INVALID runs.
    #[serde(default)]
    pub invalid: usize,
    /// Their numbers.
    pub values: BTreeMap<Metric, Values>,
}

/// A metric of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Values {
    /// Run by run; null where it was not measured.
    pub by_run: Vec<Option<f64>>,
    /// Their median.
    pub median: Option<f64>,
    /// The interval of their median.
    pub interval: Option<ConfidenceInterval>,
}

impl Side {
    /// Combines the runs of one side.
    pub fn of(label: &str, runs: &[ResultFile], settings: &Settings) -> Self {
        let server = runs.iter().find_map(|run| run.server.as_ref());
        let values = settings.metrics.iter().map(|&metric| {
            let by_run = runs.iter().map(|run| metric.of(run)).collect();
            (metric, Values::of(by_run, settings))
        });
        Self {
            label: label.to_owned(),
            command: server.and_then(|server| server.command.clone()),
            binary_sha256: server.and_then(|server| server.binary_sha256.clone()),
            runs: runs.len(),
            invalid: runs.iter().filter(|run| run.is_invalid()).count(),
            values: values.collect(),
        }
    }

    /// A metric, run by run.
    pub fn by_run(&self, metric: Metric) -> &[Option<f64>] {
        self.values
            .get(&metric)
            .map_or(&[], |values| &values.by_run)
    }
}

impl Values {
    pub(super) fn of(by_run: Vec<Option<f64>>, settings: &Settings) -> Self {
        let known: Vec<_> = by_run.iter().flatten().copied().collect();
        Self {
            median: median(&known),
            interval: median_interval(&known, settings.confidence(), settings.seed),
            by_run,
        }
    }
}
