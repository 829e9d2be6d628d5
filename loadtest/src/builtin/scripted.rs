//! A WebSocket echo that delays, stalls and misbehaves as its script says.
//!
//! ```text
//! Script ── ScriptState ──┐ due, fault
//!                         ▼
//! socket ► ReadBuffer ► ClientState/Echo ► ReplyQueue ► socket
//!          frames                          replies, each with the time it is due
//! ```
//!
//! The submodules contain no networking code and no clocks.

mod client_state;
mod echo;
mod read_buffer;
mod reply_queue;
mod script;
mod script_state;
mod upgrade;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::connection_table::ConnectionTable;
use super::reactor::{self, Reactor};
use super::server_thread::{ANY_LOCAL_PORT, ServerThread};
use client_state::ClientState;
pub use script::{Delay, Fault, Script, Stall};
use script_state::{ScriptCounters, ScriptState};

/// Events per `epoll_wait`.
const EVENTS_PER_ROUND: usize = 256;

/// Bytes read at once.
const READ_LEN_MAX: usize = 64 << 10;

/// The server sleeps until this long before the next reply is due, and spins from then on: a
/// sleep is counted in milliseconds, and may end late.
const SPIN: Duration = Duration::from_millis(1);

/// The longest sleep; a later deadline is checked again then.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A WebSocket echo server on one thread that follows a [`Script`].
///
/// It is the reference that the generator is tested with. The script is followed within a few
/// microseconds, as long as the thread has its core to itself: while a reply is due within about
/// a millisecond it spins.
///
/// A message is echoed with its own framing, once it is complete. Order on a connection is always
/// kept: a reply that is due waits for those before it, also a pong or a Close. All replies of a
/// connection that are due go out with one write. Messages over 16 MiB and frames that no client
/// may send end the connection without a Close; a request other than an upgrade to WebSocket gets
/// status 400. UTF-8 is not checked.
#[derive(Debug)]
pub struct ScriptedServer {
    server_thread: ServerThread,
    counters: Arc<ScriptCounters>,
}

impl ScriptedServer {
    /// Starts it on a free port of 127.0.0.1, on a thread of its own that is
    /// pinned to `core` if there is one.
    ///
    /// # Errors
    /// The kernel's, for descriptors, the thread or the core.
    pub fn start(script: Script, core: Option<usize>) -> io::Result<Self> {
        let counters = Arc::new(ScriptCounters::default());
        let script_state = ScriptState::new(script, Arc::clone(&counters));
        let serve = |reactor| ScriptLoop::new(reactor, script_state).serve();
        let server_thread = ServerThread::start("scripted", ANY_LOCAL_PORT, core, serve)?;
        Ok(Self {
            server_thread,
            counters,
        })
    }

    /// Ends the thread and closes all connections. Dropping the server does
    /// the same, but ignores a panic.
    ///
    /// # Panics
    /// When the thread panicked.
    pub fn stop(self) {
        self.server_thread.stop();
    }

    /// The number of messages echoed so far, without those that were dropped. A message is
    /// counted just before its reply is written, so a client that received the reply finds it
    /// counted.
    pub fn served(&self) -> u64 {
        self.counters.echoed()
    }

    /// The number of messages so far with the rare delay of [`Delay::EveryNth`], counted when
    /// they were read.
    pub fn rarely_delayed(&self) -> u64 {
        self.counters.rare()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server_thread.address()
    }

    /// The id of its thread, for `/proc/self/task/TID/schedstat`.
    pub fn thread_id(&self) -> i32 {
        self.server_thread.thread_id()
    }
}

struct ScriptLoop {
    reactor: Reactor,
    connections: ConnectionTable<ScriptedConnection>,
    /// The deadlines of the connections' next replies. An entry that differs from its
    /// connection's `timer` is stale.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    script_state: ScriptState,
    /// Shared by all connections: one read is processed before the next.
    buffer: Box<[u8]>,
}

impl ScriptLoop {
    fn new(reactor: Reactor, script_state: ScriptState) -> Self {
        Self {
            reactor,
            connections: ConnectionTable::new(),
            timers: BinaryHeap::new(),
            script_state,
            buffer: vec![0; READ_LEN_MAX].into_boxed_slice(),
        }
    }

    fn serve(mut self) {
        let mut events = Vec::with_capacity(EVENTS_PER_ROUND);
        loop {
            let timeout = self.next_due().map(sleep_before);
            self.reactor.wait(&mut events, timeout);
            self.run_due();
            for event in &events {
                match reactor::token(event) {
                    reactor::STOP => return,
                    reactor::LISTENER => self.accept_all(),
                    token => self.notify(token, event.flags),
                }
                // A batch may take longer than a reply may be late.
                self.run_due();
            }
        }
    }

    /// The next deadline.
    fn next_due(&self) -> Option<Instant> {
        let reply = self.timers.peek().map(|Reverse((due, _))| *due);
        reply.into_iter().chain(self.script_state.stall_at()).min()
    }

