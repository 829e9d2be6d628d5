//! The command line: raw arguments, then a plan.

mod ab;
mod annotate;
mod compare;
mod criteria;
mod export;
mod history;
mod report;
mod start_at;
mod sweep;
mod values;
mod workload;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::plan::{Plan, Protocol};
use crate::report::OutputFormat;
use crate::slo::Slo;
use crate::source::SourceRange;
use crate::target::{Scheme, Target};

pub use ab::{Ab, LoadPlan, NamedCommand, PORT, SERVERS_MAX, ServerSpec};
pub use annotate::Annotate;
pub use compare::Compare;
pub use criteria::Criteria;
pub use export::{Better, Export, ExportFormat, ExportTime};
pub use history::{GroupBy, History, HistoryFormat};
pub use report::ReportArgs;
pub use start_at::{Start, StartAt, announcement};
pub use sweep::Sweep;
pub use values::{CoreList, Sizes};
pub use workload::{Defaults, Workload};

/// Values that may be any text: one that begins with a hyphen is more likely an option.
const FREE_TEXTS: [&str; 7] = ["CMD", "DIR", "FIELD", "FILE", "NAME", "PATH", "TEXT"];

const DEMO_EXAMPLES: &str = "\
Examples:
  loadtest                                  the demo: every engine of ringback
  loadtest -c 50 -w 256                     the same, 50 × 256 messages in flight
  loadtest run ws://127.0.0.1:9001/         a running server, as fast as it answers
  loadtest run ws://HOST/ --rate 50k        its latency at 50,000 messages/s
  loadtest sweep ws://HOST/ --rates 10k:400k:log
                                            its latency against the load
  loadtest ab --a CMD --b CMD               which of two servers is better
  loadtest floor                            the cost of a raw TCP echo here
  loadtest selftest                         proof that the percentiles are right
  loadtest doctor                           a check of this machine

Results are on stdout, everything else is on stderr.

Exit codes: 0 fine; 1 failed: a wrong, missing or swapped reply, a connection
refused or lost; 2 wrong arguments, or a result that cannot be
written; 3 an objective (--slo) missed, or
a comparison found something worse; 4 the result is INVALID; 5 a comparison
came to no conclusion; 130 interrupted, with a partial report.";

const RUN_EXAMPLES: &str = "\
Examples:
  How fast can it be? As many messages as the server answers, 16 in flight on
  each of 100 connections:
    loadtest run ws://127.0.0.1:9001/ -c 100 -w 16

  How long do clients wait at 50,000 messages/s? An open loop: a slow reply does
  not slow the load down, and its wait counts from when it was due:
    loadtest run ws://127.0.0.1:9001/ --rate 50k -d 30s

  What does it cost? CPU time per message, of a server started for the run:
    loadtest run ws://127.0.0.1:9001/ --rate 50k --pin 1 \\
        --server-cmd 'target/release/ringback --threads 1' --server-pin 0

  Is it good enough? An exit code for CI:
    loadtest run ws://127.0.0.1:9001/ --rate 10k --slo 'p99<2ms,errors<0.01%'

  Keep it, and repeat it:
    loadtest run ws://127.0.0.1:9001/ --rate 10k -o run.json
    loadtest rerun run.json

  Like the internet: odd sizes, reconnects, slow readers, idle connections:
    loadtest run ws://127.0.0.1:9001/ --rate 10k --arrival poisson \\
        --size 64:9,4k:1 --churn 50 --slow-readers 5 --idle 1k

  100,000 connections from one machine:
    loadtest run ws://127.0.0.1:9001/ -c 100k --source 127.0.0.1-127.0.0.10";

const MERGE_EXAMPLES: &str = "\
Example:
  on each of two machines:
    loadtest run ws://HOST:9001/ -c 5k --rate 50k -d 60s -o result-N.json \\
        --start-at 2026-11-28T23:10:00Z
  and then:
    loadtest merge result-0.json result-1.json -o merged.json";

const FLOOR_EXAMPLES: &str = "\
Examples:
  loadtest floor                            the floor of the demo's workload
  loadtest floor -c 50 -w 256               the floor of another one
  loadtest floor ws://127.0.0.1:9001/ --server-pid $(pidof ringback)
                                            the floor, a server, and their ratio";

