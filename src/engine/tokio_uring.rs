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
pub(crate) mod operation;
mod probe;
mod spinning;
mod task;
mod turnstile;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tokio_uring::net::TcpStream as UringStream;

pub(crate) use probe::{MIN_KERNEL, probe};

use super::backlog::{self, Backlog, Verdict};
use super::burden::Burden;
use super::session::Session;
use super::{Drain, Engine, Holdings, Millis, Settings, Upgraded};
use crate::admission::Permit;
use crate::metrics::label::EndReason;
use crate::socket_memory::SocketMemory;
use crate::task::TaskKind;
use crate::turn::turn;
use buffer::BufferUse;
use operation::cancel;
use task::Task;
use turnstile::Turnstile;

/// Submission queue entries: operations that are started between two enters.
const RING_ENTRIES: u32 = 1024;

/// Time after a flooding connection's last read in which short replies go ahead
/// of the others: longer than a turn of many of them takes.
const FLOOD_MEMORY: Duration = Duration::from_millis(10);

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
    links: RefCell<Slab<Rc<Link>>>,
    draining: Cell<Option<Drain>>,
    /// When a connection last filled the largest buffer.
    flooded_at: Cell<Option<Millis>>,
    /// Where those wait who did.
    turnstile: Turnstile,
}

/// What a connection's task and the engine both need to reach.
struct Link {
    stream: UringStream,
    session: RefCell<Session>,
    doing: Cell<Doing>,
    /// Bytes of a frame that is not complete, at the front of the task's buffer.
    kept: Cell<usize>,
    buffer: BufferUse,
    /// What the socket did not take.
    backlog: RefCell<Option<Box<Backlog>>>,
    /// Why the connection is to end, if it is.
    dismissed: Cell<Option<EndReason>>,
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
    /// Room for its backlog, and nothing else.
    Room,
}

impl TokioUringEngine {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            settings,
            links: RefCell::new(Slab::new()),
            draining: Cell::new(None),
            flooded_at: Cell::new(None),
            turnstile: Turnstile::default(),
        }
    }

    /// Whether somebody has just sent as much as is read at once.
    ///
    /// All that the tasks ask for goes to the kernel together, and it takes one
    /// after the other. A short reply would wait for the large reads and writes
    /// of a whole turn, and its client's next message for those of another: it
    /// is written without the ring then.
    fn is_flooded(&self, now: Millis) -> bool {
        self.flooded_at
            .get()
            .is_some_and(|at| !at.is_over(FLOOD_MEMORY, now))
    }

    async fn serve(self: Rc<Self>, socket: OwnedFd, leftover: Bytes, permit: Permit) {
        // Whatever its family: what follows only needs a stream.
        let socket = TcpStream::from(socket);
        // On a non-blocking socket io_uring would answer EAGAIN instead of
        // waiting.
        if let Err(error) = socket.set_nonblocking(false) {
            Session::new(permit, self.settings.clock.now()).lost(&self.settings, &error);
            return;
        }
        let link = Rc::new(Link {
            stream: UringStream::from_std(socket),
            session: RefCell::new(Session::new(permit, self.settings.clock.now())),
            doing: Cell::new(Doing::Work),
            kept: Cell::new(0),
            buffer: BufferUse::default(),
            backlog: RefCell::new(None),
            dismissed: Cell::new(None),
            is_shut_down: Cell::new(false),
        });
        let key = self.links.borrow_mut().insert(Rc::clone(&link));
        Task::new(&self, &link).run(leftover).await;
        self.links.borrow_mut().remove(key);
        link.session
            .borrow_mut()
            .over(&self.settings, link.socket());
        link.shut_down();
    }
}

impl Engine for TokioUringEngine {
    fn adopt(self: Rc<Self>, upgraded: Upgraded) {
        let Upgraded {
            socket,
            leftover,
            permit,
        } = upgraded;
        let tasks = self.settings.tasks.clone();
        let serving = self.serve(socket, leftover, permit);
        tasks.spawn(TaskKind::Connection, serving);
    }

    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>> {
        // Each connection runs by itself.
        Box::pin(async move {
            tokio::select! {
                error = spinning::spin(&self.settings) => error,
                error = self.turnstile.turn() => error,
            }
        })
    }

