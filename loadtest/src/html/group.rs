//! Runs that share a line: with too many runs, those with the same label.

use crate::outcome::{Histogram, histogram};
use crate::result::Status;

use super::run::ReportedRun;
use super::svg::STYLES;

/// Runs that are drawn as one line.
#[derive(Debug)]
pub(super) struct RunGroup<'a> {
    pub(super) name: String,
    pub(super) runs: Vec<&'a ReportedRun>,
    /// The response times of all of them.
    pub(super) response_ns: Histogram,
}

/// The lines of a chart, and notes on how they were grouped.
#[derive(Debug)]
pub(super) struct RunGroups<'a> {
    pub(super) all: Vec<RunGroup<'a>>,
    pub(super) notes: Vec<String>,
}

impl<'a> RunGroups<'a> {
    /// A line for each run, or for each label.
    pub(super) fn of(runs: &'a [ReportedRun]) -> Self {
        if runs.len() <= STYLES {
            let groups = runs
                .iter()
                .map(|run| RunGroup::of(run.name.clone(), vec![run]));
            return Self {
                all: groups.collect(),
                notes: Vec::new(),
            };
        }
        let mut labels: Vec<(&str, Vec<&ReportedRun>)> = Vec::new();
        for run in runs {
            let label = run.file.label.as_str();
            match labels.iter_mut().find(|(known, _)| *known == label) {
                Some((_, members)) => members.push(run),
                None => labels.push((label, vec![run])),
            }
        }
        let mut notes = vec![format!(
            "{} runs are too many for a line each: those with one label share one.",
            runs.len()
        )];
        if labels.len() > STYLES {
            notes.push(format!(
                "The first {STYLES} of {} labels are shown.",
                labels.len()
            ));
        }
        let groups = labels.into_iter().take(STYLES).map(|(label, members)| {
            let name = format!(
                "{} ({} runs)",
                crate::terminal::sanitized(label),
                members.len()
            );
            RunGroup::of(name, members)
        });
        Self {
            all: groups.collect(),
            notes,
        }
    }
}

impl<'a> RunGroup<'a> {
    fn of(name: String, runs: Vec<&'a ReportedRun>) -> Self {
        let mut response_ns = histogram();
        for run in &runs {
            response_ns
                .add(&run.latencies.response_ns)
                .expect("the same bounds");
        }
        Self {
            name,
            runs,
            response_ns,
        }
    }

    /// Whether all of its runs did what was asked of them.
    pub(super) fn are_all_valid(&self) -> bool {
        let mut runs = self.runs.iter();
        runs.all(|run| !run.file.is_invalid() && run.file.status != Status::Failed)
    }

    /// Messages without a reply, whose times are lower bounds.
    pub(super) fn censored(&self) -> u64 {
        self.runs.iter().map(|run| run.file.counts.unanswered).sum()
    }
}
