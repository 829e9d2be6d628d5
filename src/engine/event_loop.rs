//! The engine that serves all connections of a worker in one loop, whichever way its
//! [driver](Driver) moves their bytes: `epoll` or a ring.
//!
//! ```text
//!      ┌──────────── turn, until the runtime gets its own ────────────┐
//! poll the kernel ─▶ list who wants service ─▶ serve who is due ─▶ flush ─▶ sleep, spin or yield
//! ```
//!
//! A connection is served once per turn, and the runtime runs its other tasks (accept,
//! handshakes, timers, handlers) after some turns, however much there is to do.

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
use super::{Buffered, CANCEL_AGAIN, Drain, Engine, Millis, Settings, Upgraded};
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;
use crate::sys::turn::turn;

/// How an engine of one loop moves bytes.
pub(crate) trait Driver: Sized + 'static {
    type Socket: DrivenSocket<Driver = Self>;

    /// Connections in bulk that are served in one turn.
    const BULK_PER_TURN: usize;

    /// Turns with more to do behind them before the runtime gets its own.
    const TURNS_PER_STRETCH: usize;

    /// Turns with nothing more to do behind them, while spinning, before the runtime gets
    /// its own.
    const LOOKS_PER_STRETCH: usize;

    /// Whether [`poll`](Self::poll) costs next to nothing where there is nothing: then it
    /// is called again behind each turn that served somebody.
    const POLLS_AT_ONCE: bool;

    /// # Errors
    /// The kernel's.
    fn new(settings: Rc<Settings>) -> io::Result<Self>;

    /// A descriptor that becomes readable when [`poll`](Self::poll) would find something.
    fn descriptor(&self) -> io::Result<Rc<OwnedFd>>;

    /// A connection of this driver. Its key is that of the table.
    fn open(&mut self, socket: OwnedFd, key: u32, connection: Connection) -> Self::Socket;

    /// Has the kernel report on a connection from now on.
    fn register(&mut self, socket: &mut Self::Socket, key: u32) -> io::Result<()>;

    /// Takes what the kernel reports, and lists the connections that want service for it.
    fn poll(scheduler: &mut Scheduler<Self>) -> io::Result<()>;

    /// Starts what was queued for connections that were served, before anybody else does
    /// something with them.
    fn flush(_scheduler: &mut Scheduler<Self>) -> io::Result<()> {
        Ok(())
    }

    /// Whether [`poll`](Self::poll) is to be called again at once.
    fn has_work(&mut self) -> bool;

    /// The descriptor need not become readable from now on.
    fn stop_listening(&mut self) {}

    /// The descriptor is to become readable from now on. Returns whether there is work
    /// already.
    fn listen(&mut self) -> bool {
        false
    }

    /// Frees memory that is not needed any more. Called with each tick.
    fn relax(&mut self) {}
}

/// A connection of a [`Driver`], with its socket.
pub(crate) trait DrivenSocket {
    type Driver;

    fn socket(&self) -> &OwnedFd;

    fn connection(&self) -> &Connection;

    fn connection_mut(&mut self) -> &mut Connection;

    /// Whether the scheduler has this connection on its list.
    fn listed(&mut self) -> &mut bool;

    /// Begins the drain of this connection.
    fn start_drain(&mut self, drain: Drain) {
        self.connection_mut().start_drain(drain);
    }

    /// Answers the frames that came with the handshake.
    fn begin(&mut self, leftover: &[u8], driver: &mut Self::Driver, now: Millis) -> Flow;

    /// Whether serving this connection may get it any further.
    fn wants_service(&self) -> bool;

    /// Whether it sends so much at once that the others are to come first.
    fn is_bulk(&self) -> bool;

    /// Does the next thing: sends some of what is unsent, and answers one read.
    fn serve(&mut self, driver: &mut Self::Driver, now: Millis) -> Flow;

    /// Does what a timer asks for, once what there is was read, or sent.
    fn timeout(&mut self, driver: &mut Self::Driver, now: Millis) -> Flow;

    /// Ends the connection for this reason, because of what it holds.
    fn evict(&mut self, context: Context, reason: EndReason) -> Flow;

    /// Ends the connection, as soon as the kernel has no operation of it.
    fn end(&mut self, driver: &mut Self::Driver);

    /// Whether [`end`](Self::end) was called.
    fn has_ended(&self) -> bool;

    /// Whether the connection has ended, and the kernel has no operation of it.
    fn is_over(&self) -> bool {
        self.has_ended()
    }

    /// Called before the socket of a connection that is over is closed.
    fn before_close(&mut self, _driver: &mut Self::Driver) {}
}

/// A connection that has ended is ended again until it is over.
impl<S: DrivenSocket> Served for S {
    fn timer(&self) -> Timer {
        if self.has_ended() {
            Timer::Close
        } else {
            self.connection().timer()
        }
    }

