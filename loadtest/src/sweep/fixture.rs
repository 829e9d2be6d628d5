//! Runs and sweeps for the tests of what is made of them.

use std::time::UNIX_EPOCH;

use super::bisection::{Answer, Bounds, Purpose};
use super::file::{Probe, Search, SweepFile, SweepFormat, SweepPoint, VERSION, holds};
use crate::fixture;
use crate::machine::Environment;
use crate::outcome::Outcome;
use crate::plan::{Arrival, Load, Plan};
use crate::result::{Record, ResultFile, format_utc};
use crate::slo::Slo;
use crate::verdict::{Facts, judge};

/// A run at a rate, which was reached or not.
pub(super) fn run(rate: f64, is_reached: bool) -> ResultFile {
    changed_run(rate, |outcome| {
        if !is_reached {
            outcome.counts.echoed /= 2;
            outcome.counts.answered /= 2;
        }
    })
}

/// The same after a change to the outcome.
pub(super) fn changed_run(rate: f64, change: impl FnOnce(&mut Outcome)) -> ResultFile {
    let plan = Plan {
        load: Load::Open {
            rate,
            arrival: Arrival::Fixed,
        },
        ..fixture::plan()
    };
    let mut outcome = fixture::outcome();
    change(&mut outcome);
    let objectives: Slo = "p99<1ms".parse().expect("an objective");
    ResultFile::new(&Record {
        label: "ws://127.0.0.1:9001/",
        plan: &plan,
        args: &[],
        outcome: &outcome,
        judgement: &judge(&Facts::of(&plan, &outcome)),
        objectives: &objectives.evaluate(&outcome, plan.sockets()),
        server_command: None,
        server_sha256: None,
        environment: &Environment::default(),
    })
}

/// Two rates that are reached, one that is not, and one that was left out.
pub(super) fn sweep() -> SweepFile {
    let point = |rate_per_s, reached: &[bool], skipped| SweepPoint {
        rate_per_s,
        runs: reached
            .iter()
            .map(|&reached| run(rate_per_s, reached))
            .collect(),
        skipped,
    };
    SweepFile {
        format: SweepFormat::RingbackLoadtestSweep,
        version: VERSION,
        label: "ws://127.0.0.1:9001/".to_owned(),
        args: vec!["sweep".to_owned()],
        started_at: format_utc(UNIX_EPOCH),
        points: vec![
            point(10e3, &[true, true, true], 0),
            point(50e3, &[true, true, true], 0),
            point(200e3, &[false, false], 1),
            point(400e3, &[], 3),
        ],
        search: None,
        environment: Environment::default(),
    }
}

/// A search that found 10,000/s.
pub(super) fn search() -> SweepFile {
    let mut file = sweep();
    let tried = [(0, 0), (2, 0), (0, 1), (0, 2)];
    let probes = tried
        .iter()
        .enumerate()
        .map(|(index, &(point, run))| Probe {
            rate_per_s: file.points[point].rate_per_s,
            run,
            purpose: if index < 2 {
                Purpose::Explore
            } else {
                Purpose::Confirm
            },
            held: holds(&file.points[point].runs[run]),
        });
    let probes = probes.collect();
    file.search = Some(Search {
        objective: "p99<1ms".parse().expect("an objective"),
        bounds: Bounds {
            lowest_per_s: 10e3,
            highest_per_s: Some(200e3),
            tolerance: 0.02,
            steps: 2,
            confirm: 2,
        },
        probes,
        answer: Answer::Found {
            rate_per_s: 10e3,
            fails_at_per_s: Some(200e3),
            confirmed: 2,
        },
    });
    file.points.retain(|point| !point.runs.is_empty());
    file
}
