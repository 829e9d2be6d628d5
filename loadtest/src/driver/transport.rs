//! A connection's byte stream: TCP, or TLS over it.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// The limit of buffered bytes in a TLS connection.
const TLS_BUFFER_LEN: usize = 64 << 10;

/// A non-blocking stream of bytes.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// A TLS connection and the socket under it.
pub(super) struct Tls {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Transport {
    /// TLS over a socket that is being connected. Bytes written before the TLS handshake are
    /// buffered.
    pub(super) fn tls(
        socket: TcpStream,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let mut connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(TLS_BUFFER_LEN));
        Ok(Self::Tls(Box::new(Tls { connection, socket })))
    }

    /// The socket, to be watched.
    #[inline]
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Reads available bytes, up to the buffer's length.
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes what the stream takes.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(|writer| writer.write(bytes)),
        }
    }

    /// Writes what the stream takes of several slices, in their order.
    #[inline]
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(slices),
            Self::Tls(tls) => tls.write(|writer| writer.write_vectored(slices)),
        }
    }

    /// Writes buffered bytes; `false` while some are left.
    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Ends the stream in both directions.
    pub(super) fn close(&mut self) {
        if let Self::Tls(tls) = self {
            tls.connection.send_close_notify();
            // Best effort: the connection is done.
            let _ = tls.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Decrypted bytes that a smaller buffer left.
        if let Ok(count @ 1..) = self.connection.reader().read(buffer) {
            return Ok(count);
        }
        self.connection.read_tls(&mut self.socket)?;
        if let Err(error) = self.connection.process_new_packets() {
            // Sends the alert, if the peer still receives it.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.flush()?;
        match self.connection.reader().read(buffer) {
            // The end of the TCP stream without TLS's own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            result => result,
        }
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.flush()? && !self.connection.is_handshaking() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = write(&mut self.connection.writer())?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A socket that is not connected yet counts as full: both become writable.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
