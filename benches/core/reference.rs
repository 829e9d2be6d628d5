//! The references: a copy of the same bytes, fastwebsockets and tungstenite. Each reads
//! frames from memory and discards its echo.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fastwebsockets::{Role, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol;

use crate::support::Batch;

/// Copies frame by frame.
pub(crate) fn time_memcpy(batch: &Batch, iterations: u64) -> Duration {
    let mut target = vec![0; batch.bytes.len()];
    let frame_len = batch.frame_len();
    batch.time(iterations, |buf| {
        for (to, from) in target.chunks_mut(frame_len).zip(buf.chunks(frame_len)) {
            to.copy_from_slice(from);
        }
        black_box(&mut target);
    })
}

/// Its parse, unmask and write. It does not validate text.
pub(crate) fn time_fastwebsockets(stream: Endless<'_>, iterations: u64) -> Duration {
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    let start = Instant::now();
    finish(async {
        for _ in 0..iterations {
            let frame = socket.read_frame().await.expect("a frame");
            assert!(frame.opcode != fastwebsockets::OpCode::Text || frame.is_utf8());
            socket.write_frame(frame).await.expect("written");
        }
    });
    start.elapsed()
}

/// Its messages, written as its buffer fills.
pub(crate) fn time_tungstenite(stream: Endless<'_>, iterations: u64) -> Duration {
    let mut socket = tungstenite::WebSocket::from_raw_socket(stream, protocol::Role::Server, None);
    let start = Instant::now();
    for _ in 0..iterations {
        let message = socket.read().expect("a message");
        socket.write(message).expect("written");
    }
    start.elapsed()
}

/// Runs a future that never waits.
pub(crate) fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("memory is always ready"),
    }
}

/// A stream that repeats the same frames, and discards what is written.
pub(crate) struct Endless<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Reads end at these offsets as well, one per frame.
    frame_len: Option<usize>,
    cut: usize,
}

impl<'a> Endless<'a> {
    /// Each read is as long as its buffer.
    pub(crate) fn new(batch: &'a Batch) -> Self {
        Self {
            bytes: &batch.bytes,
            at: 0,
            frame_len: None,
            cut: 0,
        }
    }

    /// A frame in two reads, each frame split one byte further.
    pub(crate) fn cut(batch: &'a Batch) -> Self {
        Self {
            frame_len: Some(batch.frame_len()),
            ..Self::new(batch)
        }
    }

    fn next_piece(&mut self, most: usize) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let mut len = rest.len().min(most);
        if let Some(frame_len) = self.frame_len {
            let in_frame = self.at % frame_len;
            let end = if in_frame < self.cut {
                self.cut
            } else {
                frame_len
            };
            len = len.min(end - in_frame);
            if in_frame + len == frame_len {
                self.cut = (self.cut + 1) % frame_len;
            }
        }
        self.at = (self.at + len) % self.bytes.len();
        &rest[..len]
    }
}

impl Read for Endless<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next_piece(space.len());
        space[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Endless<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Endless<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        space.put_slice(self.next_piece(space.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
