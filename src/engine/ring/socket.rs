//! One connection of the `ring` engine: its socket, its state, and the bytes
//! that it cannot do without.

use std::os::fd::OwnedFd;

use io_uring::cqueue;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::operation::{self, Target};
use super::pool::{Line, Received, Size};
use super::reads::Reads;
use super::token::Key;
use super::uring::Uring;
use super::{Reply, RingDriver};
use crate::engine::Millis;
use crate::engine::connection::{Action, Connection, Context};
use crate::engine::event_loop::DrivenSocket;
use crate::engine::plain::{self, ENDED, Flow, OPEN, last_flags};
use crate::observe::metrics::label::EndReason;
use crate::proto::Next;

pub(crate) struct RingSocket {
    socket: OwnedFd,
    key: Key,
    /// The socket is in the table of registered files, in the same place.
    is_registered: bool,
    connection: Connection,
    /// Buffers of the pool that are to be served.
    received: Line,
    receive: Receive,
    send: Send,
    room: Room,
    reads: Reads,
    stage: Stage,
    /// The client's end of the stream stands behind what was received.
    hung_up: bool,
    listed: bool,
}

/// An idle connection has this and its slot of the table.
const _: () = assert!(size_of::<RingSocket>() <= 128);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There may be more to send.
    Open,
    /// The reply on its way is the last.
    LastReply,
    /// The connection is over, and waits for its operations to end.
    Ended,
}

/// Which receive the kernel has of this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    None,
    /// Into a small buffer each time that bytes arrive, until it is cancelled.
    Multishot,
    /// Into one large buffer.
    Single,
    /// A multishot receive that is being cancelled.
    Cancelled,
}

/// What is known of the room in the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Trying is the way to know.
    Unknown,
    /// The kernel is to tell when there is some.
    Awaited,
}

/// What is on its way to the client. There is never more than one send.
enum Send {
    None,
    /// A reply in a buffer of the pool. The socket takes what it has room for
    /// at once, so this ends with the call that starts it.
    Reply {
        /// Its index among the replies of the driver.
        index: u32,
        /// It says so when it has ended, and has not: where the kernel takes a
        /// linked operation without the next one, it leaves it to a thread.
        awaited: bool,
    },
}

impl RingSocket {
    pub(super) fn new(socket: OwnedFd, key: Key, connection: Connection) -> Self {
        Self {
            socket,
            key,
            is_registered: false,
            connection,
            received: Line::EMPTY,
            receive: Receive::None,
            send: Send::None,
            room: Room::Unknown,
            reads: Reads::default(),
            stage: Stage::Open,
            hung_up: false,
            listed: false,
        }
    }

    /// Takes its place among the registered files, if there is one.
    pub(super) fn register(&mut self, uring: &Uring) {
        self.is_registered = uring.register_file(self.key.place, &self.socket);
    }

    /// Whose completions are this connection's.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether more is to be received.
    fn may_receive(&self) -> bool {
        self.connection.wants_bytes() && !self.hung_up
    }

