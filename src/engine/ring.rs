//! The `ring` engine: one `io_uring` and one object for all of a worker's
//! connections.
//!
//! Each connection has a multishot receive, which takes a buffer out of a
//! [pool] when bytes arrive. The echo core answers in that buffer, and
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

#[cfg(test)]
mod inspection;
mod operation;
mod pool;
mod probe;
mod reads;
mod socket;
mod token;
mod uring;

use std::cell::RefCell;
use std::future::Future;
use std::hint;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

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
use crate::sys::turn::turn;
use pool::{BufferId, Pool};
use socket::RingSocket;
use token::{Key, Op, Token};
use uring::Uring;

pub(crate) use probe::probe;

/// Connections in bulk that are received for in one turn.
const BULK_PER_TURN: usize = 2;

/// How often the operations of a connection that has ended are cancelled: the kernel
/// does not find one that is about to start, which would then wait for ever.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

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
    news: Rc<News>,
    settings: Rc<Settings>,
    core: RefCell<Core>,
}

/// All connections of a worker, and what serves them.
struct Core {
    /// Ends before the connections, whose memory the kernel may use.
    shared: Shared,
    connections: Table<RingSocket>,
    /// Connections that there have been.
    adopted: u64,
    schedule: Schedule,
    /// Those whose handlers have done something.
    news: Rc<News>,
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
        let news = Rc::<News>::default();
        Ok(Self {
            // SAFETY: an `OwnedFd` is a valid descriptor that stays open, and
            // the same, for as long as it exists.
            eventfd: unsafe {
                AsyncFd::register_with_interest(uring.eventfd()?, Interest::READABLE)?
            },
            news: Rc::clone(&news),
            settings: Rc::clone(&settings),
            core: RefCell::new(Core {
                shared: Shared {
                    uring,
                    pool,
                    replies: Vec::new(),
                    draining: None,
                    settings,
                },
                connections: Table::new(),
                adopted: 0,
                schedule: Schedule::default(),
                news,
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
                () = self.news.work.notified() => {}
                () = self.settings.activity.arrived() => {}
            }
        }
    }
}

impl Engine for RingEngine {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        self.core.borrow_mut().adopt(upgraded);
        self.news.work.notify_one();
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        Box::pin(async move { self.serve_forever().await })
    }

    fn tick(&self) -> Buffered {
        let mut core = self.core.borrow_mut();
        let buffered = core.tick();
        if !core.schedule.is_empty() || core.shared.uring.has_work() {
            self.news.work.notify_one();
        }
        buffered
    }

    fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        let core = self.core.borrow();
        core.connections
            .eviction_candidates(self.settings.clock.now())
    }

    fn evict(&self, key: u32, reason: EndReason) {
        self.core.borrow_mut().evict(key, reason);
        self.news.work.notify_one();
    }

    fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut core = self.core.borrow_mut();
        SocketMemory::of(core.connections.get_mut(key)?.socket())
    }

    fn drain(&self, drain: Drain, spread: Duration) {
        self.core.borrow_mut().drain(drain, spread);
    }
}

impl Served for RingSocket {
    fn timer(&self) -> Timer {
        if self.has_ended() {
            Timer::Close
        } else {
            self.connection.timer()
        }
    }

    fn is_due(&self, context: Context) -> bool {
        self.has_ended() || self.connection.is_due(context)
    }

