//! A run prepared for the page: its name, its histograms, its seconds.

use std::collections::BTreeSet;
use std::path::Path;

use crate::outcome::{Histogram, Interval, Latencies, histogram};
use crate::result::{DecodeError, ResultFile, decode};
use crate::terminal::sanitized;

use super::input::{Input, shown};

/// The most points of a line over time. Longer runs are shown in longer steps.
const STEPS_MAX: usize = 240;

/// A run, prepared.
#[derive(Debug)]
pub(super) struct ReportedRun {
    /// A name that is unique on the page.
    pub(super) name: String,
    /// Its file, as it was given.
    pub(super) path: String,
    pub(super) file: ResultFile,
    pub(super) latencies: Latencies,
    /// The measurement, a second or more at a time.
    pub(super) steps: Vec<TimeStep>,
}

/// A part of a run's time.
#[derive(Debug, Clone)]
pub(super) struct TimeStep {
    /// From the start of the measurement.
    pub(super) start_s: f64,
    pub(super) length_s: f64,
    /// Replies per second in it.
    pub(super) rate_per_s: f64,
    /// Response times of the replies that came in it, if any did.
    pub(super) response_ns: Option<LatencySummary>,
    /// Whether it is after the measurement.
    pub(super) is_drain: bool,
}

/// The statistics that charts show.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatencySummary {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl ReportedRun {
    /// Prepares runs that were read.
    ///
    /// # Errors
    /// Never for those: their histograms were checked.
    pub(super) fn all(inputs: Vec<Input<ResultFile>>) -> Result<Vec<Self>, DecodeError> {
        let names = names(&inputs);
        let runs = inputs.into_iter().zip(names);
        runs.map(|(input, name)| {
            Ok(Self {
                name,
                path: input.name(),
                latencies: input.document.latencies()?,
                steps: steps(&input.document)?,
                file: input.document,
            })
        })
        .collect()
    }

    /// The length of the measurement.
    pub(super) fn elapsed_s(&self) -> f64 {
        self.file.elapsed_ns as f64 / 1e9
    }
}

impl TimeStep {
    pub(super) fn middle_s(&self) -> f64 {
        self.start_s + self.length_s / 2.0
    }
}

/// The labels if they are unique, else the names of the files, else their paths.
fn names(inputs: &[Input<ResultFile>]) -> Vec<String> {
    let labels: Vec<_> = inputs
        .iter()
        .map(|it| sanitized(&it.document.label))
        .collect();
    let stems = inputs.iter().map(|it| {
        let stem = it.path.file_stem().unwrap_or(it.path.as_os_str());
        shown(Path::new(stem))
    });
    let stems: Vec<_> = stems.collect();
    let paths: Vec<_> = inputs.iter().map(Input::name).collect();
    let differ = |names: &Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    [labels, stems].into_iter().find(differ).unwrap_or(paths)
}

fn steps(file: &ResultFile) -> Result<Vec<TimeStep>, DecodeError> {
    let is_drain = |interval: &Interval| interval.start.as_nanos() >= u128::from(file.elapsed_ns);
    let measured = file.intervals.iter().filter(|it| !is_drain(it)).count();
    let (measured, drain) = file.intervals.split_at(measured);
    let together = measured.len().div_ceil(STEPS_MAX).max(1);
    let mut steps = Vec::new();
    for part in measured.chunks(together) {
        steps.push(TimeStep::of(part, false)?);
    }
    if !drain.is_empty() {
        steps.push(TimeStep::of(drain, true)?);
    }
    Ok(steps)
}

impl TimeStep {
    fn of(intervals: &[Interval], is_drain: bool) -> Result<Self, DecodeError> {
        let mut response_ns = histogram();
        for interval in intervals {
            let part = decode(&interval.latencies.response_ns)?;
            response_ns.add(&part).expect("the same bounds");
        }
        let length_s: f64 = intervals.iter().map(|it| it.length.as_secs_f64()).sum();
        let echoed: u64 = intervals.iter().map(|it| it.echoed).sum();
        Ok(Self {
            start_s: intervals.first().map_or(0.0, |it| it.start.as_secs_f64()),
            length_s,
            rate_per_s: if length_s > 0.0 {
                echoed as f64 / length_s
            } else {
                0.0
            },
            response_ns: LatencySummary::of(&response_ns),
            is_drain,
        })
    }
}

impl LatencySummary {
    fn of(times_ns: &Histogram) -> Option<Self> {
        let at = |quantile| times_ns.value_at_quantile(quantile) as f64;
        (!times_ns.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            max: times_ns.max() as f64,
        })
    }
}