    /// Takes the completion of a receive.
    pub(super) fn received(&mut self, completion: &cqueue::Entry, driver: &mut RingDriver) {
        let pool = &mut driver.pool;
        let size = match self.receive {
            Receive::Single => Size::Large,
            _ => Size::Small,
        };
        if !cqueue::more(completion.flags()) {
            self.receive = Receive::None;
        }
        let filled = u32::try_from(completion.result());
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            pool.receive(&mut self.received, buffer, filled.unwrap_or(0));
            if self.has_ended() {
                pool.give_back_all(&mut self.received);
            }
        }
        match filled {
            Ok(0) => self.hung_up = true,
            Ok(filled) => self.reads.note(filled as usize, size, pool.data_len(size)),
            Err(_) => match Errno::from_raw_os_error(-completion.result()) {
                Errno::NOBUFS => {
                    pool.missed(size);
                    self.reads.note_missed();
                }
                // It is started again.
                Errno::CANCELED | Errno::INTR | Errno::AGAIN => {}
                _ => self.hung_up = true,
            },
        }
    }

    /// Takes the completion of a reply's send, which need not come if the
    /// socket took everything.
    pub(super) fn reply_was_sent(&mut self, result: i32, driver: &mut RingDriver) {
        let Send::Reply { index, awaited } = &mut self.send else {
            return;
        };
        *awaited = false;
        let reply = driver.replies[*index as usize];
        let sent = match u32::try_from(result) {
            Ok(sent) if sent == reply.len => return,
            Ok(sent) => sent,
            Err(_)
                if matches!(
                    Errno::from_raw_os_error(-result),
                    Errno::AGAIN | Errno::INTR
                ) =>
            {
                0
            }
            Err(_) => {
                self.send = Send::None;
                self.hung_up = true;
                driver.pool.give_back_all(&mut self.received);
                return;
            }
        };
        let range = reply.start as usize..(reply.start + reply.len) as usize;
        let bytes = &driver.pool.slot(reply.buffer, reply.before as usize)[range];
        self.send = Send::None;
        let context = driver.settings.context();
        self.connection.sent(context, bytes, sent as usize);
        self.reads.note_slow_reader();
    }

    fn is_sending(&self) -> bool {
        !matches!(self.send, Send::None)
    }

    /// Whether the send of a reply has not ended with the call that started it.
    pub(super) fn awaits_reply(&self) -> bool {
        matches!(self.send, Send::Reply { awaited: true, .. })
    }

    /// As [`awaits_reply`](Self::awaits_reply); if so, the reply has this index from now on.
    pub(super) fn still_awaits(&mut self, new_index: u32) -> bool {
        match &mut self.send {
            Send::Reply {
                index,
                awaited: true,
            } => {
                *index = new_index;
                true
            }
            _ => false,
        }
    }

    /// Takes the end of a reply's send.
    pub(super) fn reply_is_settled(&mut self, len: u32, driver: &RingDriver) -> Flow {
        if matches!(self.send, Send::Reply { .. }) {
            self.send = Send::None;
            self.connection.count_write(&driver.settings, len as usize);
        }
        if self.stage != Stage::LastReply {
            return OPEN;
        }
        self.stage = Stage::Open;
        let action = self.connection.finish();
        self.perform(action, driver.settings.context())
    }

    /// Takes the end of the wait for room, whatever has ended it: what is wrong
    /// with the socket, the next send finds out.
    pub(super) fn room_was_found(&mut self) {
        self.room = Room::Unknown;
    }

    /// Sees to it that the kernel receives for this connection as it should.
    fn listen(&mut self, driver: &mut RingDriver) {
        // What waits for its client takes one buffer at a time.
        let is_bulk =
            self.reads.are_bulk() || self.connection.is_blocked() || !self.connection.wants_bytes();
        let entry = match self.receive {
            Receive::Multishot if is_bulk => {
                self.receive = Receive::Cancelled;
                operation::cancel_receive(self.key)
            }
            Receive::None if !self.may_receive() || !self.received.is_empty() => return,
            Receive::None if is_bulk => {
                self.receive = Receive::Single;
                let len = driver.pool.data_len(Size::Large);
                operation::receive_single(&self.socket, self.key, len, self.reads.promise_more())
            }
            Receive::None => {
                self.receive = Receive::Multishot;
                operation::receive_multishot(&self.socket, self.key)
            }
            _ => return,
        };
        // SAFETY: names no memory but the pool's, which outlives the ring.
        unsafe { driver.uring.push(entry) };
    }

    /// Whether the next operation will be a receive that must not come before
    /// the reply is sent. A multishot receive brings bytes anyway.
    fn receives_next(&self) -> bool {
        self.receive == Receive::None
            && self.reads.are_bulk()
            && self.may_receive()
            && self.received.is_empty()
            && !self.reads.flood()
    }

    /// Answers what stands in a buffer of the pool.
    fn answer(&mut self, received: &Received, driver: &mut RingDriver, now: Millis) -> Flow {
        let &Received { buffer, filled, .. } = received;
        let context = driver.settings.at(now);
        self.connection
            .count_reads(context.settings, received.reads, filled);
        let before = self.connection.partial.len();
        if before > driver.pool.headroom(buffer) {
            let came = &driver.pool.slot(buffer, 0)[..filled];
            let flow = self.answer_copied(came, context);
            driver.pool.give_back(buffer);
            return flow;
        }
        let mut joined = self
            .connection
            .partial
            .join(driver.pool.slot(buffer, before), filled);
        let filled = joined.filled;
        let step = self.connection.receive(context, &mut joined, filled);
        let reply = &joined[step.reply.clone()];
        let is_in_pool = joined.is_shared() && !self.connection.is_blocked();
        if !is_in_pool || reply.is_empty() {
            let flow = self.send(reply, step.next, context);
            self.connection.partial.keep(joined, step.consumed);
            driver.pool.give_back(buffer);
            flow?;
        } else {
            let target = if self.is_registered {
                Target::Registered(self.key.place)
            } else {
                Target::Descriptor(&self.socket)
            };
            let awaited = step.next == Next::Read && self.receives_next();
            let entry = match step.next {
                Next::Read if awaited => operation::send_before_next(target, self.key, reply),
                Next::Read => operation::send_at_once(target, self.key, reply),
                _ => operation::send_before_end(target, self.key, reply),
            };
            // SAFETY: the buffer is given back when the reply is settled,
            // after the call that starts this send, and its end.
            unsafe { driver.uring.push(entry) };
            self.send = Send::Reply {
                index: length(driver.replies.len()),
                awaited,
            };
            driver.replies.push(Reply {
                place: self.key.place,
                buffer,
                before: length(before),
                start: length(step.reply.start),
                len: length(step.reply.len()),
            });
            self.connection.partial.keep(joined, step.consumed);
        }
        let action = self.connection.after_reply(step.next);
        self.perform(action, context)
    }

    /// Answers what stands elsewhere, for the few cases in which that is so.
    fn answer_copied(&mut self, bytes: &[u8], context: Context) -> Flow {
        let mut joined = self.connection.partial.join_copied(bytes);
        let filled = joined.filled;
        let step = self.connection.receive(context, &mut joined, filled);
        let flow = self.send(&joined[step.reply], step.next, context);
        self.connection.partial.keep(joined, step.consumed);
        flow?;
        let action = self.connection.after_reply(step.next);
        self.perform(action, context)
    }

    /// Sends a reply behind all that is on its way, outside of the ring: these are
    /// rare.
    fn send(&mut self, reply: &[u8], next: Next, context: Context) -> Flow {
        let flags = last_flags(next != Next::Read);
        plain::send(&self.socket, &mut self.connection, reply, flags, context)?;
        self.note_backlog();
        OPEN
    }

    /// Sends some of what is unsent, and does what comes after it.
    fn flush(&mut self, context: Context) -> Flow {
        let flow = plain::flush(&self.socket, &mut self.connection, context);
        flow.map_continue(|_has_room| ())
    }

    fn perform(&mut self, action: Action, context: Context) -> Flow {
        if action == Action::HalfClose && self.is_sending() {
            self.stage = Stage::LastReply;
            return OPEN;
        }
        plain::perform(&self.socket, &mut self.connection, action, context)?;
        self.note_backlog();
        OPEN
    }

    fn note_backlog(&mut self) {
        if self.connection.is_blocked() {
            self.reads.note_slow_reader();
        }
    }

    /// Has the kernel tell when there is room for the backlog.
    fn await_room(&mut self, driver: &mut RingDriver) {
        if self.connection.is_blocked() && self.room == Room::Unknown {
            self.room = Room::Awaited;
            let wait = operation::await_room(&self.socket, self.key);
            // SAFETY: names no memory.
            unsafe { driver.uring.push(wait) };
        }
    }

    /// Whether something has arrived that is not answered, be it the end of the
    /// stream, or that the ring has not told of yet.
    fn has_unread(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        !self.received.is_empty()
            || rustix::net::recv(&self.socket, &mut [0; 1], flags) != Err(Errno::AGAIN)
    }
}

