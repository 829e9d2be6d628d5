//! One connection over TLS.

use std::io;
use std::task::{Context, Poll, Waker};

use super::Shared;
use crate::admission::Permit;
use crate::engine::backlog::{Verdict, Wait};
use crate::engine::partial::Partial;
use crate::engine::session::{Due, PING, Session};
use crate::engine::{Drain, Holdings, Millis};
use crate::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};
use crate::socket_memory::SocketMemory;
use crate::tls::{TlsStream, is_broken_tls};

pub(super) struct Connection {
    stream: Box<TlsStream>,
    session: Session,
    /// What the last step did not consume: part of a frame.
    partial: Partial,
    /// While something that was written is not sent.
    wait: Option<Box<Wait>>,
    /// The stream is to be half-closed once everything is sent.
    last_word: bool,
    phase: Phase,
    /// The client sends no more, and is owed what is not sent.
    hung_up: bool,
    /// The task, if it waits.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The stream is half-closed.
    HalfClosed,
    /// The connection is over, with nothing more to be said.
    Ended,
}

/// Whether there was something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    Bytes,
}

/// What came of a look at a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Nothing, for now.
    Wait,
    /// There were bytes, and there may be more.
    LookAgain,
    Closed,
}

impl Connection {
    pub(super) fn new(stream: Box<TlsStream>, permit: Permit, now: Millis) -> Self {
        Self {
            stream,
            session: Session::new(permit, now),
            partial: Partial::default(),
            wait: None,
            last_word: false,
            phase: Phase::Open,
            hung_up: false,
            waker: None,
        }
    }

    /// Echoes the frames that came with the handshake.
    pub(super) fn begin(&mut self, leftover: &[u8], shared: &mut Shared) {
        let mut rest = leftover;
        while !rest.is_empty() && self.phase != Phase::Ended {
            let kept = self.partial.len();
            let space = &mut shared.read_buf()[kept..];
            let len = rest.len().min(space.len() - TAIL_ROOM);
            let (piece, later) = rest.split_at(len);
            space[..len].copy_from_slice(piece);
            rest = later;
            self.session.count_reads(&shared.settings, 0, len);
            self.receive(shared, len);
        }
    }

    /// Goes on as far as the socket does; ready when the connection is over.
    pub(super) fn poll(&mut self, shared: &mut Shared, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.phase == Phase::Ended {
                return Poll::Ready(());
            }
            if !self.stream.is_flushed() {
                let is_full = self.poll_send(shared, cx).is_pending();
                if self.phase == Phase::Ended {
                    return Poll::Ready(());
                }
                if !self.may_read() {
                    if !is_full {
                        // The others get their turn first.
                        cx.waker().wake_by_ref();
                    }
                    return self.rest(cx);
                }
            }
            match self.poll_read(shared, cx) {
                Poll::Ready(Ok(())) if self.has_more() => {
                    // The others get their turn first.
                    cx.waker().wake_by_ref();
                    return self.rest(cx);
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.fail(&error, shared),
                Poll::Pending => match self.drain(shared) {
                    Drained::Wait => return self.rest(cx),
                    Drained::LookAgain => {
                        cx.waker().wake_by_ref();
                        return self.rest(cx);
                    }
                    Drained::Closed => {}
                },
            }
        }
    }

    /// Does what the clock asks for.
    pub(super) fn tick(&mut self, shared: &mut Shared, now: Millis) {
        if self.wait.is_some() {
            // A client that does not read is not silent.
            self.judge_wait(shared, now);
            return;
        }
        if self.phase == Phase::Ended || !self.session.is_due_in_turn(&shared.settings, now) {
            return;
        }
        match self.last_look(shared) {
            Ok(Look::Bytes) => self.wake(),
            Ok(Look::Nothing) => {}
            Err(error) => {
                self.fail(&error, shared);
                self.wake();
                return;
            }
        }
        let shared = &*shared;
        let settings = &shared.settings;
        match self.session.due(settings, now) {
            Due::Nothing => {}
            Due::Cut => {
                self.session.cut(settings, EndReason::Idle);
                self.end();
            }
            Due::Ping => {
                self.session.probed(settings, now);
                self.send(&PING, shared);
                self.wake();
            }
            Due::Close => {
                settings.counters.idle_timeouts.add(1);
                self.close(EndReason::Idle, shared);
                self.wake();
            }
        }
    }