    fn tick(&self) -> Holdings {
        let now = self.settings.clock.now();
        let mut holdings = Holdings::default();
        for (_key, link) in &*self.links.borrow() {
            turn(|| link.tick(&self.settings, now));
            holdings.add(link.holdings(now));
        }
        holdings
    }

    fn burdens(&self) -> Vec<Burden<usize>> {
        let now = self.settings.clock.now();
        let links = self.links.borrow();
        links
            .iter()
            .filter_map(|(key, link)| Burden::of(key, link.holdings(now)))
            .collect()
    }

    fn dismiss(&self, key: usize, reason: EndReason) {
        self.links.borrow()[key].dismiss(reason, &self.settings);
    }

    fn socket_memory(&self, key: usize) -> Option<SocketMemory> {
        SocketMemory::of(self.links.borrow()[key].socket())
    }

    fn drain(&self, drain: Drain) {
        self.draining.set(Some(drain));
        for (_key, link) in &*self.links.borrow() {
            link.wake();
        }
    }
}

impl Link {
    fn tick(&self, settings: &Settings, now: Millis) {
        if self.buffer.tick(self.kept.get()) {
            // The read that waits has it.
            self.wake();
        }
        if self.backlog.borrow().is_some() {
            // A client that does not read is not silent.
            self.judge_backlog(settings, now);
        } else if self.doing.get() == Doing::Read
            && self.session.borrow().is_due_in_turn(settings, now)
        {
            // What is due is done by the task, once the read that waits has ended
            // without bytes.
            self.wake();
        }
    }

    /// Tries what there is room for, where the clock asks for something, and only
    /// then does it.
    fn judge_backlog(&self, settings: &Settings, now: Millis) {
        let is_due = |backlog: &Backlog| backlog.is_due(settings, now);
        if !self.backlog.borrow().as_deref().is_some_and(is_due) {
            return;
        }
        if self.flush(settings, now).is_err() {
            self.shut_down();
        } else if let Some(backlog) = &mut *self.backlog.borrow_mut()
            && backlog.judge(settings, now) == Verdict::Cut
        {
            self.session.borrow_mut().cut_slow_reader(settings);
            self.shut_down();
        }
        self.wake();
    }

    /// Sends some of the backlog, if there is one.
    fn flush(&self, settings: &Settings, now: Millis) -> rustix::io::Result<()> {
        let mut kept = self.backlog.borrow_mut();
        let Some(backlog) = &mut *kept else {
            return Ok(());
        };
        let sent = backlog.send(self.socket(), settings, now)?;
        if sent.len > 0 {
            self.session.borrow().count_write(settings, sent.len);
        }
        if backlog.is_empty() {
            *kept = None;
        }
        Ok(())
    }

    fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream is borrowed, and open, for as long as the answer is.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }

    /// What this connection holds, beside the buffer that every one has. One that is to
    /// end holds nothing that it could still let go of.
    fn holdings(&self, now: Millis) -> Holdings {
        if self.dismissed.get().is_some() || self.is_shut_down.get() {
            return Holdings::default();
        }
        let bytes = self.buffer.held(self.kept.get());
        backlog::holdings(self.backlog.borrow().as_deref(), bytes, now)
    }

    /// Ends the connection for this reason, because of what it holds.
    fn dismiss(&self, reason: EndReason, settings: &Settings) {
        if self.backlog.borrow().is_some() {
            self.session.borrow_mut().cut(settings, reason);
            *self.backlog.borrow_mut() = None;
            self.shut_down();
        } else {
            self.dismissed.set(Some(reason));
            self.wake();
        }
    }

    /// Makes the task look around, if it waits for its client.
    fn wake(&self) {
        if self.doing.get() != Doing::Work {
            cancel(&self.stream);
        }
    }

    /// Ends whatever the task waits for, and the connection with it.
    fn shut_down(&self) {
        self.is_shut_down.set(true);
        // An error here means that the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