impl DrivenSocket for RingSocket {
    type Driver = RingDriver;

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

    fn begin(&mut self, leftover: &[u8], driver: &mut RingDriver, now: Millis) -> Flow {
        if leftover.is_empty() {
            return OPEN;
        }
        self.connection
            .count_reads(&driver.settings, 0, leftover.len());
        self.answer_copied(leftover, driver.settings.at(now))
    }

    fn wants_service(&self) -> bool {
        if self.has_ended() {
            return false;
        }
        if self.awaits_reply() {
            return false;
        }
        if !self.received.is_empty() || self.connection.has_news() {
            return true;
        }
        if !self.connection.is_blocked() {
            let is_ended = self.hung_up && !self.connection.has_hung_up();
            return is_ended || (self.receive == Receive::None && self.may_receive());
        }
        self.room == Room::Unknown
            || self.receive == Receive::Multishot
            || (self.receive == Receive::None && self.may_receive())
    }

    fn is_bulk(&self) -> bool {
        self.reads.flood()
            && self.received.is_empty()
            && (!self.connection.is_blocked() || (self.room == Room::Awaited && self.may_receive()))
    }

    fn serve(&mut self, driver: &mut RingDriver, now: Millis) -> Flow {
        if self.has_ended() || self.awaits_reply() {
            return OPEN;
        }
        if self.room == Room::Unknown && self.connection.is_blocked() {
            self.flush(driver.settings.at(now))?;
        }
        if self.connection.has_news() && !self.is_sending() {
            let context = driver.settings.at(now);
            plain::serve_handler(&self.socket, &mut self.connection, context)?;
            self.note_backlog();
        }
        if self.connection.draining().is_some() {
            // One that does not wait comes before what would be answered next.
            let context = driver.settings.at(now);
            let action = self.connection.drain(context, false);
            self.perform(action, context)?;
        }
        let kept = self.connection.partial.len();
        let was_bulk = self.is_bulk();
        if let Some(received) = driver.pool.take_joined(&mut self.received, kept) {
            self.answer(&received, driver, now)?;
        } else if self.hung_up {
            let action = self.connection.end_of_stream();
            self.perform(action, driver.settings.at(now))?;
        }
        if self.connection.draining().is_some() && !self.is_sending() {
            let is_quiet = !self.has_unread();
            let context = driver.settings.at(now);
            let action = self.connection.drain(context, is_quiet);
            self.perform(action, context)?;
        }
        // One in bulk is received for when its turn comes: what it sends is
        // still in the cache then when it is answered.
        if was_bulk || !self.is_bulk() {
            self.listen(driver);
        }
        self.await_room(driver);
        OPEN
    }

