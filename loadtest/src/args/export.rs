//! The arguments of `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  loadtest export run.json --hgrm > run.hgrm           for HdrHistogram's plotter
  loadtest export run.json --hlog > run.hlog           for HistogramLogAnalyzer and hdr-plot
  loadtest export run.json --csv > seconds.csv         second by second, for spreadsheets
  loadtest export run.json --openmetrics > run.prom    for Prometheus' textfile collector
  loadtest export runs/*.json --benchmark smaller > latency.json    for CI dashboards";

/// The arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// Result files of `run -o`; several only with --benchmark, which exports their medians
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub from: Vec<PathBuf>,

    /// The format.
    #[command(flatten)]
    pub format: ExportFormat,

    /// The time to export with --hgrm and --hlog
    #[arg(long, value_name = "TIME", default_value = "response")]
    pub time: ExportTime,

    /// Write to this file instead of stdout
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// One of the formats.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag, and only one of them is given"
)]
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct ExportFormat {
    /// A percentile distribution in milliseconds, as HdrHistogram and wrk2 print it
    #[arg(long)]
    pub hgrm: bool,

    /// An interval log, version 1.2: a histogram of nanoseconds for each second
    #[arg(long)]
    pub hlog: bool,

    /// A line for each second and one for the drain, times in nanoseconds
    #[arg(long)]
    pub csv: bool,

    /// `OpenMetrics` text: histograms and gauges, in seconds and bytes
    #[arg(long)]
    pub openmetrics: bool,

    /// The JSON of github-action-benchmark: `smaller` for what should be small
    /// (times, CPU, memory), `bigger` for messages/s
    #[arg(long, value_name = "BETTER")]
    pub benchmark: Option<Better>,
}

/// Whether smaller or bigger values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Better {
    /// For the tool `customSmallerIsBetter`.
    Smaller,
    /// For the tool `customBiggerIsBetter`.
    Bigger,
}

/// The times of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportTime {
    /// From the intended send to the reply.
    Response,
    /// From the actual send to the reply.
    Service,
    /// From the intended to the actual send.
    Lag,
}
