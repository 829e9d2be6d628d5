//! What one connection's task does.

use std::cell::RefMut;
use std::future::{self, Future};
use std::mem;
use std::net::Shutdown;
use std::ops::{ControlFlow, Range};
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio_uring::BufResult;
use tokio_uring::buf::{BoundedBuf, Slice};

use super::buffer::IDLE_BUFFER;
use super::operation::{Room, await_room, cancel};
use super::{Doing, Link, TokioUringEngine};
use crate::calls;
use crate::engine::Drain;
use crate::engine::backlog::Backlog;
use crate::engine::session::{Due, PING, Session};
use crate::metrics::label::EndReason;
use crate::proto::{Next, TAIL_ROOM};

/// Bytes of a reply that does not wait behind what floods, see
/// [`TokioUringEngine::is_flooded`].
const SHORT_REPLY: usize = 4096;

/// One connection, and its buffer, whose first [`Link::kept`] bytes wait for more.
pub(super) struct Task<'a> {
    engine: &'a TokioUringEngine,
    link: &'a Link,
    /// Always initialised to its end. Empty while an operation has it.
    buf: Vec<u8>,
    /// It has filled the largest buffer.
    floods: bool,
    /// The wait for room in the socket, until that has ended.
    room: Option<Box<Room>>,
    /// The stream is to be half-closed once everything is sent.
    last_word: bool,
    /// The client sends no more, and is owed what is in the backlog.
    hung_up: bool,
}

/// Whether a connection goes on.
type Flow = ControlFlow<()>;
const GO_ON: Flow = ControlFlow::Continue(());
const END: Flow = ControlFlow::Break(());

impl<'a> Task<'a> {
    pub(super) fn new(engine: &'a TokioUringEngine, link: &'a Link) -> Self {
        Self {
            engine,
            link,
            buf: Vec::new(),
            floods: false,
            room: None,
            last_word: false,
            hung_up: false,
        }
    }

    /// Serves the connection to its end, frames that came with the handshake
    /// first.
    pub(super) async fn run(mut self, leftover: Bytes) {
        let len = leftover.len();
        self.resize(IDLE_BUFFER.max(len + TAIL_ROOM));
        self.buf[..len].copy_from_slice(&leftover);
        self.session().count_reads(&self.engine.settings, 0, len);
        // It shares the buffer that the request was read into.
        drop(leftover);
        let mut flow = self.receive(len).await;
        while flow == GO_ON && !self.link.is_shut_down.get() {
            self.shorten_buffer();
            flow = match self.must_close() {
                Some(reason) => self.close(reason).await,
                None if self.may_read() => self.read().await,
                None => self.wait_for_room().await,
            };
        }
    }

    /// Whether the client is to be read.
    fn may_read(&self) -> bool {
        let backlog = self.link.backlog.borrow();
        !self.hung_up && backlog.as_deref().is_none_or(Backlog::reads_on)
    }

    /// Waits for room, or for [`Link::wake`], and sends some of the backlog.
    async fn wait_for_room(&mut self) -> Flow {
        self.link.doing.set(Doing::Room);
        self.room_is_found().await;
        self.link.doing.set(Doing::Work);
        self.flush()
    }

    async fn room_is_found(&mut self) {
        let stream = &self.link.stream;
        self.room
            .get_or_insert_with(|| Box::new(await_room(stream)))
            .await;
        self.room = None;
    }

    /// Sends some of the backlog, and does what comes after it.
    fn flush(&mut self) -> Flow {
        let settings = &*self.engine.settings;
        match self.link.flush(settings, settings.clock.now()) {
            Ok(()) => self.go_on_if_drained(),
            Err(_) => END,
        }
    }

    /// Does what comes after a backlog, unless there still is one.
    fn go_on_if_drained(&mut self) -> Flow {
        if self.link.backlog.borrow().is_some() {
            GO_ON
        } else if self.hung_up {
            END
        } else if mem::take(&mut self.last_word) {
            self.half_close()
        } else {
            GO_ON
        }
    }

