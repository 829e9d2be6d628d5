//! One thread's connections, from the first connect to the last Close.
//!
//! One epoll instance, no lock. A readiness event costs one read and, if there is something to
//! send, one write: the socket is not read until it is empty, as epoll is level-triggered and
//! reports it again if more is there.

mod batch_writer;
mod connecting;
mod connection;
mod endpoint;
mod housekeeping;
mod opening;
mod phases;
mod probe;
mod race;
mod shared;
mod sockets;
mod thread_state;
mod transport;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use fastrand::Rng;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

pub use endpoint::Endpoints;
pub use phases::DRAIN_INTERVAL;
pub use shared::{Shared, ThreadEnd, ThreadEvent};

use batch_writer::BatchWriter;
use connection::{Role, Stage};
use phases::{Phase, SliceTotals};
use sockets::{Sockets, Token};
use thread_state::{READ_LEN, SendState, ThreadState};

use crate::client::{Mix, Shape};
use crate::failure::Failure;
use crate::outcome::{Latencies, Unclosed};
use crate::plan::{Extent, Load, Pace, Plan, Protocol};
use crate::recorder::Recorder;
use crate::schedule::{Schedule, Share};

/// Events per `epoll_wait`.
const EVENTS_MAX: usize = 256;

/// The most due messages that are sent before replies are read again.
const SENDS_MAX: usize = 1024;

/// An open loop polls instead of sleeping for this long before a send, and after the last event:
/// a sleeping thread wakes some 50 µs late, and at times much later.
const SPIN_NS: u64 = 500_000;

/// The longest idle turn that counts as spinning. It usually takes about a microsecond; in a
/// longer one, the thread had lost its core.
const IDLE_TURN_NS_MAX: u64 = 10_000;

/// The interval of housekeeping.
const HOUSEKEEPING_INTERVAL_NS: u64 = 10_000_000;

/// The interval at which a pausing thread polls for its next slice: it costs a thousandth of the
/// core.
const SLICE_POLL_NS: u64 = 2_000_000;

/// Builds the messages of a plan. All threads share them.
pub fn mix_for(plan: &Plan) -> Mix {
    let shapes: Vec<_> = plan
        .sizes
        .iter()
        .map(|share| {
            let shape = Shape {
                kind: plan.kind,
                payload_len: share.len,
                fragments: plan.fragments as usize,
                raw: plan.protocol == Protocol::RawTcp,
            };
            (shape, share.weight)
        })
        .collect();
    Mix::new(&shapes, plan.seed)
}

/// The assignment of a thread.
pub struct Assignment<'a> {
    /// The whole plan.
    pub plan: &'a Plan,
    /// The thread's part of it.
    pub share: Share,
    /// The servers.
    pub endpoints: &'a Endpoints,
    /// The messages.
    pub mix: Arc<Mix>,
    /// State that all threads share.
    pub shared: &'a Shared,
    /// The channel to the coordinator.
    pub events: Sender<ThreadEvent>,
    /// Empty histograms to record in.
    pub empty_histograms: Receiver<Box<Latencies>>,
}

/// One thread's load.
pub struct Worker<'a> {
    plan: &'a Plan,
    share: Share,
    endpoints: &'a Endpoints,
    shared: &'a Shared,
    events: Sender<ThreadEvent>,
    empty_histograms: Receiver<Box<Latencies>>,
    state: ThreadState,
    sockets: Sockets,
    /// The slots of the connections that carry messages now.
    load_connections: Vec<usize>,
    slow_readers: Vec<usize>,
    schedule: Option<Schedule>,
    /// The slots of connections with a backlog of due messages.
    backlogged: Vec<usize>,
    /// The number of the plan's connections that this thread has begun.
    begun: u32,
    /// The number of the plan's connections in the handshake.
    opening: u32,
    /// The most there were at the same time.
    opening_max: u32,
    /// The number of connections begun to replace others.
    churned: u64,
    /// Connections with the rest of a split frame to write.
    paused: Vec<Token>,
    phase: Phase,
    phase_end_ns: u64,
    /// The index of the current or last slice.
    slice: u32,
    /// The start of its load.
    begun_ns: u64,
    /// The zero of an open loop's schedule. Every pause moves it on.
    zero_ns: u64,
    /// In a pause: whether all replies are received, and the end of the wait for them.
    is_quiet: bool,
    pause_ends_ns: u64,
    housekeeping_ns: u64,
    slow_ns: u64,
    deadline_cursor: usize,
    event_ns: u64,
    spin_ns: u64,
    timeout_ns: u64,
    measured: SliceTotals,
    unclosed: Option<Unclosed>,
}

