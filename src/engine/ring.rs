//! The `ring` engine: one `io_uring` and one object for all of a worker's
//! connections.
//!
//! Each connection has a multishot receive, which takes a buffer out of a
//! [pool](pool) when bytes arrive. The echo core answers in that buffer, and
//! the reply is sent from it. A turn of the engine is one call of
//! `io_uring_enter(2)`, which starts the replies of the last batch and brings
//! the next one:
//!
//! ```text
//! serve ─▶ queue the replies ─▶ enter ─▶ take completions ─▶ give buffers back
//!   ▲                                         │
//!   └─────── connections that are due ────────┘
//! ```
//!
//! A reply's send never waits. It takes what the socket has room for and ends
//! within the call that starts it, so that its buffer is back in the pool
//! afterwards, whatever the client does. What is left is copied out, into the
//! connection's [backlog](super::backlog), and sent when the ring says that there
//! is room.

mod connection;
#[cfg(test)]
mod inspection;
mod operation;
mod pool;
mod probe;
mod reads;
mod token;
mod uring;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::hint;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::burden::Burden;
use super::spin::Spin;
use super::{Drain, Engine, Holdings, Settings, Upgraded};
use crate::metrics::label::EndReason;
use crate::socket_memory::SocketMemory;
use crate::turn::turn;
use connection::{Connection, Fate};
use pool::{BufferId, Pool};
use token::{Key, Op, Token};
use uring::Uring;

pub(crate) use probe::{MIN_KERNEL, probe};

/// Connections that flood and are received for in one turn.
const FLOODS_PER_TURN: usize = 2;

/// Turns in a row before the runtime gets its own, so that handshakes and
/// timers do not wait longer than that.
const TURNS_PER_STRETCH: usize = 8;

/// Looks for work, while spinning, before the runtime gets its turn. They read
/// memory that the kernel writes, and cost far less than the runtime's look.
const LOOKS_PER_STRETCH: usize = 256;

/// The engine as the worker sees it.
pub(crate) struct RingEngine {
    /// Becomes readable when the ring has work.
    eventfd: AsyncFd<OwnedFd>,
    /// Wakes [`Engine::run`] for what the ring does not know of yet.
    work: Notify,
    settings: Rc<Settings>,
    core: RefCell<Core>,
}

/// All connections of a worker, and what serves them.
struct Core {
    /// Ends before the connections, whose memory the kernel may use.
    shared: Shared,
    connections: Slab<Connection>,
    /// Connections that there have been.
    adopted: u64,
    /// Connections that are to be served, in this order.
    due: Vec<u32>,
    /// Where `due` goes while it is worked off, to come back empty.
    serving: Vec<u32>,
    /// Those of them that flood. They wait for all others, and not the other
    /// way round: each turn serves everybody in `due`, and few of these.
    floods: VecDeque<u32>,
}

/// What the connections have in common.
struct Shared {
    /// Ends before the pool, into which the kernel receives.
    uring: Uring,
    pool: Pool,
    /// Replies that the next call sends.
    replies: Vec<Reply>,
    draining: Option<Drain>,
    settings: Rc<Settings>,
}

/// A reply that stands in a buffer of the pool.
#[derive(Clone, Copy)]
struct Reply {
    place: u32,
    buffer: BufferId,
}

/// What the engine lets the runtime do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Run the other tasks, and return.
    Yield,
    /// Sleep until there is an event.
    Sleep,
}

impl RingEngine {
    /// An engine on the current thread's runtime.
    ///
    /// # Errors
    /// As [`Uring::new`].
    pub(crate) fn new(settings: Rc<Settings>) -> io::Result<Self> {
        let uring = Uring::new()?;
        let pool = Pool::new(settings.limits.window, settings.read_size);
        pool.register(&uring)?;
        Ok(Self {
            // SAFETY: an `OwnedFd` is a valid descriptor that stays open, and
            // the same, for as long as it exists.
            eventfd: unsafe {
                AsyncFd::register_with_interest(uring.eventfd()?, Interest::READABLE)?
            },
            work: Notify::new(),
            settings: Rc::clone(&settings),
            core: RefCell::new(Core {
                shared: Shared {
                    uring,
                    pool,
                    replies: Vec::new(),
                    draining: None,
                    settings,
                },
                connections: Slab::new(),
                adopted: 0,
                due: Vec::new(),
                serving: Vec::new(),
                floods: VecDeque::new(),
            }),
        })
    }

