//! One connection of the `ring` engine: its socket, its state, and the bytes
//! that it cannot do without.

use std::mem;
use std::os::fd::OwnedFd;

use io_uring::cqueue;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::operation::{self, Target};
use super::pool::{BufferId, Line, Received, Size};
use super::reads::Reads;
use super::uring::Uring;
use super::{Reply, Shared};
use crate::admission::Permit;
use crate::calls;
use crate::engine::kept::keep;
use crate::engine::session::{Due, PING, Session};
use crate::engine::{Drain, Holdings, Millis};
use crate::metrics::label::EndReason;
use crate::proto::{Next, Step, TAIL_ROOM};

pub(super) struct Connection {
    socket: OwnedFd,
    /// The socket is in the table of registered files, in the place of the
    /// connection's key.
    is_registered: bool,
    session: Session,
    /// What the last step did not consume: part of a frame.
    kept: Vec<u8>,
    /// Buffers of the pool that are to be served.
    received: Line,
    receive: Receive,
    send: Send,
    /// When the send of a rest began.
    sending_since: Millis,
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
    /// What the socket did not take. It waits for the client, outside of the
    /// pool.
    Rest(Box<Rest>),
}

/// A send that waits for a slow reader.
#[derive(Default)]
struct Rest {
    /// The kernel reads this while the send is [`started`](Self::started).
    sending: Vec<u8>,
    sent: usize,
    started: bool,
    /// Frames of the server's own that come behind it.
    behind: Vec<u8>,
    /// What was received before the receive was cancelled, to be looked at
    /// when all is sent.
    received: Vec<u8>,
}

impl Rest {
    /// Bytes of it: those to be sent, of which the first stay until the last
    /// are, and those not looked at.
    fn bytes(&self) -> usize {
        self.sending.len() + self.behind.len() + self.received.len()
    }
}