    fn timeout(&mut self, driver: &mut RingDriver, now: Millis) -> Flow {
        if self.has_ended() {
            return ENDED;
        }
        let context = driver.settings.at(now);
        // Nothing may overtake a reply that is on its way, which takes no time.
        if self.is_sending() {
            return OPEN;
        }
        if self.connection.is_blocked() {
            self.flush(context)?;
            if !self.connection.is_blocked() {
                // Bytes that its client has sent meanwhile are read first.
                return OPEN;
            }
        } else if !self.connection.is_closing()
            && !self.connection.has_hung_up()
            && self.has_unread()
        {
            // It is not silent: it waits to be read.
            return OPEN;
        }
        let action = self.connection.timeout(context);
        self.perform(action, context)
    }

    fn evict(&mut self, context: Context, reason: EndReason) -> Flow {
        if self.is_sending() {
            // Nothing may overtake that. The next tick finds it again.
            return OPEN;
        }
        let action = self.connection.evict(context, reason);
        self.perform(action, context)
    }

    fn end(&mut self, driver: &mut RingDriver) {
        self.connection.over(&driver.settings, &self.socket);
        self.stage = Stage::Ended;
        self.connection.free();
        driver.pool.give_back_all(&mut self.received);
        if !self.is_over() {
            let cancel = operation::cancel_all(&self.socket, self.key);
            // SAFETY: names no memory.
            unsafe { driver.uring.push(cancel) };
        }
    }

    fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    fn is_over(&self) -> bool {
        let is_idle = !self.is_sending() && self.room == Room::Unknown;
        self.has_ended() && self.receive == Receive::None && is_idle
    }

    fn before_close(&mut self, driver: &mut RingDriver) {
        if self.is_registered {
            driver.uring.unregister_file(self.key.place);
        }
    }
}

/// A length within a buffer, or of a list of replies.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("smaller than 4 Gi")
}
