//! An accepted connection on the worker's runtime, plain or over TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::socket::Socket;
use crate::transport::tls::TlsStream;

/// A connection before an engine takes it.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// The transport of an upgraded connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Socket(OwnedFd),
    Tls(Box<TlsStream>),
}

/// Calls the same method of whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl Stream {
    /// Removes a plain socket from the runtime. It stays non-blocking.
    pub(crate) fn into_transport(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Plain(socket) => Transport::Socket(socket.into_fd()?),
            Self::Tls(stream) => Transport::Tls(stream),
        })
    }

    /// Waits until there may be bytes to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// As [`readable`](Self::readable), for one task at a time.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read_ready(cx))
    }

    /// Reads, if the runtime knows that the socket is readable.
    pub(crate) fn try_read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(space))
    }

    /// Reads without asking the runtime whether the socket is readable.
    pub(crate) fn read_at_once(&mut self, space: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.read_at_once(space))
    }

    /// Waits until there may be room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    /// As [`writable`](Self::writable), for one task at a time.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(cx))
    }

    /// Writes what fits. Over TLS, it may have to be [flushed](Self::try_flush).
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    /// As [`try_write`](Self::try_write), vectored.
    pub(crate) fn try_write_pieces(&mut self, pieces: [&[u8]; 2]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_pieces(pieces))
    }

    /// Whether no written bytes are queued in the stream itself.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_flushed(),
            Self::Plain(_) => true,
        }
    }

    /// Sends queued bytes; returns whether none are left.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tls(stream) => stream.flush(),
            Self::Plain(_) => Ok(true),
        }
    }

    /// Whether the last read filled its buffer of ciphertext: the plaintext is shorter,
    /// and does not show it.
    pub(crate) fn is_bulk(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_bulk(),
            Self::Plain(_) => false,
        }
    }

    /// Bytes buffered in the stream itself, in both directions.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Tls(stream) => stream.held(),
            Self::Plain(_) => 0,
        }
    }

    /// Written bytes that are queued in the stream itself.
    pub(crate) fn unsent(&self) -> usize {
        match self {
            Self::Tls(stream) => stream.unsent(),
            Self::Plain(_) => 0,
        }
    }

    /// Whether it can still be written to, whatever the last read has found.
    pub(crate) fn may_write(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.may_write(),
            Self::Plain(_) => true,
        }
    }

    /// Queues the `close_notify` of TLS, before a [half-close](Self::half_close).
    pub(crate) fn put_end(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.put_end(),
            Self::Plain(_) => Ok(()),
        }
    }

    /// Sends a FIN.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }
}