/// Whether a connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, permit: Permit, now: Millis) -> Self {
        Self {
            socket,
            is_registered: false,
            session: Session::new(permit, now),
            kept: Vec::new(),
            received: Line::EMPTY,
            receive: Receive::None,
            send: Send::None,
            sending_since: now,
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
        self.answer_own(leftover, shared, now)
    }

    /// Takes its place among the registered files, if there is one.
    pub(super) fn register(&mut self, key: u32, uring: &Uring) {
        self.is_registered = uring.register_file(key, &self.socket);
    }

    /// Closes the socket. Nothing may be in flight on it.
    pub(super) fn close_socket(self, key: u32, uring: &Uring) {
        if self.is_registered {
            uring.unregister_file(key);
        }
    }

    /// Whether serving this connection may get it any further.
    pub(super) fn wants_service(&self) -> bool {
        if self.has_ended() {
            return false;
        }
        match &self.send {
            Send::Rest(rest) => !rest.started || !self.received.is_empty(),
            Send::Reply { awaited: true, .. } => false,
            _ => !self.received.is_empty() || self.receive == Receive::None || self.hung_up,
        }
    }

    /// Whether it is to be received for, but sends so much at once that the
    /// others are to come first.
    pub(super) fn floods(&self) -> bool {
        self.reads.flood() && self.received.is_empty() && !matches!(self.send, Send::Rest(_))
    }

    fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the connection has ended, and the kernel has let go of it.
    pub(super) fn is_over(&self) -> bool {
        let is_sending = match &self.send {
            Send::None => false,
            Send::Reply { .. } => true,
            Send::Rest(rest) => rest.started,
        };
        self.has_ended() && self.receive == Receive::None && !is_sending
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
        let unsent = shared.pool.slot(buffer, before as usize)[unsent].to_vec();
        self.wait_for_room(unsent, shared.settings.clock.now());
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
            self.half_close()
        } else {
            Fate::Open
        }
    }

    /// Takes the completion of a rest's send.
    pub(super) fn rest_was_sent(&mut self, result: i32) {
        let Send::Rest(rest) = &mut self.send else {
            return;
        };
        rest.started = false;
        match usize::try_from(result) {
            Ok(sent) => rest.sent += sent,
            Err(_) => match Errno::from_raw_os_error(-result) {
                Errno::INTR | Errno::AGAIN => {}
                _ => {
                    self.send = Send::None;
                    self.hung_up = true;
                }
            },
        }
    }

    /// Does the next thing: goes on with a rest, or else answers one buffer.
    pub(super) fn serve(&mut self, key: u32, shared: &mut Shared, now: Millis) -> Fate {
        if self.has_ended() || self.awaits_reply() {
            return Fate::Open;
        }
        if self.send_rest(key, shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        if let Send::Rest(rest) = &mut self.send {
            set_aside(&mut self.received, rest, &self.session, shared);
            return Fate::Open;
        }
        if shared.draining == Some(Drain::Now)
            && !self.session.is_closing()
            && self.close(EndReason::Drain, shared, now) == Fate::Ended
        {
            return Fate::Ended;
        }
        let kept = self.kept.len();
        let floods = self.floods();
        if let Some(received) = shared.pool.take_joined(&mut self.received, kept) {
            if self.answer(key, &received, shared, now) == Fate::Ended {
                return Fate::Ended;
            }
        } else if self.hung_up {
            return Fate::Ended;
        }
        if self.is_quiet(shared) && self.close(EndReason::Drain, shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        // One that floods is received for when its turn comes: what it sends is
        // still in the cache then when it is answered.
        if floods || !self.floods() {
            self.listen(key, shared);
        }
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
        let settings = &shared.settings;
        if matches!(self.send, Send::Rest(_)) {
            if self.sending_since.is_over(settings.write_timeout, now) {
                settings.counters.write_timeouts.add(1);
                self.session.cut(settings, EndReason::SlowReader);
                return Fate::Ended;
            }
            // A peer that is not read from is not silent.
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
        let (bytes, waits_since) = match &self.send {
            Send::Rest(rest) => (rest.bytes(), Some(self.sending_since)),
            Send::None | Send::Reply { .. } => (0, None),
        };
        Holdings::of(self.kept.len() + bytes, waits_since, now)
    }

    /// Ends the connection because of what it holds.
    pub(super) fn dismiss(&mut self, shared: &Shared, now: Millis) -> Fate {
        if matches!(self.send, Send::Rest(_)) {
            self.session.cut(&shared.settings, EndReason::HeldBytes);
            return Fate::Ended;
        }
        self.kept = Vec::new();
        self.close(EndReason::HeldBytes, shared, now)
    }

    /// To be called once for a connection that is not to be served any more.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.session.over(&shared.settings);
    }

    /// Ends the connection, as soon as the kernel lets go of it.
    pub(super) fn end(&mut self, key: u32, shared: &mut Shared) {
        self.over(shared);
        self.stage = Stage::Ended;
        self.kept = Vec::new();
        shared.pool.give_back_all(&mut self.received);
        if !self.is_over() {
            let cancel = operation::cancel_all(&self.socket, key);
            // SAFETY: names no memory.
            unsafe { shared.uring.push(cancel) };
        }
    }

    /// Sees to it that the kernel receives for this connection as it should.
    fn listen(&mut self, key: u32, shared: &mut Shared) {
        let entry = match self.receive {
            Receive::Multishot if self.reads.are_bulk() => {
                self.receive = Receive::Cancelled;
                operation::cancel_receive(key)
            }
            Receive::None if self.hung_up || !self.received.is_empty() => return,
            Receive::None if self.reads.are_bulk() => {
                self.receive = Receive::Single;
                let len = shared.pool.data_len(Size::Large);
                operation::receive_single(&self.socket, key, len, self.reads.promise_more())
            }
            Receive::None => {
                self.receive = Receive::Multishot;
                operation::receive_multishot(&self.socket, key)
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
            && !self.hung_up
            && self.received.is_empty()
            && !self.reads.flood()
    }

    /// Answers what stands in a buffer of the pool.
    fn answer(&mut self, key: u32, received: &Received, shared: &mut Shared, now: Millis) -> Fate {
        let &Received { buffer, filled, .. } = received;
        let settings = &shared.settings;
        self.session.count_reads(settings, received.reads, filled);
        let before = self.kept.len();
        if before > shared.pool.headroom(buffer) {
            let bytes = shared.pool.slot(buffer, 0)[..filled].to_vec();
            shared.pool.give_back(buffer);
            return self.answer_own(&bytes, shared, now);
        }
        let slot = shared.pool.slot(buffer, before);
        slot[..before].copy_from_slice(&self.kept);
        let filled = before + filled;
        let step = self.session.receive(settings, slot, filled, now);
        keep(&mut self.kept, &slot[step.consumed..filled]);
        if step.reply.is_empty() {
            shared.pool.give_back(buffer);
        } else {
            let reply = &slot[step.reply.clone()];
            let target = if self.is_registered {
                Target::Registered(key)
            } else {
                Target::Descriptor(&self.socket)
            };
            let awaited = step.next == Next::Read && self.receives_next();
            let entry = match step.next {
                Next::Read if awaited => operation::send_before_next(target, key, reply),
                Next::Read => operation::send_at_once(target, key, reply),
                _ => operation::send_before_end(target, key, reply),
            };
            // SAFETY: the buffer is given back when the reply is settled,
            // after the call that starts this send, and its end.
            unsafe { shared.uring.push(entry) };
            shared.replies.push(Reply { key, buffer });
            self.send = Send::Reply {
                buffer,
                before: length(before),
                start: length(step.reply.start),
                len: length(step.reply.len()),
                awaited,
            };
        }
        self.go_on(&step)
    }

    /// Answers what stands in memory of its own, for the few cases in which
    /// that is so.
    fn answer_own(&mut self, bytes: &[u8], shared: &mut Shared, now: Millis) -> Fate {
        let mut buf = mem::take(&mut self.kept);
        buf.extend_from_slice(bytes);
        let filled = buf.len();
        buf.resize(filled + TAIL_ROOM, 0);
        let step = self
            .session
            .receive(&shared.settings, &mut buf, filled, now);
        keep(&mut self.kept, &buf[step.consumed..filled]);
        let flags = match step.next {
            Next::Read => SendFlags::empty(),
            _ => SendFlags::MORE,
        };
        if self.say(&buf[step.reply.clone()], flags, shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        self.go_on(&step)
    }

    fn go_on(&mut self, step: &Step) -> Fate {
        match step.next {
            Next::Read => Fate::Open,
            Next::Close(_) | Next::Fail(_) => self.say_last_word(),
            Next::Abort(_) => Fate::Ended,
        }
    }

    /// Sends `bytes` behind all that is on its way, outside of the ring: these
    /// are rare.
    fn say(&mut self, bytes: &[u8], flags: SendFlags, shared: &Shared, now: Millis) -> Fate {
        if bytes.is_empty() {
            return Fate::Open;
        }
        if let Send::Rest(rest) = &mut self.send {
            rest.behind.extend_from_slice(bytes);
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
            self.wait_for_room(bytes[sent..].to_vec(), now);
        }
        Fate::Open
    }

    /// Leaves `unsent` to the kernel until the client makes room.
    fn wait_for_room(&mut self, unsent: Vec<u8>, now: Millis) {
        self.reads.note_slow_reader();
        self.sending_since = now;
        self.send = Send::Rest(Box::new(Rest {
            sending: unsent,
            ..Rest::default()
        }));
    }

    /// Starts the send of a rest, or what comes after its end.
    fn send_rest(&mut self, key: u32, shared: &mut Shared, now: Millis) -> Fate {
        let Send::Rest(rest) = &mut self.send else {
            return Fate::Open;
        };
        if rest.started {
            return Fate::Open;
        }
        if rest.sent == rest.sending.len() {
            self.session.count_write(&shared.settings, rest.sent);
            self.sending_since = now;
            rest.sent = 0;
            rest.sending = mem::take(&mut rest.behind);
        }
        if rest.sent < rest.sending.len() {
            rest.started = true;
            let entry = operation::send_all(&self.socket, key, &rest.sending[rest.sent..]);
            // SAFETY: the bytes stay where they are until the completion has
            // come: a rest is neither changed nor dropped while it is started.
            unsafe { shared.uring.push(entry) };
            if self.receive == Receive::Multishot {
                self.receive = Receive::Cancelled;
                // SAFETY: names no memory.
                unsafe { shared.uring.push(operation::cancel_receive(key)) };
            }
            return Fate::Open;
        }
        let received = mem::take(&mut rest.received);
        self.send = Send::None;
        if self.stage == Stage::LastWord {
            return self.half_close();
        }
        if received.is_empty() {
            return Fate::Open;
        }
        self.answer_own(&received, shared, now)
    }

    /// Whether a drain may close this connection: everything that has arrived
    /// is answered.
    fn is_quiet(&self, shared: &Shared) -> bool {
        shared.draining.is_some()
            && matches!(self.send, Send::None)
            && self.received.is_empty()
            && !self.session.is_closing()
            && self.session.is_quiet(self.kept.len())
            && self.socket_is_empty()
    }

    /// Whether nothing has arrived that the ring has not told of yet.
    fn socket_is_empty(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        rustix::net::recv(&self.socket, &mut [0; 1], flags) == Err(Errno::AGAIN)
    }

    /// Ends the connection by the server's own wish.
    fn close(&mut self, reason: EndReason, shared: &Shared, now: Millis) -> Fate {
        match self.session.close(&shared.settings, reason, now) {
            Some(frame) if self.say(&frame, SendFlags::MORE, shared, now) == Fate::Open => {
                self.say_last_word()
            }
            _ => Fate::Ended,
        }
    }

    /// What was sent, or is about to be, was the last.
    fn say_last_word(&mut self) -> Fate {
        self.stage = Stage::LastWord;
        if matches!(self.send, Send::None) {
            self.half_close()
        } else {
            Fate::Open
        }
    }

    fn half_close(&self) -> Fate {
        match rustix::net::shutdown(&self.socket, Shutdown::Write) {
            Ok(()) => Fate::Open,
            Err(_) => Fate::Ended,
        }
    }
}

/// Copies what was received while a rest waits out of the pool.
fn set_aside(received: &mut Line, rest: &mut Rest, session: &Session, shared: &mut Shared) {
    let pool = &mut shared.pool;
    while let Some((buffer, filled)) = pool.take_first(received) {
        session.count_reads(&shared.settings, 1, filled);
        let received = &pool.slot(buffer, 0)[..filled];
        rest.received.reserve_exact(filled);
        rest.received.extend_from_slice(received);
        pool.give_back(buffer);
    }
}

/// A length within a buffer.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a buffer is smaller than 4 GiB")
}
