//! One WebSocket connection as every engine serves it, without any I/O: the echo, the
//! closing handshake, the timeouts, the backlog of a slow reader, eviction and drain.
//!
//! ```text
//!            silence            silence
//!   Open ───────────▶ Pinged ───────────▶ Closing ──▶ cut
//!    │  ▲───────────────┘ bytes             ▲  close_timeout, or the
//!    └──────────────────────────────────────┘  client's end of stream
//!      a Close either way, a violation, drain
//! ```
//!
//! An engine moves bytes. It has what it reads answered by [`Connection::receive`],
//! writes the reply, and reports with [`Connection::sent`] how much of it the socket
//! took; the rest is the connection's [`unsent`](Connection::unsent), which goes out
//! when there is room. Each call that may change what comes next returns an [`Action`],
//! which the engine performs.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::backlog::{Backlog, Verdict};
use super::messages::channel::{Channel, Outgoing, Wish};
use super::messages::{Last, Messages};
use super::partial::Partial;
use super::{Buffered, Drain, Millis, Settings};
use crate::limits::admission::Permit;
use crate::net::socket::reset_when_closed;
use crate::observe::log_limit::{
    EVICTED, NO_TAKEOVER, SLOW_READER, TLS_BROKEN, VIOLATION, log_limited,
};
use crate::observe::metrics::label::EndReason;
use crate::proto::{CloseCode, Echo, FrameCounts, Next, Step};

/// A Ping without payload, as a server sends it.
pub(crate) const PING: [u8; 2] = [0x89, 0x00];

/// The state of one connection, less its socket and read buffer.
pub(crate) struct Connection {
    protocol: Protocol,
    phase: Phase,
    /// What follows once everything is sent.
    then: Then,
    /// The server ended the connection without waiting for the client.
    is_cut: bool,
    draining: Option<Drain>,
    /// When the phase began; in [`Phase::Open`], when bytes last came.
    since: Millis,
    permit: Permit,
    /// What the last step did not consume: part of a frame.
    pub(super) partial: Partial,
    /// What the socket did not take.
    backlog: Option<Box<Backlog>>,
}

/// What is done with a client's frames.
enum Protocol {
    Echo(Echo),
    /// A handler gets whole messages, and sends some.
    Messages(Box<Messages>),
}

/// An idle connection without a handler pays nothing for those that have one.
const _: () = assert!(size_of::<Protocol>() == size_of::<Echo>());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Frames are echoed.
    Open,
    /// As `Open`, but the client has been silent and was sent a Ping.
    Pinged,
    /// A Close frame is out, or nothing more can be sent. What still comes is
    /// discarded until the client's end of the stream, so that the Close
    /// reaches it: closing a socket with unread bytes would reset it.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    /// That was the last frame: the end of the stream follows.
    HalfClose,
    /// The client sends no more, and is owed what is unsent.
    End,
}

/// What a timer of a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Timer {
    #[default]
    Unset,
    /// Bytes from the client.
    Idle,
    /// An answer to a Ping.
    Pong,
    /// The client's end of the stream.
    Close,
    /// Room for what is unsent.
    Backlog,
    /// A look of its engine: a use for a large buffer, or the end of a cancelled read.
    Look,
}

/// What a connection's calls need to know of the worker.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) now: Millis,
}

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Action {
    /// Wait for whatever comes.
    Wait,
    /// Send this frame behind all that is unsent, and go on with
    /// [`Connection::then`].
    Send(Frame),
    /// Send the end of our side, and call [`Connection::half_closed`].
    HalfClose,
    /// Drop the connection.
    End,
}

/// A frame of the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Ping,
    Close(CloseCode),
}

impl Frame {
    /// Calls `send` with the bytes of the frame.
    pub(crate) fn with_bytes<T>(self, send: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Ping => send(&PING),
            Self::Close(code) => send(&code.frame()),
        }
    }

    /// Whether the end of the stream follows it.
    pub(crate) fn is_last(self) -> bool {
        matches!(self, Self::Close(_))
    }
}

