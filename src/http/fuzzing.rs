//! The gate, for those who compare it with other words for the same rules.

use std::time::Duration;

use hyper::Request;

use super::{HttpOptions, gate};

/// A gate with its configuration.
#[derive(Debug)]
pub struct Gate(HttpOptions);

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not ask to become a WebSocket.
    Plain,
    /// It is answered with this status.
    Refused(u16),
    /// It becomes a WebSocket, with this subprotocol.
    Upgraded(Option<String>),
}

impl Gate {
    /// A gate for this path, these origins and these subprotocols.
    pub fn new(path: Option<&str>, origins: &[&str], subprotocols: &[&str]) -> Self {
        let origin = |text: &&str| text.parse().expect("an origin");
        Self(HttpOptions {
            path: path.map(str::to_owned),
            origins: origins.iter().map(origin).collect(),
            subprotocols: subprotocols.iter().map(|&name| name.to_owned()).collect(),
            max_header_bytes: 8192,
            handshake_timeout: Duration::from_secs(10),
        })
    }

    /// What the gate says, without answering.
    pub fn judge<B>(&self, request: &Request<B>) -> Verdict {
        if !gate::is_attempt(request) {
            return Verdict::Plain;
        }
        match gate::admit(request, &self.0) {
            Ok(subprotocol) => Verdict::Upgraded(subprotocol),
            Err(refusal) => Verdict::Refused(refusal.status.as_u16()),
        }
    }
}
