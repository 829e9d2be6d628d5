//! Errors of watching, starting and stopping processes: one line each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::procfs::is_gone;
use crate::terminal::sanitized;
use crate::units::format_duration;

/// An error of a process that is watched or started.
#[derive(Debug, Error)]
pub enum WatchError {
    /// There is no process of this id, or only a zombie.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The id.
        pid: u32,
    },
    /// A thread of this process has ended, or never existed.
    #[error("this process has no thread {tid}")]
    NoThread {
        /// The thread's id.
        tid: i32,
    },
    /// The kernel was built without what the numbers are read from.
    #[error("this kernel has no {file}, which needs {option}")]
    Kernel {
        /// The missing file, with PID and TID for the ids.
        file: &'static str,
        /// The option to build a kernel with it.
        option: &'static str,
    },
    /// A file of `/proc` could not be read.
    #[error("cannot watch process {pid}: {source}")]
    Unreadable {
        /// The process.
        pid: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The server's command line has a quote too few.
    #[error("{source} in the server's command line: {command}")]
    Quoting {
        /// The command line.
        command: String,
        /// The error.
        source: shell_words::ParseError,
    },
    /// The server's command line is empty.
    #[error("the server's command line is empty")]
    EmptyCommand,
    /// The server cannot have its cores.
    #[error("cannot pin {program} to cores {}: {source}", list_text(cores, ","))]
    Pin {
        /// The server.
        program: String,
        /// The cores it was to have.
        cores: Vec<usize>,
        /// The kernel's error.
        source: io::Error,
    },
    /// The server's program does not run.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The server.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// Another server already listens at the address.
    #[error("something else already listens on {address}")]
    Occupied {
        /// The address.
        address: SocketAddr,
    },
    /// The server ended instead of serving.
    #[error("{program} ended before it completed a handshake ({ending})")]
    Ended {
        /// The server.
        program: String,
        /// Its exit.
        ending: UnexpectedExit,
    },
    /// The server runs, but does not serve at its address.
    #[error(
        "{program} completed no handshake within {}: {reason}", format_duration(*timeout)
    )]
    NotReady {
        /// The server.
        program: String,
        /// The timeout.
        timeout: Duration,
        /// The error of the last attempt.
        reason: String,
    },
    /// The server could not be stopped, or its exit status is not available.
    #[error("cannot stop {program}: {source}")]
    Stop {
        /// The server.
        program: String,
        /// The error.
        source: io::Error,
    },
}

impl WatchError {
    /// The error for a file of a process that could not be read: `gone` if it does not exist.
    pub(super) fn unreadable(pid: u32, gone: Self, source: io::Error) -> Self {
        if is_gone(&source) {
            gone
        } else {
            Self::Unreadable { pid, source }
        }
    }
}

/// The exit of a server that was not requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnexpectedExit {
    /// The exit status of the process that was started.
    pub status: ExitStatus,
    /// Its last line of output: often the reason.
    pub last_line: Option<String>,
}

impl fmt::Display for UnexpectedExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last_line {
            None => write!(f, "{}", self.status),
            Some(line) => write!(f, "{}; it printed last: {}", self.status, sanitized(line)),
        }
    }
}

fn list_text(items: &[impl ToString], separator: &str) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_the_way_they_are_given() {
        let error = WatchError::Pin {
            program: "server".to_owned(),
            cores: vec![2, 3],
            source: io::Error::other("no"),
        };
        assert_eq!(error.to_string(), "cannot pin server to cores 2,3: no");
    }
}