impl Connection {
    /// A connection that was upgraded at `now`, and leaves when this is dropped. It echoes,
    /// unless there is a handler.
    pub(crate) fn new(
        permit: Permit,
        handler: Option<Rc<Channel>>,
        now: Millis,
        draining: Option<Drain>,
    ) -> Self {
        let protocol = match handler {
            None => Protocol::Echo(Echo::new()),
            Some(channel) => {
                if draining.is_some() {
                    channel.set_draining();
                }
                Protocol::Messages(Box::new(Messages::new(channel)))
            }
        };
        Self {
            protocol,
            phase: Phase::Open,
            then: Then::GoOn,
            is_cut: false,
            draining,
            since: now,
            permit,
            partial: Partial::default(),
            backlog: None,
        }
    }

    // ---- bytes from the client

    /// Whether the client is to be read.
    #[inline]
    pub(crate) fn wants_bytes(&self) -> bool {
        match (&self.backlog, &self.protocol) {
            (Some(backlog), _) => backlog.wait.reads_on() && self.then != Then::End,
            (None, Protocol::Echo(_)) => true,
            (None, Protocol::Messages(messages)) => {
                self.is_closing() || (messages.wants_bytes() && self.then != Then::End)
            }
        }
    }

    /// Counts a read that brought `len` bytes, or several that are served as one.
    #[inline]
    pub(crate) fn count_reads(&self, settings: &Settings, reads: u64, len: usize) {
        settings.counters.count_reads(reads, len);
        if let Some(record) = self.permit.record() {
            record.read(len);
        }
    }

    /// Answers what has arrived; see [`Echo::advance`]. The engine sends the reply,
    /// and goes on with [`after_reply`](Self::after_reply).
    #[inline]
    pub(crate) fn receive(&mut self, context: Context, buf: &mut [u8], filled: usize) -> Step {
        if self.phase == Phase::Closing {
            return Step {
                consumed: filled,
                reply: 0..0,
                next: Next::Read,
                messages: 0,
                others: FrameCounts::default(),
            };
        }
        let Context { settings, now } = context;
        let Protocol::Echo(echo) = &mut self.protocol else {
            return self.receive_messages(context, buf, filled);
        };
        self.phase = Phase::Open;
        self.since = now;
        let step = echo.advance(&settings.limits, buf, filled);
        settings.counters.count_step(&step);
        if let Some(record) = self.permit.record() {
            record.count_step(&step);
        }
        if step.next != Next::Read {
            self.end_of_frames(context, step.next);
        }
        step
    }

    /// As [`receive`](Self::receive), for a handler.
    #[inline(never)]
    fn receive_messages(&mut self, context: Context, buf: &mut [u8], filled: usize) -> Step {
        let Context { settings, now } = context;
        let Protocol::Messages(messages) = &mut self.protocol else {
            unreachable!("a handler's");
        };
        if !messages.has_last() {
            self.phase = Phase::Open;
            self.since = now;
        }
        let before = messages.ahead();
        let step = messages.advance(&settings.limits, buf, filled);
        settings.counters.count_received(&step);
        if let Some(record) = self.permit.record() {
            record.count_messages(step.messages, 0);
        }
        if let Some(backlog) = &mut self.backlog {
            // What is discarded at once is no progress.
            let ahead = messages.ahead();
            let (added, waiting) = (ahead.saturating_sub(before), backlog.len() + ahead);
            backlog.wait.added(added, waiting, settings, now);
        }
        if step.next != Next::Read {
            self.end_of_frames(context, step.next);
        }
        step
    }

