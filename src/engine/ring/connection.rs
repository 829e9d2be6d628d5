//! One connection of the `ring` engine: its socket, its state, and the bytes
//! that it cannot do without.

use std::os::fd::OwnedFd;

use io_uring::cqueue;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::operation::{self, Target};
use super::pool::{BufferId, Line, Received, Size};
use super::reads::Reads;
use super::token::Key;
use super::uring::Uring;
use super::{Reply, Shared};
use crate::admission::Permit;
use crate::calls;
use crate::engine::backlog::{self, Backlog, Verdict};
use crate::engine::partial::Partial;
use crate::engine::session::{Due, PING, Session};
use crate::engine::{Drain, Holdings, Millis, Settings};
use crate::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};

pub(super) struct Connection {
    socket: OwnedFd,
    key: Key,
    /// The socket is in the table of registered files, in the same place.
    is_registered: bool,
    session: Session,
    /// What the last step did not consume: part of a frame.
    partial: Partial,
    /// Buffers of the pool that are to be served.
    received: Line,
    receive: Receive,
    send: Send,
    /// What the socket did not take, outside of the pool.
    backlog: Option<Box<Backlog>>,
    room: Room,
    reads: Reads,
    stage: Stage,
    /// The client's end of the stream stands behind what was received.
    hung_up: bool,
    /// The engine has this connection on its list.
    pub(super) listed: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is more to be said.
    Talking,
    /// The stream is to be half-closed once everything is sent, or is.
    LastWord,
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
        buffer: BufferId,
        before: u32,
        start: u32,
        len: u32,
        /// It says so when it has ended, and has not: where the kernel takes a
        /// linked operation without the next one, it leaves it to a thread.
        awaited: bool,
    },
}

