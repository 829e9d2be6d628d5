//! One connection of the `epoll` engine: its socket, and what is known of it.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::Shared;
use crate::engine::Millis;
use crate::engine::connection::{Action, Connection, Context};
use crate::engine::plain::{self, ENDED, Flow, OPEN, last_flags};
use crate::observe::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};
use crate::sys::calls;

/// The events behind which a read may end before the last byte: the end of the
/// stream, an error, or TCP's urgent byte.
const READS_SHORT: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR)
    .union(EventFlags::PRI);

/// What epoll is asked for.
pub(super) const INTEREST: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(READS_SHORT)
    .union(EventFlags::ET);

pub(super) struct EpollSocket {
    socket: OwnedFd,
    pub(super) connection: Connection,
    ready: Ready,
    /// The last read has filled the buffer.
    is_bulk: bool,
    /// The engine has this connection on its list.
    pub(super) listed: bool,
}

/// What is known of the socket since the last event. Edge-triggered events do
/// not repeat themselves.
#[derive(Default)]
struct Ready {
    /// There may be bytes to read.
    readable: bool,
    /// A read may end before the last of them, see [`READS_SHORT`].
    reads_short: bool,
    /// There may be room to write, where there was none.
    writable: bool,
}

impl EpollSocket {
    pub(super) fn new(socket: OwnedFd, connection: Connection) -> Self {
        Self {
            socket,
            connection,
            ready: Ready::default(),
            is_bulk: false,
            listed: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Echoes the frames that came with the handshake.
    pub(super) fn begin(&mut self, leftover: &[u8], shared: &mut Shared, now: Millis) -> Flow {
        let mut rest = leftover;
        while !rest.is_empty() {
            let kept = self.connection.partial.len();
            let len = rest.len().min(shared.read_buf.len() - TAIL_ROOM - kept);
            let (piece, later) = rest.split_at(len);
            shared.read_buf[kept..kept + len].copy_from_slice(piece);
            rest = later;
            self.connection.count_reads(&shared.settings, 0, len);
            self.receive(shared, len, now)?;
        }
        // A drain may have begun during the handshake.
        self.ready.readable = self.connection.draining().is_some();
        OPEN
    }

    /// Notes what epoll says; answers whether the connection has to go onto
    /// the list of those that are due.
    pub(super) fn note(&mut self, flags: EventFlags) -> bool {
        self.ready.readable |= flags.intersects(EventFlags::IN.union(READS_SHORT));
        self.ready.reads_short |= flags.intersects(READS_SHORT);
        self.ready.writable |= flags.contains(EventFlags::OUT);
        let list = !self.listed && self.wants_service();
        self.listed |= list;
        list
    }

    /// Whether serving this connection may get it any further.
    pub(super) fn wants_service(&self) -> bool {
        self.may_read()
            || (self.connection.is_blocked() && self.ready.writable)
            || self.connection.has_news()
    }

    /// Whether there may be bytes that are to be read now.
    fn may_read(&self) -> bool {
        self.ready.readable && self.connection.wants_bytes()
    }

    /// Whether it sends so much at once that the others are to come first.
    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// Writes some of what is unsent, and reads once and answers.
    pub(super) fn serve(&mut self, shared: &mut Shared, now: Millis) -> Flow {
        if self.ready.writable && self.connection.is_blocked() {
            self.flush(shared, now)?;
        }
        if self.connection.has_news() {
            self.serve_handler(shared.settings.at(now))?;
        }
        if self.may_read() {
            self.read(shared, now)?;
        }
        if self.connection.draining().is_some() {
            self.drain(shared, now)?;
        }
        OPEN
    }

    /// Does what a timer asks for, once what there is was read, or sent.
    pub(super) fn timeout(&mut self, shared: &mut Shared, now: Millis) -> Flow {
        if self.connection.is_blocked() {
            self.flush(shared, now)?;
            if !self.connection.is_blocked() {
                // What it has sent meanwhile is read first.
                return OPEN;
            }
        } else if self.connection.wants_bytes() {
            self.read(shared, now)?;
        }
        let context = shared.settings.at(now);
        let action = self.connection.timeout(context);
        self.perform(action, context)
    }

    /// Ends the connection for this reason, because of what it holds.
    pub(super) fn evict(&mut self, context: Context, reason: EndReason) -> Flow {
        let action = self.connection.evict(context, reason);
        self.perform(action, context)
    }

    /// To be called before a connection that has ended is dropped.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.connection.over(&shared.settings, &self.socket);
    }

    /// To be called instead where epoll will not have it.
    pub(super) fn lost(&mut self, error: &io::Error, shared: &Shared) {
        self.connection.lost(&shared.settings, error);
    }

    #[cold]
    fn drain(&mut self, shared: &Shared, now: Millis) -> Flow {
        let context = shared.settings.at(now);
        let action = self.connection.drain(context, !self.ready.readable);
        self.perform(action, context)
    }

    fn read(&mut self, shared: &mut Shared, now: Millis) -> Flow {
        let kept = self.connection.partial.len();
        let end = shared.read_buf.len() - TAIL_ROOM;
        let space = &mut shared.read_buf[kept..end];
        let room = space.len();
        match calls::recv(&self.socket, space) {
            Ok(0) => {
                self.ready.readable = false;
                let action = self.connection.end_of_stream();
                self.perform(action, shared.settings.at(now))
            }
            Ok(len) => {
                self.is_bulk = len == room;
                // Fewer bytes than there was room for: the socket is empty, and
                // the next byte makes an event of its own. Only what ends a read
                // early may have made its event already.
                self.ready.readable = self.is_bulk || self.ready.reads_short;
                self.connection.count_reads(&shared.settings, 1, len);
                self.receive(shared, len, now)
            }
            Err(Errno::AGAIN) => {
                self.ready.readable = false;
                OPEN
            }
            Err(Errno::INTR) => OPEN,
            Err(_) => ENDED,
        }
    }

    /// Answers `len` bytes that stand in the read buffer, with room before them for
    /// the part of a frame that came before.
    fn receive(&mut self, shared: &mut Shared, len: usize, now: Millis) -> Flow {
        let context = shared.settings.at(now);
        let mut joined = self.connection.partial.join(&mut shared.read_buf, len);
        let filled = joined.filled;
        let step = self.connection.receive(context, &mut joined, filled);
        let flow = self.answer(&joined[step.reply], step.next, context);
        self.connection.partial.keep(joined, step.consumed);
        flow
    }

    fn answer(&mut self, reply: &[u8], next: Next, context: Context) -> Flow {
        let was_blocked = self.connection.is_blocked();
        let flags = last_flags(next != Next::Read);
        plain::send(&self.socket, &mut self.connection, reply, flags, context)?;
        self.note_room(was_blocked);
        let action = self.connection.after_reply(next);
        self.perform(action, context)
    }

    #[cold]
    fn serve_handler(&mut self, context: Context) -> Flow {
        let was_blocked = self.connection.is_blocked();
        plain::serve_handler(&self.socket, &mut self.connection, context)?;
        self.note_room(was_blocked);
        OPEN
    }

    /// Sends some of what is unsent, and does what comes after it.
    fn flush(&mut self, shared: &Shared, now: Millis) -> Flow {
        let context = shared.settings.at(now);
        match plain::flush(&self.socket, &mut self.connection, context) {
            ControlFlow::Continue(has_room) => {
                self.ready.writable = has_room;
                OPEN
            }
            ControlFlow::Break(()) => ENDED,
        }
    }

    fn perform(&mut self, action: Action, context: Context) -> Flow {
        let was_blocked = self.connection.is_blocked();
        plain::perform(&self.socket, &mut self.connection, action, context)?;
        self.note_room(was_blocked);
        OPEN
    }

    /// Where a send has just begun a backlog, there is no room.
    fn note_room(&mut self, was_blocked: bool) {
        self.ready.writable &= was_blocked || !self.connection.is_blocked();
    }
}