    fn run_due(&mut self) {
        while let Some(due) = self.next_due() {
            let now = Instant::now();
            if due > now {
                return;
            }
            if let Some(length) = self.script_state.begin_stall(now) {
                self.stall(now + length);
            } else if let Some(Reverse((due, token))) = self.timers.pop()
                && let Some(connection) = self.connections.get_mut(token)
                && connection.timer == Some(due)
            {
                connection.timer = None;
                self.write(token, now);
            }
        }
    }

    /// Neither reads nor writes until `end`, but obeys the stop signal.
    fn stall(&self, end: Instant) {
        while Instant::now() < end {
            let sleep = sleep_before(end);
            if sleep.is_zero() {
                hint::spin_loop();
            } else if self.reactor.sleep(sleep) {
                return;
            }
        }
    }

    fn accept_all(&mut self) {
        while let Some((token, socket)) = self.reactor.accept(EventFlags::IN) {
            self.connections
                .insert(token, ScriptedConnection::new(socket));
        }
    }

    fn notify(&mut self, token: usize, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            connection.blocked = false;
        }
        let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let may_read = flags.contains(EventFlags::IN) || is_over;
        let now = if !connection.client_state.wants_bytes() {
            // The peer is gone, and with it the receiver of its queued replies.
            if is_over {
                return self.remove(token);
            }
            Instant::now()
        } else if may_read {
            match connection.read(&mut self.buffer, &mut self.script_state) {
                Ok(now) => now,
                Err(ConnectionClosed) => return self.remove(token),
            }
        } else {
            Instant::now()
        };
        self.write(token, now);
    }

    /// Writes what is due, and sets the timer for the rest.
    fn write(&mut self, token: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        if connection.write(now, &self.script_state).is_err() {
            return self.remove(token);
        }
        let next_due = connection.client_state.reply_queue().next_due();
        if let Some(due) = next_due
            && connection.timer != next_due
        {
            connection.timer = next_due;
            self.timers.push(Reverse((due, token)));
        }
        let interest = connection.interest();
        if connection.watched != interest {
            connection.watched = interest;
            self.reactor.watch(token, &connection.socket, interest);
        }
    }

    fn remove(&mut self, token: usize) {
        self.connections.remove(token);
        self.reactor.connection_closed();
    }
}

struct ScriptedConnection {
    socket: OwnedFd,
    client_state: ClientState,
    /// The registered epoll flags.
    watched: EventFlags,
    /// The socket did not accept all that was due; an epoll event follows when it has room.
    blocked: bool,
    /// The deadline in the server's heap that belongs to this connection.
    timer: Option<Instant>,
}

/// The connection is to be closed.
struct ConnectionClosed;

impl ScriptedConnection {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            client_state: ClientState::default(),
            watched: EventFlags::IN,
            blocked: false,
            timer: None,
        }
    }

    /// Reads once. Returns the time of the read, from which delays count.
    fn read(
        &mut self,
        buffer: &mut [u8],
        script_state: &mut ScriptState,
    ) -> Result<Instant, ConnectionClosed> {
        let received = recv(&self.socket, &mut *buffer, RecvFlags::empty());
        let now = Instant::now();
        match received {
            Ok((0, _)) => Err(ConnectionClosed),
            Ok((len, _)) => {
                let taken = self.client_state.receive(&buffer[..len], now, script_state);
                taken.map(|()| now).map_err(|_| ConnectionClosed)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(now),
            Err(_) => Err(ConnectionClosed),
        }
    }

    /// Writes all that is due with one write.
    fn write(&mut self, now: Instant, script_state: &ScriptState) -> Result<(), ConnectionClosed> {
        let reply_queue = self.client_state.reply_queue();
        script_state.echo(reply_queue.release(now));
        let writable = reply_queue.writable();
        if !writable.is_empty() && !self.blocked {
            let len = match send(&self.socket, writable, SendFlags::NOSIGNAL) {
                Ok(len) => len,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return Err(ConnectionClosed),
            };
            self.blocked = len < writable.len();
            reply_queue.wrote(len);
        }
        if reply_queue.is_over() {
            Err(ConnectionClosed)
        } else {
            Ok(())
        }
    }

    fn interest(&self) -> EventFlags {
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, self.client_state.wants_bytes());
        interest.set(EventFlags::OUT, self.blocked);
        interest
    }
}

/// The time to sleep, in whole milliseconds, to be awake before `due`; zero when it is time to
/// spin.
fn sleep_before(due: Instant) -> Duration {
    let left = due.saturating_duration_since(Instant::now());
    let left = left.saturating_sub(SPIN).min(SLEEP_MAX);
    left.saturating_sub(Duration::from_nanos(u64::from(
        left.subsec_nanos() % 1_000_000,
    )))
}

#[cfg(test)]
mod tests;