/// Loads WebSocket echo servers and checks every byte they echo.
///
/// Without a command it starts an embedded ringback server for each engine that
/// works on this machine, drives one after the other, and compares them.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version = env!("BUILD_VERSION"),
    after_help = DEMO_EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// The command; none is the demo.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The demo's load.
    #[command(flatten)]
    pub workload: Workload,

    /// The output format.
    #[command(flatten)]
    pub report: ReportFlags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drive servers that are running, or one started for the run
    ///
    /// Every reply is checked, and the report ends with a verdict on its numbers.
    Run(Box<Run>),
    /// Drive a raw TCP echo: the least that any echo server costs here
    ///
    /// The echo is built in and gets the same load. With URLs, they are driven
    /// as well, and compared.
    Floor(Box<Floor>),
    /// Prove the percentiles against a server that injects known delays
    ///
    /// It also stalls and misbehaves: all that was injected has to be in the report.
    Selftest(Selftest),
    /// Check this machine for what disturbs a measurement, with advice
    Doctor(Doctor),
    /// Repeat the run of a result file
    Rerun(Rerun),
    /// Drive servers at many rates: latency against load, or the highest rate that
    /// holds
    Sweep(Box<Sweep>),
    /// Add up the results of generators that shared a load
    Merge(Merge),
    /// Test whether groups of result files differ, and by how much
    Compare(Compare),
    /// Write a result file in the formats of other tools
    Export(Export),
    /// Show how a metric went from commit to commit, and where it changed
    History(History),
    /// Compare server commands by interleaved pairs of runs
    ///
    /// Each run has its server started afresh. Every metric gets a ratio with its
    /// confidence interval, and a verdict.
    Ab(Box<Ab>),
    /// Print the JSON schema of result files, or of comparisons
    Schema {
        /// Of which files
        #[arg(default_value = "result")]
        of: DocumentKind,
    },
    /// Write one HTML page about runs, comparisons and sweeps
    ///
    /// It is one file that needs no network: tables, plots, verdicts, the machine
    /// and the commands.
    Report(ReportArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DocumentKind {
    /// Written by `run -o`.
    Result,
    /// Written by `compare -o`, and by `ab -o` as comparison.json.
    Comparison,
    /// Written by `sweep -o`.
    Sweep,
}

/// The arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct Run {
    /// The servers.
    #[command(flatten)]
    pub targets: Targets,

    /// The load.
    #[command(flatten)]
    pub workload: Workload,

    /// When it begins.
    #[command(flatten)]
    pub start: Start,

    /// The flags of the handshake.
    #[command(flatten)]
    pub connect: Connect,

    /// The server's process.
    #[command(flatten)]
    pub server: ServerFlags,

    /// The output.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The arguments of `floor`.
#[derive(Debug, Args)]
#[command(after_help = FLOOR_EXAMPLES)]
pub struct Floor {
    /// Servers to compare with the floor
    #[arg(value_name = "URL")]
    pub targets: Vec<Target>,

    /// The load.
    #[command(flatten)]
    pub workload: Workload,

    /// The flags of the handshake, for the URLs.
    #[command(flatten)]
    pub connect: Connect,

    /// The process of the server at the URL, and the core of the raw echo.
    #[command(flatten)]
    pub server: ServerFlags,

    /// The output format.
    #[command(flatten)]
    pub report: ReportFlags,
}

/// The flags of connections and their handshake.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connecting")]
pub struct Connect {
    /// The path to ask for, instead of the URL's
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,

    /// A header field for the handshake, 'Name: value'; repeatable
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = values::header)]
    pub headers: Vec<(String, String)>,

    /// A subprotocol to offer, of which the server has to choose one; repeatable
    #[arg(long = "subprotocol", value_name = "NAME")]
    pub subprotocols: Vec<String>,

    /// Messages that the server sends first on each connection, its greeting: they
    /// are awaited and skipped before the load
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::skip)]
    pub skip: u32,

    /// Accept any certificate of a wss:// server
    #[arg(short = 'k', long)]
    pub insecure: bool,

    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long = "ca", value_name = "FILE", conflicts_with = "insecure")]
    pub ca_file: Option<PathBuf>,

    /// Connect from these addresses in turn: 127.0.0.1-127.0.0.20, 127.1.0.0/24
    #[arg(long = "source", value_name = "RANGE")]
    pub sources: Option<SourceRange>,
}

/// The server's process.
#[derive(Debug, Args)]
#[command(next_help_heading = "Watching the server")]
pub struct ServerFlags {
    /// Measure the cost of this process and its descendants
    #[arg(
        id = "server-pid",
        long,
        value_name = "PID",
        value_parser = values::pid,
        conflicts_with = "server-cmd"
    )]
    pub pid: Option<u32>,

    /// Start the server with this command, run without a shell, measure it, and stop it
    #[arg(id = "server-cmd", long, value_name = "CMD")]
    pub command: Option<String>,

    /// Cores for the server that is started: 0 or 0,2-3 [default: any]
    #[arg(
        id = "server-pin",
        long,
        value_name = "CORES",
        default_value = "",
        hide_default_value = true
    )]
    pub pin: CoreList,

    /// Longest time until the server completes a handshake
    #[arg(id = "server-wait", long, value_name = "TIME", default_value = "10s", value_parser = values::positive)]
    pub wait: std::time::Duration,
}

/// The servers.
#[derive(Debug, Args)]
pub struct Targets {
    /// The servers, ws:// or wss://HOST:PORT/PATH; connections go to them in turn.
    /// tcp://HOST:PORT is a raw TCP echo
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<Target>,
}

/// The output format.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReportFlags {
    /// Output format
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub format: OutputFormat,
}

/// The output of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// The output format.
    #[command(flatten)]
    pub report: ReportFlags,

    /// Write everything to this file: plan, histograms, environment
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Objectives: 'p99<2ms,errors<0.01%,rate>50k', also of service.p99, lag.p99,
    /// handshake.p99, cpu (server's, per message), rss (per connection); exit code 3
    /// when missed
    #[arg(long, value_name = "OBJECTIVES")]
    pub slo: Option<Slo>,

    /// Labels and a note for the result.
    #[command(flatten)]
    pub annotate: Annotate,
}

