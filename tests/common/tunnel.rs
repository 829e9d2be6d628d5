//! A TLS tunnel: plain clients reach a server that speaks TLS, so that the tests for
//! plain connections run over TLS as well.
//!
//! Ends are passed on as they are. A TCP end without `close_notify` reaches the client
//! as a reset.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::SockRef;

use super::pki;

/// The most bytes in transit in one direction.
const PIECE: usize = 16 * 1024;

/// Listens, and connects each client to `server`. Ends with the test.
pub(crate) fn open(server: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for plain in listener.incoming() {
            let Ok(plain) = plain else { return };
            let config = Arc::clone(&config);
            thread::spawn(move || match TcpStream::connect(server) {
                Ok(encrypted) => Tunnel::new(plain, encrypted, &config).run(),
                Err(_refused) => reset(&plain),
            });
        }
    });
    address
}

/// One connection.
struct Tunnel {
    plain: TcpStream,
    /// Both are `None` after the end of the stream in that direction.
    to_server: Option<Vec<u8>>,
    to_client: Option<Vec<u8>>,
    encrypted: StreamOwned<ClientConnection, TcpStream>,
    /// The server has sent `close_notify`.
    has_ended: bool,
}

impl Tunnel {
    fn new(plain: TcpStream, encrypted: TcpStream, config: &Arc<ClientConfig>) -> Self {
        for stream in [&plain, &encrypted] {
            stream.set_nonblocking(true).expect("set");
            stream.set_nodelay(true).expect("set");
        }
        Self {
            plain,
            to_server: Some(Vec::new()),
            to_client: Some(Vec::new()),
            encrypted: pki::over(encrypted, config),
            has_ended: false,
        }
    }

    /// Passes on bytes until both directions have ended.
    fn run(mut self) {
        while self.to_server.is_some() || self.to_client.is_some() || self.tls().wants_write() {
            if self.advance().is_err() {
                reset(&self.plain);
                reset(&self.encrypted.sock);
                return;
            }
        }
    }

    fn tls(&mut self) -> &mut ClientConnection {
        &mut self.encrypted.conn
    }

    fn advance(&mut self) -> io::Result<()> {
        let is_full = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_none_or(|b| !b.is_empty());
        let mut plain = PollFlags::empty();
        let mut encrypted = PollFlags::empty();
        plain.set(PollFlags::IN, !is_full(&self.to_server));
        plain.set(
            PollFlags::OUT,
            self.to_client.as_ref().is_some_and(|b| !b.is_empty()),
        );
        let writes = self.encrypted.conn.wants_write();
        encrypted.set(PollFlags::OUT, writes);
        encrypted.set(PollFlags::IN, !is_full(&self.to_client) && !self.has_ended);
        let mut fds = [
            PollFd::new(&self.plain, plain),
            PollFd::new(&self.encrypted.sock, encrypted),
        ];
        poll(&mut fds, None)?;
        let broken = PollFlags::ERR;
        if fds.iter().any(|fd| fd.revents().intersects(broken)) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        self.write_to_server()?;
        self.read_from_client()?;
        self.write_to_server()?;
        loop {
            self.read_from_server()?;
            let is_idle = !is_full(&self.to_client);
            self.write_to_client()?;
            // Decrypted bytes make no event.
            if is_idle || is_full(&self.to_client) {
                return Ok(());
            }
        }
    }

    fn read_from_client(&mut self) -> io::Result<()> {
        let Some(bytes) = self.to_server.as_mut().filter(|bytes| bytes.is_empty()) else {
            return Ok(());
        };
        let mut piece = [0; PIECE];
        match retry(self.plain.read(&mut piece))? {
            None => {}
            Some(0) => {
                self.to_server = None;
                self.encrypted.conn.send_close_notify();
            }
            Some(len) => bytes.extend_from_slice(&piece[..len]),
        }
        Ok(())
    }

    /// Bytes wait for room in the socket, or for the end of the handshake.
    fn write_to_server(&mut self) -> io::Result<()> {
        if !self.flush()? {
            return Ok(());
        }
        if let Some(bytes) = &mut self.to_server
            && !bytes.is_empty()
            && !self.encrypted.conn.is_handshaking()
        {
            self.encrypted.conn.writer().write_all(bytes)?;
            bytes.clear();
            if !self.flush()? {
                return Ok(());
            }
        }
        if self.to_server.is_none() {
            // It may be shut down already.
            let _ = self.encrypted.sock.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Whether all encrypted bytes are sent.
    fn flush(&mut self) -> io::Result<bool> {
        while self.encrypted.conn.wants_write() {
            if retry(self.encrypted.conn.write_tls(&mut self.encrypted.sock))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_from_server(&mut self) -> io::Result<()> {
        let Some(bytes) = self.to_client.as_mut().filter(|bytes| bytes.is_empty()) else {
            return Ok(());
        };
        let mut piece = [0; PIECE];
        loop {
            match self.encrypted.conn.reader().read(&mut piece) {
                Ok(0) => {
                    self.has_ended = true;
                    return Ok(());
                }
                Ok(len) => {
                    bytes.extend_from_slice(&piece[..len]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end of the TCP stream without `close_notify`.
                Err(error) => return Err(error),
            }
            if retry(self.encrypted.conn.read_tls(&mut self.encrypted.sock))?.is_none() {
                return Ok(());
            }
            if let Err(error) = self.encrypted.conn.process_new_packets() {
                let _ = self.encrypted.conn.write_tls(&mut self.encrypted.sock);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    fn write_to_client(&mut self) -> io::Result<()> {
        let Some(bytes) = &mut self.to_client else {
            return Ok(());
        };
        while !bytes.is_empty() {
            match retry(self.plain.write(bytes))? {
                None => return Ok(()),
                Some(len) => drop(bytes.drain(..len)),
            }
        }
        if self.has_ended {
            self.to_client = None;
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// `None` if the call would block.
fn retry(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn reset(stream: &TcpStream) {
    // It may be reset already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
