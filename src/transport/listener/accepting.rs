//! A listening socket on a worker's runtime.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;

use socket2::{Domain, SockRef};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::net::peer::Peer;
use crate::net::socket::Socket;

/// A listening socket of either family.
pub(crate) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener, UnixOptions),
}

/// Options of an accepted Unix-domain socket, which inherits none from its listener.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnixOptions {
    /// `SO_SNDBUF`.
    pub(crate) send_buffer: Option<NonZeroUsize>,
}

impl UnixOptions {
    fn apply(self, stream: &impl AsFd) -> io::Result<()> {
        match self.send_buffer {
            Some(size) => SockRef::from(stream).set_send_buffer_size(size.get()),
            None => Ok(()),
        }
    }
}

impl Accepting {
    /// Registers a listening socket, which is non-blocking, with this thread's runtime.
    pub(crate) fn new(socket: OwnedFd, unix: UnixOptions) -> io::Result<Self> {
        if SockRef::from(&socket).domain()? == Domain::UNIX {
            let listener = UnixListener::from_std(StdUnixListener::from(socket))?;
            Ok(Self::Unix(listener, unix))
        } else {
            TcpListener::from_std(StdTcpListener::from(socket)).map(Self::Tcp)
        }
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), peer.into()))
            }
            Self::Unix(listener, options) => {
                let (stream, _) = listener.accept().await?;
                options.apply(&stream)?;
                Ok((Socket::Unix(stream), Peer::Local))
            }
        }
    }

    /// Removes the socket from the runtime.
    pub(crate) fn into_blocking(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => Waiting::Tcp(listener.into_std()?),
            Self::Unix(listener, options) => Waiting::Unix(listener.into_std()?, options),
        })
    }
}

/// The queue of a listening socket, read without the runtime, which may not know of all
/// connections in it.
pub(crate) enum Waiting {
    Tcp(StdTcpListener),
    Unix(StdUnixListener, UnixOptions),
}

impl Waiting {
    /// The next connection, or `WouldBlock` if the queue is empty.
    pub(crate) fn next(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Tcp(TcpStream::from_std(stream)?), peer.into()))
            }
            Self::Unix(listener, options) => {
                let (stream, _) = listener.accept()?;
                options.apply(&stream)?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)?), Peer::Local))
            }
        }
    }
}
