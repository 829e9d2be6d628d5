//! The server: bind, start one worker per core, drain, join.

pub(crate) mod builder;
mod certificate_reload;
pub(crate) mod cores;
mod listening_sockets;
pub(crate) mod restart;
pub(crate) mod signals;
mod workers;

use std::fmt;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::health::{self, Trouble};
use crate::admin::{Admin, Bound, Overview, Watched};
use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::handler::{Handler, MessageSocket};
use crate::limits::admission::ServerLimits;
use crate::limits::descriptors::DescriptorBudget;
use crate::net::address::Address;
use crate::observe::metrics::Snapshot;
use crate::server::restart::inherited::{Inherited, ReadinessPipe};
use crate::server::restart::pid_file::PidFile;
use crate::server::restart::replacement::{self, Replacement};
use crate::server::restart::systemd::Systemd;
use crate::sys::calls;
use crate::sys::owned_path::OwnedPath;
use crate::sys::shutdown::{self, StopReason, Trigger};
use crate::sys::task::panic_message;
use crate::sys::task_kind::TaskKind;
use crate::transport::listener::{all_for_this_kernel, ipv4_ports};
use crate::transport::tls::Tls;
use crate::worker::Assignment;
use builder::Builder;
use certificate_reload::CertificateReload;
use listening_sockets::{ListeningSockets, addresses, by_worker, clones};
use restart::state::RestartState;
use signals::{Interrupt, Request, Signals};
use workers::{Worker, Workers};

/// A server that accepts connections, on threads of its own.
///
/// Dropping it makes the workers drain, but does not wait for them. Use
/// [`stop`](Self::stop) or [`run_until_signal`](Self::run_until_signal).
pub struct Server {
    addresses: Vec<Address>,
    tls_addresses: Vec<Address>,
    tls: Option<Arc<Tls>>,
    /// `None` once the server drains.
    restart_state: Option<RestartState>,
    /// The pipe to the predecessor that started this process.
    readiness: Option<ReadinessPipe>,
    /// The files of Unix-domain sockets, removed with the server.
    files: Vec<OwnedPath>,
    workers: Workers,
    trigger: Trigger,
    admin: Option<Admin>,
    /// The start of the workers' heartbeat clocks.
    epoch: Instant,
    max_connections: NonZeroUsize,
    pid_file: Option<PidFile>,
    /// How often the certificate's files are checked for changes.
    tls_reload: Option<Duration>,
    shutdown_delay: Duration,
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
        self.max_connections
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

    /// Serves until a signal that stops it, such as SIGTERM, SIGINT or SIGQUIT, and
    /// then [`stop`](Self::stop)s. A second one ends the process at once. SIGHUP
    /// reads the certificate again, which is also looked at from time to time
    /// ([`Config::tls_reload`]). SIGUSR1 is ignored.
    ///
    /// SIGUSR2 replaces a server that was started
    /// [inheriting](Self::start_inheriting): the command that started this process is
    /// started again with its arguments, environment and listening sockets, and once that
    /// process serves, this server stops accepting and drains. If it does not serve, this
    /// server goes on. Process 1, with which a container ends, is not replaced.
    ///
    /// If systemd supervises the process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), it is
    /// notified when the server serves and when it drains, and its watchdog for as long
    /// as every worker is alive.
    ///
    /// A panic or an error that ends a worker, or another thread of the server,
    /// drains what is left of it.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker failed, [`Error::Ended`] if another part did,
    /// [`Error::PidFile`] if the file cannot replace the predecessor's.
    pub fn run_until_signal(mut self, signals: Signals) -> Result<(), Error> {
        let wait = || {
            self.report_ready()?;
            signals.block_on(|signals| self.wait_for_end(signals));
            Ok(())
        };
        let waited = catch_unwind(AssertUnwindSafe(wait)).unwrap_or_else(|panic| {
            Err(Error::Ended {
                what: "the signal handler",
                reason: panic_message(&*panic),
            })
        });
        if waited.is_err() {
            self.begin_drain(StopReason::Stopped);
        }
        waited.and(self.join())
    }

