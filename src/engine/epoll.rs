//! The `epoll` engine: one object owns all of a worker's connections.
//!
//! Its epoll instance is registered once with the worker's runtime; when that
//! says that something is ready, the engine takes a batch of events and serves
//! each connection with one read into a buffer that all share, one pass of the
//! echo core, and one write. Events are edge-triggered: a connection is
//! registered once and never modified, and the engine itself remembers which
//! ones may hold more than was read.

mod socket;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::connection::{Connection, Context, Timer};
use super::eviction::EvictionCandidate;
use super::messages::channel::News;
use super::plain::Flow;
use super::schedule::Schedule;
use super::spin::Spin;
use super::table::{Served, Table};
use super::{Buffered, Drain, Engine, Millis, Settings, Upgraded};
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;
use crate::sys::calls;
use crate::sys::turn::turn;
use socket::{EpollSocket, INTEREST};

/// Events taken at once. Between two batches the runtime gets its turn, so
/// this bounds how long a handshake or a timer waits.
const EVENTS_PER_TURN: usize = 256;

/// Connections in bulk that are served in one turn.
const BULK_PER_TURN: usize = 1;

/// Turns with more to do behind them before the runtime gets its own.
const TURNS_PER_STRETCH: usize = 4;

/// Looks for events, while spinning, before the runtime gets its turn. Its own
/// look costs several of these.
const LOOKS_PER_STRETCH: usize = 16;

/// The engine as the worker sees it.
pub(crate) struct EpollEngine {
    epoll: AsyncFd<OwnedFd>,
    /// Wakes [`Engine::run`] for connections that are due without an event.
    news: Rc<News>,
    core: RefCell<Core>,
}

/// All connections of a worker, and what serves them.
struct Core {
    connections: Table<EpollSocket>,
    schedule: Schedule,
    events: Vec<Event>,
    /// Those whose handlers have done something.
    news: Rc<News>,
    shared: Shared,
}

/// What the connections have in common.
struct Shared {
    /// Belongs to the connection that is being served.
    read_buf: Box<[u8]>,
    draining: Option<Drain>,
    settings: Rc<Settings>,
}

/// What came of looking for events once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing was due.
    Empty,
    /// All that was due is served.
    Done,
    /// There may be more to do at once.
    Unfinished,
}

/// What the engine lets the runtime do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Run the other tasks, and return.
    Yield,
    /// Sleep until there is an event.
    Sleep,
}

