//! The arguments of `report`.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  A page about one run:
    loadtest run ws://127.0.0.1:9001/ --rate 10k -o run.json
    loadtest report run.json -o report.html

  Two servers, laid over each other:
    loadtest report epoll.json uring.json -o report.html --title 'epoll and io_uring'

  Everything in a directory, comparisons and sweeps included:
    loadtest report results/ -o report.html

Exit codes: 0 fine; 2 wrong arguments, a file that cannot be read or written, or
is not a document of loadtest.";

/// The arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// Result, comparison and sweep files, or directories, of which all *.json are read
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub from: Vec<PathBuf>,

    /// The page
    #[arg(short = 'o', long = "output", value_name = "FILE", required = true)]
    pub output: PathBuf,

    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "Load test report")]
    pub title: String,
}
