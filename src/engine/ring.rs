//! The `ring` engine: an [event loop](super::event_loop) over one `io_uring` for all of
//! a worker's connections.
//!
//! Each connection has a multishot receive, which takes a buffer out of a
//! [pool] when bytes arrive. The echo core answers in that buffer, and
//! the reply is sent from it. A turn ends with one call of `io_uring_enter(2)`, which
//! starts its replies and brings what has arrived meanwhile:
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

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::Settings;
use super::connection::Connection;
use super::event_loop::{DrivenSocket, Driver, EventLoop, Scheduler};
use pool::{BufferId, Pool};
use socket::RingSocket;
use token::{Key, Op, Token};
use uring::Uring;

pub(crate) use probe::probe;

pub(crate) type RingEngine = EventLoop<RingDriver>;

/// The state that the connections of a worker share.
pub(crate) struct RingDriver {
    /// Ends before the pool, into which the kernel receives.
    uring: Uring,
    pool: Pool,
    /// Replies that the next call sends.
    replies: Vec<Reply>,
    /// Connections that there have been.
    opened: u64,
    settings: Rc<Settings>,
}

/// A reply that stands in a buffer of the pool.
#[derive(Clone, Copy)]
struct Reply {
    place: u32,
    buffer: BufferId,
    /// Bytes of the slot before the buffer's own that it takes.
    before: u32,
    start: u32,
    len: u32,
}

impl Driver for RingDriver {
    type Socket = RingSocket;

    const BULK_PER_TURN: usize = 2;
    const TURNS_PER_STRETCH: usize = 8;
    /// They read memory that the kernel writes, and cost far less than the runtime's
    /// look.
    const LOOKS_PER_STRETCH: usize = 256;
    const POLLS_AT_ONCE: bool = true;

    /// # Errors
    /// As [`Uring::new`].
    fn new(settings: Rc<Settings>) -> io::Result<Self> {
        let uring = Uring::new()?;
        let pool = Pool::new(settings.limits.window, settings.read_size);
        pool.register(&uring)?;
        Ok(Self {
            uring,
            pool,
            replies: Vec::new(),
            opened: 0,
            settings,
        })
    }

    /// Its count is never read: each addition is an event.
    fn descriptor(&self) -> io::Result<Rc<OwnedFd>> {
        self.uring.eventfd().map(Rc::new)
    }

    fn open(&mut self, socket: OwnedFd, key: u32, connection: Connection) -> RingSocket {
        let key = Key::new(key, self.opened);
        self.opened += 1;
        RingSocket::new(socket, key, connection)
    }

    fn register(&mut self, socket: &mut RingSocket, _key: u32) -> io::Result<()> {
        socket.register(&self.uring);
        Ok(())
    }

    fn poll(scheduler: &mut Scheduler<Self>) -> io::Result<()> {
        if scheduler.is_due() {
            // The last flush has brought it.
            return Ok(());
        }
        Self::flush(scheduler)
    }

    /// A Close, a Ping or the end of the stream may come next, and stands behind the
    /// replies. Brings what has arrived besides.
    fn flush(scheduler: &mut Scheduler<Self>) -> io::Result<()> {
        if !scheduler.driver.has_work() {
            return Ok(());
        }
        scheduler.driver.pool.replenish();
        while !scheduler.driver.uring.submit()? {
            scheduler.take_completions();
        }
        scheduler.take_completions();
        scheduler.settle_replies();
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.uring.has_work()
    }

    fn stop_listening(&mut self) {
        self.uring.stop_listening();
    }

    fn listen(&mut self) -> bool {
        self.uring.listen()
    }

    fn relax(&mut self) {
        self.pool.relax();
    }
}

impl Scheduler<RingDriver> {
    fn take_completions(&mut self) {
        while let Some(completion) = self.driver.uring.next() {
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
                Op::Receive => served.received(&completion, &mut self.driver),
                Op::Reply => served.reply_was_sent(completion.result(), &mut self.driver),
                Op::Room => served.room_was_found(),
                Op::Cancel => continue,
            }
            if token.op == Op::Room && served.connection().draining().is_some() {
                // With nothing on its way a drain may close it.
                self.list(place);
            }
            self.reschedule(place);
        }
    }

    /// The replies of the last call are sent, or copied out, but for those that
    /// are awaited.
    fn settle_replies(&mut self) {
        let mut replies = mem::take(&mut self.driver.replies);
        let mut awaited = 0;
        replies.retain(|reply| {
            let socket = self.connections.get_mut(reply.place);
            let is_awaited = socket.is_some_and(|socket| socket.still_awaits(awaited));
            if is_awaited {
                awaited += 1;
            } else {
                self.settle_reply(reply);
            }
            is_awaited
        });
        self.driver.replies = replies;
    }

    fn settle_reply(&mut self, reply: &Reply) {
        self.driver.pool.give_back(reply.buffer);
        // It may have been over when this reply failed.
        if let Some(served) = self.connections.get_mut(reply.place) {
            let flow = served.reply_is_settled(reply.len, &self.driver);
            let is_draining = served.connection().draining().is_some();
            self.settle(reply.place, flow);
            // With nothing on its way a drain may close it.
            if is_draining {
                self.list(reply.place);
            }
        }
    }
}
