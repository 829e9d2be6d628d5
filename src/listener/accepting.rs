//! A listening socket on a worker's runtime.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;

use socket2::{Domain, SockRef};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::peer::Peer;
use crate::stream::Stream;

/// A listening socket of either family.
pub(crate) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// Puts a listening socket, which is non-blocking, onto this thread's
    /// runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        if SockRef::from(&socket).domain()? == Domain::UNIX {
            UnixListener::from_std(StdUnixListener::from(socket)).map(Self::Unix)
        } else {
            TcpListener::from_std(StdTcpListener::from(socket)).map(Self::Tcp)
        }
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(stream), peer.into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Local))
            }
        }
    }

    /// Takes the socket away from the runtime.
    pub(crate) fn into_blocking(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => Waiting::Tcp(listener.into_std()?),
            Self::Unix(listener) => Waiting::Unix(listener.into_std()?),
        })
    }
}

/// Those who wait to be accepted. The runtime need not have heard of them, so
/// the kernel is asked.
pub(crate) enum Waiting {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Waiting {
    /// The next one, or `WouldBlock` where nobody waits.
    pub(crate) fn next(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Tcp(TcpStream::from_std(stream)?), peer.into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(UnixStream::from_std(stream)?), Peer::Local))
            }
        }
    }
}
