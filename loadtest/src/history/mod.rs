//! A metric over commits: the runs of each, the fences of those before, and the changes.

mod change;
mod csv;
mod point;
mod text;

use std::io;
use std::path::Path;

use crate::args::{History, HistoryFormat};
use crate::compare::is_one_workload;
use crate::failure::Failure;
use crate::result::{
    Document, KnownRuns, Problem, ResultFile, format_of, json_files, read_bounded,
};
use crate::session::{EXIT_OBJECTIVE, EXIT_OK, log, print};

use change::{MarkedPoint, mark};
use point::{Point, points};

/// The most files of a directory that are read.
const FILES_MAX: usize = 10_000;

/// The history of one server under one workload.
struct WorkloadHistory {
    workload: String,
    steps: Vec<MarkedPoint>,
}

/// Shows the history of a metric.
///
/// # Errors
/// A directory or result that cannot be read, and one without results.
pub fn history(args: &History) -> Result<u8, Failure> {
    let mut histories = Vec::new();
    for runs in by_workload(read(&args.directory)?) {
        let points: Vec<Point> = points(&runs, args.metric, args.by);
        if points.is_empty() {
            let why = "no run of it has this metric";
            log(&format!("{}: {why}", runs[0].plan));
            continue;
        }
        histories.push(WorkloadHistory {
            workload: format!("{}, {}", runs[0].label, runs[0].plan),
            steps: mark(&points, args.metric, args.min_effect),
        });
    }
    if histories.is_empty() {
        let why = format!(
            "{}: no result has {}",
            args.directory.display(),
            args.metric
        );
        return Err(Failure::File(why));
    }
    print(&match args.format {
        HistoryFormat::Text => text::text(&histories, args.metric),
        HistoryFormat::Csv => csv::csv(&histories, args.metric),
    })?;
    let newest_is_worse = histories
        .iter()
        .any(|history| history.steps.last().is_some_and(MarkedPoint::is_worse));
    Ok(if args.fail_on_regression && newest_is_worse {
        EXIT_OBJECTIVE
    } else {
        EXIT_OK
    })
}

/// The complete runs of a directory, the oldest first. Documents of other kinds are skipped.
fn read(directory: &Path) -> Result<Vec<ResultFile>, Failure> {
    let (mut runs, mut known) = (Vec::new(), KnownRuns::default());
    let paths = json_files(directory)?;
    if paths.len() > FILES_MAX {
        return Err(Problem::Io(io::Error::other("it has too many files"))
            .of(directory)
            .into());
    }
    for path in paths {
        let bytes = read_bounded(&path).map_err(|problem| problem.of(&path))?;
        let is_other =
            format_of(&bytes).is_ok_and(|format| format.is_some_and(|it| it != ResultFile::FORMAT));
        if is_other {
            continue;
        }
        let run = ResultFile::from_json(&bytes).map_err(|problem| problem.of(&path))?;
        // A copy, such as a link to the latest, would count twice.
        let why = match run.judgement.worst() {
            Some(reason) if run.is_invalid() => Some(format!("it is INVALID: {}", reason.what)),
            _ => known
                .add(&run, &path)
                .map(|first| format!("it is the same run as {}", first.display())),
        };
        match why {
            None => runs.push(run),
            Some(why) => log(&format!("{} is left out: {why}", path.display())),
        }
    }
    if runs.is_empty() {
        let why = format!("{}: there is no valid result in it", directory.display());
        return Err(Failure::File(why));
    }
    // RFC 3339 in UTC sorts by time.
    runs.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    Ok(runs)
}

/// The runs, workload by workload and server by server, in the order in which each
/// was first run.
fn by_workload(runs: Vec<ResultFile>) -> Vec<Vec<ResultFile>> {
    let mut workloads: Vec<Vec<ResultFile>> = Vec::new();
    for run in runs {
        let same = workloads
            .iter_mut()
            .find(|runs| runs[0].label == run.label && is_one_workload(&runs[0].plan, &run.plan));
        match same {
            Some(runs) => runs.push(run),
            None => workloads.push(vec![run]),
        }
    }
    workloads
}
