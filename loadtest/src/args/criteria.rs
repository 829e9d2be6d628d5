//! What counts as a difference between servers, and what to make of one.

use clap::Args;

use crate::comparison::{LEVEL, Settings};
use crate::metric::Metric;
use crate::units::parse_percent;

/// The least difference that is of interest, unless it is said otherwise.
pub(super) const MIN_EFFECT: &str = "2%";

/// What counts as a difference, and what to make of one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Judging")]
pub struct Criteria {
    /// The least difference of interest: what is found and smaller is none
    #[arg(long, value_name = "SHARE", default_value = MIN_EFFECT, value_parser = parse_percent)]
    pub min_effect: f64,

    /// Servers are called alike if the whole interval is this close to 1 [default:
    /// 5%; p99, p99.9 and rss-per-connection: 10%]
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