impl EpollEngine {
    /// An engine on the current thread's runtime.
    pub(crate) fn new(settings: Rc<Settings>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` is a valid descriptor that stays open, and the
        // same, for as long as it exists, and `get_ref` is all that is used.
        let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE)? };
        let news = Rc::<News>::default();
        Ok(Self {
            epoll,
            news: Rc::clone(&news),
            core: RefCell::new(Core {
                connections: Table::new(),
                schedule: Schedule::default(),
                events: Vec::with_capacity(EVENTS_PER_TURN),
                news,
                shared: Shared {
                    read_buf: vec![0; settings.read_buffer_len()].into_boxed_slice(),
                    draining: None,
                    settings,
                },
            }),
        })
    }

    async fn serve_forever(&self) -> io::Error {
        let settings = Rc::clone(&self.core.borrow().shared.settings);
        let mut spin = Spin::new(settings.busy_poll);
        loop {
            let readiness = tokio::select! {
                readiness = self.epoll.readable() => Some(readiness),
                () = self.news.work.notified() => None,
                () = settings.activity.arrived(), if spin.is_on() => None,
            };
            loop {
                match self.stretch(&mut spin) {
                    Ok(Pause::Yield) => tokio::task::yield_now().await,
                    Ok(Pause::Sleep) => break,
                    Err(error) => return error,
                }
            }
            match readiness {
                // Whatever comes from here on marks the descriptor ready again:
                // the runtime looks for events only when no task runs.
                Some(Ok(mut readiness)) => readiness.clear_ready(),
                Some(Err(error)) => return error,
                None => {}
            }
        }
    }

    /// Serves what is ready, and spins, until the runtime is to have its turn.
    fn stretch(&self, spin: &mut Spin) -> io::Result<Pause> {
        let mut core = self.core.borrow_mut();
        let mut unfinished = 0;
        for _ in 0..LOOKS_PER_STRETCH {
            let turn = core.turn(self.epoll.get_ref())?;
            let spins = spin.is_on() && {
                let now = Instant::now();
                let others = core.shared.settings.activity.take();
                if turn != Turn::Empty || others {
                    spin.event(now);
                }
                spin.goes_on(now)
            };
            match turn {
                Turn::Unfinished if unfinished < TURNS_PER_STRETCH => unfinished += 1,
                Turn::Unfinished => return Ok(Pause::Yield),
                Turn::Done | Turn::Empty if spins => {}
                Turn::Done | Turn::Empty => return Ok(Pause::Sleep),
            }
        }
        Ok(Pause::Yield)
    }
}

impl Engine for EpollEngine {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        let mut core = self.core.borrow_mut();
        core.adopt(self.epoll.get_ref(), upgraded);
        if !core.schedule.is_empty() {
            self.news.work.notify_one();
        }
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        Box::pin(async move { self.serve_forever().await })
    }

    fn tick(&self) -> Buffered {
        let mut core = self.core.borrow_mut();
        let buffered = core.tick();
        if !core.schedule.is_empty() {
            self.news.work.notify_one();
        }
        buffered
    }

    fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        let core = self.core.borrow();
        core.connections
            .eviction_candidates(core.shared.settings.clock.now())
    }

    fn evict(&self, key: u32, reason: EndReason) {
        self.core.borrow_mut().evict(key, reason);
    }

    fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut core = self.core.borrow_mut();
        SocketMemory::of(core.connections.get_mut(key)?.socket())
    }

    fn drain(&self, drain: Drain, spread: Duration) {
        self.core.borrow_mut().drain(drain, spread);
    }
}

impl Served for EpollSocket {
    fn timer(&self) -> Timer {
        self.connection.timer()
    }

    fn is_due(&self, context: Context) -> bool {
        self.connection.is_due(context)
    }

    fn deadline(&self, context: Context) -> Option<Millis> {
        self.connection.deadline(context)
    }

    fn held(&self) -> usize {
        self.connection.held()
    }

    fn buffered(&self, now: Millis) -> Buffered {
        self.connection.buffered(0, now)
    }
}

impl Core {
    fn adopt(&mut self, epoll: &OwnedFd, upgraded: Upgraded) {
        let now = self.shared.settings.clock.now();
        let key = self.connections.next_key();
        if let Some(handler) = &upgraded.handler {
            let news = Rc::clone(&self.news);
            handler.set_wake(move || news.push(key));
        }
        let draining = self.shared.draining;
        let connection = Connection::new(upgraded.permit, upgraded.handler, now, draining);
        let mut served = EpollSocket::new(upgraded.socket, connection);
        if served
            .begin(&upgraded.leftover, &mut self.shared, now)
            .is_break()
        {
            served.over(&self.shared);
            return;
        }
        let data = EventData::new_u64(key.into());
        if let Err(error) = calls::watch(epoll, served.socket(), data, INTEREST) {
            served.lost(&error.into(), &self.shared);
            return;
        }
        self.connections
            .insert(served, self.shared.settings.at(now));
        self.list(key, EventFlags::empty());
    }

    /// Puts a connection onto the list if it wants to be served, given these events.
    fn list(&mut self, key: u32, flags: EventFlags) {
        // It may have ended since the kernel queued an event.
        if let Some(served) = self.connections.get_mut(key)
            && served.note(flags)
        {
            self.schedule.list(key, served.is_bulk());
        }
    }

    /// Takes one batch of events and serves each connection that is due with
    /// one read.
    fn turn(&mut self, epoll: &OwnedFd) -> io::Result<Turn> {
        self.events.clear();
        rustix::io::retry_on_intr(|| calls::take_events(epoll, &mut self.events))?;
        for index in 0..self.events.len() {
            let event = self.events[index];
            let key = u32::try_from(event.data.u64()).expect("a key of the table");
            self.list(key, event.flags);
        }
        while let Some(key) = self.news.pop() {
            self.list(key, EventFlags::empty());
        }
        let was_due = !self.schedule.is_empty();
        if was_due {
            self.serve_due();
        }
        let unfinished = self.events.len() == EVENTS_PER_TURN || !self.schedule.is_empty();
        Ok(match (unfinished, was_due) {
            (true, _) => Turn::Unfinished,
            (false, true) => Turn::Done,
            (false, false) => Turn::Empty,
        })
    }

    fn serve_due(&mut self) {
        let now = self.shared.settings.clock.now();
        let mut this_turn = self.schedule.take(BULK_PER_TURN);
        while let Some(key) = self.schedule.next(&mut this_turn) {
            turn(|| self.serve(key, now));
        }
    }

    /// Serves a connection and lists it again if that was not all.
    fn serve(&mut self, key: u32, now: Millis) {
        if let Some(served) = self.connections.get_mut(key) {
            served.listed = false;
            let flow = served.serve(&mut self.shared, now);
            self.settle(key, flow);
        }
    }

    /// Gives a connection up that has ended, and sees to what one needs that lives on.
    fn settle(&mut self, key: u32, flow: Flow) {
        if flow.is_continue() {
            self.connections.settle(key, &self.shared.settings);
            self.list(key, EventFlags::empty());
        } else if let Some(mut served) = self.connections.remove(key) {
            served.over(&self.shared);
            if served.listed {
                self.schedule.forget(key);
            }
        }
    }

    fn tick(&mut self) -> Buffered {
        let settings = Rc::clone(&self.shared.settings);
        let context = settings.context();
        self.connections.advance(context.now);
        while let Some(key) = self.connections.next_due(context) {
            if let Some(served) = self.connections.get_mut(key) {
                let flow = turn(|| served.timeout(&mut self.shared, context.now));
                self.settle(key, flow);
                self.connections.note(key, context);
            }
        }
        for (key, drain) in self.connections.drained_in_turn(context) {
            self.start_drain(key, drain);
        }
        self.connections.buffered()
    }

    fn start_drain(&mut self, key: u32, drain: Drain) {
        if let Some(served) = self.connections.get_mut(key) {
            served.connection.start_drain(drain);
            // A last read of what has arrived, even where no event says so.
            self.list(key, EventFlags::IN);
        }
    }

    fn evict(&mut self, key: u32, reason: EndReason) {
        if let Some(served) = self.connections.get_mut(key) {
            let flow = served.evict(self.shared.settings.context(), reason);
            self.settle(key, flow);
        }
    }

    fn drain(&mut self, drain: Drain, spread: Duration) {
        self.shared.draining = Some(drain);
        let now = self.shared.settings.clock.now();
        self.connections.drain(drain, spread, now);
        self.shared.settings.timers.want();
    }
}