    fn is_due(&self, context: Context) -> bool {
        self.has_ended() || self.connection().is_due(context)
    }

    fn deadline(&self, context: Context) -> Option<Millis> {
        if self.has_ended() {
            return Some(context.now.after(CANCEL_AGAIN));
        }
        self.connection().deadline(context)
    }

    fn held(&self) -> usize {
        self.connection().held()
    }

    fn buffered(&self, now: Millis) -> Buffered {
        self.connection().buffered(0, now)
    }
}

/// The engine as the worker sees it.
pub(crate) struct EventLoop<D: Driver> {
    descriptor: AsyncFd<Rc<OwnedFd>>,
    /// Wakes [`Engine::run`] for what the kernel does not report.
    news: Rc<News>,
    settings: Rc<Settings>,
    scheduler: RefCell<Scheduler<D>>,
}

/// All connections of a worker, and the order in which they are served.
pub(crate) struct Scheduler<D: Driver> {
    /// Ends before the connections, whose memory the kernel may use.
    pub(super) driver: D,
    pub(super) connections: Table<D::Socket>,
    schedule: Schedule,
    /// The connections whose handlers have done something.
    news: Rc<News>,
    draining: Option<Drain>,
    settings: Rc<Settings>,
}

/// The result of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There was nothing to do.
    Empty,
    /// All that was due is served.
    Done,
    /// There may be more to do at once.
    Unfinished,
}

/// The runtime's part after a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It runs the other tasks, and returns.
    Yield,
    /// It sleeps until there is an event.
    Sleep,
}

impl<D: Driver> EventLoop<D> {
    /// An engine on the current thread's runtime.
    ///
    /// # Errors
    /// As [`Driver::new`].
    pub(crate) fn new(settings: Rc<Settings>) -> io::Result<Self> {
        let driver = D::new(Rc::clone(&settings))?;
        let descriptor = driver.descriptor()?;
        let news = Rc::<News>::default();
        Ok(Self {
            // SAFETY: an `OwnedFd` is a valid descriptor that stays open, and the same,
            // for as long as it exists, and `readable` is all that is used.
            descriptor: unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE)? },
            news: Rc::clone(&news),
            settings: Rc::clone(&settings),
            scheduler: RefCell::new(Scheduler {
                driver,
                connections: Table::new(),
                schedule: Schedule::default(),
                news,
                draining: None,
                settings,
            }),
        })
    }

    async fn serve_forever(&self) -> io::Error {
        let mut spin = Spin::new(self.settings.busy_poll);
        loop {
            let readiness = tokio::select! {
                readiness = self.descriptor.readable() => Some(readiness),
                () = self.news.work.notified() => None,
                () = self.settings.activity.arrived(), if spin.is_on() => None,
            };
            loop {
                let pause = self.scheduler.borrow_mut().stretch(&mut spin);
                match pause {
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

    /// Calls the scheduler, and wakes [`Engine::run`] if that leaves something to do.
    pub(super) fn schedule<R>(&self, call: impl FnOnce(&mut Scheduler<D>) -> R) -> R {
        let mut scheduler = self.scheduler.borrow_mut();
        let result = call(&mut scheduler);
        if scheduler.has_work() {
            self.news.work.notify_one();
        }
        result
    }
}

impl<D: Driver> Engine for EventLoop<D> {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        self.schedule(|scheduler| scheduler.adopt(upgraded));
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        Box::pin(async move { self.serve_forever().await })
    }

    fn tick(&self) -> Buffered {
        self.schedule(Scheduler::tick)
    }

    fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        let now = self.settings.clock.now();
        self.scheduler.borrow().connections.eviction_candidates(now)
    }

    fn evict(&self, key: u32, reason: EndReason) {
        self.schedule(|scheduler| scheduler.evict(key, reason));
    }

    fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut scheduler = self.scheduler.borrow_mut();
        SocketMemory::of(scheduler.connections.get_mut(key)?.socket())
    }

    fn drain(&self, drain: Drain, spread: Duration) {
        self.scheduler.borrow_mut().drain(drain, spread);
    }
}

impl<D: Driver> Scheduler<D> {
    fn adopt(&mut self, upgraded: Upgraded) {
        let now = self.settings.clock.now();
        let key = self.connections.next_key();
        if let Some(handler) = &upgraded.handler {
            let news = Rc::clone(&self.news);
            handler.set_wake(move || news.push(key));
        }
        let connection = Connection::new(upgraded.permit, upgraded.handler, now, self.draining);
        let mut socket = self.driver.open(upgraded.socket, key, connection);
        if socket
            .begin(&upgraded.leftover, &mut self.driver, now)
            .is_break()
        {
            socket.end(&mut self.driver);
            return;
        }
        if let Err(error) = self.driver.register(&mut socket, key) {
            socket.connection_mut().lost(&self.settings, &error);
            return;
        }
        self.connections.insert(socket, self.settings.at(now));
        if self.draining.is_some() {
            self.list(key);
        } else {
            self.reschedule(key);
        }
    }

