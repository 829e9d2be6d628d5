//! The runs of one commit, or whatever else they have in common.

use std::collections::BTreeSet;

use crate::args::GroupBy;
use crate::metric::Metric;
use crate::report::parts;
use crate::result::ResultFile;
use crate::statistics::median;

/// Digits of a commit or checksum that are shown.
const DIGITS: usize = 9;

/// Characters of a time that are its day.
const DAY_LEN: usize = "2026-11-28".len();

/// The runs of one commit, and their numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// The value of the property that its runs share.
    pub(super) name: String,
    /// The day of the first.
    pub(super) day: String,
    /// At least one, in the order of the runs.
    pub(super) values: Vec<f64>,
    /// The labels and notes of its runs, each once.
    pub(super) annotations: BTreeSet<String>,
}

impl Point {
    pub(super) fn median(&self) -> f64 {
        median(&self.values).unwrap_or(f64::NAN)
    }

    pub(super) fn low(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn high(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// The points of runs that are in the order of time. A point is placed at its first run.
pub(super) fn points(runs: &[ResultFile], metric: Metric, by: GroupBy) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for run in runs {
        let Some(value) = metric.of(run) else {
            continue;
        };
        let day: String = run.started_at.chars().take(DAY_LEN).collect();
        let name = name(run, by).unwrap_or_else(|| "unknown".to_owned());
        let annotations = parts::annotations(&run.environment);
        match points.iter_mut().find(|point| point.name == name) {
            Some(point) => {
                point.values.push(value);
                point.annotations.extend(annotations);
            }
            None => points.push(Point {
                name,
                day,
                values: vec![value],
                annotations: annotations.into_iter().collect(),
            }),
        }
    }
    points
}

fn name(run: &ResultFile, by: GroupBy) -> Option<String> {
    match by {
        GroupBy::Commit => {
            let commit = run.environment.commit.as_deref()?;
            let (hash, rest) = commit.split_once('-').unwrap_or((commit, ""));
            let rest = if rest.is_empty() { "" } else { "-dirty" };
            let hash: String = hash.chars().take(DIGITS).collect();
            Some(hash + rest)
        }
        GroupBy::Binary => {
            let sha256 = run.server.as_ref()?.binary_sha256.as_deref()?;
            Some(sha256.chars().take(DIGITS).collect())
        }
        GroupBy::Day => Some(run.started_at.chars().take(DAY_LEN).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn runs_of_one_commit_are_one_point() {
        let run = |commit: &str, ns: f64| {
            let mut run = fixture::result();
            run.environment.commit = Some(commit.to_owned());
            let cost = run.summary.server.as_mut().unwrap();
            cost.cpu_ns_per_message = Some(ns);
            run
        };
        let runs = [
            run("0123456789abcdef", 5.0),
            run("0123456789abcdef-dirty", 6.0),
            run("0123456789abcdef", 7.0),
        ];
        let points = points(&runs, Metric::CpuPerMessage, GroupBy::Commit);
        let found: Vec<_> = points
            .iter()
            .map(|point| (point.name.as_str(), point.values.as_slice()))
            .collect();
        assert_eq!(
            found,
            [("012345678", &[5.0, 7.0][..]), ("012345678-dirty", &[6.0])]
        );
        assert_eq!((points[0].low(), points[0].high()), (5.0, 7.0));
        assert_eq!(points[0].day, "2025-11-24");
    }

    #[test]
    fn annotations_are_listed_once() {
        let mut run = fixture::result();
        run.environment.note = Some("cold".to_owned());
        run.environment.labels = [("build".to_owned(), "12".to_owned())].into();
        let points = points(&[run.clone(), run], Metric::P99, GroupBy::Day);
        let found: Vec<_> = points[0].annotations.iter().collect();
        assert_eq!(found, ["labels: build=12", "note: cold"]);
    }

    #[test]
    fn an_unknown_property_is_a_point_of_its_own() {
        let points = points(&[fixture::result()], Metric::P99, GroupBy::Binary);
        assert_eq!(points[0].name, "unknown");
        let points = super::points(&[fixture::result()], Metric::P99, GroupBy::Day);
        assert_eq!(points[0].name, "2025-11-24");
    }
}
