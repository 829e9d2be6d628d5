//! The runs of a sweep, made one after the other.

use std::time::SystemTime;

use super::file::{Search, SweepFile, SweepFormat, SweepPoint, VERSION};
use crate::args::{Annotate, ServerFlags};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::Environment;
use crate::plan::{Arrival, Load, Plan};
use crate::result::{ResultFile, format_utc};
use crate::session::{RunSpec, ServerProcess, arguments, run_once};
use crate::slo::Slo;

/// Why a sweep ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The user wanted it to.
    Interrupted,
    /// A run failed.
    Failed(Failure),
}

impl Stop {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Interrupted => Failure::Interrupted,
            Self::Failed(failure) => failure,
        }
    }
}

/// Makes the runs and keeps their results.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    server: &'a ServerFlags,
    /// The plan that they share, but for the rate.
    plan: Plan,
    objective: Option<&'a Slo>,
    interrupt: &'a Interrupt,
    label: String,
    environment: Environment,
    started_at: SystemTime,
    points: Vec<SweepPoint>,
    count: u64,
    stop: Option<Stop>,
}

impl<'a> Runs<'a> {
    /// None yet.
    #[expect(clippy::disallowed_methods, reason = "the report says when it was")]
    pub(super) fn new(
        server: &'a ServerFlags,
        plan: Plan,
        objective: Option<&'a Slo>,
        interrupt: &'a Interrupt,
        annotate: &Annotate,
    ) -> Self {
        Self {
            server,
            objective,
            interrupt,
            label: plan.label(),
            environment: annotate.annotated(Environment::capture(plan.is_loopback())),
            plan,
            started_at: SystemTime::now(),
            points: Vec::new(),
            count: 0,
            stop: None,
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// The rates so far, ascending.
    pub(super) fn points(&self) -> &[SweepPoint] {
        &self.points
    }

    /// Makes room for rates that ascend.
    pub(super) fn expect(&mut self, rates: &[f64]) {
        let points = rates.iter().map(|&rate_per_s| SweepPoint {
            rate_per_s,
            runs: Vec::new(),
            skipped: 0,
        });
        self.points = points.collect();
    }

    /// Skips a run of a rate.
    pub(super) fn skip(&mut self, index: usize) {
        self.points[index].skipped += 1;
    }

    /// Makes a run at a rate; returns its index at that rate, and its result. `None` when no more
    /// are to follow.
    pub(super) fn drive(&mut self, rate: f64) -> Option<(usize, &ResultFile)> {
        match self.measure(rate) {
            Ok(result) => Some(self.keep(rate, result)),
            Err(stop) => {
                self.stop = Some(stop);
                None
            }
        }
    }

    /// The document, and why the sweep ended early, if it did.
    pub(super) fn finish(self, search: Option<Search>) -> (SweepFile, Option<Stop>) {
        let file = SweepFile {
            format: SweepFormat::RingbackLoadtestSweep,
            version: VERSION,
            label: self.label,
            args: arguments(),
            started_at: format_utc(self.started_at),
            points: self.points,
            search,
            environment: self.environment,
        };
        (file, self.stop)
    }

    fn measure(&mut self, rate: f64) -> Result<ResultFile, Stop> {
        if self.interrupt.is_requested() {
            return Err(Stop::Interrupted);
        }
        let plan = self.plan_at(rate);
        self.count += 1;
        let failed = |failure| match failure {
            Failure::Interrupted => Stop::Interrupted,
            failure => Stop::Failed(failure),
        };
        // A server that is started is started anew for each run, so that an overload does not
        // affect the next one.
        let watch = ServerProcess::new(self.server, &plan, self.interrupt).map_err(failed)?;
        let about = RunSpec {
            label: &self.label,
            plan: &plan,
            slo: self.objective,
            environment: &self.environment,
        };
        run_once(watch, &about, self.interrupt).map_err(failed)
    }

    /// Payloads and random arrivals differ in each run, so that an effect of some of them does
    /// not occur in every run.
    fn plan_at(&self, rate: f64) -> Plan {
        let arrival = match self.plan.load {
            Load::Open { arrival, .. } => arrival,
            Load::Closed { .. } => Arrival::Fixed,
        };
        Plan {
            load: Load::Open { rate, arrival },
            seed: self.plan.seed.wrapping_add(self.count),
            ..self.plan.clone()
        }
    }

    fn keep(&mut self, rate: f64, result: ResultFile) -> (usize, &ResultFile) {
        let found = self
            .points
            .binary_search_by(|point| point.rate_per_s.total_cmp(&rate));
        let index = found.unwrap_or_else(|index| {
            let point = SweepPoint {
                rate_per_s: rate,
                runs: Vec::new(),
                skipped: 0,
            };
            self.points.insert(index, point);
            index
        });
        let runs = &mut self.points[index].runs;
        runs.push(result);
        (runs.len() - 1, &runs[runs.len() - 1])
    }
}
