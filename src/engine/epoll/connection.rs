//! One connection of the `epoll` engine: its socket, its state, and the bytes
//! that it cannot do without.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use super::Shared;
use crate::admission::Permit;
use crate::calls;
use crate::engine::backlog::{self, Backlog, Verdict};
use crate::engine::partial::Partial;
use crate::engine::session::{Due, PING, Session};
use crate::engine::{Drain, Holdings, Millis};
use crate::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};

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

pub(super) struct Connection {
    socket: OwnedFd,
    session: Session,
    /// What the last step did not consume: part of a frame.
    partial: Partial,
    /// What the socket did not take.
    backlog: Option<Box<Backlog>>,
    ready: Ready,
    after_backlog: AfterBacklog,
    /// The last read has filled the buffer.
    floods: bool,
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

/// What comes once everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterBacklog {
    GoOn,
    /// That was the last: the end of the stream follows.
    HalfClose,
    /// The client sends no more, and was only owed that.
    End,
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
            session: Session::new(permit, now),
            partial: Partial::default(),
            backlog: None,
            ready: Ready::default(),
            after_backlog: AfterBacklog::GoOn,
            floods: false,
            listed: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Echoes the frames that came with the handshake.
    pub(super) fn begin(&mut self, leftover: &[u8], shared: &mut Shared, now: Millis) -> Fate {
        let mut rest = leftover;
        while !rest.is_empty() {
            let kept = self.partial.len();
            let len = rest.len().min(shared.read_buf.len() - TAIL_ROOM - kept);
            let (piece, later) = rest.split_at(len);
            shared.read_buf[kept..kept + len].copy_from_slice(piece);
            rest = later;
            self.session.count_reads(&shared.settings, 0, len);
            if self.receive(shared, len, now) == Fate::Ended {
                return Fate::Ended;
            }
        }
        // A drain may have begun during the handshake.
        self.ready.readable = shared.draining.is_some();
        Fate::Open
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
        match &self.backlog {
            None => self.ready.readable,
            Some(_) => self.ready.writable || self.may_read(),
        }
    }

    /// Whether there may be bytes that are to be read now.
    fn may_read(&self) -> bool {
        let has_ended = self.after_backlog == AfterBacklog::End;
        let is_wanted = |backlog: &Backlog| backlog.reads_on() && !has_ended;
        self.ready.readable && self.backlog.as_deref().is_none_or(is_wanted)
    }

    /// Whether it sends so much at once that the others are to come first.
    pub(super) fn floods(&self) -> bool {
        self.floods
    }

