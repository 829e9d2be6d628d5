//! The `tokio-uring` engine: a task per connection, over owned buffers.
//!
//! A read that waits pins its buffer, so an idle connection waits with a small
//! one; a connection that fills its buffer gets a larger one, until it has needed
//! no more than a smaller one from one tick to the next. A read cannot be taken
//! back by dropping its future. What has to be done for a connection while it
//! waits (a Ping, a Close, a smaller buffer) is done by its own task: the engine
//! cancels the read, which then ends with `ECANCELED`, or with the bytes that came
//! first.
//!
//! A reply is sent by an operation that does not wait, so that the buffer comes
//! back. What the socket did not take goes into the connection's backlog, for
//! which the task awaits room beside its read.

mod buffer;
mod bulk_queue;
mod probe;
mod spinning;
mod task;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_uring::net::TcpStream as UringStream;

pub(crate) use probe::probe;

use super::connection::{Connection, Context, Timer};
use super::eviction::EvictionCandidate;
use super::plain::{self, Flow};
use super::table::{Served, Table};
use super::{Buffered, CANCEL_AGAIN, Drain, Engine, Millis, Settings, Upgraded};
use crate::limits::memory_budget::TICK_WHEN_HIGH;
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;
use crate::sys::calls;
use crate::sys::task_kind::TaskKind;
use buffer::BufferUse;
use bulk_queue::BulkQueue;
use task::Task;

/// Submission queue entries: operations that are started between two enters.
const RING_ENTRIES: u32 = 1024;

/// Time after a flooding connection's last read in which short replies go ahead
/// of the others: longer than a turn of many of them takes.
const FLOOD_MEMORY: Duration = Duration::from_millis(10);

/// How soon a buffer that is larger than an idle connection needs is looked at again: it
/// counts as held.
const BUFFER_LOOK: Duration = TICK_WHEN_HIGH;

/// A runtime whose ring is used from this thread only and never interrupts it.
///
/// # Errors
/// What the kernel says; unlike `tokio_uring::start`, this does not panic where
/// `io_uring` is blocked.
pub(crate) fn runtime() -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&ring);
    tokio_uring::Runtime::new(&builder)
}

/// The engine as the worker sees it.
pub(crate) struct TokioUringEngine {
    settings: Rc<Settings>,
    links: RefCell<Table<Rc<Link>>>,
    draining: Cell<Option<Drain>>,
    /// When a connection last filled the largest buffer.
    bulk_since: Cell<Option<Millis>>,
    /// Where those wait who did.
    bulk_queue: BulkQueue,
}

/// What a connection's task and the engine both need to reach.
struct Link {
    stream: UringStream,
    connection: RefCell<Connection>,
    doing: Cell<Doing>,
    /// Bytes of a frame that is not complete, at the front of the task's buffer.
    kept: Cell<usize>,
    buffer: BufferUse,
    /// Why the connection is to end because of what it holds, if it is.
    evicted_for: Cell<Option<EndReason>>,
    /// Wakes the task for what its handler has done; set where there is one.
    news: Option<Rc<Notify>>,
    /// The connection has ended, which the task may have yet to notice.
    is_shut_down: Cell<bool>,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing, or not for its client: it is running.
    Work,
    /// Bytes to read, and room for its backlog if it has one.
    Read,
    /// Room for its backlog, or what its handler does, and nothing else.
    Room,
}