    fn deadline(&self, context: Context) -> Option<Millis> {
        if self.has_ended() {
            return Some(context.now.after(CANCEL_AGAIN));
        }
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
    fn adopt(&mut self, upgraded: Upgraded) {
        let now = self.shared.settings.clock.now();
        let key = Key::new(self.connections.next_key(), self.adopted);
        self.adopted += 1;
        if let Some(handler) = &upgraded.handler {
            let (news, place) = (Rc::clone(&self.news), key.place);
            handler.set_wake(move || news.push(place));
        }
        let draining = self.shared.draining;
        let connection = Connection::new(upgraded.permit, upgraded.handler, now, draining);
        let mut served = RingSocket::new(upgraded.socket, key, connection);
        if served
            .begin(&upgraded.leftover, &mut self.shared, now)
            .is_break()
        {
            served.over(&self.shared);
            return;
        }
        served.register(&self.shared.uring);
        self.connections
            .insert(served, self.shared.settings.at(now));
        self.list(key.place);
    }

    /// Takes turns, and spins, until the runtime is to have its own. After
    /// [`Pause::Sleep`] the eventfd tells when there is more to do.
    fn stretch(&mut self, spin: &mut Spin) -> io::Result<Pause> {
        self.shared.uring.stop_listening();
        let (mut turns, mut looks) = (0, 0);
        while turns < TURNS_PER_STRETCH && looks < LOOKS_PER_STRETCH {
            while let Some(place) = self.news.pop() {
                self.reschedule(place);
            }
            if !self.schedule.is_empty() || self.shared.uring.has_work() {
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
        let mut this_turn = self.schedule.take(BULK_PER_TURN);
        while let Some(place) = self.schedule.next(&mut this_turn) {
            turn(|| self.serve(place, now));
        }
        self.shared.pool.replenish();
        while !self.shared.uring.submit()? {
            self.take_completions();
        }
        self.take_completions();
        self.settle_replies();
        Ok(())
    }

    fn serve(&mut self, place: u32, now: Millis) {
        if let Some(served) = self.connections.get_mut(place) {
            served.listed = false;
            let flow = served.serve(&mut self.shared, now);
            self.settle(place, flow);
        }
    }

    fn take_completions(&mut self) {
        while let Some(completion) = self.shared.uring.next() {
            let token = Token::unpack(completion.user_data());
            let place = token.key.place;
            let Some(served) = self
                .connections
                .get_mut(place)
                .filter(|served| served.key() == token.key)
            else {
                // A cancellation that outlived its connection.
                continue;
            };
            match token.op {
                Op::Receive => served.received(&completion, &mut self.shared),
                Op::Reply => served.reply_was_sent(completion.result(), &mut self.shared),
                Op::Room => served.room_was_found(),
                Op::Cancel => continue,
            }
            if token.op == Op::Room && served.connection.draining().is_some() {
                // With nothing on its way a drain may close it.
                self.list(place);
            }
            self.reschedule(place);
        }
    }

    /// The replies of the last call are sent, or copied out, but for those that
    /// are awaited.
    fn settle_replies(&mut self) {
        let mut replies = mem::take(&mut self.shared.replies);
        replies.retain(|&Reply { place, buffer }| {
            let served = self.connections.get_mut(place);
            let is_awaited = served.is_some_and(|served| served.awaits_reply());
            if !is_awaited {
                self.settle_reply(place, buffer);
            }
            is_awaited
        });
        self.shared.replies = replies;
    }

    fn settle_reply(&mut self, place: u32, buffer: BufferId) {
        self.shared.pool.give_back(buffer);
        // It may have been over when this reply failed.
        if let Some(served) = self.connections.get_mut(place) {
            let flow = served.reply_is_settled(&self.shared);
            let is_draining = served.connection.draining().is_some();
            self.settle(place, flow);
            // With nothing on its way a drain may close it.
            if is_draining {
                self.list(place);
            }
        }
    }

    /// Ends a connection whose time has come, and sees to what one needs that lives on.
    fn settle(&mut self, place: u32, flow: Flow) {
        if flow.is_break()
            && let Some(served) = self.connections.get_mut(place)
        {
            served.end(&mut self.shared);
        }
        self.connections.settle(place, &self.shared.settings);
        self.reschedule(place);
    }

    /// Puts a connection onto the list if it wants to be served, and drops it
    /// if it is over.
    fn reschedule(&mut self, place: u32) {
        let Some(served) = self.connections.get_mut(place) else {
            return;
        };
        if served.wants_service() {
            self.list(place);
        } else if served.is_over()
            && let Some(served) = self.connections.remove(place)
        {
            if served.listed {
                // Its place may be another's before that list is worked off, who
                // would be served twice in one turn.
                self.schedule.forget(place);
            }
            served.close_socket(&self.shared.uring);
        }
    }

    fn list(&mut self, place: u32) {
        if let Some(served) = self.connections.get_mut(place)
            && !served.listed
        {
            served.listed = true;
            self.schedule.list(place, served.is_bulk());
        }
    }

    fn tick(&mut self) -> Buffered {
        self.shared.pool.relax();
        let settings = Rc::clone(&self.shared.settings);
        let context = settings.context();
        self.connections.advance(context.now);
        while let Some(place) = self.connections.next_due(context) {
            if let Some(served) = self.connections.get_mut(place) {
                let flow = turn(|| served.timeout(&mut self.shared, context.now));
                self.settle(place, flow);
                self.connections.note(place, context);
            }
        }
        for (place, drain) in self.connections.drained_in_turn(context) {
            self.start_drain(place, drain);
        }
        self.connections.buffered()
    }

    fn start_drain(&mut self, place: u32, drain: Drain) {
        if let Some(served) = self.connections.get_mut(place) {
            served.connection.start_drain(drain);
            self.list(place);
        }
    }

    fn evict(&mut self, place: u32, reason: EndReason) {
        if let Some(served) = self.connections.get_mut(place) {
            let flow = served.evict(self.shared.settings.context(), reason);
            self.settle(place, flow);
        }
    }

    fn drain(&mut self, drain: Drain, spread: Duration) {
        self.shared.draining = Some(drain);
        let now = self.shared.settings.clock.now();
        self.connections.drain(drain, spread, now);
        self.shared.settings.timers.want();
    }
}