    #[cold]
    fn end_of_frames(&mut self, context: Context, next: Next) {
        let settings = context.settings;
        match next {
            Next::Read => return,
            Next::Close(code) => self.count_end_of_frames(settings, EndReason::Client, code, next),
            Next::CloseWith(violation) => {
                let code = Some(violation.close_code());
                self.count_end_of_frames(settings, EndReason::Violation, code, next);
            }
            Next::Reset(_) => {
                self.count_end_of_frames(settings, EndReason::Violation, None, next);
            }
        }
        if let Next::CloseWith(violation) | Next::Reset(violation) = next {
            let _span = self.permit.record().map(|record| record.span().entered());
            log_limited!(debug, VIOLATION, %violation, "a client broke the protocol");
            settings.counters.violations.add(violation);
        }
        self.enter(Phase::Closing, context.now);
    }

    /// What follows the reply of a [step](Self::receive), once it is sent or put into
    /// the backlog.
    #[inline]
    pub(crate) fn after_reply(&mut self, next: Next) -> Action {
        match next {
            Next::Read => Action::Wait,
            Next::Close(_) | Next::CloseWith(_) => self.finish(),
            Next::Reset(_) => Action::End,
        }
    }

    /// The client sends no more.
    pub(crate) fn end_of_stream(&mut self) -> Action {
        self.then = Then::End;
        self.end_if_done()
    }