    /// Writes some of what is unsent, and reads once and answers.
    pub(super) fn serve(&mut self, shared: &mut Shared, now: Millis) -> Fate {
        if self.ready.writable && self.flush(shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        if self.may_read() && self.read(shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        match shared.draining {
            Some(drain) if self.may_close(drain) => self.close(EndReason::Drain, shared, now),
            _ => Fate::Open,
        }
    }

    /// Does what the clock asks for.
    pub(super) fn tick(&mut self, shared: &mut Shared, now: Millis) -> Fate {
        if self.backlog.is_some() {
            // A client that does not read is not silent.
            return self.judge_backlog(shared, now);
        }
        if !self.session.is_due_in_turn(&shared.settings, now) {
            return Fate::Open;
        }
        if self.read(shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        let settings = &shared.settings;
        match self.session.due(settings, now) {
            Due::Nothing => Fate::Open,
            Due::Cut => {
                self.session.cut(settings, EndReason::Idle);
                Fate::Ended
            }
            Due::Ping => {
                self.session.probed(settings, now);
                self.send(&PING, SendFlags::empty(), shared, now)
            }
            Due::Close => {
                settings.counters.idle_timeouts.add(1);
                self.close(EndReason::Idle, shared, now)
            }
        }
    }

    /// What this connection holds.
    pub(super) fn holdings(&self, now: Millis) -> Holdings {
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

    /// To be called before a connection that has ended is dropped.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.session.over(&shared.settings, &self.socket);
    }

    /// To be called instead where epoll will not have it.
    pub(super) fn lost(&mut self, error: &io::Error, shared: &Shared) {
        self.session.lost(&shared.settings, error);
    }

    fn read(&mut self, shared: &mut Shared, now: Millis) -> Fate {
        let kept = self.partial.len();
        let end = shared.read_buf.len() - TAIL_ROOM;
        let space = &mut shared.read_buf[kept..end];
        let room = space.len();
        match calls::recv(&self.socket, space) {
            Ok(0) if self.backlog.is_some() => {
                self.after_backlog = AfterBacklog::End;
                Fate::Open
            }
            Ok(0) => Fate::Ended,
            Ok(len) => {
                self.floods = len == room;
                // Fewer bytes than there was room for: the socket is empty, and
                // the next byte makes an event of its own. Only what ends a read
                // early may have made its event already.
                self.ready.readable = self.floods || self.ready.reads_short;
                self.session.count_reads(&shared.settings, 1, len);
                self.receive(shared, len, now)
            }
            Err(Errno::AGAIN) => {
                self.ready.readable = false;
                Fate::Open
            }
            Err(Errno::INTR) => Fate::Open,
            Err(_) => Fate::Ended,
        }
    }

    /// Answers `len` bytes that stand in the read buffer, with room before them for
    /// what was kept.
    fn receive(&mut self, shared: &mut Shared, len: usize, now: Millis) -> Fate {
        let settings = &shared.settings;
        let kept = self.partial.len();
        let filled = kept + len;
        if self.partial.outweighs(len) {
            let mut buf = self.partial.take_with(&shared.read_buf[kept..filled]);
            let step = self.session.receive(settings, &mut buf, filled, now);
            let fate = self.answer(&buf[step.reply], step.next, shared, now);
            self.partial.restore(buf, step.consumed);
            return fate;
        }
        self.partial.prepend(&mut shared.read_buf);
        let step = self
            .session
            .receive(settings, &mut shared.read_buf, filled, now);
        self.partial.save(&shared.read_buf[step.consumed..filled]);
        self.answer(&shared.read_buf[step.reply], step.next, shared, now)
    }

    fn answer(&mut self, reply: &[u8], next: Next, shared: &Shared, now: Millis) -> Fate {
        let more = match next {
            Next::Read => SendFlags::empty(),
            // The end of the stream follows at once and goes out with it.
            _ => SendFlags::MORE,
        };
        if !reply.is_empty() && self.send(reply, more, shared, now) == Fate::Ended {
            return Fate::Ended;
        }
        match next {
            Next::Read => Fate::Open,
            Next::Close(_) | Next::Fail(_) => self.say_last_word(now),
            Next::Abort(_) => Fate::Ended,
        }
    }

    /// Writes `bytes` behind whatever is unsent.
    fn send(&mut self, bytes: &[u8], flags: SendFlags, shared: &Shared, now: Millis) -> Fate {
        let settings = &shared.settings;
        if let Some(backlog) = &mut self.backlog {
            backlog.push(bytes, settings, now);
            return Fate::Open;
        }
        let sent = match calls::send(&self.socket, bytes, flags) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Fate::Ended,
        };
        if sent > 0 {
            self.session.count_write(settings, sent);
        }
        if sent < bytes.len() {
            let backlog = Backlog::new(&bytes[sent..], settings, now);
            self.backlog = Some(Box::new(backlog));
            self.ready.writable = false;
        }
        Fate::Open
    }

    /// Sends some of the backlog, if there is one, and does what comes after it.
    fn flush(&mut self, shared: &Shared, now: Millis) -> Fate {
        let Some(backlog) = &mut self.backlog else {
            return Fate::Open;
        };
        let Ok(sent) = backlog.send(&self.socket, &shared.settings, now) else {
            return Fate::Ended;
        };
        self.ready.writable = !sent.is_full;
        let is_drained = backlog.is_empty();
        if sent.len > 0 {
            self.session.count_write(&shared.settings, sent.len);
        }
        if !is_drained {
            return Fate::Open;
        }
        self.backlog = None;
        match self.after_backlog {
            AfterBacklog::GoOn => Fate::Open,
            AfterBacklog::HalfClose => self.half_close(now),
            AfterBacklog::End => Fate::Ended,
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

    fn may_close(&self, drain: Drain) -> bool {
        if self.session.is_closing() {
            return false;
        }
        match drain {
            Drain::WhenQuiet => !self.ready.readable && self.session.is_quiet(self.partial.len()),
            Drain::Now => true,
        }
    }

    /// Ends the connection by the server's own wish.
    fn close(&mut self, reason: EndReason, shared: &Shared, now: Millis) -> Fate {
        match self.session.close(&shared.settings, reason, now) {
            Some(frame) if self.send(&frame, SendFlags::MORE, shared, now) == Fate::Open => {
                self.say_last_word(now)
            }
            _ => Fate::Ended,
        }
    }

    /// What was sent, or is about to be, was the last.
    fn say_last_word(&mut self, now: Millis) -> Fate {
        if self.backlog.is_none() {
            return self.half_close(now);
        }
        if self.after_backlog == AfterBacklog::GoOn {
            self.after_backlog = AfterBacklog::HalfClose;
        }
        Fate::Open
    }

    fn half_close(&mut self, now: Millis) -> Fate {
        self.session.half_closed(now);
        match rustix::net::shutdown(&self.socket, Shutdown::Write) {
            Ok(()) => Fate::Open,
            Err(_) => Fate::Ended,
        }
    }
}
