//! The flags of a sweep.

use std::path::PathBuf;

use clap::Args;

use super::{
    Annotate, Connect, Defaults, ReportFlags, ServerFlags, Targets, Workload, plan_for, values,
};
use crate::plan::Plan;
use crate::slo::Slo;
use crate::sweep::{Bounds, Rates, points};
use crate::units::parse_rate;

const EXAMPLES: &str = "\
Examples:
  How does latency grow with the load? Eight rates, three runs of 5 s each:
    loadtest sweep ws://127.0.0.1:9001/ --rates 10k:400k:log -o sweep.json

  The same of a server that is started anew for each run:
    loadtest sweep ws://127.0.0.1:9001/ --rates 10k,50k,100k --pin 1 \\
        --server-cmd 'target/release/ringback --threads 1' --server-pin 0

  How many messages/s can it take, if 99 of 100 are to be back within 1 ms?
    loadtest sweep ws://127.0.0.1:9001/ --find-max 'p99<1ms'
    loadtest sweep ws://127.0.0.1:9001/ --find-max 'p99<1ms' --rates 50k:400k:log";

/// The range of a search's tolerance: runs differ by more than its minimum.
const TOLERANCE: std::ops::RangeInclusive<f64> = 0.005..=1.0;

/// The number of rates in a range without one.
const POINTS: usize = 8;

/// The lowest rate of a search without bounds.
const SEARCH_FROM: f64 = 1_000.0;

/// The arguments of `sweep`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Sweep {
    /// The servers.
    #[command(flatten)]
    pub targets: Targets,

    /// The rates: 10k:400k:log or 10k:100k:lin, with :N for N of them, or 10k,20k,50k. For
    /// --find-max: the bounds of the search
    #[arg(
        long,
        value_name = "RATES",
        required_unless_present = "find_max",
        help_heading = "Sweep"
    )]
    pub rates: Option<Rates>,

    /// Number of rates [default: 8]
    #[arg(long, value_name = "N", value_parser = points, help_heading = "Sweep")]
    pub points: Option<usize>,

    /// Runs of each rate [default: 3]
    #[arg(long, value_name = "N", value_parser = values::runs, conflicts_with = "find_max", help_heading = "Sweep")]
    pub repeats: Option<u32>,

    /// Search the highest rate that is reached and meets these objectives, written as for --slo
    /// of `run`
    #[arg(
        long,
        value_name = "OBJECTIVES",
        conflicts_with = "points",
        help_heading = "Search"
    )]
    pub find_max: Option<Slo>,

    /// The most runs until the rate that was found is confirmed [default: 16]
    #[arg(long, value_name = "N", value_parser = values::runs, requires = "find_max", help_heading = "Search")]
    pub steps: Option<u32>,

    /// Largest distance between the rate that holds and one that fails [default: 2%]
    #[arg(long, value_name = "PERCENT", value_parser = tolerance, requires = "find_max", help_heading = "Search")]
    pub tolerance: Option<f64>,

    /// Runs in all of which the rate that was found has to hold [default: 3]
    #[arg(long, value_name = "N", value_parser = values::runs, requires = "find_max", help_heading = "Search")]
    pub confirm: Option<u32>,

    /// The load, but for its rate.
    #[command(flatten)]
    pub workload: Workload,

    /// The flags of the handshake.
    #[command(flatten)]
    pub connect: Connect,

    /// The server's process.
    #[command(flatten)]
    pub server: ServerFlags,

    /// The output format.
    #[command(flatten)]
    pub report: ReportFlags,

    /// Write every run to this file
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FILE",
        help_heading = "Output"
    )]
    pub file: Option<PathBuf>,

    /// Labels and a note for the results.
    #[command(flatten)]
    pub annotate: Annotate,
}

impl Sweep {
    /// The rates, ascending; empty for a search.
    ///
    /// # Errors
    /// A sentence for the user when it is not clear how many they are.
    pub fn rates(&self) -> Result<Vec<f64>, String> {
        match (&self.rates, &self.find_max) {
            (Some(rates), None) => rates.all(self.points, POINTS),
            _ => Ok(Vec::new()),
        }
    }

    /// Runs of each rate.
    pub fn repeats(&self) -> u32 {
        self.repeats.unwrap_or(3)
    }

