//! The seam between a worker and what moves the bytes of its connections.
//!
//! A worker does the handshakes on its runtime and hands each upgraded socket
//! to its [`Engine`], which owns it from then on. An engine is one object per
//! worker: it may serve its sockets in one [event loop](event_loop) (`epoll`, `ring`) or
//! run a task for each (`tokio-uring`). What it is given is [`Upgraded`]
//! connections and [`Settings`]; what it owes is
//!
//! * one write for all the replies to one read;
//! * replies that a client does not read go into its [backlog], and whether it is
//!   read meanwhile is for that to say;
//! * to perform what its [connections](connection) ask for: the closing handshake, the
//!   timeouts, the drain, eviction;
//! * what it holds for slow clients, told with every tick, and that it lets go
//!   of some when it is told to;
//! * that what lies unread in a socket is read, and what there is room for is
//!   sent, before a timer judges its connection: the machine may have been paused;
//! * that an idle connection holds no buffer, or a small one;
//! * that no connection keeps the others waiting, one that floods included;
//! * that it [spins](spin) before it sleeps, where it is told to.
//!
//! What came over TLS no engine can read; [`encrypted`] serves it beside each of
//! them, and owes the same.
//!
//! [`Engine::run`] is one future on the worker's thread. It is free to wait for
//! a file descriptor of its own, or to spin for a while before it does.

pub(crate) mod activity;
pub(crate) mod backlog;
pub(crate) mod connection;
pub(crate) mod diagnosis;
pub(crate) mod encrypted;
pub(crate) mod epoll;
mod event_loop;
pub(crate) mod eviction;
pub(crate) mod messages;
mod partial;
mod plain;
pub(crate) mod ring;
pub(crate) mod runtime;
mod schedule;
pub(crate) mod select;
pub(crate) mod spec;
pub(crate) mod spin;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod timers;
pub(crate) mod tokio_uring;
mod wheel;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::Config;
use crate::limits::admission::Permit;
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::EndReason;
use crate::proto::{Limits, TAIL_ROOM};
use crate::sys::calls;
use crate::sys::task::Tasks;
use activity::Activity;
use backlog::BacklogRoom;
use connection::Context;
use eviction::EvictionCandidate;
use messages::channel::Channel;
use timers::TimerBudget;

/// A connection whose handshake is done.
pub(crate) struct Upgraded {
    /// The socket, non-blocking.
    pub(crate) socket: OwnedFd,
    /// What the client sent behind its request: its first frames.
    pub(crate) leftover: Bytes,
    /// Held for as long as the connection is open.
    pub(crate) permit: Permit,
    /// Where its messages go, if it is not echoed.
    pub(crate) handler: Option<Rc<Channel>>,
}

/// What all connections of a worker have in common.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// Bytes that a connection with much to say is read with, at least twice
    /// the window. They also bound what others wait for while such a connection
    /// is served.
    pub(crate) read_size: usize,
    /// Bytes of a [backlog] beyond which its client is not read.
    pub(crate) max_backlog: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) close_timeout: Duration,
    /// How long to look for the next event before sleeping; see [`spin`].
    pub(crate) busy_poll: Duration,
    /// Told of reads outside of the engine's own loop.
    pub(crate) activity: Activity,
    /// A [backlog] has begun, so that ticks have to come sooner.
    pub(crate) backlog_begun: Notify,
    /// What all backlogs together may grow by until the next tick.
    pub(crate) backlog_room: BacklogRoom,
    /// What timeouts may make a worker do in one turn.
    pub(crate) timers: TimerBudget,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Clock,
    /// Where connections run that have a task of their own.
    pub(crate) tasks: Tasks,
}

impl Settings {
    /// The settings of a worker; its first tick sets [`backlog_room`](Self::backlog_room).
    pub(crate) fn new(config: &Config, counters: Arc<Counters>) -> Self {
        Self {
            limits: Limits {
                message_bytes: config.max_message.unwrap_or(u64::MAX),
                fragments: config.max_fragments.get(),
                window: config.window,
            },
            read_size: config.effective_read_size(),
            max_backlog: config.effective_max_backlog(),
            idle_timeout: config.idle_timeout,
            pong_timeout: config.pong_timeout,
            write_timeout: config.write_timeout,
            close_timeout: config.close_timeout,
            busy_poll: config.busy_poll,
            activity: Activity::new(!config.busy_poll.is_zero()),
            backlog_begun: Notify::new(),
            backlog_room: BacklogRoom::new(0),
            timers: TimerBudget::default(),
            counters,
            clock: Clock::start(),
            tasks: Tasks::default(),
        }
    }

