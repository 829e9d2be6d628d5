//! A whole run: starts the threads, keeps them in step, puts together what they
//! report, and watches what the server and they themselves cost.

mod intervals;
mod start;

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::cores::Cores;
use crate::driver::{Assignment, Endpoints, Report, Shared, ThreadEnd, Worker, as_ns, mix_for};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::live::{Phase, Progress};
use crate::machine::StealClock;
use crate::outcome::{Counts, GeneratorUse, Latencies, Outcome, histogram};
use crate::plan::{Extent, Plan};
use crate::result::format_utc;
use crate::schedule::Share;
use crate::verdict::Verdict;
use crate::watch::{ProcessTree, Sample, ThreadGroup};

use intervals::Intervals;
use start::Step;

/// How often server and generator are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How many ticks apart the live view is brought up to date.
const TICKS_PER_VIEW: u32 = 5;

/// Seeing both on one core in more than this share of the looks is no chance:
/// the scheduler lets them share it.
const SHARED_SHARE_MAX: f64 = 0.05;

/// Threads whose cost is of interest.
pub trait Watched {
    /// What they took so far.
    fn sample(&mut self) -> Sample;

    /// The cores on which they ran lately.
    fn active_cores(&mut self) -> BTreeSet<usize>;
}

impl Watched for ProcessTree {
    fn sample(&mut self) -> Sample {
        self.sample()
    }

    fn active_cores(&mut self) -> BTreeSet<usize> {
        self.active_cores()
    }
}

impl Watched for ThreadGroup {
    fn sample(&mut self) -> Sample {
        self.sample()
    }

    fn active_cores(&mut self) -> BTreeSet<usize> {
        self.active_cores()
    }
}

/// Who looks on.
pub struct Observers<'a> {
    /// The server's threads, where they are known.
    pub server: Option<&'a mut dyn Watched>,
    /// Says that the server has ended, where it was started for the run.
    pub server_ended: &'a mut dyn FnMut() -> Option<ExitStatus>,
    /// Shows how far the run is.
    pub show: &'a mut dyn FnMut(&Progress<'_>),
    /// Whether the user wants it to end.
    pub interrupt: &'a Interrupt,
}

/// Runs a plan; the measurement begins at `start_at`, or as soon as it can.
///
/// # Errors
/// What went wrong before anything was measured. What goes wrong later is in
/// [`Outcome::failure`], beside what was measured until then.
pub fn run(
    plan: &Plan,
    start_at: Option<SystemTime>,
    observers: &mut Observers<'_>,
) -> Result<Outcome, Failure> {
    let endpoints = Endpoints::of(plan)?;
    let mix = Arc::new(mix_for(plan));
    let shared = Shared::new();
    let (reports, inbox) = channel();
    thread::scope(|scope| {
        let mut spares = Vec::new();
        for thread in 0..plan.threads {
            let (give, take) = channel();
            spares.push(give);
            let assignment = Assignment {
                plan,
                share: Share {
                    thread,
                    threads: plan.threads,
                    connections: plan.connections,
                },
                endpoints: &endpoints,
                mix: Arc::clone(&mix),
                shared: &shared,
                reports: reports.clone(),
                spares: take,
            };
            let core = pinned_core(plan, thread);
            let started = thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn_scoped(scope, move || work(assignment, core));
            if let Err(source) = started {
                shared.give_up();
                return Err(Failure::Local {
                    what: "starting a thread",
                    source,
                });
            }
        }
        drop(reports);
        let coordinator = Coordinator {
            start_at,
            ..Coordinator::new(plan, &shared, &inbox, spares, observers)
        };
        coordinator.coordinate()
    })
}

fn pinned_core(plan: &Plan, thread: u32) -> Option<usize> {
    let index = (thread as usize).checked_rem(plan.pin.len())?;
    plan.pin.get(index).copied()
}

/// What a thread of the generator does.
fn work(assignment: Assignment<'_>, core: Option<usize>) {
    let reports = assignment.reports.clone();
    let pinned = core.map_or(Ok(()), |core| {
        Cores::pin(core).map_err(|errno| Failure::Pin {
            core,
            source: errno.into(),
        })
    });
    match pinned.and_then(|()| Worker::new(assignment)) {
        Ok(worker) => worker.run(),
        Err(failure) => {
            let _ = reports.send(Report::Failed(failure));
        }
    }
}