    /// What this connection holds.
    pub(super) fn holdings(&self, now: Millis) -> Holdings {
        let bytes = self.partial.capacity() + self.stream.held();
        Wait::holdings(self.wait.as_deref(), bytes, now)
    }

    /// What the kernel keeps for it.
    pub(super) fn socket_memory(&self) -> Option<SocketMemory> {
        SocketMemory::of(&*self.stream)
    }

    /// Ends the connection for this reason, because of what it holds.
    pub(super) fn dismiss(&mut self, reason: EndReason, shared: &Shared) {
        // What came of a record is held until the rest of it comes, even by who
        // has been told already.
        if self.stream.is_flushed() && !self.session.is_closing() {
            self.partial.clear();
            self.close(reason, shared);
        } else {
            self.session.cut(&shared.settings, reason);
            self.phase = Phase::Ended;
        }
        self.wake();
    }

    /// Makes the task look around.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// To be called once the connection has ended.
    pub(super) fn over(&mut self, shared: &Shared) {
        self.session.over(&shared.settings, &*self.stream);
        // Whoever left without a word gets the end of our side, if it fits.
        if self.stream.is_flushed() && self.stream.put_end().is_ok() {
            let _ = self.stream.flush();
        }
    }

    /// Waits for what was polled, and for [`wake`](Self::wake).
    fn rest(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether there is something to do without an event.
    fn has_more(&self) -> bool {
        self.stream.floods() || self.stream.has_plain()
    }

    /// Whether the client is to be read.
    fn may_read(&self) -> bool {
        !self.hung_up && self.wait.as_ref().is_none_or(|wait| wait.reads_on())
    }

    /// Sends some of what waits; pending where there is no room for it.
    fn poll_send(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        let now = shared.settings.clock.now();
        self.flush_with(TlsStream::flush, shared, now);
        if self.phase == Phase::Ended || self.stream.is_flushed() {
            return Poll::Ready(());
        }
        match self.stream.poll_write_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ready) => {
                if ready.is_err() {
                    self.phase = Phase::Ended;
                }
                Poll::Ready(())
            }
        }
    }

    /// Sends some of what waits, and does what comes after it.
    fn flush_with(
        &mut self,
        flush: fn(&mut TlsStream) -> io::Result<bool>,
        shared: &Shared,
        now: Millis,
    ) {
        let settings = &shared.settings;
        let before = self.stream.unsent();
        match flush(&mut self.stream) {
            Ok(true) => {
                self.wait = None;
                if self.hung_up {
                    self.phase = Phase::Ended;
                }
                self.half_close_after_last_word(now);
            }
            Ok(false) => {
                let waiting = self.stream.unsent();
                let wait = self.wait.get_or_insert_with(|| {
                    settings.backlog_begun.notify_one();
                    Box::new(Wait::begin(now))
                });
                wait.taken(before.saturating_sub(waiting), waiting, settings, now);
            }
            Err(_gone) => self.phase = Phase::Ended,
        }
    }

    /// Tries what there is room for, where the clock asks for something, and only
    /// then does it.
    fn judge_wait(&mut self, shared: &Shared, now: Millis) {
        let settings = &shared.settings;
        if !self
            .wait
            .as_ref()
            .is_some_and(|wait| wait.is_due(settings, now))
        {
            return;
        }
        self.flush_with(TlsStream::flush_at_once, shared, now);
        if let Some(wait) = &mut self.wait
            && self.phase != Phase::Ended
            && wait.judge(settings, now) == Verdict::Cut
        {
            self.session.cut_slow_reader(settings);
            self.phase = Phase::Ended;
        }
        self.wake();
    }

    /// Reads once and answers.
    fn poll_read(&mut self, shared: &mut Shared, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kept = self.partial.len();
        let read_buf = shared.read_buf();
        let end = read_buf.len() - TAIL_ROOM;
        let read = self.stream.poll_read_into(cx, &mut read_buf[kept..end]);
        read.map(|result| self.has_read(shared, result?))
    }

    /// Reads what is there, even if the runtime has not heard of it.
    fn last_look(&mut self, shared: &mut Shared) -> io::Result<Look> {
        let kept = self.partial.len();
        let read_buf = shared.read_buf();
        let end = read_buf.len() - TAIL_ROOM;
        match self.stream.read_at_once(&mut read_buf[kept..end]) {
            Ok(len) => self.has_read(shared, len).map(|()| Look::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Look::Nothing),
            Err(error) => Err(error),
        }
    }

    fn has_read(&mut self, shared: &mut Shared, len: usize) -> io::Result<()> {
        if len == 0 && self.wait.is_some() {
            self.hung_up = true;
            return Ok(());
        }
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        shared.settings.activity.note();
        self.session.count_reads(&shared.settings, 1, len);
        self.receive(shared, len);
        Ok(())
    }

    /// Answers `len` bytes that stand in the read buffer, with room before them for
    /// what was kept.
    fn receive(&mut self, shared: &mut Shared, len: usize) {
        let settings = &shared.settings;
        let now = settings.clock.now();
        let kept = self.partial.len();
        let filled = kept + len;
        if self.partial.outweighs(len) {
            let mut buf = self.partial.take_with(&shared.read_buf[kept..filled]);
            let step = self.session.receive(settings, &mut buf, filled, now);
            self.answer(&buf[step.reply], step.next, shared);
            self.partial.restore(buf, step.consumed);
            return;
        }
        self.partial.prepend(&mut shared.read_buf);
        let step = self
            .session
            .receive(settings, &mut shared.read_buf, filled, now);
        self.partial.save(&shared.read_buf[step.consumed..filled]);
        self.answer(&shared.read_buf[step.reply], step.next, shared);
    }

    fn answer(&mut self, reply: &[u8], next: Next, shared: &Shared) {
        self.last_word |= matches!(next, Next::Close(_) | Next::Fail(_));
        if !reply.is_empty() {
            self.send(reply, shared);
        }
        if let Next::Abort(_) = next {
            self.phase = Phase::Ended;
        }
    }

    /// Writes `bytes` behind whatever is unsent, and the end of the stream
    /// behind the last word.
    fn send(&mut self, bytes: &[u8], shared: &Shared) {
        let settings = &shared.settings;
        let mut put = self.stream.put(bytes);
        if self.last_word {
            put = put.and_then(|()| self.stream.put_end());
        }
        if put.is_err() {
            self.phase = Phase::Ended;
            return;
        }
        let now = settings.clock.now();
        if let Some(wait) = &mut self.wait {
            wait.added(bytes.len(), self.stream.unsent(), settings, now);
        }
        self.session.count_write(settings, bytes.len());
        self.flush_with(TlsStream::flush, shared, now);
    }

    fn half_close_after_last_word(&mut self, now: Millis) {
        if self.last_word && self.phase == Phase::Open && self.stream.is_flushed() {
            self.phase = match self.stream.half_close() {
                Ok(()) => {
                    self.session.half_closed(now);
                    Phase::HalfClosed
                }
                Err(_gone) => Phase::Ended,
            };
        }
    }

    /// Closes the connection if a drain wants that and nothing more has arrived.
    fn drain(&mut self, shared: &mut Shared) -> Drained {
        let Some(drain) = shared.draining else {
            return Drained::Wait;
        };
        if self.session.is_closing() {
            return Drained::Wait;
        }
        if drain == Drain::WhenQuiet {
            match self.last_look(shared) {
                Ok(Look::Nothing) if self.is_quiet() => {}
                Ok(Look::Nothing) => return Drained::Wait,
                Ok(Look::Bytes) => return Drained::LookAgain,
                Err(error) => {
                    self.fail(&error, shared);
                    return Drained::Closed;
                }
            }
        }
        self.close(EndReason::Drain, shared);
        Drained::Closed
    }

    /// Whether everything that came has been answered.
    fn is_quiet(&self) -> bool {
        self.stream.is_quiet() && self.session.is_quiet(self.partial.len())
    }

    /// Ends the connection by the server's own wish.
    fn close(&mut self, reason: EndReason, shared: &Shared) {
        let now = shared.settings.clock.now();
        match self.session.close(&shared.settings, reason, now) {
            Some(frame) => {
                self.last_word = true;
                self.send(&frame, shared);
            }
            None => self.phase = Phase::Ended,
        }
    }

    /// Ends a connection that cannot be read any more, with a Close where the client has
    /// only sent too much of what TLS allows.
    fn fail(&mut self, error: &io::Error, shared: &Shared) {
        if !is_broken_tls(error) || self.session.is_closing() {
            self.phase = Phase::Ended;
            return;
        }
        self.session.log_broken_tls(error);
        if self.stream.may_write() {
            self.close(EndReason::Tls, shared);
        } else {
            self.session.cut(&shared.settings, EndReason::Tls);
            self.phase = Phase::Ended;
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.wake();
    }
}
