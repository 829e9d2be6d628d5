//! Result files in the formats of other tools, one file for each.

mod benchmark;
mod hgrm;
mod hlog;
mod openmetrics;
mod seconds;

use crate::args::{Export, ExportTime};
use crate::failure::Failure;
use crate::outcome::{Histogram, Latencies};
use crate::output::{print, write_file};
use crate::result::{Document, KnownRuns, ResultFile};
use crate::session::EXIT_OK;

/// Writes results in another format.
///
/// # Errors
/// A file that cannot be read or written, and several where one is wanted.
pub fn export(args: &Export) -> Result<u8, Failure> {
    let mut runs = Vec::with_capacity(args.from.len());
    let mut known = KnownRuns::default();
    for path in &args.from {
        let run = ResultFile::read(path)?;
        if args.format.benchmark.is_some() {
            known.add_new(&run, path)?;
            run.ensure_not_failed(path)?;
        }
        runs.push(run);
    }
    let format = &args.format;
    let text = match (format.benchmark, runs.as_slice()) {
        (Some(better), runs) => benchmark::json(runs, better)?,
        (None, [run]) if format.hgrm => hgrm::text(&times(run, args.time)?),
        (None, [run]) if format.hlog => hlog::text(run, args.time)?,
        (None, [run]) if format.csv => seconds::csv(run)?,
        (None, [run]) => openmetrics::text(run)?,
        (None, _) => {
            let why = "this format holds one result; see loadtest merge to add several up";
            return Err(why.to_owned().into());
        }
    };
    match &args.file {
        None => print(&text)?,
        Some(path) => write_file(path, text.as_bytes())?,
    }
    Ok(EXIT_OK)
}

fn times(run: &ResultFile, time: ExportTime) -> Result<Histogram, Failure> {
    Ok(chosen(latencies(run)?, time))
}

/// A file that was read has histograms that can be.
fn latencies(run: &ResultFile) -> Result<Latencies, Failure> {
    run.latencies()
        .map_err(|error| Failure::File(error.to_string()))
}

fn chosen(latencies: Latencies, time: ExportTime) -> Histogram {
    match time {
        ExportTime::Response => latencies.response_ns,
        ExportTime::Service => latencies.service_ns,
        ExportTime::Lag => latencies.lag_ns,
    }
}