/// The thread that keeps the others in step.
struct Coordinator<'a, 'b> {
    plan: &'a Plan,
    shared: &'a Shared,
    inbox: &'a Receiver<Report>,
    observers: &'a mut Observers<'b>,
    intervals: Intervals,
    thread_ids: Vec<i32>,
    generator: Option<ThreadGroup>,
    /// When the measurement is to begin, by the wall clock.
    start_at: Option<SystemTime>,
    /// When the load begins, once that is known.
    start_ns: Option<u64>,
    /// Threads whose measurement is over.
    measured: u32,
    ends: Vec<ThreadEnd>,
    failure: Option<Failure>,
    interrupted: bool,
    server: Bracket,
    generator_cost: Bracket,
    steal: Option<(StealClock, Option<f64>)>,
    started_at: Option<SystemTime>,
    looks: u32,
    looks_shared: u32,
    ticks: u32,
    drain_began: Option<Instant>,
}

/// What some threads had taken before, at the start and at the end.
#[derive(Default)]
struct Bracket {
    rss_before: u64,
    start: Option<Sample>,
    end: Option<Sample>,
}

impl Bracket {
    fn usage(&self) -> Option<crate::watch::Usage> {
        let (start, end) = (self.start?, self.end?);
        Some(end.usage_since(&start, self.rss_before))
    }
}