/// Whether a connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, key: Key, permit: Permit, now: Millis) -> Self {
        Self {
            socket,
            key,
            is_registered: false,
            session: Session::new(permit, now),
            partial: Partial::default(),
            received: Line::EMPTY,
            receive: Receive::None,
            send: Send::None,
            backlog: None,
            room: Room::Unknown,
            reads: Reads::default(),
            stage: Stage::Talking,
            hung_up: false,
            listed: false,
        }
    }

    /// Echoes the frames that came with the handshake.
    pub(super) fn begin(&mut self, leftover: &[u8], shared: &mut Shared, now: Millis) -> Fate {
        if leftover.is_empty() {
            return Fate::Open;
        }
        self.session
            .count_reads(&shared.settings, 0, leftover.len());
        let buf = self.partial.take_with(leftover);
        self.answer_own(buf, shared, now)
    }

    /// Takes its place among the registered files, if there is one.
    pub(super) fn register(&mut self, uring: &Uring) {
        self.is_registered = uring.register_file(self.key.place, &self.socket);
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Closes the socket. Nothing may be in flight on it.
    pub(super) fn close_socket(self, uring: &Uring) {
        if self.is_registered {
            uring.unregister_file(self.key.place);
        }
    }

    /// Whose completions are this connection's.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether serving this connection may get it any further.
    pub(super) fn wants_service(&self) -> bool {
        if self.has_ended() {
            return false;
        }
        if self.awaits_reply() {
            return false;
        }
        if !self.received.is_empty() {
            return true;
        }
        match &self.backlog {
            None => self.receive == Receive::None || self.hung_up,
            Some(_) => {
                self.room == Room::Unknown
                    || self.receive == Receive::Multishot
                    || (self.receive == Receive::None && self.may_receive())
            }
        }
    }

    /// Whether more is to be received.
    fn may_receive(&self) -> bool {
        let is_wanted = self.backlog.as_deref().is_none_or(Backlog::reads_on);
        is_wanted && !self.hung_up
    }

    /// Whether it is to be received for, but sends so much at once that the
    /// others are to come first.
    pub(super) fn floods(&self) -> bool {
        self.reads.flood()
            && self.received.is_empty()
            && (self.backlog.is_none() || (self.room == Room::Awaited && self.may_receive()))
    }

    fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the connection has ended, and the kernel has let go of it.
    pub(super) fn is_over(&self) -> bool {
        let is_idle = matches!(self.send, Send::None) && self.room == Room::Unknown;
        self.has_ended() && self.receive == Receive::None && is_idle
    }

    /// Takes the completion of a receive.
    pub(super) fn received(&mut self, completion: &cqueue::Entry, shared: &mut Shared) {
        let pool = &mut shared.pool;
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
    pub(super) fn reply_was_sent(&mut self, result: i32, shared: &mut Shared) {
        let Send::Reply {
            buffer,
            before,
            start,
            len,
            ref mut awaited,
        } = self.send
        else {
            return;
        };
        *awaited = false;
        let sent = match u32::try_from(result) {
            Ok(sent) if sent == len => return,
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
                shared.pool.give_back_all(&mut self.received);
                return;
            }
        };
        if sent > 0 {
            self.session.count_write(&shared.settings, sent as usize);
        }
        let unsent = (start + sent) as usize..(start + len) as usize;
        let now = shared.settings.clock.now();
        let unsent = &shared.pool.slot(buffer, before as usize)[unsent];
        self.send = Send::None;
        self.put_aside(unsent, &shared.settings, now);
    }

    /// Whether the send of a reply has not ended with the call that started it.
    pub(super) fn awaits_reply(&self) -> bool {
        matches!(self.send, Send::Reply { awaited: true, .. })
    }

    /// Takes the end of a reply's send.
    pub(super) fn reply_is_settled(&mut self, shared: &Shared) -> Fate {
        let Send::Reply { len, .. } = self.send else {
            return Fate::Open;
        };
        self.send = Send::None;
        self.session.count_write(&shared.settings, len as usize);
        if self.stage == Stage::LastWord {
            self.half_close(shared.settings.clock.now())
        } else {
            Fate::Open
        }
    }

    /// Takes the end of the wait for room, whatever has ended it: what is wrong
    /// with the socket, the next send finds out.
    pub(super) fn room_was_found(&mut self) {
        self.room = Room::Unknown;
    }

    /// Does the next thing: sends some of the backlog, and answers one buffer.
    pub(super) fn serve(&mut self, shared: &mut Shared, now: Millis) -> Fate {
        if self.has_ended() || self.awaits_reply() {
            return Fate::Open;
        }
        if self.room == Room::Unknown && self.flush(shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        if shared.draining == Some(Drain::Now)
            && !self.session.is_closing()
            && self.close(EndReason::Drain, shared, now) == Fate::Ended
        {
            return Fate::Ended;
        }
        let kept = self.partial.len();
        let floods = self.floods();
        if let Some(received) = shared.pool.take_joined(&mut self.received, kept) {
            if self.answer(&received, shared, now) == Fate::Ended {
                return Fate::Ended;
            }
        } else if self.hung_up && self.backlog.is_none() {
            return Fate::Ended;
        }
        if self.is_quiet(shared) && self.close(EndReason::Drain, shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        // One that floods is received for when its turn comes: what it sends is
        // still in the cache then when it is answered.
        if floods || !self.floods() {
            self.listen(shared);
        }
        self.await_room(shared);
        Fate::Open
    }

    /// Does what the clock asks for.
    pub(super) fn tick(&mut self, shared: &mut Shared, now: Millis) -> Fate {
        if self.has_ended() {
            // Its operations are cancelled once more: the kernel does not find
            // one that is about to start, which would then wait for ever.
            return Fate::Ended;
        }
        if self.awaits_reply() {
            // Nothing may overtake it, and it takes no time.
            return Fate::Open;
        }
        if self.backlog.is_some() {
            // A client that does not read is not silent.
            return self.judge_backlog(shared, now);
        }
        let settings = &shared.settings;
        if !self.session.is_due_in_turn(settings, now) {
            return Fate::Open;
        }
        if self.has_unread() && !self.session.is_closing() {
            // It is not silent: it waits to be read.
            return Fate::Open;
        }
        match self.session.due(settings, now) {
            Due::Nothing => Fate::Open,
            Due::Cut => {
                self.session.cut(settings, EndReason::Idle);
                Fate::Ended
            }
            Due::Ping => {
                self.session.probed(settings, now);
                self.say(&PING, SendFlags::empty(), shared, now)
            }
            Due::Close => {
                settings.counters.idle_timeouts.add(1);
                self.close(EndReason::Idle, shared, now)
            }
        }
    }

    /// What this connection holds, less what it has in the pool. One that has
    /// ended holds nothing that it could still let go of.
    pub(super) fn holdings(&self, now: Millis) -> Holdings {
        if self.has_ended() {
            return Holdings::default();
        }
        backlog::holdings(self.backlog.as_deref(), self.partial.capacity(), now)
    }

    /// Ends the connection for this reason, because of what it holds.
    pub(super) fn dismiss(&mut self, reason: EndReason, shared: &Shared, now: Millis) -> Fate {
        if self.backlog.is_some() {
            self.session.cut(&shared.settings, reason);
            return Fate::Ended;
        }
        self.partial.clear();
        self.close(reason, shared, now)
    }

    /// To be called once for a connection that is not to be served any more.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.session.over(&shared.settings, &self.socket);
    }

    /// Ends the connection, as soon as the kernel lets go of it.
    pub(super) fn end(&mut self, shared: &mut Shared) {
        self.over(shared);
        self.stage = Stage::Ended;
        self.partial.clear();
        self.backlog = None;
        shared.pool.give_back_all(&mut self.received);
        if !self.is_over() {
            let cancel = operation::cancel_all(&self.socket, self.key);
            // SAFETY: names no memory.
            unsafe { shared.uring.push(cancel) };
        }
    }

    /// Sees to it that the kernel receives for this connection as it should.
    fn listen(&mut self, shared: &mut Shared) {
        // What waits for its client takes one buffer at a time.
        let is_bulk = self.reads.are_bulk() || self.backlog.is_some();
        let entry = match self.receive {
            Receive::Multishot if is_bulk => {
                self.receive = Receive::Cancelled;
                operation::cancel_receive(self.key)
            }
            Receive::None if !self.may_receive() || !self.received.is_empty() => return,
            Receive::None if is_bulk => {
                self.receive = Receive::Single;
                let len = shared.pool.data_len(Size::Large);
                operation::receive_single(&self.socket, self.key, len, self.reads.promise_more())
            }
            Receive::None => {
                self.receive = Receive::Multishot;
                operation::receive_multishot(&self.socket, self.key)
            }
            _ => return,
        };
        // SAFETY: names no memory but the pool's, which outlives the ring.
        unsafe { shared.uring.push(entry) };
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
    fn answer(&mut self, received: &Received, shared: &mut Shared, now: Millis) -> Fate {
        let &Received { buffer, filled, .. } = received;
        let settings = &shared.settings;
        self.session.count_reads(settings, received.reads, filled);
        let before = self.partial.len();
        if before > shared.pool.headroom(buffer) || self.partial.outweighs(filled) {
            let came = &shared.pool.slot(buffer, 0)[..filled];
            let buf = self.partial.take_with(came);
            shared.pool.give_back(buffer);
            return self.answer_own(buf, shared, now);
        }
        let slot = shared.pool.slot(buffer, before);
        self.partial.prepend(slot);
        let filled = before + filled;
        let step = self.session.receive(settings, slot, filled, now);
        self.partial.save(&slot[step.consumed..filled]);
        if let Some(backlog) = &mut self.backlog {
            backlog.push(&slot[step.reply.clone()], settings, now);
            shared.pool.give_back(buffer);
        } else if step.reply.is_empty() {
            shared.pool.give_back(buffer);
        } else {
            let reply = &slot[step.reply.clone()];
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
            unsafe { shared.uring.push(entry) };
            shared.replies.push(Reply {
                place: self.key.place,
                buffer,
            });
            self.send = Send::Reply {
                buffer,
                before: length(before),
                start: length(step.reply.start),
                len: length(step.reply.len()),
                awaited,
            };
        }
        self.go_on(step.next, now)
    }

    /// Answers what stands in memory of its own, for the few cases in which
    /// that is so.
    fn answer_own(&mut self, mut buf: Vec<u8>, shared: &mut Shared, now: Millis) -> Fate {
        let filled = buf.len() - TAIL_ROOM;
        let step = self
            .session
            .receive(&shared.settings, &mut buf, filled, now);
        let flags = match step.next {
            Next::Read => SendFlags::empty(),
            _ => SendFlags::MORE,
        };
        let fate = self.say(&buf[step.reply], flags, shared, now);
        self.partial.restore(buf, step.consumed);
        if fate == Fate::Ended {
            return Fate::Ended;
        }
        self.go_on(step.next, now)
    }

    fn go_on(&mut self, next: Next, now: Millis) -> Fate {
        match next {
            Next::Read => Fate::Open,
            Next::Close(_) | Next::Fail(_) => self.say_last_word(now),
            Next::Abort(_) => Fate::Ended,
        }
    }

    /// Sends `bytes` behind all that is on its way, outside of the ring: these
    /// are rare.
    fn say(&mut self, bytes: &[u8], flags: SendFlags, shared: &Shared, now: Millis) -> Fate {
        if bytes.is_empty() {
            return Fate::Open;
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.push(bytes, &shared.settings, now);
            return Fate::Open;
        }
        let sent = match calls::send(&self.socket, bytes, flags) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Fate::Ended,
        };
        if sent > 0 {
            self.session.count_write(&shared.settings, sent);
        }
        if sent < bytes.len() {
            self.put_aside(&bytes[sent..], &shared.settings, now);
        }
        Fate::Open
    }

    /// Begins a backlog.
    fn put_aside(&mut self, unsent: &[u8], settings: &Settings, now: Millis) {
        self.reads.note_slow_reader();
        self.backlog = Some(Box::new(Backlog::new(unsent, settings, now)));
    }

    /// Sends some of the backlog, if there is one, and does what comes after it.
    fn flush(&mut self, shared: &Shared, now: Millis) -> Fate {
        let Some(backlog) = &mut self.backlog else {
            return Fate::Open;
        };
        let Ok(sent) = backlog.send(&self.socket, &shared.settings, now) else {
            return Fate::Ended;
        };
        let is_drained = backlog.is_empty();
        if sent.len > 0 {
            self.session.count_write(&shared.settings, sent.len);
        }
        if !is_drained {
            return Fate::Open;
        }
        self.backlog = None;
        if self.stage == Stage::LastWord {
            self.half_close(now)
        } else {
            Fate::Open
        }
    }

    /// Has the kernel tell when there is room for the backlog.
    fn await_room(&mut self, shared: &mut Shared) {
        if self.backlog.is_some() && self.room == Room::Unknown {
            self.room = Room::Awaited;
            let wait = operation::await_room(&self.socket, self.key);
            // SAFETY: names no memory.
            unsafe { shared.uring.push(wait) };
        }
    }

    /// Tries what there is room for, where the clock asks for something, and only
    /// then does it.
    fn judge_backlog(&mut self, shared: &Shared, now: Millis) -> Fate {
        let settings = &shared.settings;
        let is_due = |backlog: &Backlog| backlog.is_due(settings, now);
        if self.backlog.as_deref().is_some_and(is_due) && self.flush(shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        if let Some(backlog) = &mut self.backlog
            && backlog.judge(settings, now) == Verdict::Cut
        {
            self.session.cut_slow_reader(settings);
            return Fate::Ended;
        }
        Fate::Open
    }

    /// Whether a drain may close this connection: everything that has arrived
    /// is answered.
    fn is_quiet(&self, shared: &Shared) -> bool {
        shared.draining.is_some()
            && matches!(self.send, Send::None)
            && self.backlog.is_none()
            && !self.session.is_closing()
            && self.session.is_quiet(self.partial.len())
            && !self.has_unread()
    }

    /// Whether something has arrived that is not answered, be it the end of the
    /// stream, or that the ring has not told of yet.
    fn has_unread(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        !self.received.is_empty()
            || rustix::net::recv(&self.socket, &mut [0; 1], flags) != Err(Errno::AGAIN)
    }

    /// Ends the connection by the server's own wish.
    fn close(&mut self, reason: EndReason, shared: &Shared, now: Millis) -> Fate {
        match self.session.close(&shared.settings, reason, now) {
            Some(frame) if self.say(&frame, SendFlags::MORE, shared, now) == Fate::Open => {
                self.say_last_word(now)
            }
            _ => Fate::Ended,
        }
    }

    /// What was sent, or is about to be, was the last.
    fn say_last_word(&mut self, now: Millis) -> Fate {
        self.stage = Stage::LastWord;
        if matches!(self.send, Send::None) && self.backlog.is_none() {
            self.half_close(now)
        } else {
            Fate::Open
        }
    }

    fn half_close(&mut self, now: Millis) -> Fate {
        self.session.half_closed(now);
        match rustix::net::shutdown(&self.socket, Shutdown::Write) {
            Ok(()) => Fate::Open,
            Err(_) => Fate::Ended,
        }
    }
}

/// A length within a buffer.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a buffer is smaller than 4 GiB")
}
