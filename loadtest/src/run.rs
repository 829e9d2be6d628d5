//! A whole run: starts and synchronizes the threads, merges their reports, and samples the cost
//! of server and generator.

mod coordinator;
mod cost;
mod intervals;
mod start;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, Scope};
use std::time::SystemTime;

use host::cores::pin;

use crate::client::Mix;
use crate::driver::{Assignment, Endpoints, Shared, ThreadEvent, Worker, mix_for};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::live::Progress;
use crate::outcome::{Latencies, Outcome};
use crate::plan::Plan;
use crate::schedule::Share;
use crate::watch::{UnexpectedExit, Watched};

use coordinator::Coordinator;

/// The observers of a run.
pub struct Observers<'a> {
    /// The server's threads, where they are known.
    pub server: Option<&'a mut dyn Watched>,
    /// Returns the server's exit, where it was started for the run.
    pub server_ended: &'a mut dyn FnMut() -> Option<UnexpectedExit>,
    /// Shows the progress of the run.
    pub show: &'a mut dyn FnMut(&Progress<'_>),
    /// Whether the user wants it to end.
    pub interrupt: &'a Interrupt,
}

/// Runs a plan; the measurement begins at `start_at`, or as soon as it can.
///
/// # Errors
/// A failure before the measurement. A later one is in [`Outcome::failure`], beside what was
/// measured until then.
pub fn run(
    plan: &Plan,
    start_at: Option<SystemTime>,
    observers: &mut Observers<'_>,
) -> Result<Outcome, Failure> {
    let context = RunContext::of(plan, observers.interrupt)?;
    let outcome = thread::scope(|scope| {
        let mut coordinator = context.begin(scope, observers)?;
        coordinator.start_at = start_at;
        for _ in 0..plan.slices {
            coordinator.run_slice();
        }
        coordinator.conclude()
    })?;
    Ok(context.located(outcome))
}

/// Runs plans that alternate by slices: all connect, then each index in `turns` selects the plan
/// that has a slice, while the others wait.
///
/// # Errors
/// The first failure, at any time, and the index of its plan. An interrupt is
/// [`Failure::Interrupted`].
pub fn run_in_turns(
    plans: &[Plan],
    observers: &mut [Observers<'_>],
    turns: &[usize],
) -> Result<Vec<Outcome>, (usize, Failure)> {
    let mut contexts = Vec::with_capacity(plans.len());
    for (index, (plan, observers)) in plans.iter().zip(&*observers).enumerate() {
        let context = RunContext::of(plan, observers.interrupt);
        contexts.push(context.map_err(|failure| (index, failure))?);
    }
    let outcomes = thread::scope(|scope| {
        let mut all = Vec::with_capacity(plans.len());
        for (index, (context, observers)) in contexts.iter().zip(observers).enumerate() {
            let mut coordinator = match context.begin(scope, observers) {
                Ok(coordinator) => coordinator,
                Err(failure) => return conclude(all, Some((index, failure))),
            };
            coordinator.connect();
            let is_ok = coordinator.is_ok();
            all.push(coordinator);
            if !is_ok {
                return conclude(all, None);
            }
        }
        for &index in turns {
            all[index].run_slice();
            if !all[index].is_ok() {
                break;
            }
        }
        conclude(all, None)
    })?;
    let located = contexts.iter().zip(outcomes);
    Ok(located
        .map(|(context, outcome)| context.located(outcome))
        .collect())
}

/// Ends all runs, those that are not over at once, and returns their outcomes.
fn conclude(
    all: Vec<Coordinator<'_, '_>>,
    mut first_wrong: Option<(usize, Failure)>,
) -> Result<Vec<Outcome>, (usize, Failure)> {
    let is_whole = first_wrong.is_none() && all.iter().all(Coordinator::is_ok);
    let mut outcomes = Vec::with_capacity(all.len());
    for (index, mut coordinator) in all.into_iter().enumerate() {
        let is_ok = coordinator.is_ok();
        if !is_whole {
            coordinator.abort();
        }
        let failure = match coordinator.conclude().and_then(Outcome::whole) {
            Ok(outcome) => {
                outcomes.push(outcome);
                None
            }
            Err(failure) => Some(failure),
        };
        // A run that was aborted because of another is not the cause.
        if let (Some(failure), true, None) = (failure, is_whole || !is_ok, &first_wrong) {
            first_wrong = Some((index, failure));
        }
    }
    first_wrong.map_or(Ok(outcomes), Err)
}

/// State that the threads of a run share.
struct RunContext<'a> {
    plan: &'a Plan,
    endpoints: Endpoints,
    mix: Arc<Mix>,
    shared: Shared,
}

impl<'a> RunContext<'a> {
    fn of(plan: &'a Plan, interrupt: &Interrupt) -> Result<Self, Failure> {
        let endpoints = Endpoints::of(plan)?;
        Ok(Self {
            plan,
            endpoints: endpoints.choose(plan.timeout, &mut || !interrupt.is_requested())?,
            mix: Arc::new(mix_for(plan)),
            shared: Shared::new(),
        })
    }

    /// The outcome, with the addresses of the servers.
    fn located(&self, outcome: Outcome) -> Outcome {
        Outcome {
            addresses: self
                .endpoints
                .addresses()
                .map(|it| it.to_string())
                .collect(),
            ..outcome
        }
    }

    /// Starts the threads, which connect at once.
    fn begin<'scope, 'b>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        observers: &'scope mut Observers<'b>,
    ) -> Result<Coordinator<'scope, 'b>, Failure> {
        let (sender, events) = channel();
        let empty_histograms = self.start_threads(scope, &sender)?;
        Ok(Coordinator::new(
            self.plan,
            &self.shared,
            events,
            empty_histograms,
            observers,
        ))
    }

    fn start_threads<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        events: &Sender<ThreadEvent>,
    ) -> Result<Vec<Sender<Box<Latencies>>>, Failure> {
        let plan = self.plan;
        let mut empty_histograms = Vec::new();
        for thread in 0..plan.threads {
            let (give, take) = channel();
            empty_histograms.push(give);
            let assignment = Assignment {
                plan,
                share: Share {
                    thread,
                    threads: plan.threads,
                    connections: plan.connections,
                },
                endpoints: &self.endpoints,
                mix: Arc::clone(&self.mix),
                shared: &self.shared,
                events: events.clone(),
                empty_histograms: take,
            };
            let core = pinned_core(plan, thread);
            let started = thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn_scoped(scope, move || work(assignment, core));
            if let Err(source) = started {
                self.shared.abort();
                return Err(Failure::Local {
                    what: "starting a thread",
                    source,
                });
            }
        }
        Ok(empty_histograms)
    }
}

fn pinned_core(plan: &Plan, thread: u32) -> Option<usize> {
    let index = (thread as usize).checked_rem(plan.pin.len())?;
    plan.pin.get(index).copied()
}

/// The body of a generator thread.
fn work(assignment: Assignment<'_>, core: Option<usize>) {
    let events = assignment.events.clone();
    let pinned = core.map_or(Ok(()), |core| {
        pin(core).map_err(|source| Failure::Pin { core, source })
    });
    match pinned.and_then(|()| Worker::new(assignment)) {
        Ok(worker) => worker.run(),
        Err(failure) => {
            let _ = events.send(ThreadEvent::Failed(failure));
        }
    }
}
