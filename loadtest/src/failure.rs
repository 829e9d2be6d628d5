//! Why a run ended early: one clear line, and whose fault it is.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use crate::client::{HandshakeError, Violation};
use crate::units::format_duration;
use crate::watch::WatchError;

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
    #[error("cannot connect to {target} (connection {}): {}", connection + 1, connect_text(.source))]
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
    /// A connection that only sits there ended.
    #[error("lost idle connection {}: {reason}", connection + 1)]
    LostIdle {
        /// Which connection.
        connection: u32,
        /// How it ended.
        reason: Loss,
    },
    /// There is nobody to vouch for a `wss://` server.
    #[error("no certificates to trust: {0}")]
    Trust(String),
    /// Others began to load the server, and this one could not.
    #[error(
        "{opened} of {sockets} connections were open when the load had to begin, to measure at \
         {start_at}: give --start-at a later time"
    )]
    Late {
        /// How many were.
        opened: u64,
        /// Of how many.
        sockets: u64,
        /// When the measurement was to begin.
        start_at: String,
    },
    /// The server's process, which was to be watched or started.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The server that was started ended in mid-run.
    #[error("the server ended in mid-run ({0})")]
    ServerEnded(ExitStatus),
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
    /// Arguments that do not fit together.
    #[error("{0} (see loadtest --help)")]
    Usage(String),
    /// A core that the threads cannot be pinned to.
    #[error("cannot pin a thread to core {core}: {source}")]
    Pin {
        /// The core.
        core: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A result file that cannot be read or written.
    #[error("{0}")]
    File(String),
    /// A result that did not arrive where it was to be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// One run of several.
    #[error("{run}: {failure}")]
    OneOf {
        /// Which one.
        run: String,
        /// Why it ended.
        failure: Box<Failure>,
    },
    /// The user ended the run before there was anything to report.
    #[error("interrupted before anything was measured")]
    Interrupted,
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

/// The sentence of a plan that does not hold.
impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Usage(sentence)
    }
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

/// What the kernel says, with the way out where it does not say.
fn connect_text(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return format!(
            "{error}: this source address has no port left; \
             more addresses come with --source 127.0.0.1-127.0.0.20"
        );
    }
    error.to_string()
}

fn close_text(code: Option<u16>) -> String {
    match code {
        Some(code) => format!("Close {code}"),
        None => "Close without a code".to_owned(),
    }
}