    /// Waits for bytes and answers them.
    async fn read(&mut self) -> Flow {
        if self.floods {
            self.engine.turnstile.pass().await;
        }
        let end = self.buf.len() - TAIL_ROOM;
        let space = mem::take(&mut self.buf).slice(self.link.kept.get()..end);
        self.link.doing.set(Doing::Read);
        let (result, space) = self.read_into(space).await;
        self.link.doing.set(Doing::Work);
        self.buf = space.into_inner();
        match result {
            Ok(0) if self.link.backlog.borrow().is_some() => {
                self.hung_up = true;
                GO_ON
            }
            Ok(0) => END,
            Ok(len) => {
                self.session().count_reads(&self.engine.settings, 1, len);
                self.receive(len).await
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Nothing had arrived, or the read would have brought it.
                Some(Errno::CANCELED) if self.go_on_if_drained() == END => END,
                Some(Errno::CANCELED) if self.may_close() => self.close(EndReason::Drain).await,
                Some(Errno::CANCELED) if self.link.dismissed.get().is_some() => GO_ON,
                Some(Errno::CANCELED) => self.look_around().await,
                Some(Errno::INTR | Errno::AGAIN) => GO_ON,
                _ => END,
            },
        }
    }

    /// Reads; where the connection may close, only what is there already.
    ///
    /// That look goes through the ring like all else: a plain `recv` in a loop,
    /// fed by a peer that never pauses, would keep the runtime from parking,
    /// and only when it parks does it submit what the other tasks ask for.
    async fn read_into(&mut self, space: Slice<Vec<u8>>) -> BufResult<usize, Slice<Vec<u8>>> {
        let mut read = pin!(calls::read(&self.link.stream, space));
        if self.may_close() {
            if let Poll::Ready(done) = poll_once(read.as_mut()).await {
                return done;
            }
            cancel(&self.link.stream);
        }
        let settings = &*self.engine.settings;
        while self.link.backlog.borrow().is_some() {
            tokio::select! {
                biased;
                done = read.as_mut() => return done,
                () = self.room_is_found() => {
                    if self.link.flush(settings, settings.clock.now()).is_err() {
                        // Which ends the read.
                        self.link.shut_down();
                        break;
                    }
                }
            }
        }
        if self.go_on_if_drained() == END {
            self.link.shut_down();
        }
        read.await
    }

    /// Answers `len` bytes that stand behind what was kept.
    async fn receive(&mut self, len: usize) -> Flow {
        if len == 0 {
            return GO_ON;
        }
        let settings = &*self.engine.settings;
        settings.activity.note();
        let filled = self.link.kept.get() + len;
        let end = self.buf.len() - TAIL_ROOM;
        let now = settings.clock.now();
        let step = self
            .link
            .session
            .borrow_mut()
            .receive(settings, &mut self.buf, filled, now);
        let mut reply = step.reply;
        if step.next != Next::Read {
            // The end of the stream follows and goes out in one packet with
            // it, which no operation of `tokio_uring` can ask for.
            reply.start += self.write_at_once(reply.clone(), SendFlags::MORE);
        } else if reply.len() <= SHORT_REPLY && self.engine.is_flooded(now) {
            reply.start += self.write_at_once(reply.clone(), SendFlags::empty());
        }
        let was_filled = filled == end;
        self.floods = was_filled && self.buf.len() >= settings.read_buffer_len();
        if self.floods {
            self.engine.flooded_at.set(Some(now));
        }
        if self.write(reply).await == END {
            return END;
        }
        if step.consumed > 0 {
            self.buf.copy_within(step.consumed..filled, 0);
        }
        self.link.kept.set(filled - step.consumed);
        self.link.buffer.note(filled);
        // What is discarded needs no large one.
        if was_filled && !self.session().is_closing() {
            self.resize(self.link.buffer.grown(settings.read_buffer_len()));
        }
        match step.next {
            Next::Read => GO_ON,
            Next::Close(_) | Next::Fail(_) => self.say_last_word(),
            Next::Abort(_) => END,
        }
    }

