//! An accepted socket of either family, on the worker's runtime.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An accepted socket, non-blocking.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of whichever socket it is.
macro_rules! either {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($inner) => $call,
            Socket::Unix($inner) => $call,
        }
    };
}

impl Socket {
    /// Removes the socket from the runtime. It stays non-blocking.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        either!(self, stream => stream.into_std().map(OwnedFd::from))
    }

    /// Waits until there may be bytes to read.
    #[cfg(test)]
    pub(crate) async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Waits until there may be bytes to read, for one task at a time.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read_ready(cx))
    }

    /// Reads, if the runtime knows that the socket is readable.
    pub(crate) fn try_read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(space))
    }

    /// Reads without asking the runtime whether the socket is readable.
    pub(crate) fn read_at_once(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let (len, _) = rustix::net::recv(&*self, space, RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    /// Waits, for one task at a time, until there may be room to write.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(cx))
    }

    /// Writes what fits.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    /// Sends a FIN.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

/// Makes the kernel reset the connection when its socket is closed, and free its send
/// queue, which would otherwise stay for minutes if the peer does not read.
pub(crate) fn reset_when_closed(socket: impl AsFd) {
    // An error means that the connection has ended already.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Hands what a stream does as an `AsFd`, `AsyncRead` and `AsyncWrite` on to the variant
/// that it is.
macro_rules! delegate_io {
    ($stream:ident { $($variant:ident),+ }) => {
        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                match self {
                    $(Self::$variant(stream) => stream.as_fd(),)+
                }
            }
        }

        impl AsyncRead for $stream {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_read(cx, buf),)+
                }
            }
        }

        impl AsyncWrite for $stream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_write(cx, bytes),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_shutdown(cx),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }
        }
    };
}
pub(crate) use delegate_io;

delegate_io!(Socket { Tcp, Unix });
