//! The gate, for fuzz targets that compare it with another implementation of its rules.

use std::time::Duration;

use hyper::Request;

use super::{HttpOptions, gate};

/// A gate with its configuration.
#[allow(missing_debug_implementations, reason = "a handler's closure has none")]
pub struct Gate(HttpOptions);

/// The gate's result.
#[derive(Debug, PartialEq, Eq)]
pub enum GateResult {
    /// No attempt at a handshake.
    Plain,
    /// Refused with this status.
    Refused(u16),
    /// Accepted, with this subprotocol.
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
            accept: None,
            keeps_request: false,
        })
    }

    /// Checks a request, without answering.
    pub fn check<B>(&self, request: &Request<B>) -> GateResult {
        if !gate::is_attempt(request) {
            return GateResult::Plain;
        }
        match gate::admit(request, &self.0) {
            Ok(subprotocol) => GateResult::Upgraded(subprotocol),
            Err(refusal) => GateResult::Refused(refusal.status.as_u16()),
        }
    }
}
