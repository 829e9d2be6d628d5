//! A sweep for spreadsheets: a header, and a line for each run. Plain numbers,
//! as [`report`](crate::report) has them; what is not known is empty.

use super::super::file::{SweepFile, holds};
use crate::percentile::Percentile;
use crate::result::ResultFile;

/// The columns of a run after its rate and number.
const COLUMNS: [&str; 12] = [
    "target_rate_per_s",
    "run",
    "started_at",
    "verdict",
    "holds",
    "rate_per_s",
    "due",
    "answered",
    "timed_out",
    "response_max_ns",
    "server_cpu_ns_per_message",
    "generator_busy_max",
];

pub(super) fn csv(file: &SweepFile) -> String {
    let percentiles = Percentile::REPORTED.map(column);
    let mut text = format!("{},{}\n", COLUMNS.join(","), percentiles.join(","));
    for point in &file.points {
        for (index, run) in point.runs.iter().enumerate() {
            text += &line(file, point.rate_per_s, index, run);
        }
    }
    text
}

fn column(percentile: Percentile) -> String {
    format!("response_{}_ns", percentile.to_string().replace('.', "_"))
}

/// No field has a character that would have to be quoted.
fn line(file: &SweepFile, rate_per_s: f64, index: usize, run: &ResultFile) -> String {
    let spread = &run.summary.response_ns;
    let server = run.summary.server.as_ref();
    let mut fields = vec![
        rate_per_s.to_string(),
        (index + 1).to_string(),
        run.started_at.clone(),
        run.judgement.verdict.to_string(),
        or_empty(file.search.as_ref().and_then(|_| holds(run))),
        run.summary.rate_per_s.to_string(),
        run.counts.due.to_string(),
        run.counts.answered.to_string(),
        run.counts.timed_out.to_string(),
        or_empty(spread.max),
        or_empty(server.and_then(|server| server.cpu_ns_per_message)),
        run.generator.busy_max.to_string(),
    ];
    fields.extend(Percentile::REPORTED.map(|percentile| {
        let ns = spread.percentiles.get(&percentile.to_string());
        or_empty(ns.copied().flatten())
    }));
    fields.join(",") + "\n"
}

fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
