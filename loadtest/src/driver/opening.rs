//! A connection's beginning: TCP, TLS, the opening handshake.

use std::io;

use super::outbox::taken;
use super::transport::Transport;
use crate::client::{Handshake, HandshakeError};

/// The response is read in pieces of so many bytes.
const CHUNK_LEN: usize = 4 << 10;

/// What there is per connection until it is open.
pub(super) struct Opening {
    /// `None` for raw TCP, which has no handshake.
    pub(super) handshake: Option<Handshake>,
    pub(super) request: Vec<u8>,
    /// Bytes of the request that the stream took.
    written: usize,
    /// Whether the stream took all of it and holds nothing back.
    flushed: bool,
    response: Vec<u8>,
    /// Whether TCP's handshake is done.
    pub(super) connected: bool,
    pub(super) started_ns: u64,
    /// The address that is tried, an index.
    pub(super) attempt: usize,
    /// The carrier whose connection this one is to replace.
    pub(super) replaces: Option<u32>,
}

/// What a step came to.
pub(super) enum Step {
    /// The socket has to be ready again.
    Wait,
    /// It is open, and this came behind the response.
    Open(Vec<u8>),
}

/// Why it did not open.
pub(super) enum Closed {
    /// No TCP connection.
    Connect(io::Error),
    /// TCP, but no WebSocket.
    Handshake(HandshakeError),
}

impl Opening {
    pub(super) fn new(handshake: Option<(Handshake, Vec<u8>)>, started_ns: u64) -> Self {
        let (handshake, request) = handshake.unzip();
        Self {
            handshake,
            request: request.unwrap_or_default(),
            written: 0,
            flushed: false,
            response: Vec::new(),
            connected: false,
            started_ns,
            attempt: 0,
            replaces: None,
        }
    }

    /// Whether it waits for the socket to take something.
    pub(super) fn wants_out(&self) -> bool {
        !self.connected || !self.flushed
    }

    /// Does what the socket is ready for.
    pub(super) fn step(
        &mut self,
        transport: &mut Transport,
        readable: bool,
    ) -> Result<Step, Closed> {
        if !self.connected {
            match transport.socket().take_error() {
                Ok(None) => self.connected = true,
                Ok(Some(error)) | Err(error) => return Err(Closed::Connect(error)),
            }
        }
        let Some(handshake) = &self.handshake else {
            return Ok(Step::Open(Vec::new()));
        };
        while self.written < self.request.len() {
            let rest = &self.request[self.written..];
            match taken(transport.write(rest)).map_err(broken)? {
                0 => break,
                count => self.written += count,
            }
        }
        self.flushed = transport.flush().map_err(broken)? && self.written == self.request.len();
        if !readable {
            return Ok(Step::Wait);
        }
        let mut chunk = [0; CHUNK_LEN];
        loop {
            match transport.read(&mut chunk) {
                Ok(0) => return Err(Closed::Handshake(HandshakeError::Eof)),
                Ok(count) => self.response.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // TLS may have had something to say.
                    self.flushed = transport.flush().map_err(broken)? && self.flushed;
                    return Ok(Step::Wait);
                }
                Err(error) => return Err(broken(error)),
            }
            let checked = handshake.check(&self.response).map_err(Closed::Handshake)?;
            if let Some(head_len) = checked {
                return Ok(Step::Open(self.response.split_off(head_len)));
            }
        }
    }
}

fn broken(error: io::Error) -> Closed {
    Closed::Handshake(match error.kind() {
        // What the TLS library says of what it received.
        io::ErrorKind::InvalidData => HandshakeError::Tls(error.to_string()),
        _ => HandshakeError::Io(error),
    })
}