    /// What a connection's calls need to know, now.
    pub(crate) fn context(&self) -> Context<'_> {
        self.at(self.clock.now())
    }

    /// The same at this time.
    pub(crate) fn at(&self, now: Millis) -> Context<'_> {
        let settings = self;
        Context { settings, now }
    }

    /// Bytes of the largest read buffer.
    pub(crate) fn read_buffer_len(&self) -> usize {
        self.read_size + TAIL_ROOM
    }

    /// How often [`Engine::tick`] is to be called so that no timeout is missed
    /// by more than a quarter of it, or a second.
    pub(crate) fn tick_interval(&self) -> Duration {
        let shortest = self
            .pong_timeout
            .min(self.write_timeout)
            .min(self.close_timeout)
            .min(self.idle_timeout.unwrap_or(Duration::MAX));
        (shortest / 4).clamp(Duration::from_millis(2), Duration::from_secs(1))
    }
}

/// Milliseconds since the worker's start; what timeouts are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(u64);

impl Millis {
    /// The moment when `time` has passed since this one.
    pub(crate) fn after(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(time))
    }

    /// Whether `timeout` has passed since `self`.
    pub(crate) fn is_over(self, timeout: Duration, now: Self) -> bool {
        u128::from(now.0.saturating_sub(self.0)) >= timeout.as_millis()
    }
}

/// The worker's clock.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(calls::now())
    }

    pub(crate) fn now(&self) -> Millis {
        let elapsed = calls::now().saturating_duration_since(self.0);
        Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// How long a reply has to wait for its client before that is a slow reader.
/// What is merely on its way takes less.
pub(crate) const SLOW_READER: Duration = Duration::from_millis(100);

/// What the connections of a worker hold at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buffered {
    /// Bytes of memory for what has come in part, for replies that wait for their
    /// clients, and for buffers that are larger than an idle connection's.
    pub(crate) bytes: usize,
    /// Connections whose replies have waited for [`SLOW_READER`].
    pub(crate) slow_readers: usize,
    /// Those of them that neither read nor send.
    pub(crate) stalled: usize,
    /// Those of them whose sockets have taken nothing for as long.
    pub(crate) unread: usize,
    /// Connections that are not read until their socket is seen to take nothing.
    pub(crate) paused: usize,
}

impl Buffered {
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.slow_readers += other.slow_readers;
        self.stalled += other.stalled;
        self.unread += other.unread;
        self.paused += other.paused;
    }
}

/// How often an operation of an io_uring is cancelled until it has ended: the kernel does
/// not find one that is about to start, which would then wait for its client.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drain {
    /// Close each connection once everything it has sent is answered.
    WhenQuiet,
    /// Close each connection once a read, or what is echoed of it, ends between two
    /// frames, whatever else it sends. What streams without an end is cut off with the
    /// server's end.
    Now,
}

/// What a worker needs of an engine; see the module for what else it owes.
pub(crate) trait Engine {
    /// Owns the connection from now on.
    fn adopt(self: Rc<Self>, connection: Upgraded);

    /// Moves the bytes of all connections. Ends only with an error that leaves
    /// the engine unable to go on.
    fn run(self: Rc<Self>) -> Pin<Box<dyn Future<Output = io::Error>>>;

    /// Looks after the timeouts, and says what the connections hold. To be
    /// called every [`Settings::tick_interval`], on the worker's thread, and every
    /// [`SLOW_READER`] while a connection is [paused](Buffered::paused).
    fn tick(&self) -> Buffered;

    /// What each connection holds that holds something. Its key is for
    /// [`evict`](Self::evict) and [`socket_memory`](Self::socket_memory), at once.
    fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>>;

    /// Ends a connection for this reason, because of what it holds: with a Close where one can be
    /// said.
    fn evict(&self, key: u32, reason: EndReason);

    /// What the kernel keeps for a connection.
    fn socket_memory(&self, key: u32) -> Option<SocketMemory>;

    /// Starts to close all connections, one after the other over `spread`, and each that
    /// comes later.
    fn drain(&self, drain: Drain, spread: Duration);
}
