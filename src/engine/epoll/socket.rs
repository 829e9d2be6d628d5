//! One connection of the `epoll` engine: its socket, and what is known of it.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::EpollDriver;
use crate::engine::connection::{Action, Connection, Context};
use crate::engine::event_loop::DrivenSocket;
use crate::engine::plain::{self, ENDED, Flow, OPEN, last_flags};
use crate::engine::{Drain, Millis};
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

pub(crate) struct EpollSocket {
    socket: OwnedFd,
    connection: Connection,
    ready: Ready,
    /// The last read has filled the buffer.
    is_bulk: bool,
    listed: bool,
    has_ended: bool,
}

/// An idle connection has this and its slot of the table.
const _: () = assert!(size_of::<EpollSocket>() <= 104);

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
            has_ended: false,
        }
    }

    /// Notes what epoll reports.
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.ready.readable |= flags.intersects(EventFlags::IN.union(READS_SHORT));
        self.ready.reads_short |= flags.intersects(READS_SHORT);
        self.ready.writable |= flags.contains(EventFlags::OUT);
    }

    /// Whether there may be bytes that are to be read now.
    fn may_read(&self) -> bool {
        self.ready.readable && self.connection.wants_bytes()
    }

    #[cold]
    fn drain(&mut self, driver: &EpollDriver, now: Millis) -> Flow {
        let context = driver.settings.at(now);
        let action = self.connection.drain(context, !self.ready.readable);
        self.perform(action, context)
    }

    fn read(&mut self, driver: &mut EpollDriver, now: Millis) -> Flow {
        let kept = self.connection.partial.len();
        let end = driver.read_buf.len() - TAIL_ROOM;
        let space = &mut driver.read_buf[kept..end];
        let room = space.len();
        match calls::recv(&self.socket, space) {
            Ok(0) => {
                self.ready.readable = false;
                let action = self.connection.end_of_stream();
                self.perform(action, driver.settings.at(now))
            }
            Ok(len) => {
                self.is_bulk = len == room;
                // Fewer bytes than there was room for: the socket is empty, and
                // the next byte makes an event of its own. Only what ends a read
                // early may have made its event already.
                self.ready.readable = self.is_bulk || self.ready.reads_short;
                self.connection.count_reads(&driver.settings, 1, len);
                self.receive(driver, len, now)
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
    fn receive(&mut self, driver: &mut EpollDriver, len: usize, now: Millis) -> Flow {
        let context = driver.settings.at(now);
        let mut joined = self.connection.partial.join(&mut driver.read_buf, len);
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
    fn flush(&mut self, driver: &EpollDriver, now: Millis) -> Flow {
        let context = driver.settings.at(now);
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

impl DrivenSocket for EpollSocket {
    type Driver = EpollDriver;

    fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn listed(&mut self) -> &mut bool {
        &mut self.listed
    }

    fn begin(&mut self, leftover: &[u8], driver: &mut EpollDriver, now: Millis) -> Flow {
        let mut rest = leftover;
        while !rest.is_empty() {
            let kept = self.connection.partial.len();
            let len = rest.len().min(driver.read_buf.len() - TAIL_ROOM - kept);
            let (piece, later) = rest.split_at(len);
            driver.read_buf[kept..kept + len].copy_from_slice(piece);
            rest = later;
            self.connection.count_reads(&driver.settings, 0, len);
            self.receive(driver, len, now)?;
        }
        // A drain may have begun during the handshake.
        self.ready.readable = self.connection.draining().is_some();
        OPEN
    }

    fn start_drain(&mut self, drain: Drain) {
        self.connection.start_drain(drain);
        // A last read of what has arrived, even where no event says so.
        self.ready.readable = true;
    }

    fn wants_service(&self) -> bool {
        !self.has_ended
            && (self.may_read()
                || (self.connection.is_blocked() && self.ready.writable)
                || self.connection.has_news())
    }

    fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    fn serve(&mut self, driver: &mut EpollDriver, now: Millis) -> Flow {
        if self.ready.writable && self.connection.is_blocked() {
            self.flush(driver, now)?;
        }
        if self.connection.has_news() {
            self.serve_handler(driver.settings.at(now))?;
        }
        if self.may_read() {
            self.read(driver, now)?;
        }
        if self.connection.draining().is_some() {
            self.drain(driver, now)?;
        }
        OPEN
    }

    fn timeout(&mut self, driver: &mut EpollDriver, now: Millis) -> Flow {
        if self.connection.is_blocked() {
            self.flush(driver, now)?;
            if !self.connection.is_blocked() {
                // Bytes that its client has sent meanwhile are read first.
                return OPEN;
            }
        } else if self.connection.wants_bytes() {
            self.read(driver, now)?;
        }
        let context = driver.settings.at(now);
        let action = self.connection.timeout(context);
        self.perform(action, context)
    }

    fn evict(&mut self, context: Context, reason: EndReason) -> Flow {
        let action = self.connection.evict(context, reason);
        self.perform(action, context)
    }

    fn end(&mut self, driver: &mut EpollDriver) {
        self.connection.over(&driver.settings, &self.socket);
        self.has_ended = true;
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}
