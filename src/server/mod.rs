//! A server as a whole: bind, one worker per core, drain, join.

pub(crate) mod cores;
mod listening_sockets;
mod renewal;
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
use crate::limits::admission::ServerLimits;
use crate::limits::descriptors::DescriptorBudget;
use crate::message::{self, Handler, MessageSocket};
use crate::net::address::Address;
use crate::observe::metrics::Snapshot;
use crate::server::restart::inherited::{Inherited, Report};
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
use listening_sockets::{ListeningSockets, addresses, by_worker, clones};
use renewal::Renewal;
use restart::state::RestartState;
use signals::{Interrupt, Request, Signals};
use workers::{Worker, Workers};

/// A server that accepts connections, on threads of its own.
///
/// Dropping it stops it without a drain's patience: its workers are told to
/// stop, and nobody waits for them. Use [`stop`](Self::stop) or
/// [`run_until_signal`](Self::run_until_signal).
pub struct Server {
    addresses: Vec<Address>,
    tls_addresses: Vec<Address>,
    tls: Option<Arc<Tls>>,
    /// What a successor would be handed, while this server accepts.
    handover: Option<RestartState>,
    /// Where a predecessor waits to hear that this server serves.
    report: Option<Report>,
    /// The files of Unix-domain sockets, which go with the server.
    files: Vec<OwnedPath>,
    workers: Workers,
    trigger: Trigger,
    admin: Option<Admin>,
    /// What the workers' heartbeats count from.
    epoch: Instant,
    max_connections: NonZeroUsize,
    pid_file: Option<PidFile>,
    /// How often the certificate's files are looked at.
    tls_reload: Option<Duration>,
    shutdown_delay: Duration,
}

