//! What one connection's task does.

use std::cell::RefMut;
use std::net::Shutdown;
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio_uring::buf::BoundedBuf;

use super::{Doing, IDLE_BUFFER, Link, TokioUringEngine};
use crate::engine::Drain;
use crate::engine::session::{Due, PING, Session};
use crate::proto::{Next, TAIL_ROOM};

/// How much larger a buffer gets when a read has filled it.
const GROWTH: usize = 4;

/// One connection, its buffer, and the bytes in it that wait for more.
pub(super) struct Task<'a> {
    engine: &'a TokioUringEngine,
    link: &'a Link,
    /// Always initialised to its end. Empty while an operation has it.
    buf: Vec<u8>,
    kept: usize,
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
            kept: 0,
        }
    }

    /// Serves the connection to its end, frames that came with the handshake
    /// first.
    pub(super) async fn run(mut self, leftover: &[u8]) {
        self.resize(IDLE_BUFFER.max(leftover.len() + TAIL_ROOM));
        self.buf[..leftover.len()].copy_from_slice(leftover);
        let mut flow = self.receive(leftover.len()).await;
        while flow == GO_ON {
            flow = if self.engine.draining.get().is_some() && !self.session().is_closing() {
                self.drain().await
            } else {
                self.read().await
            };
        }
    }

    /// Waits for bytes and answers them.
    async fn read(&mut self) -> Flow {
        let end = self.buf.len() - TAIL_ROOM;
        let space = std::mem::take(&mut self.buf).slice(self.kept..end);
        self.link.doing.set(Doing::Read);
        let (result, space) = self.link.stream.read(space).await;
        self.link.doing.set(Doing::Work);
        self.buf = space.into_inner();
        match result {
            Ok(0) => END,
            Ok(len) => self.receive(len).await,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::CANCELED) => self.look_around().await,
                Some(Errno::INTR | Errno::AGAIN) => GO_ON,
                _ => END,
            },
        }
    }

    /// Answers `len` bytes that stand behind what was kept.
    async fn receive(&mut self, len: usize) -> Flow {
        if len == 0 {
            return GO_ON;
        }
        let settings = &*self.engine.settings;
        settings.counters.reads.add(1);
        settings.counters.bytes_in.add(len as u64);
        let filled = self.kept + len;
        let end = self.buf.len() - TAIL_ROOM;
        let now = settings.clock.now();
        let step = self
            .link
            .session
            .borrow_mut()
            .receive(settings, &mut self.buf, filled, now);
        if !step.reply.is_empty() && self.write(step.reply).await == END {
            return END;
        }
        self.buf.copy_within(step.consumed..filled, 0);
        self.kept = filled - step.consumed;
        self.fit_buffer(filled == end);
        match step.next {
            Next::Read => GO_ON,
            Next::Close(_) | Next::Fail(_) => self.half_close(),
            Next::Abort(_) => END,
        }
    }

    async fn write(&mut self, reply: Range<usize>) -> Flow {
        let len = reply.len();
        let bytes = std::mem::take(&mut self.buf).slice(reply);
        let settings = &*self.engine.settings;
        let since = settings.clock.now();
        self.link.doing.set(Doing::Write { since });
        let (result, bytes) = self.link.stream.write_all(bytes).await;
        self.link.doing.set(Doing::Work);
        self.buf = bytes.into_inner();
        if result.is_err() {
            return END;
        }
        settings.counters.writes.add(1);
        settings.counters.bytes_out.add(len as u64);
        GO_ON
    }

    /// Does what the clock asks for, once it has interrupted a read.
    async fn look_around(&mut self) -> Flow {
        let settings = &*self.engine.settings;
        let now = settings.clock.now();
        let due = self.session().due(settings, now);
        match due {
            Due::Nothing => {
                self.resize(IDLE_BUFFER.max(self.needed()));
                GO_ON
            }
            Due::Cut => END,
            Due::Ping => {
                self.session().probed(settings, now);
                self.send(&PING).await
            }
            Due::Close => {
                settings.counters.idle_timeouts.add(1);
                self.close().await
            }
        }
    }

    /// Answers what has arrived; closes the connection if that is all.
    async fn drain(&mut self) -> Flow {
        let end = self.buf.len() - TAIL_ROOM;
        match rustix::net::recv(
            self.fd(),
            &mut self.buf[self.kept..end],
            RecvFlags::DONTWAIT,
        ) {
            Ok((0, _)) => END,
            Ok((len, _)) => {
                let flow = self.receive(len).await;
                if flow == END || self.engine.draining.get() == Some(Drain::WhenQuiet) {
                    return flow;
                }
                self.close().await
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                let is_quiet = self.session().is_quiet(self.kept);
                if is_quiet || self.engine.draining.get() == Some(Drain::Now) {
                    self.close().await
                } else {
                    self.read().await
                }
            }
            Err(_) => END,
        }
    }

    /// Ends the connection by the server's own wish.
    async fn close(&mut self) -> Flow {
        if self.session().is_closing() {
            return GO_ON;
        }
        let now = self.engine.settings.clock.now();
        let frame = self.session().close(now);
        match frame {
            Some(frame) if self.send(&frame).await == GO_ON => self.half_close(),
            _ => END,
        }
    }

    /// Writes a short frame of the server's own; what is kept stays.
    async fn send(&mut self, frame: &[u8]) -> Flow {
        let kept = std::mem::take(&mut self.buf);
        self.buf = frame.to_vec();
        let flow = self.write(0..frame.len()).await;
        self.buf = kept;
        flow
    }

    fn half_close(&self) -> Flow {
        match self.link.stream.shutdown(Shutdown::Write) {
            Ok(()) => GO_ON,
            Err(_) => END,
        }
    }

    /// A larger buffer for a connection that has filled the one it has, or
    /// that waits for the rest of a frame with little room left.
    fn fit_buffer(&mut self, was_filled: bool) {
        let largest = self.engine.settings.read_buffer_len();
        if was_filled || self.needed() > self.buf.len() {
            let grown = self.buf.len().saturating_mul(GROWTH);
            self.resize(grown.clamp(self.needed(), largest.max(self.needed())));
        }
    }

    /// Room for what is kept and as much again.
    fn needed(&self) -> usize {
        2 * self.kept + TAIL_ROOM + 1
    }

    fn resize(&mut self, len: usize) {
        self.buf.reserve_exact(len.saturating_sub(self.buf.len()));
        self.buf.resize(len, 0);
        self.buf.shrink_to_fit();
        self.link.buffer_len.set(len);
    }

    fn fd(&self) -> BorrowedFd<'a> {
        // SAFETY: the stream owns the descriptor, closes it only when dropped,
        // and is borrowed for as long as the result is.
        unsafe { BorrowedFd::borrow_raw(self.link.stream.as_raw_fd()) }
    }

    fn session(&self) -> RefMut<'a, Session> {
        self.link.session.borrow_mut()
    }
}
