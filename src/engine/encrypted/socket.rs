//! One connection over TLS: its stream, and what is known of it.

use std::io;
use std::ops::ControlFlow;
use std::task::{Context as TaskContext, Poll, Waker};

use super::Shared;
use crate::engine::connection::{Action, Connection, Context};
use crate::engine::plain::{ENDED, Flow, OPEN};
use crate::engine::{Buffered, Drain, Millis};
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};
use crate::transport::tls::{TlsStream, is_broken_tls};

pub(super) struct TlsSocket {
    stream: Box<TlsStream>,
    pub(super) connection: Connection,
    /// The connection is over, and its task may have yet to notice.
    has_ended: bool,
    /// The end of TLS follows what waits to be encrypted.
    owes_end: bool,
    /// The task, if it waits.
    waker: Option<Waker>,
}

/// Bytes of what waits that are encrypted at once, and how often in one turn.
const PIECE: usize = 64 * 1024;
const PIECES_PER_TURN: usize = 4;

/// Whether there was something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Bytes,
}

impl TlsSocket {
    pub(super) fn new(stream: Box<TlsStream>, connection: Connection) -> Self {
        Self {
            stream,
            connection,
            has_ended: false,
            owes_end: false,
            waker: None,
        }
    }

    /// Echoes the frames that came with the handshake.
    pub(super) fn begin(&mut self, leftover: &[u8], shared: &mut Shared) {
        let mut rest = leftover;
        while !rest.is_empty() && !self.has_ended {
            let kept = self.connection.partial.len();
            let space = &mut shared.read_buf()[kept..];
            let len = rest.len().min(space.len() - TAIL_ROOM);
            let (piece, later) = rest.split_at(len);
            space[..len].copy_from_slice(piece);
            rest = later;
            self.connection.count_reads(&shared.settings, 0, len);
            let flow = self.receive(shared, len);
            self.note(flow);
        }
    }

    /// Goes on as far as the socket does; ready when the connection is over.
    pub(super) fn poll(&mut self, shared: &mut Shared, task: &mut TaskContext<'_>) -> Poll<()> {
        let flow = if self.has_ended {
            ENDED
        } else {
            self.poll_open(shared, task)
        };
        match flow {
            ControlFlow::Break(()) => Poll::Ready(()),
            ControlFlow::Continue(()) => {
                self.note_waker(task);
                Poll::Pending
            }
        }
    }

    /// Serves the connection until it has to wait for something, or others are to have
    /// their turn.
    fn poll_open(&mut self, shared: &mut Shared, task: &mut TaskContext<'_>) -> Flow {
        loop {
            if self.connection.has_news() {
                self.serve_handler(shared.settings.context())?;
            }
            if !self.is_flushed() {
                let is_full = self.poll_send(shared, task)?.is_pending();
                if !self.connection.wants_bytes() {
                    if !is_full {
                        // The others get their turn first.
                        task.waker().wake_by_ref();
                    }
                    return OPEN;
                }
            }
            if !self.connection.wants_bytes() {
                let context = shared.settings.context();
                let action = self.connection.drain(context, false);
                self.perform(action, context)?;
                if !self.connection.wants_bytes() {
                    return OPEN;
                }
            }
            let read = self.poll_read(shared, task)?;
            let was_closing = self.connection.is_closing();
            let has_more = read.is_ready() && self.has_more();
            if self.drain(shared, read)? == Found::Bytes || has_more {
                // The others get their turn first.
                task.waker().wake_by_ref();
                return OPEN;
            }
            let has_closed = self.connection.is_closing() && !was_closing;
            if read.is_pending() && !has_closed {
                return OPEN;
            }
        }
    }

    /// Does what a timer asks for, once what there is was read, or sent.
    pub(super) fn timeout(&mut self, shared: &mut Shared, now: Millis) {
        if !self.has_ended {
            let flow = self.timeout_open(shared, now);
            self.note(flow);
            self.wake();
        }
    }

    fn timeout_open(&mut self, shared: &mut Shared, now: Millis) -> Flow {
        if self.connection.is_blocked() {
            self.flush_with(TlsStream::flush_at_once, shared.settings.at(now))?;
            if !self.connection.is_blocked() {
                // Bytes that its client has sent meanwhile are read first.
                return OPEN;
            }
        } else if self.connection.wants_bytes() {
            self.read_at_once(shared)?;
        }
        let context = shared.settings.at(now);
        let action = self.connection.timeout(context);
        self.perform(action, context)
    }

    /// A drain closes the connection, in its task.
    pub(super) fn start_drain(&mut self, drain: Drain) {
        self.connection.start_drain(drain);
        self.wake();
    }

    /// Bytes that this connection holds.
    pub(super) fn held(&self) -> usize {
        self.connection.held() + self.stream.held()
    }