    /// The bounds and limits of a search.
    pub fn bounds(&self) -> Bounds {
        let ends = self.rates.as_ref().map(Rates::ends);
        Bounds {
            lowest_per_s: ends.map_or(SEARCH_FROM, |ends| ends.0),
            highest_per_s: ends.map(|ends| ends.1),
            tolerance: self.tolerance.unwrap_or(0.02),
            steps: self.steps.unwrap_or(16),
            confirm: self.confirm.unwrap_or(3),
        }
    }

    /// The plan of a run at this rate.
    ///
    /// # Errors
    /// A sentence for the user when the arguments do not fit together.
    pub fn plan(&self, rate: f64) -> Result<Plan, String> {
        let given = &self.workload;
        if given.rate.is_some() || given.rate_per_connection.is_some() || given.window.is_some() {
            return Err(
                "--rate, --rate-per-conn and -w are for one run: a sweep has --rates".to_owned(),
            );
        }
        let workload = Workload {
            rate: Some(rate),
            ..given.clone()
        };
        plan_for(
            &workload,
            &self.connect,
            &self.targets.urls,
            Defaults::SWEEP,
        )
    }
}

/// Reads a share in percent.
fn tolerance(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').map(str::trim_end).map(parse_rate);
    match percent {
        Some(Ok(percent)) if TOLERANCE.contains(&(percent / 100.0)) => Ok(percent / 100.0),
        _ => Err("write a share from 0.5% to 100%, as 2%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::plan::Extent;
    use clap::Parser;
    use std::time::Duration;

    const URL: &str = "ws://h:1/";

    fn sweep(arguments: &[&str]) -> Result<Sweep, String> {
        let all = [&["loadtest", "sweep", URL], arguments].concat();
        match Cli::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .command
        {
            Some(Command::Sweep(sweep)) => Ok(*sweep),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn runs_are_open_loops_of_five_seconds() {
        let sweep = sweep(&["--rates=10k,20k", "-c7"]).unwrap();
        assert_eq!(sweep.rates().unwrap(), [10e3, 20e3]);
        assert_eq!(sweep.repeats(), 3);
        let plan = sweep.plan(20e3).unwrap();
        assert_eq!((plan.rate(), plan.connections), (Some(20e3), 7));
        assert_eq!(plan.extent, Extent::Duration(Duration::from_secs(5)));
    }

    #[test]
    fn a_search_has_bounds() {
        let usual = sweep(&["--find-max=p99<1ms"]).unwrap().bounds();
        assert_eq!((usual.lowest_per_s, usual.highest_per_s), (1e3, None));
        assert_eq!((usual.steps, usual.confirm), (16, 3));
        let arguments = [
            "--find-max=p99<1ms",
            "--rates=2k:9k:log",
            "--steps=5",
            "--tolerance=10%",
            "--confirm=1",
        ];
        let given = sweep(&arguments).unwrap().bounds();
        assert_eq!((given.lowest_per_s, given.highest_per_s), (2e3, Some(9e3)));
        assert_eq!((given.steps, given.confirm), (5, 1));
        assert!((given.tolerance - 0.1).abs() < 1e-9);
    }

    #[test]
    fn conflicting_flags_are_rejected() {
        for arguments in [
            &[][..],
            &["--rates=x"],
            &["--rates=1k", "--steps=3"],
            &["--rates=1k", "--confirm=3"],
            &["--rates=1k", "--repeats=0"],
            &["--rates=1k:2k:log", "--points=1"],
            &["--find-max=p99"],
            &["--find-max=p99<1s", "--points=3"],
            &["--find-max=p99<1s", "--repeats=3"],
            &["--find-max=p99<1s", "--tolerance=2"],
            &["--find-max=p99<1s", "--tolerance=0.1%"],
            &["--find-max=p99<1s", "--tolerance=101%"],
        ] {
            assert!(sweep(arguments).is_err(), "{arguments:?}");
        }
        for flag in ["--rate=1k", "--rate-per-conn=1", "-w2"] {
            let sweep = sweep(&["--rates=1k", flag]).unwrap();
            assert!(sweep.plan(1e3).unwrap_err().contains("--rates"), "{flag}");
        }
    }
}