    /// Waits for a signal, starts the drain, and waits until the workers have ended.
    /// systemd is notified of each step.
    async fn wait_for_end(&mut self, mut signals: signals::Stream) {
        let mut systemd = Systemd::from_environment();
        let mut certificate = CertificateReload::new(self.tls.clone(), self.tls_reload);
        let mut replacement = None;
        let mut drain_at = None;
        let reason = loop {
            calls::poll(TaskKind::Signals);
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop(signal) if drain_at.is_some() => signals::exit_at_once(signal),
                    Request::Stop(_) => drain_at = Some(self.announce_drain()),
                    Request::Replace if drain_at.is_some() => {
                        tracing::info!("SIGUSR2: ignored; the server is stopping");
                    }
                    Request::Replace if replacement.is_none() => replacement = self.start_replacement(),
                    Request::Replace => tracing::info!("SIGUSR2: ignored; a replacement is starting already"),
                    Request::Hangup => certificate.request(),
                    Request::ReopenLog => tracing::info!(
                        "SIGUSR1: ignored; the log goes to stderr, so there is no file to reopen"
                    ),
                },
                started = replacement::started(&mut replacement) => {
                    replacement = None;
                    match started {
                        Ok(pid) => {
                            tracing::info!(pid, "the replacement serves; draining");
                            if let Some(pid_file) = &mut self.pid_file {
                                pid_file.status().end(Ok(pid));
                            }
                            systemd.set_main_pid(pid);
                            break StopReason::HandedOver;
                        }
                        Err(reason) => self.abort_reload(&reason),
                    }
                }
                () = certificate.step() => {}
                () = tokio::time::sleep_until(drain_at.unwrap_or_else(Instant::now).into()), if drain_at.is_some() => {
                    tracing::info!("draining; a second signal exits at once");
                    break StopReason::Stopped;
                }
                worker = self.workers.ended.recv() => {
                    tracing::error!(worker, "a worker ended; draining the others");
                    break StopReason::Stopped;
                }
                () = ended(&mut self.admin) => {
                    tracing::error!("the admin thread ended; draining");
                    break StopReason::Stopped;
                }
                () = systemd.watchdog_due() => self.notify_watchdog(&mut systemd),
            }
        };
        if reason == StopReason::Stopped {
            if let Some(mut replacement) = replacement {
                // Its exit status does not matter any more.
                let _ = replacement.kill();
            }
            if let Some(pid_file) = &mut self.pid_file {
                pid_file.status().stop();
            }
            Systemd::stopping("draining");
        }
        let drain = Drain::start(&self.workers);
        self.begin_drain(reason);
        loop {
            tokio::select! {
                request = signals.next() => if let Request::Stop(signal) = request {
                    signals::exit_at_once(signal);
                },
                ended = self.workers.ended.recv() => if ended.is_none() {
                    drain.log(&self.workers);
                    return;
                },
                () = systemd.watchdog_due() => self.notify_watchdog(&mut systemd),
            }
        }
    }

    /// Notifies the predecessor, or else systemd, that the server serves.
    ///
    /// # Errors
    /// [`Error::PidFile`].
    fn report_ready(&mut self) -> Result<(), Error> {
        // systemd takes the notification from its main process only: the predecessor.
        let Some(readiness) = self.readiness.take() else {
            Systemd::ready(&self.status());
            return Ok(());
        };
        match self.publish_pid_file() {
            Ok(()) => readiness.serves(),
            Err(error) => {
                readiness.failed(&error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    fn publish_pid_file(&mut self) -> Result<(), Error> {
        self.pid_file.as_mut().map_or(Ok(()), PidFile::publish)
    }

    fn start_replacement(&mut self) -> Option<Replacement> {
        if let Some(pid_file) = &mut self.pid_file {
            pid_file.status().begin();
        }
        let started = match &self.restart_state {
            None => Err("this program cannot be replaced".to_owned()),
            // A container ends with its first process, and the replacement with it.
            Some(_) if process::id() == 1 => {
                Err("the first process of a container cannot be replaced".to_owned())
            }
            Some(state) => {
                Systemd::reloading();
                Replacement::start(
                    &state.invocation,
                    state.origin,
                    &state.sockets,
                    state.admin.as_ref(),
                )
                .map_err(|error| format!("cannot start a replacement: {error}"))
            }
        };
        started.inspect_err(|reason| self.abort_reload(reason)).ok()
    }

    /// Reports a failed reload, and restores the pid file.
    fn abort_reload(&mut self, reason: &str) {
        tracing::error!("the reload failed, this server goes on: {reason}");
        if let Some(pid_file) = &mut self.pid_file {
            if let Err(error) = pid_file.restore() {
                tracing::error!("{error}");
            }
            pid_file.status().end(Err(reason));
        }
        Systemd::ready(&format!(
            "{}; the last reload failed: {reason}",
            self.status()
        ));
    }

    /// Makes the server not ready, for load balancers; returns when the drain is to begin.
    fn announce_drain(&self) -> Instant {
        let delay = self.shutdown_delay;
        if !delay.is_zero() {
            tracing::info!(
                ?delay,
                "not ready; draining after the shutdown delay; a second signal exits at once"
            );
            self.trigger.announce();
            Systemd::stopping("waiting for the shutdown delay");
        }
        Instant::now() + delay
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

    /// Checks the heartbeat of every worker, except of those that ended without an error.
    fn workers_are_alive(&self) -> Result<(), Trouble> {
        let mut workers = self.workers.threads.iter().enumerate();
        workers.try_for_each(|(index, worker)| {
            let has_failed = worker.counters.failed.get() > 0;
            if worker.thread.is_finished() && !has_failed {
                return Ok(());
            }
            health::is_alive(index, &worker.counters, self.epoch)
        })
    }

    /// Notifies the watchdog if every worker is alive.
    fn notify_watchdog(&self, systemd: &mut Systemd) {
        match self.workers_are_alive() {
            Ok(()) => systemd.notify_watchdog(),
            Err(trouble) => {
                tracing::error!(%trouble, "the watchdog is not notified");
                systemd.skip_watchdog(&trouble.to_string());
            }
        }
    }

    /// The status line for systemd.
    fn status(&self) -> String {
        let plain = self.addresses.iter().map(ToString::to_string);
        let tls = self.tls_addresses.iter();
        let addresses: Vec<_> = plain
            .chain(tls.map(|address| format!("{address} (TLS)")))
            .collect();
        format!(
            "serving {} with engine {} on {} threads",
            addresses.join(", "),
            self.workers.engine,
            self.workers.threads.len()
        )
    }

    fn launch(
        config: Config,
        inherited: Option<&mut Inherited>,
        handler: Option<&Handler>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        config.validate()?;
        let is_replaceable = inherited.is_some();
        let mut empty = Inherited::default();
        let inherited = inherited.unwrap_or(&mut empty);
        let predecessor = inherited.readiness.as_ref().map(|it| it.predecessor);
        let (config, cores, budget) = adapt(config, inherited.sockets.len())?;
        let threads = cores.len();
        let claim = |path: &PathBuf| PidFile::claim(path, predecessor);
        let pid_file = config.pid_file.as_ref().map(claim).transpose()?;
        let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let admin = bind_admin(&config, inherited)?;
        let listening = ListeningSockets::open(&config, inherited, cores.clone())?;
        let files = listening.own_files();
        let adopted_files = listening.adopted_files(inherited.origin);
        let restart_state = is_replaceable
            .then(|| RestartState::new(inherited, &listening, admin.as_ref()))
            .transpose()?;
        let (trigger, shutdown) = shutdown::channel();
        let server_limits = ServerLimits::new(&config, budget.rejects);
        let config = Arc::new(config);
        let epoch = Instant::now();
        let (addresses, tls_addresses) = (addresses(&listening.plain), addresses(&listening.tls));
        let listeners = by_worker(listening.plain, threads);
        let tls_listeners = by_worker(listening.tls, threads);
        let workers = config.engine.start(|engine| {
            let assignment = |index: usize| {
                Ok(Assignment {
                    config: Arc::clone(&config),
                    engine,
                    index,
                    workers: threads,
                    core: cores[index],
                    // The next engine that is tried needs them, too.
                    listeners: clones(&listeners[index])?,
                    tls_listeners: clones(&tls_listeners[index])?,
                    tls: tls.clone(),
                    server_limits: Arc::clone(&server_limits),
                    counters: Arc::default(),
                    epoch,
                    shutdown: shutdown.clone(),
                    handler: handler.cloned(),
                })
            };
            Workers::start(engine, threads, assignment, interrupt)
        })?;
        let mut server = Self {
            addresses,
            tls_addresses,
            tls,
            restart_state,
            files,
            pid_file,
            tls_reload: config.tls_reload,
            shutdown_delay: config.shutdown_delay,
            readiness: None,
            workers,
            trigger,
            admin: None,
            epoch,
            max_connections: config.max_connections,
        };
        if let Some(bound) = admin {
            let workers = server
                .workers
                .threads
                .iter()
                .zip(&server.workers.thread_ids);
            let overview = Overview {
                engine: server.workers.engine,
                workers: workers
                    .map(|(worker, &id)| Watched::new(Arc::clone(&worker.counters), id))
                    .collect(),
                server_limits,
                tls: server.tls.clone(),
                epoch,
                shutdown,
            };
            server.admin = Some(bound.start(overview, budget.admin_connections)?);
        }
        let adopted = adopted_files.iter();
        let adopted = adopted.filter_map(|path| OwnedPath::of(path).ok());
        server.files.extend(adopted);
        if predecessor.is_none() {
            server.publish_pid_file()?;
        }
        budget.log_shortfall();
        Ok(server)
    }

    fn join(self) -> Result<(), Error> {
        let result = self.workers.join();
        let stopped = self.admin.map_or(Ok(()), Admin::stop);
        result.and(stopped)
    }
}

/// Start and totals of a drain, for its log line.
struct Drain {
    start: Instant,
    /// Connections closed before it.
    closed_before: u64,
}

impl Drain {
    fn start(workers: &Workers) -> Self {
        Self {
            start: Instant::now(),
            closed_before: closed(workers),
        }
    }

    /// Logs the result, once the workers have ended.
    fn log(&self, workers: &Workers) {
        let cut_off = workers
            .threads
            .iter()
            .map(|worker| worker.counters.cut_off.get());
        let cut_off: u64 = cut_off.sum();
        let closed = closed(workers).saturating_sub(self.closed_before);
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            connections_closed = closed.saturating_sub(cut_off),
            connections_cut_off = cut_off,
            duration_ms,
            "drained"
        );
    }
}

/// The number of connections that were accepted and have been closed.
fn closed(workers: &Workers) -> u64 {
    let closed = workers.threads.iter().map(|Worker { counters, .. }| {
        let accepted = counters.accepted.get();
        accepted.saturating_sub(counters.open.get())
    });
    closed.sum()
}

fn bind_admin(config: &Config, inherited: &mut Inherited) -> Result<Option<Bound>, Error> {
    let bind = |address: SocketAddr| {
        let given = inherited.take_admin(&address.into());
        Bound::new(address, &ipv4_ports(config), given)
    };
    config.admin.map(bind).transpose()
}

/// Waits until the admin thread ends by itself; for ever if there is none.
async fn ended(admin: &mut Option<Admin>) {
    match admin {
        Some(admin) => admin.ended().await,
        None => pending().await,
    }
}

/// The configuration within this machine's limits, the core of each worker, and the
/// descriptor budget.
fn adapt(
    config: Config,
    inherited_sockets: usize,
) -> Result<(Config, Vec<Option<usize>>, DescriptorBudget), Error> {
    let mut config = all_for_this_kernel(config);
    let cores = cores::assign(&config).map_err(|source| Error::Start {
        what: "counting the cores",
        source,
    })?;
    let budget = DescriptorBudget::of_this_process(&config, cores.len(), inherited_sockets)?;
    config.max_connections = budget.connections;
    Ok((config, cores, budget))
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
