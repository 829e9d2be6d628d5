//! The `epoll` engine: one object owns all of a worker's connections.
//!
//! Its epoll instance is registered once with the worker's runtime; when that
//! says that something is ready, the engine takes a batch of events and serves
//! each connection with one read into a buffer that all share, one pass of the
//! echo core, and one write. Events are edge-triggered: a connection is
//! registered once and never modified, and the engine itself remembers which
//! ones may hold more than was read.

mod connection;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::burden::Burden;
use super::spin::Spin;
use super::{Drain, Engine, Holdings, Millis, Settings, Upgraded};
use crate::calls;
use crate::metrics::label::EndReason;
use crate::socket_memory::SocketMemory;
use crate::turn::turn;
use connection::{Connection, Fate, INTEREST};

/// Events taken at once. Between two batches the runtime gets its turn, so
/// this bounds how long a handshake or a timer waits.
const EVENTS_PER_TURN: usize = 256;

/// Turns with more to do behind them before the runtime gets its own.
const TURNS_PER_STRETCH: usize = 4;

/// Looks for events, while spinning, before the runtime gets its turn. Its own
/// look costs several of these.
const LOOKS_PER_STRETCH: usize = 16;

/// The engine as the worker sees it.
pub(crate) struct EpollEngine {
    epoll: AsyncFd<OwnedFd>,
    /// Wakes [`Engine::run`] for connections that are due without an event.
    work: Notify,
    core: RefCell<Core>,
}

/// All connections of a worker, and what serves them.
struct Core {
    connections: Slab<Connection>,
    shared: Shared,
    /// Connections that are to be served, in this order.
    due: Vec<usize>,
    /// Where `due` goes while it is worked off, to come back empty.
    serving: Vec<usize>,
    /// Those of them that flood. They wait for all others, and not the other
    /// way round: each turn serves everybody in `due`, and one of these.
    floods: VecDeque<usize>,
    events: Vec<Event>,
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
        Ok(Self {
            epoll,
            work: Notify::new(),
            core: RefCell::new(Core {
                connections: Slab::new(),
                due: Vec::new(),
                serving: Vec::new(),
                floods: VecDeque::new(),
                events: Vec::with_capacity(EVENTS_PER_TURN),
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
                () = self.work.notified() => None,
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
        if !core.due.is_empty() {
            self.work.notify_one();
        }
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        Box::pin(async move { self.serve_forever().await })
    }

    fn tick(&self) -> Holdings {
        let mut core = self.core.borrow_mut();
        let holdings = core.tick();
        if core.has_due() {
            self.work.notify_one();
        }
        holdings
    }

    fn burdens(&self) -> Vec<Burden<usize>> {
        self.core.borrow().burdens()
    }

    fn dismiss(&self, key: usize, reason: EndReason) {
        self.core.borrow_mut().dismiss(key, reason);
    }

    fn socket_memory(&self, key: usize) -> Option<SocketMemory> {
        SocketMemory::of(self.core.borrow().connections[key].socket())
    }

    fn drain(&self, drain: Drain) {
        self.core.borrow_mut().drain(drain);
        self.work.notify_one();
    }
}

impl Core {
    fn adopt(&mut self, epoll: &OwnedFd, upgraded: Upgraded) {
        let now = self.shared.settings.clock.now();
        let leftover = upgraded.leftover;
        let mut connection = Connection::new(upgraded.socket, upgraded.permit, now);
        if connection.begin(&leftover, &mut self.shared, now) == Fate::Ended {
            connection.over(&self.shared);
            return;
        }
        let entry = self.connections.vacant_entry();
        let data = EventData::new_u64(entry.key() as u64);
        if let Err(error) = calls::watch(epoll, connection.socket(), data, INTEREST) {
            connection.lost(&error.into(), &self.shared);
            return;
        }
        if connection.wants_service() {
            connection.listed = true;
            self.due.push(entry.key());
        }
        entry.insert(connection);
    }

    /// Takes one batch of events and serves each connection that is due with
    /// one read.
    fn turn(&mut self, epoll: &OwnedFd) -> io::Result<Turn> {
        self.events.clear();
        rustix::io::retry_on_intr(|| calls::take_events(epoll, &mut self.events))?;
        for &event in &self.events {
            let key = usize::try_from(event.data.u64()).expect("a key of the slab");
            // Its connection may have ended since the kernel queued it.
            if let Some(connection) = self.connections.get_mut(key)
                && connection.note(event.flags)
            {
                if connection.floods() {
                    self.floods.push_back(key);
                } else {
                    self.due.push(key);
                }
            }
        }
        let was_due = self.has_due();
        if was_due {
            self.serve_due();
        }
        let unfinished = self.events.len() == EVENTS_PER_TURN || self.has_due();
        Ok(match (unfinished, was_due) {
            (true, _) => Turn::Unfinished,
            (false, true) => Turn::Done,
            (false, false) => Turn::Empty,
        })
    }

    fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.floods.is_empty()
    }

    fn serve_due(&mut self) {
        let now = self.shared.settings.clock.now();
        let mut serving = mem::replace(&mut self.due, mem::take(&mut self.serving));
        // Who turns out to flood has been served in this turn.
        let flood = self.floods.pop_front();
        for key in serving.drain(..) {
            turn(|| self.serve(key, now));
        }
        self.serving = serving;
        if let Some(key) = flood {
            turn(|| self.serve(key, now));
        }
    }

    /// Serves a connection and lists it again if that was not all.
    fn serve(&mut self, key: usize, now: Millis) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.listed = false;
        if connection.serve(&mut self.shared, now) == Fate::Ended {
            connection.over(&self.shared);
            self.connections.remove(key);
        } else if connection.wants_service() {
            connection.listed = true;
            if connection.floods() {
                self.floods.push_back(key);
            } else {
                self.due.push(key);
            }
        }
    }

    fn tick(&mut self) -> Holdings {
        let now = self.shared.settings.clock.now();
        let (shared, due) = (&mut self.shared, &mut self.due);
        let mut holdings = Holdings::default();
        self.connections.retain(|key, connection| {
            let fate = turn(|| connection.tick(shared, now));
            if fate == Fate::Ended {
                connection.over(shared);
                return false;
            }
            holdings.add(connection.holdings(now));
            // It may be read on, or have been sent what made it wait.
            if connection.note(EventFlags::empty()) {
                due.push(key);
            }
            true
        });
        holdings
    }

    fn burdens(&self) -> Vec<Burden<usize>> {
        let now = self.shared.settings.clock.now();
        let connections = self.connections.iter();
        connections
            .filter_map(|(key, held)| Burden::of(key, held.holdings(now)))
            .collect()
    }

    fn dismiss(&mut self, key: usize, reason: EndReason) {
        let now = self.shared.settings.clock.now();
        let connection = &mut self.connections[key];
        if connection.dismiss(reason, &self.shared, now) == Fate::Ended {
            connection.over(&self.shared);
            self.connections.remove(key);
        }
    }

    fn drain(&mut self, drain: Drain) {
        self.shared.draining = Some(drain);
        for (key, connection) in &mut self.connections {
            // A last look at what has arrived, even where no event says so.
            if connection.note(EventFlags::IN) {
                self.due.push(key);
            }
        }
    }
}