impl<'a> Worker<'a> {
    /// A worker whose load has not begun.
    ///
    /// # Errors
    /// [`Failure::Local`] if there is no epoll instance.
    pub fn new(assignment: Assignment<'a>) -> Result<Self, Failure> {
        let Assignment {
            plan,
            share,
            endpoints,
            mix,
            shared,
            events,
            empty_histograms,
        } = assignment;
        let schedule = match plan.load {
            Load::Open { rate, arrival } => Some(Schedule::new(rate, arrival, share, plan.seed)),
            Load::Closed { .. } => None,
        };
        Ok(Self {
            plan,
            share,
            endpoints,
            shared,
            events,
            empty_histograms,
            sockets: Sockets::new(planned(plan, share) as usize)?,
            load_connections: vec![usize::MAX; share.own() as usize],
            slow_readers: Vec::new(),
            schedule,
            backlogged: Vec::with_capacity(SENDS_MAX),
            begun: 0,
            opening: 0,
            opening_max: 0,
            churned: 0,
            paused: Vec::new(),
            phase: Phase::Connect,
            phase_end_ns: u64::MAX,
            slice: 0,
            begun_ns: 0,
            zero_ns: 0,
            is_quiet: false,
            pause_ends_ns: u64::MAX,
            housekeeping_ns: 0,
            slow_ns: 0,
            deadline_cursor: 0,
            event_ns: 0,
            spin_ns: 0,
            timeout_ns: as_ns(plan.timeout),
            measured: SliceTotals::default(),
            unclosed: None,
            state: ThreadState {
                mix,
                load: plan.load,
                protocol: plan.protocol,
                split: plan.split,
                writer: BatchWriter::new(),
                read_buffer: vec![0; READ_LEN],
                controls: Vec::new(),
                recorder: Recorder::new(plan.timeout),
                random: Rng::with_seed(plan.seed ^ u64::from(share.thread)),
                epoch: shared.epoch,
                send_state: SendState::NotStarted,
                quota: match plan.extent {
                    Extent::Messages(count) => Some(share.of(count)),
                    Extent::Duration(_) => None,
                },
                in_flight: 0,
                progress_ns: 0,
                fresh_ns: None,
                unblocked: false,
                early: Vec::new(),
            },
        })
    }

    /// Runs the thread's part of the plan to its end, and reports.
    pub fn run(mut self) {
        let result = self.run_phases();
        let end = self.finish(result.err());
        // The receiver is gone only when the run was aborted.
        let _ = self.events.send(ThreadEvent::Done(Box::new(end)));
        // The cost of a thread cannot be read once it has ended: it waits until the coordinator
        // has read it.
        while self.empty_histograms.recv().is_ok() {}
    }

