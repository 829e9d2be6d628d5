//! Drives connections through warm-up, measurement and drain.
//!
//! One thread, one epoll instance, no lock. A readiness event costs one read
//! and, if replies completed, one write: the socket is not read until it is
//! empty, as epoll is level-triggered and says so if more is there.

mod connection;
mod outbox;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::client::handshake::shake_hands;
use crate::client::{Control, Deck};
use crate::cpu;
use crate::failure::{Failure, Loss};
use crate::plan::Plan;
use crate::recorder::{Outcome, Recorder};
use crate::target::Target;

use connection::{Connection, Stage};
use outbox::Outbox;

/// The read buffer all connections share, in bytes. With the deck and the
/// outbox it has to fit in L2.
const READ_LEN: usize = 128 << 10;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

/// How often connections are searched for one that makes no progress, at most.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Load, not counted.
    WarmUp,
    /// Load, counted.
    Measure,
    /// Nothing new is sent; replies still due are awaited, then connections
    /// are closed.
    Drain,
}

/// Connects, runs the whole plan, and closes. `on_phase` is called as each
/// phase begins, so that what it samples then covers exactly what was counted.
///
/// # Errors
/// The first thing that went wrong; see [`Failure`].
pub fn drive(
    plan: &Plan,
    target: &Target,
    on_phase: &mut dyn FnMut(Phase),
) -> Result<Outcome, Failure> {
    let mut driver = Driver::connect(plan, target)?;
    driver.send_first_messages()?;
    driver.enter(Phase::WarmUp, on_phase);
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let now_ns = driver.desk.now_ns();
        driver.advance(now_ns, on_phase)?;
        driver.sweep(now_ns)?;
        if driver.open == 0 {
            return driver.finish();
        }
        driver.wait(now_ns, &mut events)?;
        for event in events.drain(..) {
            driver.on_ready(index_of(&event), event.flags)?;
        }
    }
}

/// What all connections share while they work.
struct Desk {
    deck: Deck,
    outbox: Outbox,
    read_buffer: Vec<u8>,
    controls: Vec<Control>,
    recorder: Recorder,
    random: Rng,
    epoch: Instant,
    /// The time, as long as it is as good as a new look at the clock.
    fresh_ns: Option<u64>,
}

impl Desk {
    /// Nanoseconds since the run's epoch.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "64 bits are 584 years")]
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The time for a write that is about to happen.
    #[inline]
    fn write_ns(&mut self) -> u64 {
        self.fresh_ns.take().unwrap_or_else(|| self.now_ns())
    }
}

struct Driver<'a> {
    plan: &'a Plan,
    desk: Desk,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections that are not closed.
    open: usize,
    phase: Phase,
    phase_end_ns: u64,
    timeout_ns: u64,
    sweep_ns: u64,
    measured: Span,
    unclosed: Option<Unclosed>,
}

/// Where the measurement began, and then what it took.
#[derive(Default)]
struct Span {
    wall_ns: u64,
    cpu_ns: u64,
}

/// Connections that did not answer Close with Close, and the first of them.
struct Unclosed {
    count: u32,
    connection: u32,
    reason: Loss,
}

impl<'a> Driver<'a> {
    /// Opens all connections, one after the other.
    fn connect(plan: &'a Plan, target: &Target) -> Result<Self, Failure> {
        let mut random = Rng::with_seed(plan.seed);
        let addresses = target.resolve().map_err(|source| Failure::Resolve {
            target: target.to_string(),
            source,
        })?;
        let local = |what| {
            move |error: io::Error| Failure::Local {
                what,
                source: error,
            }
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| local("creating an epoll instance")(errno.into()))?;

        let mut connections = Vec::with_capacity(plan.connections as usize);
        for id in 0..plan.connections {
            let connect = |source| Failure::Connect {
                target: target.to_string(),
                connection: id,
                source,
            };
            let stream = connect_any(&addresses, plan.timeout).map_err(connect)?;
            let mut nonce = [0; 16];
            random.fill(&mut nonce);
            let early = shake_hands(&stream, target, nonce, plan.timeout).map_err(|source| {
                Failure::Handshake {
                    target: target.to_string(),
                    connection: id,
                    source,
                }
            })?;
            stream.set_nonblocking(true).map_err(connect)?;
            epoll::add(
                &epoll,
                &stream,
                EventData::new_u64(u64::from(id)),
                EventFlags::IN,
            )
            .map_err(|errno| local("watching a socket")(errno.into()))?;
            connections.push(Connection::new(id, stream, early));
        }
        let deck = Deck::new(plan.kind, plan.payload_len, random.u64(..));
        Ok(Self {
            plan,
            epoll,
            open: connections.len(),
            connections,
            phase: Phase::WarmUp,
            phase_end_ns: 0,
            timeout_ns: as_ns(plan.timeout),
            sweep_ns: 0,
            measured: Span::default(),
            unclosed: None,
            desk: Desk {
                outbox: Outbox::new(deck.frame_len()),
                deck,
                read_buffer: vec![0; READ_LEN],
                controls: Vec::new(),
                recorder: Recorder::new(),
                random,
                epoch: Instant::now(),
                fresh_ns: None,
            },
        })
    }