impl TokioUringEngine {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            settings,
            links: RefCell::new(Table::new()),
            draining: Cell::new(None),
            bulk_since: Cell::new(None),
            bulk_queue: BulkQueue::default(),
        }
    }

    /// Whether somebody has just sent as much as is read at once.
    ///
    /// All that the tasks ask for goes to the kernel together, and it takes one
    /// after the other. A short reply would wait for the large reads and writes
    /// of a whole turn, and its client's next message for those of another: it
    /// is written without the ring then.
    fn is_flooded(&self, now: Millis) -> bool {
        self.bulk_since
            .get()
            .is_some_and(|at| !at.is_over(FLOOD_MEMORY, now))
    }

    fn context(&self) -> Context<'_> {
        self.settings.context()
    }

    fn settle(&self, key: u32) {
        self.links.borrow_mut().settle(key, &self.settings);
    }

    async fn serve(self: Rc<Self>, upgraded: Upgraded) {
        let Upgraded {
            socket,
            leftover,
            permit,
            handler,
        } = upgraded;
        let now = self.settings.clock.now();
        let news = handler.as_ref().map(|handler| {
            let news = Rc::<Notify>::default();
            let task = Rc::clone(&news);
            handler.set_wake(move || task.notify_one());
            news
        });
        let mut connection = Connection::new(permit, handler, now, self.draining.get());
        // Whatever its family: what follows only needs a stream.
        let socket = TcpStream::from(socket);
        // On a non-blocking socket io_uring would answer EAGAIN instead of
        // waiting.
        if let Err(error) = socket.set_nonblocking(false) {
            connection.lost(&self.settings, &error);
            return;
        }
        let link = Rc::new(Link {
            stream: UringStream::from_std(socket),
            connection: RefCell::new(connection),
            doing: Cell::new(Doing::Work),
            kept: Cell::new(0),
            buffer: BufferUse::default(),
            evicted_for: Cell::new(None),
            news,
            is_shut_down: Cell::new(false),
        });
        let key = self
            .links
            .borrow_mut()
            .insert(Rc::clone(&link), self.settings.at(now));
        Task::new(&self, &link, key).run(leftover).await;
        self.links.borrow_mut().remove(key);
        link.connection
            .borrow_mut()
            .over(&self.settings, link.socket());
        link.shut_down();
    }
}

impl Engine for TokioUringEngine {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        let tasks = self.settings.tasks.clone();
        let serving = self.serve(upgraded);
        tasks.spawn(TaskKind::Connection, serving);
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        // Each connection runs by itself.
        Box::pin(async move {
            tokio::select! {
                error = spinning::spin(&self.settings) => error,
                error = self.bulk_queue.turn() => error,
            }
        })
    }

    fn tick(&self) -> Buffered {
        let context = self.context();
        let timeout = |link: &mut Rc<Link>| link.timeout(context);
        let start_drain = |link: &mut Rc<Link>, drain| {
            link.connection.borrow_mut().start_drain(drain);
            link.wake();
        };
        self.links.borrow_mut().tick(context, timeout, start_drain)
    }

    fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        self.links
            .borrow()
            .eviction_candidates(self.settings.clock.now())
    }

    fn evict(&self, key: u32, reason: EndReason) {
        let context = self.context();
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get_mut(key) {
            link.evict(context, reason);
            links.note(key, context);
        }
    }

    fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut links = self.links.borrow_mut();
        SocketMemory::of(links.get_mut(key)?.socket())
    }

    fn drain(&self, drain: Drain, spread: Duration) {
        self.draining.set(Some(drain));
        let now = self.settings.clock.now();
        self.links.borrow_mut().drain(drain, spread, now);
        self.settings.timers.want();
    }
}

impl Served for Rc<Link> {
    fn timer(&self) -> Timer {
        match self.connection.borrow().timer() {
            Timer::Backlog => Timer::Backlog,
            _ if self.look().is_some() => Timer::Look,
            timer => timer,
        }
    }

    fn is_due(&self, context: Context) -> bool {
        self.look().is_some() || self.connection.borrow().is_due(context)
    }

    fn deadline(&self, context: Context) -> Option<Millis> {
        let deadline = self.connection.borrow().deadline(context);
        let look = self.look().map(|interval| context.now.after(interval));
        match (deadline, look) {
            (Some(deadline), Some(look)) => Some(deadline.min(look)),
            (deadline, look) => deadline.or(look),
        }
    }

    fn held(&self) -> usize {
        if self.evicted_for.get().is_some() || self.is_shut_down.get() {
            return 0;
        }
        self.connection.borrow().held() + self.buffer.held(self.kept.get())
    }

