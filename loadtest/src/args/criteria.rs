//! The criteria of a difference between servers, and the exit codes for one.

use clap::Args;

use crate::comparison::{LEVEL, Settings};
use crate::metric::Metric;
use crate::units::parse_percent;

/// The default of the smallest relevant difference.
pub(super) const MIN_EFFECT: &str = "2%";

/// The criteria of a difference, and the exit codes for one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Judging")]
pub struct Criteria {
    /// Smallest relevant difference: a smaller one is ignored, however certain
    #[arg(long, value_name = "SHARE", default_value = MIN_EFFECT, value_parser = parse_percent)]
    pub min_effect: f64,

    /// Servers do not differ if the whole interval is this close to 1 [default: 5%; p99, p99.9
    /// and rss-per-connection: 10%]
    #[arg(long, value_name = "SHARE", value_parser = parse_percent)]
    pub margin: Option<f64>,

    /// Compare by this only: throughput, cpu-per-message, p50, p99, p99.9,
    /// rss-per-connection; repeatable
    #[arg(long = "metric", value_name = "METRIC")]
    pub metrics: Vec<Metric>,

    /// Exit with 3 when anything is worse than the baseline
    #[arg(long)]
    pub fail_on_regression: bool,

    /// Exit with 5 when there is no conclusion
    #[arg(long)]
    pub fail_on_inconclusive: bool,
}

impl Criteria {
    /// The same for the statistics.
    pub fn settings(&self, is_closed_loop: bool, seed: u64) -> Settings {
        let mut metrics = self.metrics.clone();
        metrics.sort_unstable();
        metrics.dedup();
        if metrics.is_empty() {
            metrics.extend(Metric::ALL);
        }
        Settings {
            metrics,
            min_effect: self.min_effect,
            margin: self.margin,
            level: LEVEL,
            is_closed_loop,
            seed,
        }
    }
}
