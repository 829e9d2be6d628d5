//! The thread that synchronizes the others, and samples.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use super::Observers;
use super::cost::{CostMeter, IdleClock};
use super::intervals::Intervals;
use super::start::{self, StartAction};
use crate::driver::{Shared, ThreadEnd, ThreadEvent, as_ns};
use crate::failure::Failure;
use crate::live::{Phase, Progress};
use crate::machine::StealClock;
use crate::outcome::{Counts, GeneratorUse, Latencies, Outcome, histogram};
use crate::plan::{Extent, Plan};
use crate::result::format_utc;
use crate::verdict::Verdict;
use crate::watch::{Sample, ThreadGroup, Watched};

/// The interval of samples of server and generator.
const TICK: Duration = Duration::from_millis(100);

/// The number of ticks between updates of the live view.
const TICKS_PER_VIEW: u32 = 5;

/// A shared core in more than this share of the samples is not by chance: the scheduler lets them
/// share it.
const SHARED_SHARE_MAX: f64 = 0.05;

/// The thread that synchronizes the others, and samples.
pub(super) struct Coordinator<'a, 'b> {
    plan: &'a Plan,
    shared: &'a Shared,
    events: Receiver<ThreadEvent>,
    observers: &'a mut Observers<'b>,
    /// Threads that are not done.
    running: u32,
    intervals: Intervals,
    thread_ids: Vec<i32>,
    generator: Option<ThreadGroup>,
    /// When the measurement is to begin, by the wall clock.
    pub(super) start_at: Option<SystemTime>,
    /// Slices so far, the current one included.
    turns: u32,
    /// When the load of this slice begins, if known.
    start_ns: Option<u64>,
    /// Whether the cost at the beginning of this slice was sampled, and at its end.
    has_begun: bool,
    has_ended: bool,
    /// Threads that have measured this slice, and threads whose replies are all received.
    measured: u32,
    quiet: u32,
    ends: Vec<ThreadEnd>,
    failure: Option<Failure>,
    interrupted: bool,
    server: CostMeter,
    generator_cost: CostMeter,
    idle: IdleClock,
    steal: Option<(StealClock, Option<f64>)>,
    started_at: Option<SystemTime>,
    samples: u32,
    samples_shared: u32,
    ticks: u32,
    next_tick: Instant,
    drain_began: Option<Instant>,
}

