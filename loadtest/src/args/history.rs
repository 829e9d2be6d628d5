//! The arguments of `history`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::criteria::MIN_EFFECT;
use crate::metric::Metric;
use crate::units::parse_percent;

const EXAMPLES: &str = "\
Examples:
  loadtest history results/                          CPU time per message, commit by commit
  loadtest history results/ --metric p99
  loadtest history results/ --by binary              for servers of other repositories
  loadtest history results/ --fail-on-regression     exit code 3 when the newest is worse";

/// The arguments of `history`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct History {
    /// A directory of result files
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// The metric to show
    #[arg(long, value_name = "METRIC", default_value = "cpu-per-message")]
    pub metric: Metric,

    /// The property that groups runs into points: the commit of loadtest, the server's binary, or
    /// the day
    #[arg(long, value_name = "KEY", default_value = "commit")]
    pub by: GroupBy,

    /// The smallest relevant change
    #[arg(long, value_name = "SHARE", default_value = MIN_EFFECT, value_parser = parse_percent)]
    pub min_effect: f64,

    /// Output format: text or csv
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: HistoryFormat,

    /// Exit with 3 when the newest is a change for the worse
    #[arg(long)]
    pub fail_on_regression: bool,
}

/// The property that runs of one point share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// The commit that the generator was built from.
    Commit,
    /// The server's binary.
    Binary,
    /// The day, in UTC.
    Day,
}

/// The output format of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryFormat {
    /// Text for a terminal, with a plot.
    Text,
    /// A header and a line for each point.
    Csv,
}