    fn run_phases(&mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now_ns = self.state.now_ns();
            if self.shared.is_aborted() {
                return Ok(());
            }
            self.advance(now_ns)?;
            if self.phase == Phase::Drain && self.sockets.open == 0 {
                return Ok(());
            }
            self.connect_due(now_ns)?;
            let fired = self.send_due(now_ns)?;
            if now_ns >= self.housekeeping_ns {
                self.housekeeping(now_ns)?;
            }
            let sleep_ns = self.sleep_ns(now_ns);
            self.wait(sleep_ns, &mut events)?;
            if events.is_empty() {
                if sleep_ns == 0 && !fired && self.plan.pace == Pace::Spin {
                    self.spin_ns += (self.state.now_ns() - now_ns).min(IDLE_TURN_NS_MAX);
                }
            } else {
                self.event_ns = now_ns;
            }
            for event in events.drain(..) {
                self.on_ready(Token::of(&event), event.flags)?;
            }
            self.resume_paused()?;
        }
    }

    /// Sends the messages that an open loop has due by now; `false` if there were none. If it
    /// fell behind, those of each connection are sent together.
    fn send_due(&mut self, now_ns: u64) -> Result<bool, Failure> {
        if !self.phase.has_begun() {
            return Ok(false);
        }
        for _ in 0..SENDS_MAX {
            let Some(next) = self.schedule.as_ref().map(Schedule::peek) else {
                break;
            };
            let intended_ns = self.zero_ns + next.intended_ns;
            if intended_ns > now_ns || self.is_past_end(intended_ns) {
                break;
            }
            if let Some(schedule) = &mut self.schedule {
                schedule.pop(next.intended_ns);
            }
            self.state.recorder.due(intended_ns, 1);
            self.state.spend(intended_ns, 1);
            let slot = self.load_connections[next.connection_index as usize];
            if let Some(connection) = self.sockets.at(slot) {
                let is_first = connection.add_due(intended_ns);
                // A blocked one continues at its event.
                if is_first && !connection.blocked {
                    self.backlogged.push(slot);
                }
            }
        }
        let any = !self.backlogged.is_empty();
        for index in 0..self.backlogged.len() {
            self.work(self.backlogged[index], false, false)?;
        }
        self.backlogged.clear();
        Ok(any)
    }

    /// Whether a message due at this time is after the measurement and is not sent.
    fn is_past_end(&self, intended_ns: u64) -> bool {
        let window = self.state.recorder.window;
        intended_ns >= window.end_ns
            || (self.state.quota == Some(0) && window.contains(intended_ns))
    }

    /// Whether an open loop has unsent messages that were due in the measurement.
    fn is_behind(&self) -> bool {
        self.schedule
            .as_ref()
            .is_some_and(|schedule| !self.is_past_end(self.zero_ns + schedule.peek().intended_ns))
    }

    /// The time until the next work, unless a socket becomes ready.
    fn sleep_ns(&self, now_ns: u64) -> u64 {
        let mut until_ns = self.phase_end_ns.min(self.housekeeping_ns);
        if let Some(connect_ns) = self.next_connect_ns() {
            until_ns = until_ns.min(connect_ns);
        }
        if !self.paused.is_empty() {
            return 0;
        }
        if self.phase.has_begun()
            && let Some(schedule) = &self.schedule
            && (!self.phase.is_over() || self.is_behind())
        {
            let next_ns = self.zero_ns + schedule.peek().intended_ns;
            if self.plan.pace == Pace::Sleep {
                return until_ns.min(next_ns).saturating_sub(now_ns);
            }
            if now_ns.saturating_sub(self.event_ns) < SPIN_NS {
                return 0;
            }
            until_ns = until_ns.min(next_ns.saturating_sub(SPIN_NS));
        } else if self.plan.pace == Pace::Spin && now_ns.saturating_sub(self.event_ns) < SPIN_NS {
            return 0;
        }
        until_ns.saturating_sub(now_ns)
    }

    /// Sleeps until a socket is ready, or for `sleep_ns`.
    fn wait(&self, sleep_ns: u64, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        let most_ns = match self.phase {
            Phase::Pause => SLICE_POLL_NS,
            _ => HOUSEKEEPING_INTERVAL_NS,
        };
        let timeout = Duration::from_nanos(sleep_ns.min(most_ns));
        // The sleep is far below the limit of the type.
        let timeout = Timespec::try_from(timeout).expect("a short time");
        match epoll::wait(&self.sockets.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Failure::Local {
                what: "waiting for sockets",
                source: errno.into(),
            }),
        }
    }

    /// Sends the rest of frames that were cut on purpose.
    fn resume_paused(&mut self) -> Result<(), Failure> {
        for token in std::mem::take(&mut self.paused) {
            if self
                .sockets
                .get(token)
                .is_some_and(|connection| connection.paused)
            {
                self.work(token.slot, false, false)?;
            }
        }
        Ok(())
    }

    /// Handles the readiness of a connection.
    #[inline]
    fn on_ready(&mut self, token: Token, ready: epoll::EventFlags) -> Result<(), Failure> {
        let Some(connection) = self.sockets.get(token) else {
            // An event of the same batch closed it.
            return Ok(());
        };
        // Errors and hang-ups are read as well: the read returns the error.
        let readable = ready.intersects(!epoll::EventFlags::OUT);
        let writable = ready.contains(epoll::EventFlags::OUT);
        if connection.opening.is_some() {
            return self.open_step(token.slot, readable);
        }
        self.work(token.slot, readable, writable)
    }

    /// Lets a connection work, and updates its epoll interest.
    #[inline]
    fn work(&mut self, slot: usize, readable: bool, writable: bool) -> Result<(), Failure> {
        let Some(connection) = self.sockets.at(slot) else {
            return Ok(());
        };
        let result = connection.work(readable, writable, &mut self.state);
        if let Err(failure) = result {
            return self.on_failure(slot, failure);
        }
        if connection.stage == Stage::Closed {
            return self.close(slot, None);
        }
        if connection.paused {
            self.paused.push(Token {
                slot,
                connection: connection.id,
            });
        }
        self.sockets.watch(slot)
    }

    /// A failed connection fails the run, unless it was being replaced or is a slow reader.
    #[cold]
    fn on_failure(&mut self, slot: usize, failure: Failure) -> Result<(), Failure> {
        let Some(connection) = self.sockets.at(slot) else {
            return Err(failure);
        };
        match failure {
            Failure::Lost { reason, .. } | Failure::LostIdle { reason, .. }
                if connection.stage == Stage::Closing =>
            {
                self.close(slot, Some(reason))
            }
            Failure::Lost { .. } if connection.role == Role::Slow => {
                self.state.recorder.counts.slow_readers_cut += 1;
                self.close(slot, None)
            }
            failure => Err(failure),
        }
    }
}

/// The number of the plan's connections that a thread has.
fn planned(plan: &Plan, share: Share) -> u32 {
    let all = u32::try_from(plan.sockets()).unwrap_or(u32::MAX);
    (all - share.thread).div_ceil(share.threads)
}

pub(crate) fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