    fn buffered(&self, now: Millis) -> Buffered {
        if self.evicted_for.get().is_some() || self.is_shut_down.get() {
            return Buffered::default();
        }
        let bytes = self.buffer.held(self.kept.get());
        self.connection.borrow().buffered(bytes, now)
    }
}

impl Link {
    /// The interval at which this connection needs a look besides its own timer.
    fn look(&self) -> Option<Duration> {
        if self.buffer.is_large() {
            Some(BUFFER_LOOK)
        } else {
            self.is_called().then_some(CANCEL_AGAIN)
        }
    }

    /// Whether its task is to close the connection, once the read that waits has ended.
    fn is_called(&self) -> bool {
        self.evicted_for.get().is_some() || self.connection.borrow().draining().is_some()
    }

    fn timeout(&self, context: Context) {
        // The read that waits has the buffer, and may have missed the call.
        if self.buffer.tick(self.kept.get()) || self.is_called() {
            self.wake();
        }
        let connection = self.connection.borrow();
        let is_blocked = connection.is_blocked();
        let is_due = connection.is_due(context);
        drop(connection);
        if !is_due {
            // The look was all.
            context.settings.timers.put_back();
            return;
        }
        let waits_for_handler = !is_blocked && self.doing.get() == Doing::Room;
        let flow = if is_blocked {
            self.judge_backlog(context)
        } else if waits_for_handler {
            self.time_out(context)
        } else {
            plain::OPEN
        };
        if flow.is_break() {
            self.shut_down();
        }
        if let (true, Some(news)) = (waits_for_handler, &self.news) {
            news.notify_one();
        } else if is_blocked || self.doing.get() == Doing::Read {
            // Whatever else is due is done by the task, once the read that waits has
            // ended without bytes.
            self.wake();
        } else {
            context.settings.timers.put_back();
        }
    }

    /// Sends what there is room for, and then does what a timer asks for.
    fn judge_backlog(&self, context: Context) -> Flow {
        self.flush(context)?;
        if !self.connection.borrow().is_blocked() {
            // Bytes that its client has sent meanwhile are read first.
            return plain::OPEN;
        }
        self.time_out(context)
    }

    fn time_out(&self, context: Context) -> Flow {
        let connection = &mut *self.connection.borrow_mut();
        let action = connection.timeout(context);
        plain::perform(self.socket(), connection, action, context)
    }

    /// Sends some of what is unsent, and does what follows.
    fn flush(&self, context: Context) -> Flow {
        let connection = &mut *self.connection.borrow_mut();
        if !connection.is_blocked() {
            return plain::OPEN;
        }
        plain::flush(self.socket(), connection, context).map_continue(|_has_room| ())
    }

    /// Waits until the handler has done something, where there is one.
    async fn handler_has_news(&self) {
        match &self.news {
            Some(news) => news.notified().await,
            None => pending().await,
        }
    }

    /// Sends what the handler has given, and does what it asks for.
    fn serve_handler(&self, context: Context) -> Flow {
        let connection = &mut *self.connection.borrow_mut();
        if !connection.has_news() {
            return plain::OPEN;
        }
        plain::serve_handler(self.socket(), connection, context)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream is borrowed, and open, for as long as the answer is.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }

    /// Ends the connection for this reason, because of what it holds.
    fn evict(&self, context: Context, reason: EndReason) {
        let mut connection = self.connection.borrow_mut();
        if connection.is_blocked() {
            // No Close can be sent, so that there is nothing else to do.
            let _end = connection.evict(context, reason);
            connection.free();
            self.shut_down();
        } else {
            self.evicted_for.set(Some(reason));
            self.wake();
        }
    }

    /// Makes the task look around, if it waits for its client.
    fn wake(&self) {
        if self.doing.get() != Doing::Work {
            calls::cancel(&self.stream);
        }
        if let Some(news) = &self.news {
            news.notify_one();
        }
    }

    /// Ends whatever the task waits for, and the connection with it.
    fn shut_down(&self) {
        self.is_shut_down.set(true);
        // An error here means that the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
