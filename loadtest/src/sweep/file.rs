//! The document of a sweep, with all of its runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bisection::{Answer, Bounds, Purpose};
use crate::machine::Environment;
use crate::result::{Document, Problem, ResultFile, Status, parse_utc};
use crate::slo::Slo;
use crate::units::format_rate;
use crate::verdict::{BUSY_MAX, RUN_QUEUE_WAIT_SHARE_MAX, Verdict};
use crate::watch::Usage;

/// The version of the format that is written, and the highest that is read.
pub const VERSION: u32 = 1;

/// The runs of a sweep, as they are on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepFile {
    /// Marks the file as a sweep.
    pub format: SweepFormat,
    /// The version of the format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The label in reports: the server's URL.
    pub label: String,
    /// The command line, without the program's name.
    pub args: Vec<String>,
    /// When it began, in UTC, in RFC 3339 format.
    pub started_at: String,
    /// The rates, ascending, each with its runs.
    pub points: Vec<SweepPoint>,
    /// The search for the highest rate that holds, with `--find-max`.
    pub search: Option<Search>,
    /// The machine.
    pub environment: Environment,
}

/// The value of the `format` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SweepFormat {
    /// A sweep by this program.
    #[serde(rename = "ringback-loadtest-sweep")]
    RingbackLoadtestSweep,
}

/// A rate and its runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepPoint {
    /// The target rate, in messages per second.
    pub rate_per_s: f64,
    /// Its runs, in the order they were made.
    pub runs: Vec<ResultFile>,
    /// Runs left out, as a lower rate was not reached already.
    pub skipped: u32,
}

/// A search for the highest rate that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// The objectives.
    pub objective: Slo,
    /// The bounds and limits of the search.
    pub bounds: Bounds,
    /// All runs in the order they were made.
    pub probes: Vec<Probe>,
    /// The result.
    pub answer: Answer,
}

/// A run of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The target rate, that of its point.
    pub rate_per_s: f64,
    /// The index of the run at that point, from 0.
    pub run: usize,
    /// Its purpose.
    pub purpose: Purpose,
    /// Whether the rate was reached and every objective met; null if unknown.
    pub held: Option<bool>,
}

impl SweepFile {
    /// The run of a probe.
    pub fn run_of(&self, probe: &Probe) -> Option<&ResultFile> {
        let of_rate = |point: &&SweepPoint| is_same(point.rate_per_s, probe.rate_per_s);
        self.points.iter().find(of_rate)?.runs.get(probe.run)
    }

    /// All runs, by their rates.
    pub fn runs(&self) -> impl Iterator<Item = &ResultFile> {
        self.points.iter().flat_map(|point| &point.runs)
    }
}

/// Whether a run reached its rate and met its objectives. `None` if unknown: it is SUSPECT, its
/// generator was at its limit, one of both waited for a core, or it has too few messages for an
/// objective.
pub fn holds(run: &ResultFile) -> Option<bool> {
    let generator = &run.generator;
    let is_starved = |usage: &Usage| {
        let share = usage.run_queue_wait_share();
        share.is_some_and(|share| share > RUN_QUEUE_WAIT_SHARE_MAX)
    };
    let is_another_limit = generator.busy_max > BUSY_MAX
        || is_starved(&generator.usage)
        || run.server.as_ref().is_some_and(|it| is_starved(&it.usage));
    let missed = || run.objectives.iter().filter(|objective| !objective.met);
    match run.judgement.verdict {
        _ if run.status != Status::Complete => None,
        Verdict::Suspect => None,
        Verdict::Invalid => (!is_another_limit).then_some(false),
        Verdict::Valid if missed().any(|objective| objective.supported) => Some(false),
        Verdict::Valid => missed().next().is_none().then_some(true),
    }
}

impl Document for SweepFile {
    const KIND: &'static str = "sweep";
    const FORMAT: &'static str = "ringback-loadtest-sweep";
    const VERSION: u32 = VERSION;

    fn check(&self) -> Result<(), Problem> {
        if parse_utc(&self.started_at).is_none() {
            return Err(Problem::Inconsistent("its start is not a time"));
        }
        if !self.points.is_sorted_by(|a, b| a.rate_per_s < b.rate_per_s) {
            return Err(Problem::Inconsistent("the rates do not ascend"));
        }
        for point in &self.points {
            for (index, run) in point.runs.iter().enumerate() {
                let rate_per_s = point.rate_per_s;
                check_run(rate_per_s, run).map_err(|problem| of_run(rate_per_s, index, problem))?;
            }
        }
        Ok(())
    }

    fn recompute(&mut self) -> Result<(), Problem> {
        for point in &mut self.points {
            for (index, run) in point.runs.iter_mut().enumerate() {
                let rate_per_s = point.rate_per_s;
                run.recompute()
                    .map_err(|problem| of_run(rate_per_s, index, problem))?;
            }
        }
        let probes = self.search.iter().flat_map(|search| &search.probes);
        probes
            .into_iter()
            .try_for_each(|probe| self.check_probe(probe))
    }
}