impl<'a, 'b> Coordinator<'a, 'b> {
    fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        inbox: &'a Receiver<Report>,
        spares: Vec<Sender<Box<Latencies>>>,
        observers: &'a mut Observers<'b>,
    ) -> Self {
        let rss_of = |sample: Sample| Bracket {
            rss_before: sample.rss_bytes,
            ..Bracket::default()
        };
        let server = observers.server.as_mut().map(|server| server.sample());
        Self {
            plan,
            shared,
            inbox,
            observers,
            intervals: Intervals::new(spares),
            thread_ids: Vec::new(),
            generator: None,
            start_at: None,
            start_ns: None,
            measured: 0,
            ends: Vec::new(),
            failure: None,
            interrupted: false,
            server: server.map(rss_of).unwrap_or_default(),
            generator_cost: own_memory().map(rss_of).unwrap_or_default(),
            steal: None,
            started_at: None,
            looks: 0,
            looks_shared: 0,
            ticks: 0,
            drain_began: None,
        }
    }

    fn coordinate(mut self) -> Result<Outcome, Failure> {
        let mut tick = Instant::now() + TICK;
        let mut running = self.plan.threads;
        while running > 0 {
            let until = self.next_look().unwrap_or(tick).min(tick);
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(report) => running -= u32::from(self.take(report)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_ahead();
            self.look_at_start();
            self.look_at_end();
            if Instant::now() >= tick {
                tick = Instant::now() + TICK;
                self.tick();
            }
        }
        self.conclude()
    }

    /// When the next sample is due.
    fn next_look(&self) -> Option<Instant> {
        let window_ns = self.window_ns()?;
        let at_ns = match (self.started_at, self.has_end_samples()) {
            (None, _) => window_ns.0,
            (Some(_), false) => window_ns.1?,
            _ => return None,
        };
        self.shared.epoch.checked_add(Duration::from_nanos(at_ns))
    }

    /// Whether the cost at the measurement's end was read.
    fn has_end_samples(&self) -> bool {
        self.generator_cost.end.is_some()
    }

    /// When the measurement begins, and when it ends if that is known ahead.
    fn window_ns(&self) -> Option<(u64, Option<u64>)> {
        let begin_ns = self.start_ns? + as_ns(self.plan.warmup);
        let end_ns = match self.plan.extent {
            Extent::Duration(time) => Some(begin_ns + as_ns(time)),
            Extent::Messages(_) => None,
        };
        Some((begin_ns, end_ns))
    }

    /// Whether all connections are open.
    fn is_ready(&self) -> bool {
        self.thread_ids.len() == self.plan.threads as usize
    }

    fn now_ns(&self) -> u64 {
        as_ns(self.shared.epoch.elapsed())
    }

    /// Takes in what a thread has to say. `true` when it was its last word.
    fn take(&mut self, report: Report) -> bool {
        match report {
            Report::Ready { thread_id } => {
                self.thread_ids.push(thread_id);
                if self.is_ready() {
                    self.generator = ThreadGroup::of(&self.thread_ids).ok();
                }
                false
            }
            Report::Part { thread, part } => {
                self.intervals.take(thread, part);
                false
            }
            Report::Measured => {
                self.measured += 1;
                self.drain_began.get_or_insert_with(Instant::now);
                false
            }
            Report::Failed(failure) => {
                self.fail(failure);
                true
            }
            Report::Done(mut end) => {
                if let Some(failure) = end.failure.take() {
                    self.fail(failure);
                }
                self.ends.push(*end);
                true
            }
        }
    }

    /// The first failure is the one that is told; one thread's ends all.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.shared.give_up();
    }

    /// Lets the load begin when it is time to.
    #[expect(
        clippy::disallowed_methods,
        reason = "several machines have no other clock in common"
    )]
    fn look_ahead(&mut self) {
        if self.start_ns.is_some() || self.failure.is_some() || self.interrupted {
            return;
        }
        let now = SystemTime::now();
        match start::step(self.is_ready(), self.start_at, self.plan.warmup, now) {
            Step::Wait => {}
            Step::Begin(ahead) => {
                let start_ns = self.now_ns() + as_ns(ahead);
                self.start_ns = Some(start_ns);
                self.shared.start_at(start_ns);
            }
            Step::Late => self.fail(Failure::Late {
                opened: self.shared.opened(),
                sockets: self.plan.sockets(),
                start_at: self.start_at.map(format_utc).unwrap_or_default(),
            }),
        }
    }

    /// Samples what there is to sample when the measurement begins.
    #[expect(clippy::disallowed_methods, reason = "the report says when it was")]
    fn look_at_start(&mut self) {
        let Some((begin_ns, _)) = self.window_ns() else {
            return;
        };
        if self.started_at.is_some() || self.now_ns() < begin_ns {
            return;
        }
        self.server.start = self.observers.server.as_mut().map(|server| server.sample());
        self.generator_cost.start = self.generator.as_mut().map(ThreadGroup::sample);
        self.steal = StealClock::now().map(|clock| (clock, None));
        // When it began, and not when that was seen.
        let ago = Duration::from_nanos(self.now_ns() - begin_ns);
        self.started_at = SystemTime::now().checked_sub(ago);
        self.active_cores();
    }

    /// Samples it again when the measurement ends, however it does.
    fn look_at_end(&mut self) {
        if self.started_at.is_none() || self.has_end_samples() {
            return;
        }
        let planned_end = self.window_ns().and_then(|(_, end_ns)| end_ns);
        let is_over = planned_end.is_some_and(|end_ns| self.now_ns() >= end_ns)
            || self.measured == self.plan.threads
            || self.failure.is_some()
            || !self.ends.is_empty();
        if !is_over {
            return;
        }
        self.server.end = self.observers.server.as_mut().map(|server| server.sample());
        self.generator_cost.end = self.generator.as_mut().map(ThreadGroup::sample);
        if let Some((clock, share)) = &mut self.steal {
            *share = StealClock::now().map(|now| now.share_since(clock));
        }
    }

    fn tick(&mut self) {
        if self.observers.interrupt.is_asked() && !self.interrupted {
            self.interrupted = true;
            self.shared.cut_short();
        }
        if let Some(status) = (self.observers.server_ended)() {
            // A thread that lost its connections says so at the same time; that
            // the server is gone explains it.
            if !matches!(self.failure, Some(Failure::Integrity { .. })) {
                self.failure = Some(Failure::ServerEnded(status));
            }
            self.shared.give_up();
        }
        if self.started_at.is_some() && !self.has_end_samples() {
            self.look_at_cores();
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_VIEW) {
            self.show();
        }
    }

    fn look_at_cores(&mut self) {
        if let Some((server, generator)) = self.active_cores() {
            self.looks += 1;
            self.looks_shared += u32::from(!server.is_disjoint(&generator));
        }
    }

    /// The cores of server and generator since the last look.
    fn active_cores(&mut self) -> Option<(BTreeSet<usize>, BTreeSet<usize>)> {
        let server = self.observers.server.as_mut()?.active_cores();
        let generator = self.generator.as_mut()?.active_cores();
        Some((server, generator))
    }

    fn show(&mut self) {
        let sockets = self.plan.sockets();
        let opened = self.shared.opened();
        let (phase, elapsed, total) = self.phase();
        let fraction = match (phase, self.plan.extent, total) {
            (Phase::Connecting { .. }, ..) => opened as f64 / sockets.max(1) as f64,
            (Phase::Measuring, Extent::Messages(count), _) => {
                self.intervals.echoed() as f64 / count.max(1) as f64
            }
            (.., Some(total)) => elapsed.as_secs_f64() / total.as_secs_f64().max(1e-9),
            (.., None) => 0.0,
        };
        let last = self.intervals.last_second();
        let (verdict, reason) = self.so_far();
        (self.observers.show)(&Progress {
            phase,
            fraction: fraction.min(1.0),
            elapsed,
            remaining: total.map(|total| total.saturating_sub(elapsed)),
            rate: last.rate,
            target: self.plan.rate(),
            p50_ns: last.p50_ns,
            p99_ns: last.p99_ns,
            max_ns: last.max_ns,
            messages: self.intervals.echoed(),
            errors: self.intervals.timed_out(),
            verdict,
            reason: reason.as_deref(),
            rates: self.intervals.rates(),
        });
    }

    /// What is being done, for how long it has been, and how long it will be in
    /// all, where that is known.
    fn phase(&self) -> (Phase, Duration, Option<Duration>) {
        let now_ns = self.now_ns();
        let since = |from_ns: u64| Duration::from_nanos(now_ns.saturating_sub(from_ns));
        let start_ns = self.start_ns.unwrap_or(u64::MAX);
        match (self.window_ns(), self.start_at) {
            (_, Some(start_at)) if self.is_ready() && now_ns < start_ns => {
                (Phase::Waiting { start_at }, since(0), self.wait_in_all())
            }
            (None, _) => {
                let phase = Phase::Connecting {
                    open: self.shared.opened(),
                    total: self.plan.sockets(),
                };
                (phase, since(0), None)
            }
            (Some((begin_ns, _)), _) if now_ns < begin_ns => {
                (Phase::WarmUp, since(start_ns), Some(self.plan.warmup))
            }
            (Some((begin_ns, _)), _) if self.drain_began.is_none() => {
                let total = match self.plan.extent {
                    Extent::Duration(time) => Some(time),
                    Extent::Messages(_) => None,
                };
                (Phase::Measuring, since(begin_ns), total)
            }
            (Some(_), _) => {
                let phase = Phase::Draining {
                    unanswered: self.intervals.unanswered(),
                };
                let elapsed = self.drain_began.map_or(Duration::ZERO, |at| at.elapsed());
                (phase, elapsed, Some(self.plan.timeout))
            }
        }
    }

    /// The time from the beginning of the run until the load's.
    #[expect(clippy::disallowed_methods, reason = "it is for people to read")]
    fn wait_in_all(&self) -> Option<Duration> {
        let ahead = self.start_at?.duration_since(SystemTime::now()).ok()?;
        Some(self.shared.epoch.elapsed() + ahead)
    }

    /// The verdict on what is known so far.
    fn so_far(&self) -> (Verdict, Option<String>) {
        if let Some(failure) = &self.failure {
            return (Verdict::Invalid, Some(failure.to_string()));
        }
        if self.shares_core() == Some(true) {
            let reason = "server and generator share a core".to_owned();
            return (Verdict::Suspect, Some(reason));
        }
        self.intervals.so_far(self.plan)
    }

    fn shares_core(&self) -> Option<bool> {
        (self.looks > 0)
            .then(|| f64::from(self.looks_shared) > SHARED_SHARE_MAX * f64::from(self.looks))
    }

    fn conclude(mut self) -> Result<Outcome, Failure> {
        let Some(started_at) = self.started_at else {
            return Err(self.failure.unwrap_or(Failure::Interrupted));
        };
        let elapsed_ns = self.ends.iter().map(|end| end.measured_ns).max();
        let elapsed = Duration::from_nanos(elapsed_ns.unwrap_or(0));
        let mut counts = Counts::default();
        let mut handshake_ns = histogram();
        let mut spin_ns = 0;
        let mut busy_max: f64 = 0.0;
        for end in std::mem::take(&mut self.ends) {
            counts += end.counts;
            handshake_ns
                .add(&end.handshake_ns)
                .expect("the same bounds");
            spin_ns += end.spin_ns;
            let busy_ns = end.cpu_ns.saturating_sub(end.spin_ns);
            busy_max = busy_max.max(busy_ns as f64 / end.measured_ns.max(1) as f64);
            self.intervals.take(end.thread, end.part);
        }
        let drained = self.drain_began.map_or(Duration::ZERO, |at| at.elapsed());
        let shared_core = self.shares_core();
        let (latencies, intervals) = self.intervals.finish(elapsed, drained);
        Ok(Outcome {
            started_at,
            elapsed,
            counts,
            latencies,
            handshake_ns,
            intervals,
            generator: GeneratorUse {
                usage: self.generator_cost.usage().unwrap_or_default(),
                spin_ns,
                busy_max,
            },
            server: self.server.usage(),
            shared_core,
            steal_share: self.steal.and_then(|(_, share)| share),
            interrupted: self.interrupted,
            failure: self.failure,
        })
    }
}

/// What this process holds before it connects. Only its memory is of interest.
fn own_memory() -> Option<Sample> {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    ThreadGroup::of(&[own]).ok().map(|mut own| own.sample())
}
