//! Why a run ended early: one clear line, and whose fault it is.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::client::{HandshakeError, Violation};
use crate::units::format_duration;

/// What ends a run. Connections and messages are counted from 0 in the fields
/// and from 1 in the text.
#[derive(Debug, Error)]
pub enum Failure {
    /// The target's name has no address.
    #[error("cannot resolve {target}: {source}")]
    Resolve {
        /// The target's URL.
        target: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No TCP connection came about.
    #[error("cannot connect to {target} (connection {}): {source}", connection + 1)]
    Connect {
        /// The target's URL.
        target: String,
        /// Which connection.
        connection: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Who answered is no WebSocket server, or not for this path.
    #[error("no WebSocket at {target} (connection {}): {source}", connection + 1)]
    Handshake {
        /// The target's URL.
        target: String,
        /// Which connection.
        connection: u32,
        /// What was wrong with the answer.
        source: HandshakeError,
    },
    /// The server answered something else than the echo.
    #[error("integrity error on connection {}, message {}: {violation}", connection + 1, message + 1)]
    Integrity {
        /// Which connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// What came instead.
        violation: Violation,
    },
    /// The connection ended in mid-run.
    #[error("lost connection {} while message {} was due: {reason}", connection + 1, message + 1)]
    Lost {
        /// Which connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// How it ended.
        reason: Loss,
    },
    /// The server stopped answering.
    #[error(
        "no progress on connection {} for {}: no reply to message {}",
        connection + 1, format_duration(*timeout), message + 1
    )]
    Stalled {
        /// Which connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// How long nothing moved.
        timeout: Duration,
    },
    /// Every message came back, but not every Close did.
    #[error(
        "{count} of {connections} connections did not answer Close 1000 with Close 1000; \
         the first was connection {}: {reason}",
        connection + 1
    )]
    Unclosed {
        /// How many.
        count: u32,
        /// Of how many.
        connections: u32,
        /// The first of them.
        connection: u32,
        /// What it did instead.
        reason: Loss,
    },
    /// No engine of the embedded demo works on this machine.
    #[error("no engine of the embedded server works here")]
    NoEngine,
    /// The embedded server did not start or did not stop.
    #[error("the embedded server (engine {engine}): {reason}")]
    Embedded {
        /// Its engine.
        engine: String,
        /// What it said.
        reason: String,
    },
    /// This machine did not give what the run needs.
    #[error("{what}: {source}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// More files than this process may open.
    #[error("{needed} open files are needed, but the hard limit is {limit} (ulimit -Hn)")]
    OpenFiles {
        /// Files needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
}

/// How a connection ended that should have lived on.
#[derive(Debug, Error)]
pub enum Loss {
    /// FIN without a Close frame.
    #[error("the server closed the TCP connection without a Close frame")]
    Eof,
    /// A Close frame that was not due, or with another code.
    #[error("the server sent {}", close_text(*.0))]
    Close(Option<u16>),
    /// The socket's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came for as long as the plan allows.
    #[error("no answer within {}", format_duration(*.0))]
    Silence(Duration),
}

fn close_text(code: Option<u16>) -> String {
    match code {
        Some(code) => format!("Close {code}"),
        None => "Close without a code".to_owned(),
    }
}
