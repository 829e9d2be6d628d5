//! The server: bind, start one worker per core, drain, join.

pub(crate) mod builder;
mod certificate_reload;
pub(crate) mod cores;
mod launch;
mod listening_sockets;
pub(crate) mod restart;
mod run;
pub(crate) mod signals;
mod workers;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::admin::Admin;
use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::handler::{Handler, MessageSocket};
use crate::net::address::Address;
use crate::observe::metrics::Snapshot;
use crate::sys::owned_path::OwnedPath;
use crate::sys::shutdown::{StopReason, Trigger};
use crate::worker::Shared;
use builder::Builder;
use restart::inherited::{Inherited, ReadinessPipe};
use restart::pid_file::PidFile;
use restart::state::RestartState;
use signals::{Interrupt, Signals};
use workers::Workers;

/// A server that accepts connections, on threads of its own.
///
/// Dropping it makes the workers drain, but does not wait for them. Use
/// [`stop`](Self::stop) or [`run_until_signal`](Self::run_until_signal).
pub struct Server {
    addresses: Vec<Address>,
    tls_addresses: Vec<Address>,
    /// `None` once the server drains.
    restart_state: Option<RestartState>,
    /// The pipe to the predecessor that started this process.
    readiness: Option<ReadinessPipe>,
    /// The files of Unix-domain sockets, removed with the server.
    files: Vec<OwnedPath>,
    workers: Workers,
    trigger: Trigger,
    admin: Option<Admin>,
    pid_file: Option<PidFile>,
    shared: Arc<Shared>,
}

/// Serves every connection with `handler`, until SIGTERM or SIGINT and the
/// drain that follows.
///
/// `handler` is called on the worker that accepted the connection, and its future
/// runs there with the other connections of that core; it must not block.
///
/// # Errors
/// The server could not start, or a worker failed.
pub fn serve<H, F>(config: Config, handler: H) -> Result<(), Error>
where
    H: Fn(MessageSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    let handler = Handler::new(handler);
    Server::builder(config).handler(handler).run()
}

impl Server {
    /// Starts a server that echoes. It accepts connections once this returns.
    ///
    /// Its workers run on the cores that the calling thread may run on.
    ///
    /// # Errors
    /// The configuration, an address, the engine or a thread failed.
    pub fn start(config: Config) -> Result<Self, Error> {
        Self::launch(config, None, None, &Interrupt::default())
    }

    /// As [`start`](Self::start), but `handler` serves the connections; see
    /// [`serve`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<H, F>(config: Config, handler: H) -> Result<Self, Error>
    where
        H: Fn(MessageSocket) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        Self::builder(config).handler(Handler::new(handler)).start()
    }

    /// A server that is yet to be started, and may get a [`Handler`].
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// As [`start`](Self::start), or [`start_with`](Self::start_with) a handler,
    /// with the listening sockets that this process was started with. Such a
    /// server can be replaced: see [`run_until_signal`](Self::run_until_signal).
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`Error::Interrupted`] if a signal to stop comes
    /// meanwhile. The error is reported to the predecessor.
    pub fn start_inheriting(
        config: Config,
        mut inherited: Inherited,
        handler: Option<&Handler>,
        signals: &mut Signals,
    ) -> Result<Self, Error> {
        let mut started = Self::start_interruptibly(config, Some(&mut inherited), handler, signals);
        match &mut started {
            Ok(server) => server.readiness = inherited.readiness.take(),
            Err(error) => inherited.report_failure(&error.to_string()),
        }
        started
    }

    fn start_interruptibly(
        config: Config,
        inherited: Option<&mut Inherited>,
        handler: Option<&Handler>,
        signals: &mut Signals,
    ) -> Result<Self, Error> {
        let (started, is_interrupted) = signals
            .run_interruptibly(|interrupt| Self::launch(config, inherited, handler, interrupt));
        match started {
            Ok(server) if is_interrupted => {
                server.stop()?;
                Err(Error::Interrupted)
            }
            started => started,
        }
    }

    /// The addresses without TLS, in the order of the configuration.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The addresses with TLS, in the order of the configuration.
    pub fn tls_addresses(&self) -> &[Address] {
        &self.tls_addresses
    }

    /// The address of the admin listener, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The I/O engine.
    pub fn engine(&self) -> EngineKind {
        self.workers.engine
    }

    /// The number of workers.
    pub fn threads(&self) -> usize {
        self.workers.threads.len()
    }

    /// Most connections at a time, by the configuration and the limit on open files.
    pub fn max_connections(&self) -> NonZeroUsize {
        self.shared.config.max_connections
    }

    /// The workers' thread ids, as in `/proc/self/task`.
    pub fn worker_thread_ids(&self) -> &[i32] {
        &self.workers.thread_ids
    }

    /// The metrics of all workers.
    pub fn metrics(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.workers.threads {
            worker.counters.merge_into(&mut snapshot);
        }
        snapshot
    }

    /// Drains the server and waits for its end: no connection is accepted any
    /// more, everything that has arrived is echoed, every client gets Close 1001, and
    /// connections left after the drain timeout are cut off.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker has failed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.begin_drain(StopReason::Stopped);
        self.join()
    }

    fn publish_pid_file(&mut self) -> Result<(), Error> {
        self.pid_file.as_mut().map_or(Ok(()), PidFile::publish)
    }

    /// Makes the workers drain. From here on only they and a replacement have the
    /// listening sockets.
    fn begin_drain(&mut self, reason: StopReason) {
        self.restart_state = None;
        if reason == StopReason::HandedOver {
            self.pid_file = None;
            self.files.drain(..).for_each(OwnedPath::leave);
            if let Some(Err(error)) = self.admin.take().map(Admin::stop) {
                tracing::error!(%error, "the admin thread failed; draining anyway");
            }
        }
        self.trigger.initiate(reason);
    }

    fn join(self) -> Result<(), Error> {
        let result = self.workers.join();
        let stopped = self.admin.map_or(Ok(()), Admin::stop);
        result.and(stopped)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("engine", &self.workers.engine)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