/// The arguments of `selftest`.
#[derive(Debug, Args)]
pub struct Selftest {
    /// Less than 20 seconds, with wider tolerances
    #[arg(long)]
    pub quick: bool,
}

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Output format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: DoctorFormat,
}

/// The output format of the doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DoctorFormat {
    /// Text for a terminal.
    Text,
    /// For programs.
    Json,
}

/// The arguments of `rerun`.
#[derive(Debug, Args)]
pub struct Rerun {
    /// A result file of `run -o`
    #[arg(value_name = "FILE")]
    pub from: PathBuf,

    /// Drive this server instead; repeatable
    #[arg(long = "target", value_name = "URL")]
    pub targets: Vec<Target>,

    /// When it begins.
    #[command(flatten)]
    pub start: Start,

    /// The server's process.
    #[command(flatten)]
    pub server: ServerFlags,

    /// The output.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = MERGE_EXAMPLES)]
pub struct Merge {
    /// The result file of each `run -o`
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub from: Vec<PathBuf>,

    /// The output.
    #[command(flatten)]
    pub output: OutputFlags,
}

impl ServerFlags {
    /// Whether they fit together.
    ///
    /// # Errors
    /// A sentence for the user when they do not.
    pub fn validate(&self) -> Result<(), String> {
        if self.command.is_none() && !self.pin.0.is_empty() {
            return Err("--server-pin is for a server that --server-cmd starts".to_owned());
        }
        Ok(())
    }
}

impl Run {
    /// The plan that the arguments describe.
    ///
    /// # Errors
    /// A sentence for the user when the arguments do not fit together.
    pub fn plan(&self) -> Result<Plan, String> {
        plan_for(
            &self.workload,
            &self.connect,
            &self.targets.urls,
            Defaults::RUN,
        )
    }
}

impl Floor {
    /// The plan for the servers at URLs.
    ///
    /// # Errors
    /// A sentence for the user when the arguments do not fit together.
    pub fn plan(&self, targets: &[Target]) -> Result<Plan, String> {
        plan_for(&self.workload, &self.connect, targets, Defaults::DEMO)
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// clap's, including the help.
    pub fn read(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = with_hyphen_values(Self::command()).try_get_matches_from(arguments)?;
        Self::from_arg_matches(&matches)
    }

    /// Whether it is standard output that the result goes to.
    pub fn prints(&self) -> bool {
        match &self.command {
            Some(Command::Export(export)) => export.file.is_none(),
            Some(Command::Report(_)) => false,
            _ => true,
        }
    }

    /// The demo's plan, for the server at this URL.
    ///
    /// # Errors
    /// A sentence for the user when the arguments do not fit together.
    pub fn demo_plan(&self, target: Target) -> Result<Plan, String> {
        let plan = self.workload.plan(vec![target], Defaults::DEMO)?;
        plan.validate()?;
        Ok(plan)
    }
}

/// Lets options that take other than free text accept values that begin with a hyphen: `-1` is
/// then a wrong value, with the right form in the error, and not an unknown option.
fn with_hyphen_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let names = arg.get_value_names().unwrap_or_default();
            let is_any_text = |name: &clap::builder::Str| FREE_TEXTS.contains(&name.as_str());
            let is_flag = arg.is_positional() || !arg.get_action().takes_values();
            if is_flag {
                return arg;
            }
            if names.iter().any(is_any_text) {
                return arg.allow_negative_numbers(true);
            }
            arg.allow_hyphen_values(true)
        })
        .mut_subcommands(with_hyphen_values)
}

fn plan_for(
    workload: &Workload,
    connect: &Connect,
    targets: &[Target],
    defaults: Defaults,
) -> Result<Plan, String> {
    let mut targets = targets.to_vec();
    if let Some(path) = &connect.path {
        for target in &mut targets {
            *target = target
                .with_path(path)
                .map_err(|why| format!("--path: {why}"))?;
        }
    }
    let mut plan = workload.plan(targets, defaults)?;
    plan.headers.clone_from(&connect.headers);
    plan.subprotocols.clone_from(&connect.subprotocols);
    plan.skip = connect.skip;
    plan.insecure = connect.insecure;
    plan.ca_file.clone_from(&connect.ca_file);
    plan.sources = connect.sources;
    plan.validate()?;
    Ok(plan)
}

/// The protocol of these URLs. A mixture is rejected when the plan is validated.
fn protocol_of(targets: &[Target]) -> Protocol {
    match targets.first().map(Target::scheme) {
        Some(Scheme::Tcp) => Protocol::RawTcp,
        _ => Protocol::WebSocket,
    }
}

/// The error in one line: the text before the usage, such as the missing argument or a similar
/// name.
pub fn reason_of(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let message = text.split("\n\nUsage: ").next().unwrap_or_default();
    let message = message
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let words: Vec<_> = message
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    words.join("; ")
}

#[cfg(test)]
mod tests;
