//! The arguments of `compare`.

use std::path::PathBuf;

use clap::Args;

use super::ReportFlags;
use super::criteria::Criteria;

const EXAMPLES: &str = "\
Examples:
  for i in 1 2 3 4 5 6; do loadtest rerun base.json -o old-$i.json ...; done
  loadtest compare 'old=old-*.json' 'new=new-*.json'
  loadtest compare 'old=old-*.json' 'new=new-*.json' --fail-on-regression    # for CI
  loadtest compare 'A=runs/a*.json' 'B=runs/b*.json' 'C=runs/c*.json' --format markdown

Exit codes: 0 fine; 2 wrong arguments, a file that is no result, workloads that
differ, fewer than 4 runs; 3 something is worse (--fail-on-regression); 4 a run is
INVALID; 5 inconclusive (--fail-on-inconclusive).";

/// The arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// A name and its result files, NAME=FILES, with the wildcards * and ? of a shell; the first
    /// name is the baseline. Files without a name belong to the name before them
    #[arg(value_name = "NAME=FILES", required = true, num_args = 1..)]
    pub groups: Vec<String>,

    /// The criteria of a difference.
    #[command(flatten)]
    pub criteria: Criteria,

    /// The output format.
    #[command(flatten)]
    pub report: ReportFlags,

    /// Write the comparison to this file
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FILE",
        help_heading = "Output"
    )]
    pub file: Option<PathBuf>,
}