    /// Whether the client has been found to send no more.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.then == Then::End
    }

    /// Whether everything that was received has been answered.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_quiet = match &self.protocol {
            Protocol::Echo(echo) => echo.between_messages(),
            Protocol::Messages(messages) => messages.is_quiet(),
        };
        is_quiet && self.partial.len() == 0
    }

    /// The client is owed nothing any more, or what a handler has yet to answer.
    fn end_if_done(&self) -> Action {
        let is_owed = match &self.protocol {
            Protocol::Echo(_) => false,
            Protocol::Messages(messages) => !self.is_closing() && !messages.is_settled(),
        };
        if self.backlog.is_some() || is_owed {
            Action::Wait
        } else {
            Action::End
        }
    }

    // ---- a handler

    /// Whether a handler has done something since the last
    /// [`take_news`](Self::take_news).
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        match &self.protocol {
            Protocol::Echo(_) => false,
            Protocol::Messages(messages) => messages.channel.has_news(),
        }
    }

    /// Looks at what a handler has done. The engine sends what it has sent, and goes on
    /// with [`after_news`](Self::after_news). A connection that is closing sends nothing.
    pub(crate) fn take_news(&mut self, context: Context) -> Option<Outgoing> {
        let settings = context.settings;
        let Protocol::Messages(messages) = &mut self.protocol else {
            return None;
        };
        let (wish, mut outgoing, last) = messages.take_news();
        if self.is_closing() {
            return None;
        }
        if outgoing.frames > 0 {
            settings.counters.frames_per_write.note(outgoing.frames);
            settings
                .counters
                .messages_sent
                .add(outgoing.messages.into());
            if let Some(record) = self.permit.record() {
                record.count_messages(0, outgoing.messages);
            }
        }
        match (last, wish) {
            (Some(Last { frame, next }), _) => {
                outgoing.put_last(frame);
                self.end_of_frames(context, next);
            }
            (None, Some(Wish::Close(code))) => {
                self.count_end(settings, EndReason::Handler, Some(code));
                self.enter(Phase::Closing, context.now);
            }
            (None, Some(Wish::Drop)) => {
                self.count_end(settings, EndReason::Handler, None);
                self.enter(Phase::Closing, context.now);
            }
            (None, None) => {}
        }
        Some(outgoing)
    }

    /// What follows if [`take_news`](Self::take_news) has nothing to send.
    pub(crate) fn after_late_news(&self) -> Action {
        if self.then == Then::End {
            self.end_if_done()
        } else {
            Action::Wait
        }
    }

    /// What follows what was sent for a handler.
    pub(crate) fn after_news(&mut self) -> Action {
        self.note_unsent();
        if self.then == Then::End {
            self.end_if_done()
        } else if self.is_closing() {
            self.finish()
        } else {
            Action::Wait
        }
    }

    /// Bytes that were received and wait for the handler.
    fn ahead(&self) -> usize {
        match &self.protocol {
            Protocol::Echo(_) => 0,
            Protocol::Messages(messages) => messages.ahead(),
        }
    }

    /// Tells the handler how much is unsent.
    fn note_unsent(&self) {
        if let Protocol::Messages(messages) = &self.protocol {
            let unsent = self.backlog.as_deref().map_or(0, Backlog::len);
            messages.channel.note_unsent(unsent);
        }
    }

    // ---- bytes to the client

    /// Reports that the socket has taken `len` of `bytes`, which were sent while
    /// nothing was unsent. The rest is the backlog.
    #[inline]
    pub(crate) fn sent(&mut self, context: Context, bytes: &[u8], len: usize) {
        if len > 0 {
            self.count_write(context.settings, len);
        }
        if len < bytes.len() {
            let Context { settings, now } = context;
            self.begin_backlog(context)
                .push(&bytes[len..], settings, now);
        }
    }

    /// As [`sent`](Self::sent), without a copy of what is long.
    pub(crate) fn sent_shared(&mut self, context: Context, bytes: Bytes, len: usize) {
        if len > 0 {
            self.count_write(context.settings, len);
        }
        if len < bytes.len() {
            let Context { settings, now } = context;
            // All of it stays in memory for the rest.
            let backlog = self.begin_backlog(context);
            backlog.push_shared(bytes, settings, now);
            backlog.move_on(len);
        }
    }

    /// The backlog, which begins where there is none.
    fn begin_backlog(&mut self, context: Context) -> &mut Backlog {
        let Context { settings, now } = context;
        self.backlog
            .get_or_insert_with(|| Box::new(Backlog::begin(settings, now)))
    }

    /// Puts `bytes` into the backlog, if there is one; whether there is.
    #[inline]
    pub(crate) fn put_behind(&mut self, context: Context, bytes: &[u8]) -> bool {
        let Some(backlog) = &mut self.backlog else {
            return false;
        };
        backlog.push(bytes, context.settings, context.now);
        true
    }

    /// As [`put_behind`](Self::put_behind), without a copy of what is long; what is not
    /// put there comes back.
    pub(crate) fn put_shared_behind(&mut self, context: Context, bytes: Bytes) -> Option<Bytes> {
        let Some(backlog) = &mut self.backlog else {
            return Some(bytes);
        };
        backlog.push_shared(bytes, context.settings, context.now);
        None
    }

    /// Puts `bytes` into the backlog, which begins with them if there is none.
    pub(crate) fn put_in_backlog(&mut self, context: Context, bytes: Bytes) {
        let Context { settings, now } = context;
        self.begin_backlog(context)
            .push_shared(bytes, settings, now);
    }

    /// Reports that the stream which encrypts has taken `len` bytes of what is
    /// [unsent](Self::unsent).
    pub(crate) fn encrypted(&mut self, len: usize) {
        if let Some(backlog) = &mut self.backlog {
            backlog.move_on(len);
        }
    }

    /// Whether something is unsent.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.backlog.is_some()
    }

    /// The next bytes to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        let backlog = self.backlog.as_deref();
        backlog.map_or(&[], Backlog::front)
    }

    /// Reports that the socket has taken `len` bytes of what is
    /// [unsent](Self::unsent).
    pub(crate) fn sent_unsent(&mut self, context: Context, len: usize) -> Action {
        let ahead = self.ahead();
        let Some(backlog) = &mut self.backlog else {
            return Action::Wait;
        };
        backlog.advance(len, ahead, context.settings, context.now);
        let is_drained = backlog.is_empty();
        if len > 0 {
            self.count_write(context.settings, len);
        }
        let action = if is_drained {
            self.drained()
        } else {
            Action::Wait
        };
        self.note_unsent();
        action
    }

    /// Counts a write of `len` bytes.
    #[inline]
    pub(crate) fn count_write(&self, settings: &Settings, len: usize) {
        settings.counters.count_write(len);
        if let Some(record) = self.permit.record() {
            record.wrote(len);
        }
    }

    /// Reports that bytes were put behind those that wait outside of the backlog, in a
    /// stream that encrypts them, where `waiting` are now.
    pub(crate) fn stream_took(&mut self, context: Context, len: usize, waiting: usize) {
        self.count_write(context.settings, len);
        if let Some(backlog) = &mut self.backlog {
            backlog
                .wait
                .added(len, waiting, context.settings, context.now);
        }
    }

    /// Reports that such a stream has sent `len` bytes, and `waiting` are left.
    pub(crate) fn stream_sent(&mut self, context: Context, len: usize, waiting: usize) -> Action {
        let Context { settings, now } = context;
        let behind = self.backlog.as_deref().map_or(0, Backlog::len);
        if waiting + behind == 0 {
            let action = self.drained();
            self.note_unsent();
            return action;
        }
        let waiting = waiting + behind + self.ahead();
        let backlog = self.begin_backlog(context);
        backlog.wait.taken(len, waiting, settings, now);
        self.note_unsent();
        Action::Wait
    }

    /// Nothing is unsent any more.
    fn drained(&mut self) -> Action {
        self.backlog = None;
        match self.then {
            Then::GoOn => Action::Wait,
            Then::HalfClose => Action::HalfClose,
            Then::End => self.end_if_done(),
        }
    }

    /// What follows a frame of the server's own, once it is sent or put into the
    /// backlog.
    pub(crate) fn then(&mut self, frame: Frame) -> Action {
        if frame.is_last() {
            self.finish()
        } else {
            Action::Wait
        }
    }

    /// What was sent, or is unsent, ends in the last frame.
    pub(crate) fn finish(&mut self) -> Action {
        if self.backlog.is_none() {
            return if self.then == Then::End {
                Action::End
            } else {
                Action::HalfClose
            };
        }
        if self.then == Then::GoOn {
            self.then = Then::HalfClose;
        }
        Action::Wait
    }

    /// Reports that the end of the stream was sent: only from then on the client is
    /// waited for.
    pub(crate) fn half_closed(&mut self, now: Millis) {
        self.then = Then::GoOn;
        if self.phase == Phase::Closing {
            self.since = now;
        }
    }

    // ---- timers

    /// The timer that this connection needs.
    #[inline]
    pub(crate) fn timer(&self) -> Timer {
        match self.phase {
            // A client that does not read is not silent.
            _ if self.backlog.is_some() => Timer::Backlog,
            Phase::Open => Timer::Idle,
            Phase::Pinged => Timer::Pong,
            Phase::Closing => Timer::Close,
        }
    }

    /// When that is due, if ever.
    pub(crate) fn deadline(&self, context: Context) -> Option<Millis> {
        let Context { settings, now } = context;
        if let Some(backlog) = &self.backlog {
            return Some(backlog.wait.next_look(settings, now));
        }
        let timeout = self.timeout_of_phase(settings)?;
        Some(self.since.after(timeout))
    }

    /// Whether a timer is due. Before [`timeout`](Self::timeout) the engine reads what
    /// lies unread, and sends what there is room for: the machine may have been paused.
    pub(crate) fn is_due(&self, context: Context) -> bool {
        let Context { settings, now } = context;
        match &self.backlog {
            Some(backlog) => backlog.wait.is_due(settings, now),
            None => self
                .timeout_of_phase(settings)
                .is_some_and(|timeout| self.since.is_over(timeout, now)),
        }
    }

    /// Does what a timer that is due asks for.
    pub(crate) fn timeout(&mut self, context: Context) -> Action {
        let Context { settings, now } = context;
        if let Some(backlog) = &mut self.backlog {
            if backlog.wait.judge(settings, now) == Verdict::Wait {
                return Action::Wait;
            }
            settings.counters.slow_readers_cut.add(1);
            return self.cut(settings, EndReason::SlowReader);
        }
        if !self.is_due(context) {
            return Action::Wait;
        }
        if !self.is_closing() && !self.wants_bytes() {
            if self.then == Then::End {
                // Its handler has not come back for as long as a client may be silent.
                return self.cut(settings, EndReason::Idle);
            }
            // It is not silent: it waits to be read.
            self.since = now;
            return Action::Wait;
        }
        match self.phase {
            // Nothing can be asked inside a streamed frame.
            Phase::Open if !self.at_frame_boundary() => self.cut(settings, EndReason::Idle),
            Phase::Open => {
                settings.counters.pings_sent.add(1);
                self.enter(Phase::Pinged, now);
                Action::Send(Frame::Ping)
            }
            Phase::Pinged => self.close(context, EndReason::Idle),
            Phase::Closing => self.cut(settings, EndReason::Idle),
        }
    }

    fn at_frame_boundary(&self) -> bool {
        match &self.protocol {
            Protocol::Echo(echo) => echo.at_frame_boundary(),
            // What is begun is sent, or unsent, to its end.
            Protocol::Messages(_) => true,
        }
    }

    fn timeout_of_phase(&self, settings: &Settings) -> Option<Duration> {
        match self.phase {
            Phase::Open => settings.idle_timeout,
            Phase::Pinged => Some(settings.pong_timeout),
            Phase::Closing => Some(settings.close_timeout),
        }
    }

    // ---- the end

    /// Whether the last frame is sent, or unsent.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Closes the connection by the server's own wish; inside a streamed frame, where
    /// no Close can stand, that ends it.
    pub(crate) fn close(&mut self, context: Context, reason: EndReason) -> Action {
        if self.is_closing() {
            return Action::Wait;
        }
        let code = self.at_frame_boundary().then(|| reason.close_code());
        self.count_end(context.settings, reason, code);
        self.enter(Phase::Closing, context.now);
        code.map_or(Action::End, |code| Action::Send(Frame::Close(code)))
    }

    /// The server drains: [`drain`](Self::drain) is to be called whenever this
    /// connection has been served.
    pub(crate) fn start_drain(&mut self, drain: Drain) {
        self.draining = Some(drain);
        if let Protocol::Messages(messages) = &self.protocol {
            messages.channel.set_draining();
        }
    }

    /// How a drain is to close this connection, if it still has to.
    #[inline]
    pub(crate) fn draining(&self) -> Option<Drain> {
        self.draining.filter(|_| !self.is_closing())
    }

    /// Goes on with a drain, if there is one. `is_quiet` is whether nothing more has
    /// arrived.
    pub(crate) fn drain(&mut self, context: Context, is_quiet: bool) -> Action {
        let is_time = match self.draining() {
            None => false,
            Some(Drain::WhenQuiet) => is_quiet && self.is_quiet(),
            Some(Drain::Now) => self.at_frame_boundary(),
        };
        if is_time {
            self.close(context, EndReason::Drain)
        } else {
            Action::Wait
        }
    }

    /// Ends the connection for this reason, because of what it holds.
    pub(crate) fn evict(&mut self, context: Context, reason: EndReason) -> Action {
        if let Protocol::Messages(messages) = &mut self.protocol {
            messages.free();
        }
        if self.is_blocked() || self.is_closing() {
            return self.cut(context.settings, reason);
        }
        self.partial.clear();
        self.close(context, reason)
    }

    /// Ends the connection for how its client uses TLS: with a Close, where one can
    /// still be sent.
    pub(crate) fn tls_failed(
        &mut self,
        context: Context,
        error: &io::Error,
        may_write: bool,
    ) -> Action {
        if self.is_closing() {
            return Action::End;
        }
        let span = self.permit.record().map(|record| record.span().entered());
        log_broken_tls(error);
        drop(span);
        if may_write {
            return self.close(context, EndReason::Tls);
        }
        self.cut(context.settings, EndReason::Tls)
    }

    /// Ends the connection without another word. If that was not foreseeable already,
    /// this is the reason.
    fn cut(&mut self, settings: &Settings, reason: EndReason) -> Action {
        self.is_cut |= reason.is_eviction() || reason == EndReason::Idle;
        if !self.is_closing() {
            self.count_end(settings, reason, None);
            self.phase = Phase::Closing;
        }
        Action::End
    }

    /// Reports that the connection is over; to be called for every one, before its
    /// socket is closed. Where nobody has ended it, its client is gone.
    pub(crate) fn over(&mut self, settings: &Settings, socket: impl AsFd) {
        let _end = self.cut(settings, EndReason::Gone);
        if self.is_cut {
            reset_when_closed(socket);
        }
    }

    /// Reports that an engine cannot serve this connection.
    pub(crate) fn lost(&mut self, settings: &Settings, error: &io::Error) {
        let record = self.permit.record();
        let span = record.map(|record| record.warning_span().entered());
        log_limited!(warn, NO_TAKEOVER, %error, "cannot take over a connection");
        drop(span);
        let _end = self.cut(settings, EndReason::Gone);
    }

    // ---- memory

    /// Bytes that this connection holds.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        let backlog = self.backlog.as_deref();
        self.received() + backlog.map_or(0, Backlog::capacity)
    }

    /// Those of them that hold what was received.
    #[inline]
    fn received(&self) -> usize {
        let messages = match &self.protocol {
            Protocol::Echo(_) => 0,
            Protocol::Messages(messages) => messages.held(),
        };
        self.partial.capacity() + messages
    }

    /// What this connection holds, and `others` bytes of its engine.
    pub(crate) fn buffered(&self, others: usize, now: Millis) -> Buffered {
        let bytes = self.received() + others;
        Backlog::buffered(self.backlog.as_deref(), bytes, now)
    }

    /// Frees what a connection holds that is over.
    pub(crate) fn free(&mut self) {
        self.partial.clear();
        self.backlog = None;
        if let Protocol::Messages(messages) = &mut self.protocol {
            messages.free();
        }
    }

    fn count_end(&self, settings: &Settings, reason: EndReason, code: Option<CloseCode>) {
        self.count_end_of_frames(settings, reason, code, Next::Read);
    }

    /// The connection ends for this reason, with this code, and after this step.
    fn count_end_of_frames(
        &self,
        settings: &Settings,
        reason: EndReason,
        code: Option<CloseCode>,
        next: Next,
    ) {
        if let Protocol::Messages(messages) = &self.protocol {
            messages.end(reason, code, next);
        }
        settings.counters.count_end(reason, code);
        if let Some(record) = self.permit.record() {
            record.ended(reason, code);
        }
        if reason.is_eviction() {
            let _span = self.permit.record().map(|record| record.span().entered());
            log_end_of_slow_reader(reason);
        }
    }

    fn enter(&mut self, phase: Phase, now: Millis) {
        self.phase = phase;
        self.since = now;
    }
}

pub(crate) fn log_broken_tls(error: &io::Error) {
    log_limited!(debug, TLS_BROKEN, %error, "a client broke TLS");
}

/// Logs why a connection ends that its client may not be told of: what waits for
/// it comes before a Close.
pub(crate) fn log_end_of_slow_reader(reason: EndReason) {
    match reason {
        EndReason::HeldBytes => log_limited!(
            debug,
            EVICTED,
            "a client was evicted: buffered bytes exceed max-held-bytes, and it holds most"
        ),
        EndReason::TcpMemory => log_limited!(
            debug,
            EVICTED,
            "a client was evicted: TCP has more memory than max-tcp-memory, and it does not read"
        ),
        _ => log_limited!(
            debug,
            SLOW_READER,
            "a client was cut off: it has read too little for the write timeout"
        ),
    }
}

#[cfg(test)]
mod tests;