    /// Writes a part of the buffer behind whatever is unsent.
    async fn write(&mut self, reply: Range<usize>) -> Flow {
        if self.put_aside(reply.clone()) || reply.is_empty() {
            return GO_ON;
        }
        let bytes = mem::take(&mut self.buf).slice(reply.clone());
        let (result, bytes) = calls::write(&self.link.stream, bytes).await;
        self.buf = bytes.into_inner();
        let settings = &*self.engine.settings;
        let sent = match result {
            Ok(sent) => sent,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN | Errno::INTR) => 0,
                _ => return END,
            },
        };
        if sent > 0 {
            self.session().count_write(settings, sent);
        }
        let rest = reply.start + sent..reply.end;
        if !rest.is_empty() {
            let now = settings.clock.now();
            let backlog = Backlog::new(&self.buf[rest], settings, now);
            *self.link.backlog.borrow_mut() = Some(Box::new(backlog));
        }
        GO_ON
    }

    /// Puts a part of the buffer into the backlog, if there is one; whether there is.
    fn put_aside(&self, reply: Range<usize>) -> bool {
        let settings = &*self.engine.settings;
        let mut backlog = self.link.backlog.borrow_mut();
        let Some(backlog) = &mut *backlog else {
            return false;
        };
        backlog.push(&self.buf[reply], settings, settings.clock.now());
        true
    }

    /// Writes what the socket takes at once, without the ring; says how much.
    fn write_at_once(&self, reply: Range<usize>, flags: SendFlags) -> usize {
        if self.link.backlog.borrow().is_some() {
            return 0;
        }
        // Whatever is wrong, the write of the rest will meet it again.
        let Ok(len) = calls::send(self.link.socket(), &self.buf[reply], flags) else {
            return 0;
        };
        self.session().count_write(&self.engine.settings, len);
        len
    }

    /// Does what the clock asks for, once it has interrupted a read.
    async fn look_around(&mut self) -> Flow {
        let settings = &*self.engine.settings;
        let now = settings.clock.now();
        if self.link.backlog.borrow().is_some() {
            return GO_ON;
        }
        let due = self.session().due(settings, now);
        match due {
            Due::Nothing => GO_ON,
            Due::Cut => {
                self.session().cut(settings, EndReason::Idle);
                END
            }
            Due::Ping => {
                self.session().probed(settings, now);
                self.send(&PING).await
            }
            Due::Close => {
                settings.counters.idle_timeouts.add(1);
                self.close(EndReason::Idle).await
            }
        }
    }

    /// Whether a drain wants this connection closed as soon as nothing more has
    /// arrived.
    fn may_close(&self) -> bool {
        self.engine.draining.get().is_some() && {
            let session = self.session();
            !session.is_closing() && session.is_quiet(self.link.kept.get())
        }
    }

    /// Why the connection has to be closed at once, if it has to: what it holds,
    /// which it lets go of here, or a drain without patience.
    fn must_close(&mut self) -> Option<EndReason> {
        if let Some(reason) = self.link.dismissed.take() {
            self.link.kept.set(0);
            self.resize(IDLE_BUFFER);
            return Some(reason);
        }
        let is_late = self.engine.draining.get() == Some(Drain::Now);
        (is_late && !self.session().is_closing()).then_some(EndReason::Drain)
    }

    /// Ends the connection by the server's own wish.
    async fn close(&mut self, reason: EndReason) -> Flow {
        if self.session().is_closing() {
            return GO_ON;
        }
        let settings = &*self.engine.settings;
        let now = settings.clock.now();
        let frame = self.session().close(settings, reason, now);
        match frame {
            Some(frame) if self.send(&frame).await == GO_ON => self.say_last_word(),
            _ => END,
        }
    }

    /// Writes a short frame of the server's own; what is kept stays.
    async fn send(&mut self, frame: &[u8]) -> Flow {
        let kept = mem::take(&mut self.buf);
        self.buf = frame.to_vec();
        let flow = self.write(0..frame.len()).await;
        self.buf = kept;
        flow
    }

    /// What was sent, or is about to be, was the last.
    fn say_last_word(&mut self) -> Flow {
        if self.link.backlog.borrow().is_some() {
            self.last_word = true;
            return GO_ON;
        }
        self.half_close()
    }

    fn half_close(&self) -> Flow {
        let now = self.engine.settings.clock.now();
        self.session().half_closed(now);
        match self.link.stream.shutdown(Shutdown::Write) {
            Ok(()) => GO_ON,
            Err(_) => END,
        }
    }

    /// Gives back what the last tick found to be too much, unless it is needed now.
    fn shorten_buffer(&mut self) {
        if let Some(limit) = self.link.buffer.take_limit(self.link.kept.get()) {
            self.resize(limit);
        }
    }

    fn resize(&mut self, len: usize) {
        self.buf.reserve_exact(len.saturating_sub(self.buf.len()));
        self.buf.resize(len, 0);
        self.buf.shrink_to_fit();
        self.link.buffer.set_capacity(self.buf.capacity());
    }

    fn session(&self) -> RefMut<'a, Session> {
        self.link.session.borrow_mut()
    }
}

/// Polls once, which starts an operation.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
