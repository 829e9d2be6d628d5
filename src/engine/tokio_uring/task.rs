//! What one connection's task does.

use std::cell::RefMut;
use std::future::{self, Future};
use std::mem;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio_uring::BufResult;
use tokio_uring::buf::{BoundedBuf, Slice};

use super::buffer::IDLE_BUFFER;
use super::{Doing, Link, TokioUringEngine};
use crate::engine::connection::{Action, Connection};
use crate::engine::plain::{self, ENDED, Flow, OPEN};
use crate::proto::{Next, TAIL_ROOM};
use crate::sys::calls;
use crate::sys::uring_operation::{Room, await_room};

/// Bytes of a reply that does not wait behind what floods, see
/// [`TokioUringEngine::is_flooded`].
const SHORT_REPLY: usize = 4096;

/// One connection, and its buffer, whose first [`Link::kept`] bytes wait for more.
pub(super) struct Task<'a> {
    engine: &'a TokioUringEngine,
    link: &'a Link,
    key: u32,
    /// Always initialised to its end. Empty while an operation has it.
    buf: Vec<u8>,
    /// It has filled the largest buffer.
    is_bulk: bool,
    /// The wait for room in the socket, until that has ended.
    room: Option<Box<Room>>,
}

impl<'a> Task<'a> {
    pub(super) fn new(engine: &'a TokioUringEngine, link: &'a Link, key: u32) -> Self {
        Self {
            engine,
            link,
            key,
            buf: Vec::new(),
            is_bulk: false,
            room: None,
        }
    }

    /// Serves the connection to its end, frames that came with the handshake
    /// first.
    pub(super) async fn run(mut self, leftover: Bytes) {
        let len = leftover.len();
        self.resize(IDLE_BUFFER.max(len + TAIL_ROOM));
        self.buf[..len].copy_from_slice(&leftover);
        self.connection().count_reads(&self.engine.settings, 0, len);
        // It shares the buffer that the request was read into.
        drop(leftover);
        let mut flow = self.receive(len).await;
        while flow == OPEN && !self.link.is_shut_down.get() {
            flow = self.go_on().await;
        }
    }

    async fn go_on(&mut self) -> Flow {
        self.shorten_buffer();
        self.link.serve_handler(self.engine.context())?;
        self.close_if_told()?;
        self.engine.settle(self.key);
        let wants_bytes = self.connection().wants_bytes();
        if wants_bytes {
            self.read().await
        } else {
            self.wait_for_room().await
        }
    }

    /// Waits for room, for the handler, or for [`Link::wake`], and sends some of the
    /// backlog.
    async fn wait_for_room(&mut self) -> Flow {
        let (link, is_blocked) = (self.link, self.is_blocked());
        link.doing.set(Doing::Room);
        tokio::select! {
            () = self.room_is_found(), if is_blocked => {}
            () = link.handler_has_news() => {}
        }
        link.doing.set(Doing::Work);
        link.flush(self.engine.context())
    }

    async fn room_is_found(&mut self) {
        let stream = &self.link.stream;
        self.room
            .get_or_insert_with(|| Box::new(await_room(stream)))
            .await;
        self.room = None;
    }