    /// What it holds.
    pub(super) fn buffered(&self, now: Millis) -> Buffered {
        self.connection.buffered(self.stream.held(), now)
    }

    /// What the kernel keeps for it.
    pub(super) fn socket_memory(&self) -> Option<SocketMemory> {
        SocketMemory::of(&*self.stream)
    }

    /// Ends the connection for this reason, because of what it holds.
    pub(super) fn evict(&mut self, context: Context, reason: EndReason) {
        let action = self.connection.evict(context, reason);
        let flow = self.perform(action, context);
        self.note(flow);
        self.wake();
    }

    /// Has the task run.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// To be called once the connection has ended.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.connection.over(&shared.settings, &*self.stream);
        // A client that left without a Close gets the end of our side, if it fits.
        if self.stream.is_flushed() && self.stream.put_end().is_ok() {
            let _ = self.stream.flush();
        }
    }

    fn note(&mut self, flow: Flow) {
        self.has_ended |= flow.is_break();
    }

    fn note_waker(&mut self, task: &TaskContext<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(task.waker()),
            none => *none = Some(task.waker().clone()),
        }
    }

    /// Whether there is something to do without an event.
    fn has_more(&self) -> bool {
        self.stream.is_bulk() || self.stream.has_plain()
    }

    /// Sends some of what is unsent; pending where there is no room for it.
    fn poll_send(
        &mut self,
        shared: &Shared,
        task: &mut TaskContext<'_>,
    ) -> ControlFlow<(), Poll<()>> {
        self.flush_with(TlsStream::flush, shared.settings.context())?;
        if self.stream.is_flushed() {
            return ControlFlow::Continue(Poll::Ready(()));
        }
        match self.stream.poll_write_ready(task) {
            Poll::Ready(Err(_gone)) => ControlFlow::Break(()),
            ready => ControlFlow::Continue(ready.map(|_ok| ())),
        }
    }

    /// Sends some of what is unsent, and does what comes after it.
    fn flush_with(
        &mut self,
        flush: fn(&mut TlsStream) -> io::Result<bool>,
        context: Context,
    ) -> Flow {
        for _ in 0..PIECES_PER_TURN {
            let before = self.stream.unsent();
            if flush(&mut self.stream).is_err() {
                return ENDED;
            }
            let waiting = if self.stream.is_flushed() {
                0
            } else {
                self.stream.unsent().max(1)
            };
            let sent = before.saturating_sub(waiting);
            let action = self.connection.stream_sent(context, sent, waiting);
            self.perform(action, context)?;
            if waiting > 0 || !self.encrypt_piece(context)? {
                break;
            }
        }
        OPEN
    }

    /// Encrypts some of what waits for that; whether there was any.
    fn encrypt_piece(&mut self, context: Context) -> ControlFlow<(), bool> {
        let unsent = self.connection.unsent();
        let len = unsent.len().min(PIECE);
        if len == 0 {
            return ControlFlow::Continue(false);
        }
        let mut put = self.stream.put(&unsent[..len]);
        self.connection.count_write(context.settings, len);
        self.connection.encrypted(len);
        if self.owes_end && self.connection.unsent().is_empty() {
            self.owes_end = false;
            put = put.and_then(|()| self.stream.put_end());
        }
        match put {
            Ok(()) => ControlFlow::Continue(true),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Whether nothing waits to be sent, or to be encrypted.
    fn is_flushed(&self) -> bool {
        self.stream.is_flushed() && self.connection.unsent().is_empty()
    }

    /// Sends what the handler has given, and does what it asks for.
    #[cold]
    fn serve_handler(&mut self, context: Context) -> Flow {
        let Some(mut outgoing) = self.connection.take_news(context) else {
            let action = self.connection.after_late_news();
            return self.perform(action, context);
        };
        let mut has_end = false;
        while let Some((bytes, has_more)) = outgoing.next() {
            let is_last = !has_more && self.connection.is_closing();
            has_end |= is_last;
            // What waits for its client is not encrypted before its time.
            if bytes.len() <= PIECE && self.stream.unsent() < PIECE {
                self.put(&bytes, is_last, context)?;
            } else {
                self.connection.put_in_backlog(context, bytes);
                self.owes_end |= is_last;
            }
        }
        if self.connection.is_closing() && !has_end {
            self.owes_end = !self.connection.unsent().is_empty();
            if !self.owes_end && self.stream.put_end().is_err() {
                return ENDED;
            }
        }
        self.flush_with(TlsStream::flush, context)?;
        let action = self.connection.after_news();
        self.perform(action, context)
    }

    /// Reads once and answers.
    fn poll_read(
        &mut self,
        shared: &mut Shared,
        task: &mut TaskContext<'_>,
    ) -> ControlFlow<(), Poll<()>> {
        let kept = self.connection.partial.len();
        let read_buf = shared.read_buf();
        let end = read_buf.len() - TAIL_ROOM;
        match self.stream.poll_read_into(task, &mut read_buf[kept..end]) {
            Poll::Ready(result) => {
                self.has_read(shared, result)?;
                ControlFlow::Continue(Poll::Ready(()))
            }
            Poll::Pending => ControlFlow::Continue(Poll::Pending),
        }
    }

    /// Reads what is there, even if the runtime has not heard of it.
    fn read_at_once(&mut self, shared: &mut Shared) -> ControlFlow<(), Found> {
        let kept = self.connection.partial.len();
        let read_buf = shared.read_buf();
        let end = read_buf.len() - TAIL_ROOM;
        match self.stream.read_at_once(&mut read_buf[kept..end]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ControlFlow::Continue(Found::Nothing)
            }
            result => {
                self.has_read(shared, result)?;
                ControlFlow::Continue(Found::Bytes)
            }
        }
    }

    fn has_read(&mut self, shared: &mut Shared, result: io::Result<usize>) -> Flow {
        match result {
            Ok(0) => {
                let action = self.connection.end_of_stream();
                self.perform(action, shared.settings.context())
            }
            Ok(len) => {
                shared.settings.activity.note();
                self.connection.count_reads(&shared.settings, 1, len);
                self.receive(shared, len)
            }
            Err(error) if is_broken_tls(&error) => {
                let (context, may_write) = (shared.settings.context(), self.stream.may_write());
                let action = self.connection.tls_failed(context, &error, may_write);
                self.perform(action, context)
            }
            Err(_gone) => ENDED,
        }
    }

    /// Answers `len` bytes that stand in the read buffer, with room before them for
    /// the part of a frame that came before.
    fn receive(&mut self, shared: &mut Shared, len: usize) -> Flow {
        let context = shared.settings.context();
        let mut joined = self.connection.partial.join(&mut shared.read_buf, len);
        let filled = joined.filled;
        let step = self.connection.receive(context, &mut joined, filled);
        let flow = self.answer(&joined[step.reply], step.next, context);
        self.connection.partial.keep(joined, step.consumed);
        flow
    }

    fn answer(&mut self, reply: &[u8], next: Next, context: Context) -> Flow {
        if !reply.is_empty() {
            self.send(reply, next != Next::Read, context)?;
        }
        let action = self.connection.after_reply(next);
        self.perform(action, context)
    }

    /// Writes `bytes` behind whatever is unsent, and the end of TLS behind the last of
    /// them.
    fn send(&mut self, bytes: &[u8], is_last: bool, context: Context) -> Flow {
        self.put(bytes, is_last, context)?;
        self.flush_with(TlsStream::flush, context)
    }

    /// Does so with the next flush.
    fn put(&mut self, bytes: &[u8], is_last: bool, context: Context) -> Flow {
        if !self.connection.unsent().is_empty() {
            self.connection.put_behind(context, bytes);
            self.owes_end |= is_last;
            return OPEN;
        }
        let mut put = self.stream.put(bytes);
        if is_last {
            put = put.and_then(|()| self.stream.put_end());
        }
        if put.is_err() {
            return ENDED;
        }
        let waiting = self.stream.unsent();
        self.connection.stream_took(context, bytes.len(), waiting);
        OPEN
    }

    /// Does what a call of the connection asks for.
    fn perform(&mut self, mut action: Action, context: Context) -> Flow {
        loop {
            action = match action {
                Action::Wait => return OPEN,
                Action::End => return ENDED,
                Action::Send(frame) => {
                    frame.with_bytes(|bytes| self.send(bytes, frame.is_last(), context))?;
                    self.connection.then(frame)
                }
                Action::HalfClose => {
                    self.connection.half_closed(context.now);
                    if self.stream.half_close().is_err() {
                        return ENDED;
                    }
                    Action::Wait
                }
            }
        }
    }

    /// Goes on with a drain, if there is one, once a read has ended so. Whether there
    /// were bytes that the runtime had not heard of.
    fn drain(&mut self, shared: &mut Shared, read: Poll<()>) -> ControlFlow<(), Found> {
        let Some(drain) = self.connection.draining() else {
            return ControlFlow::Continue(Found::Nothing);
        };
        let mut is_quiet = false;
        if drain == Drain::WhenQuiet && read.is_pending() {
            if self.read_at_once(shared)? == Found::Bytes {
                return ControlFlow::Continue(Found::Bytes);
            }
            is_quiet = self.stream.is_quiet();
        }
        let context = shared.settings.context();
        let action = self.connection.drain(context, is_quiet);
        self.perform(action, context)?;
        ControlFlow::Continue(Found::Nothing)
    }
}
