//! Why a server cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use host::open_files::{how_to_raise, limit};

use crate::config::engine_kind::EngineKind;
use crate::net::address::Address;

/// An error that stops a server. One that ends a single connection is counted and, at
/// debug level, logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is invalid, or contradicts another.
    #[error("{reason}")]
    Config {
        /// The flag, without its dashes.
        setting: &'static str,
        /// The fault.
        reason: String,
    },
    /// The limit on open files leaves nothing for connections.
    #[error("the limit on open files is {limit}, but this server needs at least {needed}: use fewer --threads or addresses, or {}", how_to_raise(*needed))]
    OpenFiles {
        /// The limit in effect.
        limit: u64,
        /// The least that allows a connection.
        needed: u64,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", explain(source))]
    Listen {
        /// The address as it was given.
        address: Address,
        /// The kernel's error.
        source: io::Error,
    },
    /// An inherited descriptor cannot be listened on.
    #[error("cannot listen on an inherited socket{}: {source}", descriptor.map_or(String::new(), |number| format!(", descriptor {number}")))]
    Inherited {
        /// Its number, if the error is about one.
        descriptor: Option<RawFd>,
        /// The fault.
        source: io::Error,
    },
    /// The admin listener's address cannot be listened on.
    #[error("cannot listen on {address} (--admin): {}", explain(source))]
    Admin {
        /// The address as it was given.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The pid file cannot be created or locked.
    #[error("pid file {} {reason}", file.display())]
    PidFile {
        /// The file as it was given.
        file: PathBuf,
        /// Its owner, or the kernel's error.
        reason: String,
    },
    /// The configured engine does not work on this machine.
    #[error("engine {engine} does not work here: {reason}")]
    Engine {
        /// The engine.
        engine: EngineKind,
        /// The reason.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A thread could not be started or prepared.
    #[error("cannot start {what}: {}", explain(source))]
    Start {
        /// The name of the thread or part.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// A signal has stopped the server before it served. No failure.
    #[error("stopped by a signal before it served")]
    Interrupted,
    /// A worker ended by itself, which is a bug.
    #[error("worker {worker} ended unexpectedly: {reason}")]
    Worker {
        /// The worker, counted from 0.
        worker: usize,
        /// Its error or panic.
        reason: String,
    },
    /// Another part of the server ended by itself, which is a bug.
    #[error("{what} ended unexpectedly: {reason}")]
    Ended {
        /// The part.
        what: &'static str,
        /// Its error or panic.
        reason: String,
    },
}

/// The kernel's error, and the remedy if descriptors have run out.
fn explain(source: &io::Error) -> String {
    let is_process_limit = source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error());
    match limit().filter(|_| is_process_limit) {
        Some(limit) => {
            let more = how_to_raise(limit.saturating_mul(2).max(256));
            format!("{source}; the limit on open files is {limit}: {more}")
        }
        None => source.to_string(),
    }
}