impl SweepFile {
    fn check_probe(&self, probe: &Probe) -> Result<(), Problem> {
        match self.run_of(probe) {
            None => Err(Problem::Inconsistent("a probe has no run")),
            // Another version concluded from a run that is unknown here.
            Some(run) if holds(run).is_some_and(|held| probe.held != Some(held)) => {
                Err(Problem::Inconsistent("a probe contradicts its run"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn of_run(rate_per_s: f64, index: usize, problem: Problem) -> Problem {
    Problem::Part {
        part: format!("{}/s, run {}", format_rate(rate_per_s), index + 1),
        problem: Box::new(problem),
    }
}

fn check_run(rate_per_s: f64, run: &ResultFile) -> Result<(), Problem> {
    run.check()?;
    match run.plan.rate() {
        Some(rate) if is_same(rate, rate_per_s) => Ok(()),
        _ => Err(Problem::Inconsistent("the run is of another rate")),
    }
}

/// Rates are compared as they were written.
fn is_same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{changed_run, run, search, sweep};
    use super::*;
    use crate::outcome::Outcome;
    use crate::result::schema;
    use serde_json::{Value, json};

    /// The error of reading a document after a change to its JSON.
    fn after(file: &SweepFile, change: impl FnOnce(&mut Value)) -> String {
        let mut value = serde_json::to_value(file).expect("JSON");
        change(&mut value);
        match SweepFile::from_json(value.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn a_written_document_is_read_back() {
        for file in [sweep(), search()] {
            let text = file.to_json();
            assert_eq!(
                SweepFile::from_json(text.as_bytes()).expect("a sweep"),
                file
            );
            for len in (0..text.len() - 1).step_by(997) {
                let problem = SweepFile::from_json(&text.as_bytes()[..len]);
                assert!(matches!(problem, Err(Problem::Truncated)), "{len}");
            }
        }
    }

    #[test]
    fn a_sweep_passes_the_checked_in_schema_which_is_that_of_the_code() {
        const CHECKED_IN: &str = include_str!("../../schema/sweep-v1.schema.json");
        assert!(
            schema::<SweepFile>() == CHECKED_IN,
            "the format has changed; run `loadtest schema sweep > \
             loadtest/schema/sweep-v1.schema.json`, and if old files are no longer read, raise \
             the version"
        );
        let schema: Value = serde_json::from_str(CHECKED_IN).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for file in [sweep(), search()] {
            let mut document = serde_json::to_value(file).expect("JSON");
            assert!(validator.is_valid(&document));
            document["points"][0]["runs"][0]["counts"]["due"] = json!("many");
            assert!(!validator.is_valid(&document));
        }
    }

    #[test]
    fn a_doubtful_run_is_unknown() {
        let checked = |change: fn(&mut Outcome)| holds(&changed_run(10e3, change));
        assert_eq!(checked(|_| {}), Some(true));
        assert_eq!(checked(|outcome| outcome.shared_core = Some(true)), None);
        let too_slow = |outcome: &mut Outcome| {
            let response_ns = &mut outcome.latencies.response_ns;
            response_ns.record_n(4_000_000, 20_000).expect("in range");
        };
        assert_eq!(checked(too_slow), Some(false));
        assert_eq!(checked(|outcome| outcome.interrupted = true), None);
        let unreached = |outcome: &mut Outcome| outcome.counts.echoed /= 2;
        assert_eq!(checked(unreached), Some(false));
        // The generator was at its limit, not the server.
        assert_eq!(
            checked(|outcome| {
                outcome.counts.echoed /= 2;
                outcome.generator.busy_max = 0.99;
            }),
            None
        );
        assert_eq!(
            checked(|outcome| {
                outcome.counts.echoed /= 2;
                let usage = &mut outcome.generator.usage;
                usage.run_queue_wait_ns = Some(usage.cpu_ns);
            }),
            None
        );
        // A p99.9 of this few messages is unknown, which is no failure.
        let mut few = changed_run(10e3, |_| {});
        few.objectives[0].met = false;
        assert_eq!(holds(&few), Some(false));
        few.objectives[0].supported = false;
        assert_eq!(holds(&few), None);
    }

    #[test]
    fn a_document_of_another_kind_is_an_error() {
        let result = run(10e3, true).to_json();
        let problem = SweepFile::from_json(result.as_bytes()).expect_err("a result");
        assert_eq!(
            problem.to_string(),
            "this is not a sweep of loadtest (its format is not \"ringback-loadtest-sweep\")"
        );
        let problem = ResultFile::from_json(sweep().to_json().as_bytes()).expect_err("a sweep");
        assert_eq!(
            problem.to_string(),
            "this is not a result of loadtest (its format is not \"ringback-loadtest\")"
        );
        assert_eq!(
            after(&sweep(), |value| value["version"] = json!(2)),
            "version 2 of the format is newer than this loadtest, which reads up to 1"
        );
        assert_eq!(
            after(&sweep(), |value| *value = json!([value.clone()])),
            "this is an array of sweeps; a file with one is needed"
        );
    }

    #[test]
    fn contradicting_parts_are_errors() {
        let checked = |change: fn(&mut Value)| after(&search(), change);
        assert_eq!(checked(|_| {}), "");
        assert_eq!(
            checked(|value| value["more"] = json!(1)),
            "",
            "of a later release"
        );
        assert_eq!(
            checked(|value| value["points"][1]["runs"][2]["counts"]["answered"] = json!(600_000)),
            "50,000/s, run 3: inconsistent result: more messages than were due"
        );
        assert_eq!(
            checked(|value| value["points"][0]["rate_per_s"] = json!(11_000.0)),
            "11,000/s, run 1: inconsistent result: the run is of another rate"
        );
        assert_eq!(
            checked(|value| value["points"][0]["rate_per_s"] = json!(1e9)),
            "inconsistent result: the rates do not ascend"
        );
        assert_eq!(
            checked(|value| value["search"]["probes"][0]["held"] = json!(false)),
            "inconsistent result: a probe contradicts its run"
        );
        assert_eq!(
            checked(|value| value["search"]["probes"][0]["run"] = json!(7)),
            "inconsistent result: a probe has no run"
        );
        assert_eq!(
            checked(|value| value["started_at"] = json!("today")),
            "inconsistent result: its start is not a time"
        );
    }
}