    /// Whether there is something to do at once.
    fn has_work(&mut self) -> bool {
        self.is_due() || self.driver.has_work()
    }

    /// Whether a connection is to be served.
    pub(super) fn is_due(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// Takes turns, and spins, until the runtime is to have its own. After
    /// [`Pause::Sleep`] the descriptor tells when there is more to do.
    fn stretch(&mut self, spin: &mut Spin) -> io::Result<Pause> {
        self.driver.stop_listening();
        let (mut turns, mut looks) = (0, 0);
        while turns < D::TURNS_PER_STRETCH && looks < D::LOOKS_PER_STRETCH {
            let turn = self.turn()?;
            let spins = spin.is_on() && self.spins(spin, turn);
            if turn == Turn::Unfinished {
                turns += 1;
            } else if spins {
                hint::spin_loop();
                looks += 1;
            } else if self.driver.listen() {
                self.driver.stop_listening();
            } else {
                return Ok(Pause::Sleep);
            }
        }
        Ok(Pause::Yield)
    }

    /// Whether to go on without sleep after this turn.
    fn spins(&self, spin: &mut Spin, turn: Turn) -> bool {
        let now = Instant::now();
        // The task of a connection, or a handler, may have had something to read.
        let others = self.settings.activity.take();
        if turn != Turn::Empty || others {
            spin.event(now);
        }
        spin.goes_on(now)
    }

    /// Polls the kernel, and serves each connection that is due once.
    fn turn(&mut self) -> io::Result<Turn> {
        D::poll(self)?;
        while let Some(key) = self.news.pop() {
            self.reschedule(key);
        }
        let was_due = self.is_due();
        if was_due {
            self.serve_due();
            D::flush(self)?;
        }
        Ok(if (D::POLLS_AT_ONCE && was_due) || self.has_work() {
            Turn::Unfinished
        } else if was_due {
            Turn::Done
        } else {
            Turn::Empty
        })
    }

    fn serve_due(&mut self) {
        let now = self.settings.clock.now();
        let mut this_turn = self.schedule.take(D::BULK_PER_TURN);
        while let Some(key) = self.schedule.next(&mut this_turn) {
            turn(|| self.serve(key, now));
        }
    }

    fn serve(&mut self, key: u32, now: Millis) {
        if let Some(socket) = self.connections.get_mut(key) {
            *socket.listed() = false;
            let flow = socket.serve(&mut self.driver, now);
            self.settle(key, flow);
        }
    }

    /// Ends a connection whose time has come, and sees to what one needs that lives on.
    pub(super) fn settle(&mut self, key: u32, flow: Flow) {
        if flow.is_break()
            && let Some(socket) = self.connections.get_mut(key)
        {
            socket.end(&mut self.driver);
        }
        self.connections.settle(key, &self.settings);
        self.reschedule(key);
    }

    /// Lists a connection if it wants to be served, and drops it if it is over.
    pub(super) fn reschedule(&mut self, key: u32) {
        let Some(socket) = self.connections.get_mut(key) else {
            return;
        };
        if socket.wants_service() {
            self.list(key);
        } else if socket.is_over()
            && let Some(mut socket) = self.connections.remove(key)
        {
            if *socket.listed() {
                // Its key may be another's before that list is worked off, who would be
                // served twice in one turn.
                self.schedule.forget(key);
            }
            socket.before_close(&mut self.driver);
        }
    }

    /// Lists a connection, whether or not it wants that.
    pub(super) fn list(&mut self, key: u32) {
        if let Some(socket) = self.connections.get_mut(key)
            && !mem::replace(socket.listed(), true)
        {
            self.schedule.list(key, socket.is_bulk());
        }
    }

    fn tick(&mut self) -> Buffered {
        self.driver.relax();
        let settings = Rc::clone(&self.settings);
        let context = settings.context();
        while let Some(key) = self.connections.next_due(context) {
            if let Some(socket) = self.connections.get_mut(key) {
                let flow = turn(|| socket.timeout(&mut self.driver, context.now));
                self.settle(key, flow);
                self.connections.note(key, context);
            }
        }
        for (key, drain) in self.connections.drained_in_turn(context) {
            if let Some(socket) = self.connections.get_mut(key) {
                socket.start_drain(drain);
                self.list(key);
            }
        }
        self.connections.buffered()
    }

    fn evict(&mut self, key: u32, reason: EndReason) {
        if let Some(socket) = self.connections.get_mut(key) {
            let flow = socket.evict(self.settings.context(), reason);
            self.settle(key, flow);
        }
    }

    fn drain(&mut self, drain: Drain, spread: Duration) {
        self.draining = Some(drain);
        let now = self.settings.clock.now();
        self.connections.drain(drain, spread, now);
        self.settings.timers.want();
    }
}