/// Serves every connection with `handler`, until SIGTERM or SIGINT and the
/// drain that follows.
///
/// `handler` is called on the worker that accepted the connection, and what it
/// returns runs there, beside the other connections of that core; it must not
/// block.
///
/// # Errors
/// Why the server could not start, or that a worker failed.
pub fn serve<H, F>(config: Config, handler: H) -> Result<(), Error>
where
    H: Fn(MessageSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    let mut signals = Signals::catch()?;
    let handler = message::handler(handler);
    match Server::start_interruptibly(config, None, Some(&handler), &mut signals) {
        Ok(server) => server.run_until_signal(signals),
        Err(Error::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Server {
    /// Starts a server that echoes. It accepts connections when this returns.
    ///
    /// Its workers run on the cores that the calling thread may run on.
    ///
    /// # Errors
    /// What is wrong with the configuration, an address, the engine, or a
    /// thread.
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
        let handler = message::handler(handler);
        Self::launch(config, None, Some(&handler), &Interrupt::default())
    }

    /// As [`start`](Self::start), or [`start_with`](Self::start_with) a handler,
    /// with the listening sockets that this process was started with. Such a
    /// server can be replaced: see [`run_until_signal`](Self::run_until_signal).
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`Error::Interrupted`] if a signal asks the
    /// server to stop meanwhile. A predecessor is told.
    pub fn start_inheriting(
        config: Config,
        mut inherited: Inherited,
        handler: Option<&Handler>,
        signals: &mut Signals,
    ) -> Result<Self, Error> {
        let mut started = Self::start_interruptibly(config, Some(&mut inherited), handler, signals);
        match &mut started {
            Ok(server) => server.report = inherited.report.take(),
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
        let (started, is_interrupted) =
            signals.during(|interrupt| Self::launch(config, inherited, handler, interrupt));
        match started {
            Ok(server) if is_interrupted => {
                server.stop()?;
                Err(Error::Interrupted)
            }
            started => started,
        }
    }

    /// Where the server listens without TLS, in the order of the configuration.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where the server listens for TLS, in the order of the configuration.
    pub fn tls_addresses(&self) -> &[Address] {
        &self.tls_addresses
    }

    /// Where the admin listener listens, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// What moves the bytes.
    pub fn engine(&self) -> EngineKind {
        self.workers.engine
    }

    /// The number of workers.
    pub fn threads(&self) -> usize {
        self.workers.threads.len()
    }

    /// Connections that may be open at a time: as many as the configuration says, or
    /// as the limit on open files allows.
    pub fn max_connections(&self) -> NonZeroUsize {
        self.max_connections
    }

    /// The workers' thread ids as the kernel counts them, for those who look
    /// into `/proc/self/task`.
    pub fn worker_thread_ids(&self) -> &[i32] {
        &self.workers.thread_ids
    }

    /// What all workers have counted so far.
    pub fn metrics(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.workers.threads {
            worker.counters.merge_into(&mut snapshot);
        }
        snapshot
    }

    /// Drains the server and waits for its end: no connection is accepted any
    /// more, everything that has arrived is answered, everybody gets a Close
    /// with code 1001, and after the drain timeout whoever is left is cut off.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker had failed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.depart(StopReason::Stopped);
        self.join()
    }

    /// Serves until a signal that stops it, such as SIGTERM, SIGINT or SIGQUIT, and
    /// then [`stop`](Self::stop)s. A second one ends the process at once. SIGHUP
    /// reads the certificate again, which is also looked at from time to time
    /// ([`Config::tls_reload`]). SIGUSR1 is ignored.
    ///
    /// SIGUSR2 replaces a server that was started
    /// [inheriting](Self::start_inheriting): what the command that started this
    /// process would start now is started with its arguments, environment and
    /// listening sockets, and once it serves, this server stops accepting and
    /// drains. If it does not, this server goes on. Process 1, with which a
    /// container ends, is not replaced.
    ///
    /// Where systemd supervises the process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), it
    /// is told when the server serves and when it drains, and its watchdog is
    /// fed for as long as every worker is alive.
    ///
    /// A panic or an error that ends a worker, or another thread of the server,
    /// drains what is left of it.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker failed, [`Error::Ended`] if another part did,
    /// [`Error::PidFile`] if the file cannot take the place of a predecessor's.
    pub fn run_until_signal(mut self, signals: Signals) -> Result<(), Error> {
        let wait = || {
            self.begin()?;
            signals.block_on(|signals| self.wait_for_end(signals));
            Ok(())
        };
        let waited = catch_unwind(AssertUnwindSafe(wait)).unwrap_or_else(|panic| {
            Err(Error::Ended {
                what: "what waits for signals",
                reason: panic_message(&*panic),
            })
        });
        if waited.is_err() {
            self.depart(StopReason::Stopped);
        }
        waited.and(self.join())
    }

    /// Waits for a signal, tells the workers, and waits until they have ended.
    /// systemd hears of each step.
    async fn wait_for_end(&mut self, mut signals: signals::Stream) {
        let mut systemd = Systemd::from_environment();
        let mut renewal = Renewal::new(self.tls.clone(), self.tls_reload);
        let mut successor = None;
        let mut drain_at = None;
        let departure = loop {
            calls::poll(TaskKind::Signals);
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop(signal) if drain_at.is_some() => signals::exit_at_once(signal),
                    Request::Stop(_) => drain_at = Some(self.announce_drain()),
                    Request::Replace if drain_at.is_some() => {
                        tracing::info!("no successor is started: the server is to stop");
                    }
                    Request::Replace if successor.is_none() => successor = self.start_successor(),
                    Request::Replace => tracing::info!("a successor is starting already"),
                    Request::Hangup => renewal.ask(),
                    Request::ReopenLog => tracing::info!(
                        "SIGUSR1: ignored; the log goes to stderr, so there is no file to reopen"
                    ),
                },
                outcome = replacement::outcome(&mut successor) => {
                    successor = None;
                    match outcome {
                        Ok(pid) => {
                            tracing::info!(pid, "a successor serves; draining");
                            if let Some(pid_file) = &mut self.pid_file {
                                pid_file.status().end(Ok(pid));
                            }
                            systemd.hand_over(pid);
                            break StopReason::HandedOver;
                        }
                        Err(reason) => self.go_on(&reason),
                    }
                }
                () = renewal.step() => {}
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
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        };
        if departure == StopReason::Stopped {
            if let Some(mut successor) = successor {
                // How it ended is of no interest any more.
                let _ = successor.end();
            }
            if let Some(pid_file) = &mut self.pid_file {
                pid_file.status().stop();
            }
            Systemd::stopping("draining");
        }
        let drain = Drain::start(&self.workers);
        self.depart(departure);
        loop {
            tokio::select! {
                request = signals.next() => if let Request::Stop(signal) = request {
                    signals::exit_at_once(signal);
                },
                ended = self.workers.ended.recv() => if ended.is_none() {
                    drain.log(&self.workers);
                    return;
                },
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        }
    }

    /// Tells everybody who waits for it that the server serves.
    ///
    /// # Errors
    /// [`Error::PidFile`].
    fn begin(&mut self) -> Result<(), Error> {
        // systemd hears it from the predecessor, and would not listen to us.
        let Some(report) = self.report.take() else {
            Systemd::ready(&self.status());
            return Ok(());
        };
        match self.publish_pid_file() {
            Ok(()) => report.serves(),
            Err(error) => {
                report.failed(&error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    fn publish_pid_file(&mut self) -> Result<(), Error> {
        self.pid_file.as_mut().map_or(Ok(()), PidFile::publish)
    }

    fn start_successor(&mut self) -> Option<Replacement> {
        if let Some(pid_file) = &mut self.pid_file {
            pid_file.status().begin();
        }
        let started = match &self.handover {
            None => Err("this program cannot be replaced".to_owned()),
            // A container ends with its first process, and with it a successor.
            Some(_) if process::id() == 1 => {
                Err("the first process of a container cannot be replaced".to_owned())
            }
            Some(handover) => {
                Systemd::reloading();
                let RestartState {
                    invocation, origin, ..
                } = handover;
                Replacement::start(
                    invocation,
                    *origin,
                    &handover.sockets,
                    handover.admin.as_ref(),
                )
                .map_err(|error| format!("cannot start a successor: {error}"))
            }
        };
        started.inspect_err(|reason| self.go_on(reason)).ok()
    }

    /// There is no successor, for this reason.
    fn go_on(&mut self, reason: &str) {
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

    /// Has balancers send nobody new; answers when the drain is to begin.
    fn announce_drain(&self) -> Instant {
        let delay = self.shutdown_delay;
        if !delay.is_zero() {
            tracing::info!(
                ?delay,
                "not ready any more; draining after the shutdown delay; a second signal exits at once"
            );
            self.trigger.announce();
            Systemd::stopping("waiting for the shutdown delay");
        }
        Instant::now() + delay
    }

    /// Lets the workers drain. The listening sockets are theirs alone from here
    /// on, or a successor's.
    fn depart(&mut self, departure: StopReason) {
        self.handover = None;
        if departure == StopReason::HandedOver {
            self.pid_file = None;
            self.files.drain(..).for_each(OwnedPath::leave);
            if let Some(Err(error)) = self.admin.take().map(Admin::stop) {
                tracing::error!(%error, "draining all the same");
            }
        }
        self.trigger.initiate(departure);
    }

    /// Whether every worker gets around to its work that has not ended in good
    /// order.
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

    /// Feeds the watchdog only while all is well with the workers.
    fn feed(&self, systemd: &mut Systemd) {
        match self.workers_are_alive() {
            Ok(()) => systemd.feed(),
            Err(trouble) => {
                tracing::error!(%trouble, "the watchdog is not fed");
                systemd.starve(&trouble.to_string());
            }
        }
    }

    /// What the server does, in a line.
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
        let may_hand_over = inherited.is_some();
        let mut nothing = Inherited::default();
        let inherited = inherited.unwrap_or(&mut nothing);
        let predecessor = inherited.report.as_ref().map(|it| it.predecessor);
        let (config, cores, budget) = adapt(config, inherited.sockets.len())?;
        let threads = cores.len();
        let claim = |path: &PathBuf| PidFile::claim(path, predecessor);
        let pid_file = config.pid_file.as_ref().map(claim).transpose()?;
        let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let admin = bind_admin(&config, inherited)?;
        let doors = ListeningSockets::open(&config, inherited, cores.clone())?;
        let files = doors.own_files();
        let adopted_files = doors.adopted_files(inherited.origin);
        let handover = may_hand_over
            .then(|| RestartState::new(inherited, &doors, admin.as_ref()))
            .transpose()?;
        let (trigger, shutdown) = shutdown::channel();
        let server_limits = ServerLimits::new(&config, budget.rejects);
        let config = Arc::new(config);
        let epoch = Instant::now();
        let (addresses, tls_addresses) = (addresses(&doors.plain), addresses(&doors.tls));
        let listeners = by_worker(doors.plain, threads);
        let tls_listeners = by_worker(doors.tls, threads);
        let workers = config.engine.start(|engine| {
            let assignment = |index: usize| {
                Ok(Assignment {
                    config: Arc::clone(&config),
                    engine,
                    index,
                    workers: threads,
                    core: cores[index],
                    // Another engine may need them.
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
            handover,
            files,
            pid_file,
            tls_reload: config.tls_reload,
            shutdown_delay: config.shutdown_delay,
            report: None,
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

/// A drain, from its start.
struct Drain {
    start: Instant,
    /// Connections that were over by then.
    closed_before: u64,
}

impl Drain {
    fn start(workers: &Workers) -> Self {
        Self {
            start: Instant::now(),
            closed_before: closed(workers),
        }
    }

    /// Logs what came of it, once the workers have ended.
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

/// Connections that were accepted and are over.
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

/// Waits until the admin thread ends by itself; for ever where there is none.
async fn ended(admin: &mut Option<Admin>) {
    match admin {
        Some(admin) => admin.ended().await,
        None => pending().await,
    }
}

/// A configuration as this machine allows it, the core of each worker, and how
/// descriptors are shared out.
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
