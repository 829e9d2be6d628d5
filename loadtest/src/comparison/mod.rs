//! The result of a comparison of servers: a document like a result file, written by `ab` and
//! `compare`, read by `report`.
//!
//! The sample is the run, not the message: a million messages of one run share its server
//! process, its memory layout and its neighbours, and do not show how the next run will differ.

mod cells;
mod csv;
mod decide;
mod finding;
#[cfg(test)]
mod fixture;
mod forest;
mod markdown;
mod minimum_runs;
mod ranking;
#[cfg(test)]
mod schema;
mod sentences;
mod settings;
mod side;
#[cfg(test)]
mod simulation;
mod tables;
mod text;

pub use decide::{paired, unpaired};
pub use finding::{ComparisonVerdict, Contrast, MetricFinding, Outlook};
pub use minimum_runs::too_few_runs;
pub use settings::{LEVEL, Settings};
pub use side::{Side, Values};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::Environment;
use crate::metric::Metric;
use crate::result::{Document, Problem};

/// The version of the format that is written, and the highest that is read.
pub const VERSION: u32 = 1;

/// Servers compared, as it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Marks the file as a comparison.
    pub format: ComparisonFormat,
    /// The version of the format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Whether runs are paired.
    pub design: Design,
    /// The settings of the statistics.
    pub settings: Settings,
    /// The command line, without the program's name.
    pub args: Vec<String>,
    /// When the first run began, in UTC, in RFC 3339 format.
    pub started_at: String,
    /// The load of every run, as reports write it.
    pub workload: String,
    /// The servers that were compared. The first is the baseline.
    pub sides: Vec<Side>,
    /// The baseline against itself, if that was measured: the differences found on this machine
    /// where there are none.
    pub noise: Option<Contrast>,
    /// Each of the other sides against the baseline, in the order of the sides.
    pub contrasts: Vec<Contrast>,
    /// Warnings: runs that are not VALID, machines that differ.
    pub warnings: Vec<String>,
    /// The machine of the first run.
    pub environment: Environment,
}

/// The value of the `format` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ComparisonFormat {
    /// A comparison of this program.
    #[serde(rename = "ringback-loadtest-comparison")]
    Comparison,
}

/// How the runs of two sides are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// Pairs of runs, one after the other on one machine, so that a disturbance is likely to
    /// affect both.
    Paired,
    /// Two groups, measured at any time.
    Unpaired,
}

impl Comparison {
    /// Tables and sentences for a terminal.
    pub fn text(&self, color: bool) -> String {
        text::comparison(self, color)
    }

    /// The same as GitHub-flavored Markdown, with a table for every metric where
    /// there are more than two sides.
    pub fn markdown(&self) -> String {
        markdown::comparison(self)
    }

    /// A header, and a line for each metric of each side.
    pub fn csv(&self) -> String {
        csv::comparison(self)
    }

    /// The requested metrics that decide the overall verdict; all, where none of those that
    /// decide was requested.
    fn decisive(&self) -> Vec<Metric> {
        let decisive = self.settings.decisive().into_iter();
        let requested: Vec<_> = decisive
            .filter(|metric| self.settings.metrics.contains(metric))
            .collect();
        if requested.is_empty() {
            self.settings.metrics.clone()
        } else {
            requested
        }
    }
}

impl Document for Comparison {
    const KIND: &'static str = "comparison";
    const FORMAT: &'static str = "ringback-loadtest-comparison";
    const VERSION: u32 = VERSION;

    fn check(&self) -> Result<(), Problem> {
        let Some((baseline, others)) = self.sides.split_first() else {
            return Err(Problem::Inconsistent("there are no sides to compare"));
        };
        let is_own = |contrast: &Contrast, side: &Side| {
            contrast.side == side.label && contrast.baseline == baseline.label
        };
        if self.contrasts.len() != others.len()
            || !(self.contrasts.iter().zip(others)).all(|(contrast, side)| is_own(contrast, side))
        {
            return Err(Problem::Inconsistent(
                "the contrasts are not those of the sides",
            ));
        }
        let values = self.sides.iter().flat_map(|side| {
            let values = side.values.values();
            values.map(|values| (values.by_run.len(), side.runs))
        });
        for (count, runs) in values {
            if count != runs {
                return Err(Problem::Inconsistent("a run has no value, or two"));
            }
        }
        Ok(())
    }

    fn recompute(&mut self) -> Result<(), Problem> {
        let settings = &self.settings;
        for values in self.sides.iter_mut().flat_map(|it| it.values.values_mut()) {
            *values = Values::of(std::mem::take(&mut values.by_run), settings);
        }
        let compare = match self.design {
            Design::Paired => paired,
            Design::Unpaired => unpaired,
        };
        if let Some((baseline, others)) = self.sides.split_first() {
            let contrasts = others.iter().map(|side| compare(baseline, side, settings));
            self.contrasts = contrasts.collect();
        }
        // Its runs are not in the file.
        if let Some(noise) = &mut self.noise {
            decide::derive_verdicts(noise, settings);
        }
        Ok(())
    }
}