    fn send_first_messages(&mut self) -> Result<(), Failure> {
        for index in 0..self.connections.len() {
            let now_ns = self.desk.now_ns();
            self.connections[index].begin(now_ns);
            self.on_ready(index, EventFlags::empty())?;
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase, on_phase: &mut dyn FnMut(Phase)) {
        on_phase(phase);
        let now_ns = self.desk.now_ns();
        let lasts = match phase {
            Phase::WarmUp => self.plan.warmup,
            Phase::Measure => self.plan.duration,
            Phase::Drain => Duration::MAX,
        };
        self.phase = phase;
        self.phase_end_ns = now_ns.saturating_add(as_ns(lasts));
        match phase {
            Phase::WarmUp => {}
            Phase::Measure => {
                self.measured = Span {
                    wall_ns: now_ns,
                    cpu_ns: cpu::this_thread_ns(),
                };
                self.desk.recorder.start();
            }
            Phase::Drain => {
                self.desk.recorder.stop();
                self.measured.wall_ns = now_ns - self.measured.wall_ns;
                self.measured.cpu_ns = cpu::this_thread_ns() - self.measured.cpu_ns;
            }
        }
    }

    /// Goes to the next phase when this one is over.
    fn advance(&mut self, now_ns: u64, on_phase: &mut dyn FnMut(Phase)) -> Result<(), Failure> {
        if now_ns < self.phase_end_ns {
            return Ok(());
        }
        match self.phase {
            Phase::WarmUp => self.enter(Phase::Measure, on_phase),
            Phase::Measure => {
                self.enter(Phase::Drain, on_phase);
                // Some have nothing in flight just now, and so no event to come.
                for index in 0..self.connections.len() {
                    self.on_ready(index, EventFlags::empty())?;
                }
            }
            Phase::Drain => {}
        }
        Ok(())
    }

    /// Looks for connections that made no progress for too long.
    fn sweep(&mut self, now_ns: u64) -> Result<(), Failure> {
        if now_ns < self.sweep_ns {
            return Ok(());
        }
        self.sweep_ns = now_ns + as_ns(SWEEP_INTERVAL).min(self.timeout_ns / 4);
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if now_ns.saturating_sub(connection.progress_ns) < self.timeout_ns {
                continue;
            }
            match connection.stage {
                Stage::Echoing => {
                    return Err(Failure::Stalled {
                        connection: connection.id,
                        message: connection.checker.received(),
                        timeout: self.plan.timeout,
                    });
                }
                Stage::Closing => self.close(index, Some(Loss::Silence(self.plan.timeout)))?,
                Stage::Closed => {}
            }
        }
        Ok(())
    }

    /// Sleeps until a socket is ready or something is to be done.
    fn wait(&self, now_ns: u64, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        let until_ns = self.phase_end_ns.min(self.sweep_ns);
        let timeout = Duration::from_nanos(until_ns.saturating_sub(now_ns));
        // Sweeps bound it far below what does not fit.
        let timeout = Timespec::try_from(timeout).expect("a short time");
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Failure::Local {
                what: "waiting for sockets",
                source: errno.into(),
            }),
        }
    }

    /// Reads, checks and writes what a connection can.
    #[inline]
    fn on_ready(&mut self, index: usize, ready: EventFlags) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.stage == Stage::Closed {
            return Ok(());
        }
        let window = match self.phase {
            Phase::WarmUp | Phase::Measure => u64::from(self.plan.window),
            Phase::Drain => 0,
        };
        let watched = connection.blocked;
        if ready.contains(EventFlags::OUT) {
            connection.blocked = false;
        }
        // Errors and hang-ups are read, too: the read says what they are.
        let readable = ready.intersects(!EventFlags::OUT);
        let result = connection.work(readable, window, &mut self.desk);
        let blocked = connection.blocked;
        match result {
            Ok(Stage::Closed) => return self.close(index, None),
            Ok(_) => {}
            Err(Failure::Lost { reason, .. }) if connection.stage == Stage::Closing => {
                return self.close(index, Some(reason));
            }
            Err(failure) => return Err(failure),
        }
        if watched == blocked {
            return Ok(());
        }
        let interest = if blocked {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        epoll::modify(
            &self.epoll,
            &connection.stream,
            EventData::new_u64(index as u64),
            interest,
        )
        .map_err(|errno| Failure::Local {
            what: "watching a socket",
            source: errno.into(),
        })
    }

    /// Ends a connection's life, well or with the reason why not.
    fn close(&mut self, index: usize, wrong: Option<Loss>) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.stage = Stage::Closed;
        self.open -= 1;
        if let Some(reason) = wrong {
            let first = self.unclosed.get_or_insert(Unclosed {
                count: 0,
                connection: connection.id,
                reason,
            });
            first.count += 1;
        }
        epoll::delete(&self.epoll, &connection.stream).map_err(|errno| Failure::Local {
            what: "leaving a socket",
            source: errno.into(),
        })
    }

    fn finish(self) -> Result<Outcome, Failure> {
        if let Some(unclosed) = self.unclosed {
            return Err(Failure::Unclosed {
                count: unclosed.count,
                connections: self.plan.connections,
                connection: unclosed.connection,
                reason: unclosed.reason,
            });
        }
        let elapsed = Duration::from_nanos(self.measured.wall_ns);
        Ok(self.desk.recorder.finish(elapsed, self.measured.cpu_ns))
    }
}

/// Connects to the first address that answers.
fn connect_any(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(refusal) => error = refusal,
        }
    }
    Err(error)
}

/// The connection an event is about.
#[expect(clippy::cast_possible_truncation, reason = "it was made from a u32")]
fn index_of(event: &epoll::Event) -> usize {
    let data = event.data;
    data.u64() as usize
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
