//! The opening of a connection: TCP, TLS, the opening handshake.

use std::io;
use std::mem;

use super::batch_writer::taken;
use super::transport::Transport;
use crate::client::{Handshake, HandshakeError, Skip};
use crate::tls;

/// The size of a read of the response, in bytes.
const CHUNK_LEN: usize = 4 << 10;

/// The state of a connection until it is open.
pub(super) struct Opening {
    /// `None` for raw TCP, which has no handshake.
    pub(super) handshake: Option<Handshake>,
    pub(super) request: Vec<u8>,
    /// Bytes of the request that the stream took.
    written: usize,
    /// Whether the stream took all of it and holds nothing back.
    flushed: bool,
    response: Vec<u8>,
    /// Whether the response is complete and right.
    pub(super) is_upgraded: bool,
    /// The messages that the server sends first.
    skip: Skip,
    /// Messages to be skipped.
    skipped: u32,
    /// The bytes after the response and the skipped messages.
    early: Vec<u8>,
    /// Whether TCP's handshake is done.
    pub(super) connected: bool,
    pub(super) started_ns: u64,
    /// The load connection that this one is to replace.
    pub(super) replaces: Option<u32>,
}

/// The result of a step.
pub(super) enum OpenProgress {
    /// The socket has to be ready again.
    Pending,
    /// It is open; these bytes followed the response and the skipped messages.
    Open(Vec<u8>),
}

/// Why it did not open.
pub(super) enum Closed {
    /// No TCP connection.
    Connect(io::Error),
    /// TCP, but no WebSocket connection.
    Handshake(HandshakeError),
}

impl Opening {
    pub(super) fn new(
        handshake: Option<(Handshake, Vec<u8>)>,
        skipped: u32,
        started_ns: u64,
    ) -> Self {
        let (handshake, request) = handshake.unzip();
        Self {
            handshake,
            request: request.unwrap_or_default(),
            written: 0,
            flushed: false,
            response: Vec::new(),
            is_upgraded: false,
            skip: Skip::new(skipped),
            skipped,
            early: Vec::new(),
            connected: false,
            started_ns,
            replaces: None,
        }
    }

    /// Whether it waits for the socket to become writable.
    pub(super) fn wants_out(&self) -> bool {
        !self.connected || !self.flushed
    }

    /// Continues as far as the socket is ready.
    pub(super) fn step(
        &mut self,
        transport: &mut Transport,
        readable: bool,
    ) -> Result<OpenProgress, Closed> {
        if !self.connected {
            match transport.socket().take_error() {
                Ok(None) => self.connected = true,
                Ok(Some(error)) | Err(error) => return Err(Closed::Connect(error)),
            }
        }
        if self.handshake.is_none() {
            self.is_upgraded = true;
            return Ok(OpenProgress::Open(Vec::new()));
        }
        while self.written < self.request.len() {
            let rest = &self.request[self.written..];
            match taken(transport.write(rest)).map_err(broken)? {
                0 => break,
                count => self.written += count,
            }
        }
        self.flushed = transport.flush().map_err(broken)? && self.written == self.request.len();
        if !readable {
            return Ok(OpenProgress::Pending);
        }
        let mut chunk = [0; CHUNK_LEN];
        loop {
            match transport.read(&mut chunk) {
                Ok(0) => return Err(Closed::Handshake(self.unfinished())),
                Ok(count) => self.take(&chunk[..count]).map_err(Closed::Handshake)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // TLS may have sent an alert.
                    self.flushed = transport.flush().map_err(broken)? && self.flushed;
                    return Ok(OpenProgress::Pending);
                }
                Err(error) => return Err(broken(error)),
            }
            if self.is_upgraded && self.skip.left() == 0 {
                return Ok(OpenProgress::Open(mem::take(&mut self.early)));
            }
        }
    }

    /// Processes received bytes, split anywhere.
    fn take(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let mut behind = bytes;
        if let Some(handshake) = self.handshake.as_ref().filter(|_| !self.is_upgraded) {
            self.response.extend_from_slice(bytes);
            let Some(len) = handshake.check(&self.response, false)? else {
                return Ok(());
            };
            self.is_upgraded = true;
            behind = &self.response[len..];
        }
        self.skip
            .feed(behind, &mut self.early)
            .map_err(HandshakeError::Greeting)
    }

    /// The error of an incomplete opening, when no more bytes will come.
    pub(super) fn unfinished(&self) -> HandshakeError {
        if self.is_upgraded {
            return HandshakeError::NoGreeting {
                came: self.skipped - self.skip.left(),
                skip: self.skipped,
            };
        }
        let handshake = self.handshake.as_ref();
        handshake
            .and_then(|handshake| handshake.check(&self.response, true).err())
            .unwrap_or(HandshakeError::Eof)
    }
}

fn broken(error: io::Error) -> Closed {
    Closed::Handshake(match error.kind() {
        // The TLS library's error.
        io::ErrorKind::InvalidData => HandshakeError::Tls(tls::describe(&error)),
        _ => HandshakeError::Io(error),
    })
}