impl<'a, 'b> Coordinator<'a, 'b> {
    pub(super) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        events: Receiver<ThreadEvent>,
        empty_histograms: Vec<Sender<Box<Latencies>>>,
        observers: &'a mut Observers<'b>,
    ) -> Self {
        let server = observers.server.as_mut().map(|server| server.sample());
        Self {
            plan,
            shared,
            events,
            observers,
            running: plan.threads,
            intervals: Intervals::new(empty_histograms, interval_length(plan)),
            thread_ids: Vec::new(),
            generator: None,
            start_at: None,
            turns: 0,
            start_ns: None,
            has_begun: false,
            has_ended: false,
            measured: 0,
            quiet: 0,
            ends: Vec::new(),
            failure: None,
            interrupted: false,
            server: CostMeter::after(server),
            generator_cost: CostMeter::after(own_sample()),
            idle: IdleClock::default(),
            steal: None,
            started_at: None,
            samples: 0,
            samples_shared: 0,
            ticks: 0,
            next_tick: Instant::now() + TICK,
            drain_began: None,
        }
    }

    /// Waits until all connections are open, or one has failed.
    pub(super) fn connect(&mut self) {
        self.watch(Self::is_ready);
    }

    /// Starts the load, and waits until its slice is over and all replies are received; for the
    /// last slice, until the threads are done.
    pub(super) fn run_slice(&mut self) {
        let cpu_ns = self.server_cpu_ns();
        self.idle.end(cpu_ns);
        self.turns += 1;
        self.start_ns = None;
        self.has_begun = false;
        self.has_ended = false;
        self.watch(|it| it.quiet == it.turns * it.plan.threads);
        let cpu_ns = self.server_cpu_ns();
        self.idle.begin(cpu_ns);
    }

    /// Whether there was no failure and no interrupt.
    pub(super) fn is_ok(&self) -> bool {
        self.failure.is_none() && !self.interrupted
    }

    /// Ends everything.
    pub(super) fn abort(&mut self) {
        self.shared.abort();
    }

    /// Handles events of the threads until `is_so`, or until they are done.
    fn watch(&mut self, is_so: impl Fn(&Self) -> bool) {
        while self.running > 0 && !is_so(self) {
            let until = self
                .next_sample()
                .unwrap_or(self.next_tick)
                .min(self.next_tick);
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(report) => self.running -= u32::from(self.take(report)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.running = 0,
            }
            if self.turns > 0 {
                self.start_when_due();
                self.sample_at_start();
                self.sample_at_end();
            }
            if Instant::now() >= self.next_tick {
                self.next_tick = Instant::now() + TICK;
                self.tick();
            }
        }
    }

    fn server_cpu_ns(&mut self) -> Option<u64> {
        if self.plan.slices == 1 {
            return None;
        }
        let server = self.observers.server.as_mut()?;
        Some(server.sample().cpu_ns)
    }

    /// When the next sample is due.
    fn next_sample(&self) -> Option<Instant> {
        let window_ns = self.window_ns()?;
        let at_ns = match (self.has_begun, self.has_ended) {
            (false, _) => window_ns.0,
            (true, false) => window_ns.1?,
            (true, true) => return None,
        };
        self.shared.epoch.checked_add(Duration::from_nanos(at_ns))
    }

    /// When this slice begins, and when it ends if that is known ahead.
    fn window_ns(&self) -> Option<(u64, Option<u64>)> {
        let slice = self.plan.slice(self.turns.checked_sub(1)?);
        let begin_ns = self.start_ns? + as_ns(slice.warmup);
        let end_ns = slice.length.map(|length| begin_ns + as_ns(length));
        Some((begin_ns, end_ns))
    }

    /// Whether all connections are open.
    fn is_ready(&self) -> bool {
        self.thread_ids.len() == self.plan.threads as usize
    }

    fn now_ns(&self) -> u64 {
        as_ns(self.shared.epoch.elapsed())
    }

    /// Handles an event of a thread. `true` if it was its last one.
    fn take(&mut self, report: ThreadEvent) -> bool {
        match report {
            ThreadEvent::Ready { thread_id } => {
                self.thread_ids.push(thread_id);
                if self.is_ready() {
                    self.generator = ThreadGroup::of(&self.thread_ids).ok();
                }
                false
            }
            ThreadEvent::Interval { thread, part } => {
                self.intervals.take(thread, part);
                false
            }
            ThreadEvent::Measured => {
                self.measured += 1;
                if self.turns == self.plan.slices {
                    self.drain_began.get_or_insert_with(Instant::now);
                }
                false
            }
            ThreadEvent::Drained => {
                self.quiet += 1;
                false
            }
            ThreadEvent::Failed(failure) => {
                self.fail(failure);
                true
            }
            ThreadEvent::Done(mut end) => {
                if let Some(failure) = end.failure.take() {
                    self.fail(failure);
                }
                self.ends.push(*end);
                true
            }
        }
    }

    /// The first failure is reported; one thread's failure ends all.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.shared.abort();
    }

    /// Starts the load of this slice when it is time to.
    #[expect(
        clippy::disallowed_methods,
        reason = "several machines have no other clock in common"
    )]
    fn start_when_due(&mut self) {
        if self.start_ns.is_some() || self.failure.is_some() || self.interrupted {
            return;
        }
        let step = if self.turns > 1 {
            StartAction::Begin(start::RESUME_DELAY)
        } else {
            let now = SystemTime::now();
            start::step(self.is_ready(), self.start_at, self.plan.warmup, now)
        };
        match step {
            StartAction::Wait => {}
            StartAction::Begin(ahead) => {
                let start_ns = self.now_ns() + as_ns(ahead);
                self.start_ns = Some(start_ns);
                self.shared.start_at(start_ns);
            }
            StartAction::Late => self.fail(Failure::Late {
                opened: self.shared.opened(),
                sockets: self.plan.sockets(),
                start_at: self.start_at.map(format_utc).unwrap_or_default(),
            }),
        }
    }

    /// Takes the samples at the beginning of a slice.
    #[expect(clippy::disallowed_methods, reason = "the report says when it was")]
    fn sample_at_start(&mut self) {
        let Some((begin_ns, _)) = self.window_ns() else {
            return;
        };
        if self.has_begun || self.now_ns() < begin_ns {
            return;
        }
        self.has_begun = true;
        let server = self.observers.server.as_mut();
        self.server.begin(server.map(|server| server.begin_span()));
        let generator = self.generator.as_mut();
        self.generator_cost
            .begin(generator.map(ThreadGroup::sample));
        if self.started_at.is_none() {
            self.steal = StealClock::now().map(|clock| (clock, None));
            // The start time, not the time of this sample.
            let ago = Duration::from_nanos(self.now_ns() - begin_ns);
            self.started_at = SystemTime::now().checked_sub(ago);
        }
        self.active_cores();
    }

    /// Takes the samples at the end of a slice, for whatever reason.
    fn sample_at_end(&mut self) {
        if !self.has_begun || self.has_ended {
            return;
        }
        let planned_end = self.window_ns().and_then(|(_, end_ns)| end_ns);
        let is_over = planned_end.is_some_and(|end_ns| self.now_ns() >= end_ns)
            || self.measured == self.turns * self.plan.threads
            || self.failure.is_some()
            || !self.ends.is_empty();
        if !is_over {
            return;
        }
        self.has_ended = true;
        let server = self.observers.server.as_mut();
        self.server.end(server.map(|server| server.end_span()));
        let generator = self.generator.as_mut();
        self.generator_cost.end(generator.map(ThreadGroup::sample));
        if let Some((clock, share)) = &mut self.steal {
            *share = StealClock::now().map(|now| now.share_since(clock));
        }
        // The slice may have been shorter than a tick.
        if self.plan.slices > 1 {
            self.sample_cores();
        }
    }

    fn tick(&mut self) {
        if self.observers.interrupt.is_requested() && !self.interrupted {
            self.interrupted = true;
            self.shared.cut_short();
        }
        if !matches!(self.failure, Some(Failure::ServerEnded(_)))
            && let Some(ended) = (self.observers.server_ended)()
        {
            // The exit of the server explains the lost connections that threads report at the
            // same time.
            if !matches!(self.failure, Some(Failure::Integrity { .. })) {
                self.failure = Some(Failure::ServerEnded(ended));
            }
            self.shared.abort();
        }
        if self.plan.slices == 1 && self.has_begun && !self.has_ended {
            self.sample_cores();
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_VIEW) {
            self.show();
        }
    }

    fn sample_cores(&mut self) {
        if let Some((server, generator)) = self.active_cores() {
            self.samples += 1;
            self.samples_shared += u32::from(!server.is_disjoint(&generator));
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

    /// The phase, its elapsed time, and its length if known.
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
                let slice = self.plan.slice(self.turns - 1);
                (Phase::Measuring, since(begin_ns), slice.length)
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

    /// The verdict so far.
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
        (self.samples > 0)
            .then(|| f64::from(self.samples_shared) > SHARED_SHARE_MAX * f64::from(self.samples))
    }

    /// Waits until the threads are done, and returns the outcome.
    ///
    /// # Errors
    /// A failure before the measurement.
    pub(super) fn conclude(mut self) -> Result<Outcome, Failure> {
        self.watch(|_| false);
        let Some(started_at) = self.started_at else {
            return Err(self.failure.unwrap_or(Failure::Interrupted));
        };
        let elapsed_ns = self.ends.iter().map(|end| end.measured_ns).max();
        let elapsed = Duration::from_nanos(elapsed_ns.unwrap_or(0));
        let mut counts = Counts::default();
        let mut added_sources = 0;
        let mut unclosed = None;
        let mut handshake_ns = histogram();
        let mut handshakes_at_a_time = 0;
        let mut spin_ns = 0;
        let mut busy_max: f64 = 0.0;
        for end in std::mem::take(&mut self.ends) {
            counts += end.counts;
            added_sources = added_sources.max(end.added_sources);
            unclosed = unclosed.or(end.unclosed);
            handshake_ns
                .add(&end.handshake_ns)
                .expect("the same bounds");
            // The threads need not have had theirs at the same time.
            handshakes_at_a_time += u64::from(end.opening_max);
            spin_ns += end.spin_ns;
            let busy_ns = end.cpu_ns.saturating_sub(end.spin_ns);
            busy_max = busy_max.max(busy_ns as f64 / end.measured_ns.max(1) as f64);
            self.intervals.take(end.thread, end.part);
        }
        let drained = self.drain_began.map_or(Duration::ZERO, |at| at.elapsed());
        let shared_core = self.shares_core();
        let server = self.server.usage();
        let busiest_ns = self
            .observers
            .server
            .as_mut()
            .map(|server| server.busiest_ns());
        let server_busy_max = busiest_ns
            .filter(|_| server.is_some())
            .map(|busiest_ns| busiest_ns as f64 / elapsed.as_nanos().max(1) as f64);
        let (latencies, intervals) = self.intervals.finish(elapsed, drained);
        Ok(Outcome {
            addresses: Vec::new(),
            started_at,
            elapsed,
            counts,
            latencies,
            handshake_ns,
            handshakes_at_a_time: Some(handshakes_at_a_time),
            intervals,
            generator: GeneratorUse {
                usage: self.generator_cost.usage().unwrap_or_default(),
                spin_ns,
                busy_max,
            },
            server,
            server_busy_max,
            idle_cores: self.idle.cores(),
            shared_core,
            steal_share: self.steal.and_then(|(_, share)| share),
            added_sources,
            unclosed,
            interrupted: self.interrupted,
            failure: self.failure,
        })
    }
}

/// The length of the intervals that threads report.
fn interval_length(plan: &Plan) -> Duration {
    match plan.slice(0).length {
        Some(length) if plan.slices > 1 => length,
        _ => Duration::from_secs(1),
    }
}

/// This process's sample before it connects, for its memory.
fn own_sample() -> Option<Sample> {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    ThreadGroup::of(&[own]).ok().map(|mut own| own.sample())
}
