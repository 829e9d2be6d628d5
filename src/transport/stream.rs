//! An accepted connection on the worker's runtime, plain or over TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::socket::{Socket, delegate_io};
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

    /// Bytes buffered in the stream itself, in both directions.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Tls(stream) => stream.held(),
            Self::Plain(_) => 0,
        }
    }
}

delegate_io!(Stream { Plain, Tls });
