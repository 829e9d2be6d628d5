//! Why a run ended early: one line that names the cause.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::client::{CloseReason, HandshakeError, Violation, excerpt};
use crate::units::format_duration;
use crate::watch::{UnexpectedExit, WatchError};

/// A failure that ends a run. Connections and messages are counted from 0 in the fields and from
/// 1 in the text.
#[derive(Debug, Error)]
pub enum Failure {
    /// The target's name has no address.
    #[error("cannot resolve {target}: {source}")]
    Resolve {
        /// The target's URL.
        target: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The TCP connect failed.
    #[error("cannot connect to {target} (connection {}): {}", connection + 1, connect_text(.source))]
    Connect {
        /// The target's URL.
        target: String,
        /// The connection.
        connection: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The peer is no WebSocket server, or not for this path.
    #[error("no WebSocket at {target} (connection {}): {source}", connection + 1)]
    Handshake {
        /// The target's URL.
        target: String,
        /// The connection.
        connection: u32,
        /// The error in the response.
        source: HandshakeError,
    },
    /// The server answered something else than the echo.
    #[error(
        "integrity error on connection {}, message {}: {violation}{}{}",
        connection + 1, message + 1, begins_with(.got.as_deref()), or_greeting(*message)
    )]
    Integrity {
        /// The connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// The violation.
        violation: Violation,
        /// Its first bytes, quoted.
        got: Option<String>,
    },
    /// The server sent a message before it was sent one.
    #[error(
        "connection {}: the server sends a message first{}; \
         if it sends a greeting, use --skip 1",
        connection + 1, begins_with(.got.as_deref())
    )]
    Greeting {
        /// The connection.
        connection: u32,
        /// The message's first bytes, quoted.
        got: Option<String>,
    },
    /// The connection ended in mid-run.
    #[error("lost connection {} while message {} was due: {reason}", connection + 1, message + 1)]
    Lost {
        /// The connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// How it ended.
        reason: Loss,
    },
    /// An idle connection ended.
    #[error("lost idle connection {}: {reason}", connection + 1)]
    LostIdle {
        /// The connection.
        connection: u32,
        /// How it ended.
        reason: Loss,
    },
    /// There are no certificates to verify a `wss://` server with.
    #[error("no certificates to trust: {0}")]
    Trust(String),
    /// The start time came before all connections were open.
    #[error(
        "{opened} of {sockets} connections were open when the load had to begin, to measure at \
         {start_at}: give --start-at a later time"
    )]
    Late {
        /// The number of open connections.
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
    ServerEnded(UnexpectedExit),
    /// The server stopped answering.
    #[error(
        "no progress on connection {} for {}: no reply to message {}",
        connection + 1, format_duration(*timeout), message + 1
    )]
    Stalled {
        /// The connection.
        connection: u32,
        /// The message whose reply was due.
        message: u64,
        /// The time without progress.
        timeout: Duration,
    },
    /// Arguments that contradict each other.
    #[error("{0} (see loadtest --help)")]
    Usage(String),
    /// A core that the threads cannot be pinned to.
    #[error("cannot pin a thread to core {core}: {source}")]
    Pin {
        /// The core.
        core: usize,
        /// The kernel's error.
        source: io::Error,
    },
    /// A result file that cannot be read or written.
    #[error("{0}")]
    File(String),
    /// A result that did not arrive where it was to be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The failure of one of several runs.
    #[error("{run}: {failure}")]
    OneOf {
        /// The name of the run.
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
        /// Its error.
        reason: String,
    },
    /// A resource of this machine is missing.
    #[error("{what}: {source}")]
    Local {
        /// The operation that failed.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The run needs more open files than the hard limit.
    #[error("{needed} open files are needed, but the hard limit is {limit} (ulimit -Hn)")]
    OpenFiles {
        /// Files needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
}

/// The affinity of a thread could not be read or set.
pub(crate) fn affinity(source: io::Error) -> Failure {
    Failure::Local {
        what: "choosing a core",
        source,
    }
}

/// The sentence of a plan that does not hold.
impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Usage(sentence)
    }
}

/// How a connection ended that should have stayed open.
#[derive(Debug, Error)]
pub enum Loss {
    /// FIN without a Close frame.
    #[error("the server closed the TCP connection without a Close frame")]
    Eof,
    /// An unexpected Close frame, or another code.
    #[error("the server sent {}", close_text(.0.as_ref()))]
    Close(Option<CloseReason>),
    /// The socket's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No progress for the plan's timeout.
    #[error("no answer within {}", format_duration(*.0))]
    Silence(Duration),
}

/// The kernel's error, with advice where its text has none.
fn connect_text(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return format!(
            "{error}: this source address has no port left; \
             more addresses come with --source 127.0.0.1-127.0.0.20"
        );
    }
    error.to_string()
}

fn close_text(reason: Option<&CloseReason>) -> String {
    let Some(CloseReason { code, text }) = reason else {
        return "Close without a code".to_owned();
    };
    let name = match code {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1007 => "invalid payload data",
        1008 => "policy violation",
        1009 => "message too big: give a smaller --size",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        _ => "",
    };
    let name = if name.is_empty() {
        String::new()
    } else {
        format!(" ({name})")
    };
    match text.as_slice() {
        [] => format!("Close {code}{name}"),
        text => format!("Close {code}{name}: {}", excerpt(text)),
    }
}

fn begins_with(got: Option<&str>) -> String {
    got.map_or_else(String::new, |got| format!("; it begins with {got}"))
}

/// The first message may be none of the echo's.
fn or_greeting(message: u64) -> &'static str {
    match message {
        0 => "; if the server sends a greeting, use --skip 1",
        _ => "",
    }
}