    async fn serve_forever(&self) -> io::Error {
        let mut spin = Spin::new(self.settings.busy_poll);
        loop {
            let pause = self.core.borrow_mut().stretch(&mut spin);
            match pause {
                Ok(Pause::Sleep) => {}
                Ok(Pause::Yield) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error) => return error,
            }
            tokio::select! {
                readiness = self.eventfd.readable() => match readiness {
                    // Its count is never read: each addition is an event.
                    Ok(mut readiness) => readiness.clear_ready(),
                    Err(error) => return error,
                },
                () = self.work.notified() => {}
                () = self.settings.activity.arrived() => {}
            }
        }
    }
}

impl Engine for RingEngine {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        self.core.borrow_mut().adopt(upgraded);
        self.work.notify_one();
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        Box::pin(async move { self.serve_forever().await })
    }

    fn tick(&self) -> Holdings {
        let mut core = self.core.borrow_mut();
        let holdings = core.tick();
        if core.has_due() || core.shared.uring.has_work() {
            self.work.notify_one();
        }
        holdings
    }

    fn burdens(&self) -> Vec<Burden<usize>> {
        self.core.borrow().burdens()
    }

    fn dismiss(&self, key: usize, reason: EndReason) {
        self.core.borrow_mut().dismiss(key, reason);
        self.work.notify_one();
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
    fn adopt(&mut self, upgraded: Upgraded) {
        let now = self.shared.settings.clock.now();
        let entry = self.connections.vacant_entry();
        let key = Key::new(place(entry.key()), self.adopted);
        self.adopted += 1;
        let mut connection = Connection::new(upgraded.socket, key, upgraded.permit, now);
        if connection.begin(&upgraded.leftover, &mut self.shared, now) == Fate::Ended {
            connection.over(&self.shared);
            return;
        }
        connection.listed = true;
        connection.register(&self.shared.uring);
        entry.insert(connection);
        self.due.push(key.place);
    }

    /// Takes turns, and spins, until the runtime is to have its own. After
    /// [`Pause::Sleep`] the eventfd tells when there is more to do.
    fn stretch(&mut self, spin: &mut Spin) -> io::Result<Pause> {
        self.shared.uring.stop_listening();
        let (mut turns, mut looks) = (0, 0);
        while turns < TURNS_PER_STRETCH && looks < LOOKS_PER_STRETCH {
            if self.has_due() || self.shared.uring.has_work() {
                self.turn()?;
                turns += 1;
                if spin.is_on() {
                    spin.event(Instant::now());
                }
            } else if self.shared.settings.activity.take() {
                // A handler has had something to read.
                spin.event(Instant::now());
            } else if spin.is_on() && spin.goes_on(Instant::now()) {
                hint::spin_loop();
                looks += 1;
            } else if self.shared.uring.listen() {
                self.shared.uring.stop_listening();
            } else {
                return Ok(Pause::Sleep);
            }
        }
        Ok(Pause::Yield)
    }

    /// Serves whoever is due, and enters the kernel once.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.shared.settings.clock.now();
        // Who turns out to flood has been served in this turn.
        let floods = self.floods.len().min(FLOODS_PER_TURN);
        mem::swap(&mut self.due, &mut self.serving);
        for index in 0..self.serving.len() {
            turn(|| self.serve(self.serving[index], now));
        }
        self.serving.clear();
        for _ in 0..floods {
            if let Some(place) = self.floods.pop_front() {
                turn(|| self.serve(place, now));
            }
        }
        self.shared.pool.replenish();
        while !self.shared.uring.submit()? {
            self.take_completions();
        }
        self.take_completions();
        self.settle_replies();
        Ok(())
    }

    fn serve(&mut self, place: u32, now: super::Millis) {
        let Some(connection) = self.connections.get_mut(place as usize) else {
            return;
        };
        connection.listed = false;
        if connection.serve(&mut self.shared, now) == Fate::Ended {
            connection.end(&mut self.shared);
        }
        self.look_after(place);
    }

    fn take_completions(&mut self) {
        while let Some(completion) = self.shared.uring.next() {
            let token = Token::unpack(completion.user_data());
            let place = token.key.place;
            let Some(connection) = self
                .connections
                .get_mut(place as usize)
                .filter(|connection| connection.key() == token.key)
            else {
                // A cancellation that outlived its connection.
                continue;
            };
            match token.op {
                Op::Receive => connection.received(&completion, &mut self.shared),
                Op::Reply => connection.reply_was_sent(completion.result(), &mut self.shared),
                Op::Room => connection.room_was_found(),
                Op::Cancel => continue,
            }
            if token.op == Op::Room && self.shared.draining.is_some() {
                // With nothing on its way a drain may close it.
                self.list(place);
            }
            self.look_after(place);
        }
    }

    /// The replies of the last call are sent, or copied out, but for those that
    /// are awaited.
    fn settle_replies(&mut self) {
        let mut replies = mem::take(&mut self.shared.replies);
        replies.retain(|&Reply { place, buffer }| {
            let connection = self.connections.get_mut(place as usize);
            let is_awaited = connection.is_some_and(|connection| connection.awaits_reply());
            if !is_awaited {
                self.settle(place, buffer);
            }
            is_awaited
        });
        self.shared.replies = replies;
    }

    fn settle(&mut self, place: u32, buffer: BufferId) {
        self.shared.pool.give_back(buffer);
        let Some(connection) = self.connections.get_mut(place as usize) else {
            // It was over when this reply failed.
            return;
        };
        if connection.reply_is_settled(&self.shared) == Fate::Ended {
            connection.end(&mut self.shared);
        }
        // With nothing on its way a drain may close it.
        if self.shared.draining.is_some() {
            self.list(place);
        }
        self.look_after(place);
    }

    /// Puts a connection onto the list if it wants to be served, and drops it
    /// if it is over.
    fn look_after(&mut self, place: u32) {
        let connection = &mut self.connections[place as usize];
        if connection.is_over() {
            let connection = self.connections.remove(place as usize);
            if connection.listed {
                // Its place may be another's before that list is worked off, who
                // would be served twice in one turn.
                self.due.retain(|&due| due != place);
                self.floods.retain(|&flood| flood != place);
            }
            connection.close_socket(&self.shared.uring);
        } else if connection.wants_service() {
            self.list(place);
        }
    }

    fn list(&mut self, place: u32) {
        let connection = &mut self.connections[place as usize];
        if !connection.listed {
            connection.listed = true;
            if connection.floods() {
                self.floods.push_back(place);
            } else {
                self.due.push(place);
            }
        }
    }

    fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.floods.is_empty()
    }

    fn tick(&mut self) -> Holdings {
        let mut holdings = Holdings::default();
        self.shared.pool.relax();
        let now = self.shared.settings.clock.now();
        for place in self.places() {
            let connection = &mut self.connections[place as usize];
            if turn(|| connection.tick(&mut self.shared, now)) == Fate::Ended {
                connection.end(&mut self.shared);
            } else {
                holdings.add(connection.holdings(now));
            }
            self.look_after(place);
        }
        holdings
    }

    fn burdens(&self) -> Vec<Burden<usize>> {
        let now = self.shared.settings.clock.now();
        let connections = self.connections.iter();
        connections
            .filter_map(|(key, held)| Burden::of(key, held.holdings(now)))
            .collect()
    }

    fn dismiss(&mut self, index: usize, reason: EndReason) {
        let now = self.shared.settings.clock.now();
        let place = place(index);
        let connection = &mut self.connections[index];
        if connection.dismiss(reason, &self.shared, now) == Fate::Ended {
            connection.end(&mut self.shared);
        }
        self.look_after(place);
    }

    fn drain(&mut self, drain: Drain) {
        self.shared.draining = Some(drain);
        for place in self.places() {
            self.list(place);
        }
    }

    fn places(&self) -> Vec<u32> {
        self.connections
            .iter()
            .map(|(index, _)| place(index))
            .collect()
    }
}

/// As many connections as there can be descriptors.
fn place(index: usize) -> u32 {
    u32::try_from(index).expect("fewer connections than descriptors")
}
