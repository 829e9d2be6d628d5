//! Why a server cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use host::open_files::{how_to_raise, limit};

use crate::config::engine_kind::EngineKind;
use crate::net::address::Address;

/// What stops a server. What stops a single connection is no error of the
/// server: it is counted and, at debug level, logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself or asks for the impossible.
    #[error("{reason}")]
    Config {
        /// The flag that sets it, without its dashes.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The limit on open files leaves nothing for connections.
    #[error("the limit on open files is {limit}, but this server needs at least {needed}: use fewer --threads or addresses, or {}", how_to_raise(*needed))]
    OpenFiles {
        /// The limit in effect.
        limit: u64,
        /// The least with which a connection can be served.
        needed: u64,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", explain(source))]
    Listen {
        /// The address as it was given.
        address: Address,
        /// What the kernel says.
        source: io::Error,
    },
    /// A descriptor that this process was started with cannot be listened on.
    #[error("cannot listen on an inherited socket{}: {source}", descriptor.map_or(String::new(), |number| format!(", descriptor {number}")))]
    Inherited {
        /// Its number, if it is about one.
        descriptor: Option<RawFd>,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The admin listener's address cannot be listened on.
    #[error("cannot listen on {address} (--admin): {}", explain(source))]
    Admin {
        /// The address as it was given.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// The pid file cannot be had.
    #[error("pid file {} {reason}", file.display())]
    PidFile {
        /// The file as it was given.
        file: PathBuf,
        /// Whose it is, or why it cannot be written.
        reason: String,
    },
    /// The engine that was asked for does not work here.
    #[error("engine {engine} does not work here: {reason}")]
    Engine {
        /// The engine.
        engine: EngineKind,
        /// What stands in its way.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A thread could not be started or prepared.
    #[error("cannot start {what}: {}", explain(source))]
    Start {
        /// What was to be started.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// A signal has asked the server to stop before it served, which is no fault
    /// of anybody.
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

/// What the kernel says, and what to do where descriptors have run out.
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