    /// Waits for bytes and answers them.
    async fn read(&mut self) -> Flow {
        if self.is_bulk {
            self.engine.bulk_queue.pass().await;
            self.close_if_told()?;
        }
        let end = self.buf.len() - TAIL_ROOM;
        let space = mem::take(&mut self.buf).slice(self.link.kept.get()..end);
        self.link.doing.set(Doing::Read);
        let (result, space) = self.read_into(space).await;
        self.link.doing.set(Doing::Work);
        self.buf = space.into_inner();
        match result {
            Ok(0) => {
                let action = self.connection().end_of_stream();
                self.perform(action)
            }
            Ok(len) => {
                self.connection().count_reads(&self.engine.settings, 1, len);
                self.receive(len).await?;
                self.cut_if_closing_for_too_long()
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Nothing had arrived, or the read would have brought it.
                Some(Errno::CANCELED) => self.on_wake(),
                Some(Errno::INTR | Errno::AGAIN) => OPEN,
                _ => ENDED,
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
            calls::cancel(&self.link.stream);
        }
        let link = self.link;
        while self.is_blocked() || link.news.is_some() {
            let is_blocked = self.is_blocked();
            let flow = tokio::select! {
                biased;
                done = read.as_mut() => return done,
                () = self.room_is_found(), if is_blocked => link.flush(self.engine.context()),
                () = link.handler_has_news() => self.answer_handler(),
            };
            if flow.is_break() {
                // Which ends the read.
                link.shut_down();
                break;
            }
            self.engine.settle(self.key);
        }
        read.await
    }

    /// Does what the handler asks for while a read waits.
    fn answer_handler(&self) -> Flow {
        let context = self.engine.context();
        self.link.serve_handler(context)?;
        if self.connection().draining().is_some() || !self.connection().wants_bytes() {
            // What that is to do is done once nothing is left to read.
            calls::cancel(&self.link.stream);
        }
        OPEN
    }

    /// Answers `len` bytes that stand behind what was kept.
    async fn receive(&mut self, len: usize) -> Flow {
        if len == 0 {
            return OPEN;
        }
        let settings = &*self.engine.settings;
        settings.activity.note();
        let filled = self.link.kept.get() + len;
        let end = self.buf.len() - TAIL_ROOM;
        let context = self.engine.context();
        let step = self.connection().receive(context, &mut self.buf, filled);
        let mut reply = step.reply;
        if step.next != Next::Read {
            // The end of the stream follows and goes out in one packet with
            // it, which no operation of `tokio_uring` can ask for.
            reply.start += self.write_at_once(reply.clone(), SendFlags::MORE);
        } else if reply.len() <= SHORT_REPLY && self.engine.is_flooded(context.now) {
            reply.start += self.write_at_once(reply.clone(), SendFlags::empty());
        }
        let was_filled = filled == end;
        self.is_bulk = was_filled && self.buf.len() >= settings.read_buffer_len();
        if self.is_bulk {
            self.engine.bulk_since.set(Some(context.now));
        }
        self.write(reply).await?;
        if step.consumed > 0 {
            self.buf.copy_within(step.consumed..filled, 0);
        }
        self.link.kept.set(filled - step.consumed);
        self.link.buffer.note(filled);
        // What is discarded needs no large one.
        if was_filled && !self.connection().is_closing() {
            self.resize(self.link.buffer.grown(settings.read_buffer_len()));
        } else if self.link.news.is_some() && self.link.buffer.is_large() {
            // What a handler gets is kept elsewhere.
            self.resize(IDLE_BUFFER);
        }
        let action = self.connection().after_reply(step.next);
        self.perform(action)
    }

    /// Writes a part of the buffer behind whatever is unsent.
    async fn write(&mut self, reply: Range<usize>) -> Flow {
        if reply.is_empty() {
            return OPEN;
        }
        if self.is_blocked() {
            let bytes = &self.buf[reply];
            self.connection().put_behind(self.engine.context(), bytes);
            return OPEN;
        }
        let bytes = mem::take(&mut self.buf).slice(reply.clone());
        let (result, bytes) = calls::write(&self.link.stream, bytes).await;
        self.buf = bytes.into_inner();
        let sent = match result {
            Ok(sent) => sent,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN | Errno::INTR) => 0,
                _ => return ENDED,
            },
        };
        if sent == reply.len() {
            let settings = &self.engine.settings;
            self.connection().count_write(settings, sent);
        } else {
            let bytes = &self.buf[reply];
            self.connection().sent(self.engine.context(), bytes, sent);
        }
        OPEN
    }

    /// Writes what the socket takes at once, without the ring; says how much.
    fn write_at_once(&self, reply: Range<usize>, flags: SendFlags) -> usize {
        if self.is_blocked() {
            return 0;
        }
        // Whatever is wrong, the write of the rest will meet it again.
        let Ok(len) = calls::send(self.link.socket(), &self.buf[reply], flags) else {
            return 0;
        };
        self.connection().count_write(&self.engine.settings, len);
        len
    }

    /// Ends a closing handshake that is overdue: a read never ends without bytes if its
    /// client does not stop sending.
    fn cut_if_closing_for_too_long(&self) -> Flow {
        if !self.connection().is_closing() {
            return OPEN;
        }
        self.link.time_out(self.engine.context())
    }

    /// Does what a drain or a timer asks for, once it has interrupted a read.
    fn on_wake(&mut self) -> Flow {
        let context = self.engine.context();
        let action = self.connection().drain(context, self.link.kept.get() == 0);
        self.perform(action)?;
        if self.link.evicted_for.get().is_some() || self.is_blocked() {
            return OPEN;
        }
        self.link.time_out(context)
    }

    /// Whether a drain wants this connection closed as soon as nothing more has
    /// arrived.
    fn may_close(&self) -> bool {
        let connection = self.connection();
        connection.draining().is_some() && connection.is_quiet() && self.link.kept.get() == 0
    }

    /// Closes the connection if it is evicted, for which it frees what it holds, or if
    /// a drain does not wait.
    fn close_if_told(&mut self) -> Flow {
        if let Some(reason) = self.link.evicted_for.take() {
            self.link.kept.set(0);
            self.resize(IDLE_BUFFER);
            let action = self.connection().evict(self.engine.context(), reason);
            self.perform(action)?;
        }
        if self.connection().draining().is_none() {
            return OPEN;
        }
        // Only a drain that does not wait closes it without a last read.
        let action = self.connection().drain(self.engine.context(), false);
        self.perform(action)
    }

    fn perform(&self, action: Action) -> Flow {
        if action == Action::Wait {
            return OPEN;
        }
        let context = self.engine.context();
        plain::perform(self.link.socket(), &mut self.connection(), action, context)
    }

    fn is_blocked(&self) -> bool {
        self.connection().is_blocked()
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

    fn connection(&self) -> RefMut<'a, Connection> {
        self.link.connection.borrow_mut()
    }
}

/// Polls once, which starts an operation.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
