//! A server as a whole: bind, one worker per core, drain, join.

mod crew;
mod doors;
mod handover;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use crate::address::Address;
use crate::admin::{Admin, Bound, Overview, Watched, health};
use crate::admission::House;
use crate::config::Config;
use crate::cores;
use crate::descriptors::DescriptorBudget;
use crate::engine::EngineKind;
use crate::error::Error;
use crate::listener::SocketFile;
use crate::listener::inherited::Inherited;
use crate::message::{self, Handler, MessageSocket};
use crate::metrics::Snapshot;
use crate::pid_file::PidFile;
use crate::shutdown::{self, Departure, Request, Signals, Trigger};
use crate::successor::{self, Successor};
use crate::systemd::Systemd;
use crate::tls::Tls;
use crate::worker::Assignment;
use crew::Crew;
use doors::{Doors, addresses, by_worker};
use handover::Handover;

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
    handover: Option<Handover>,
    /// The files of Unix-domain sockets, which go with the server.
    files: Vec<SocketFile>,
    crew: Crew,
    trigger: Trigger,
    admin: Option<Admin>,
    /// What the workers' heartbeats count from.
    epoch: Instant,
    /// Where the process id goes while the server serves.
    pid_file: Option<PathBuf>,
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
    let signals = Signals::catch()?;
    Server::start_with(config, handler)?.run_until_signal(signals)
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
        Self::launch(config, None, None)
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
        Self::launch(config, None, Some(&message::handler(handler)))
    }

    /// As [`start`](Self::start), or [`start_with`](Self::start_with) a handler,
    /// with the listening sockets that this process was started with. Such a
    /// server can be replaced: see [`run_until_signal`](Self::run_until_signal).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_inheriting(
        config: Config,
        inherited: Inherited,
        handler: Option<&Handler>,
    ) -> Result<Self, Error> {
        Self::launch(config, Some(inherited), handler)
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
        self.crew.engine
    }

    /// The number of workers.
    pub fn threads(&self) -> usize {
        self.crew.workers.len()
    }

    /// The workers' thread ids as the kernel counts them, for those who look
    /// into `/proc/self/task`.
    pub fn worker_thread_ids(&self) -> &[i32] {
        &self.crew.thread_ids
    }

    /// What all workers have counted so far.
    pub fn metrics(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.crew.workers {
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
        self.depart(Departure::Stopped);
        self.join()
    }

    /// Serves until SIGTERM or SIGINT, then [`stop`](Self::stop)s. A second
    /// signal ends the process at once. SIGHUP reads the certificate again.
    ///
    /// SIGUSR2 replaces a server that was started
    /// [inheriting](Self::start_inheriting): the same program is started again
    /// with this process' arguments, environment and listening sockets, and once
    /// it serves, this server stops accepting and drains. If it does not, this
    /// server goes on. Process 1, with which a container ends, is not replaced.
    ///
    /// Where systemd supervises the process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), it
    /// is told when the server serves and when it drains, and its watchdog is
    /// fed for as long as every worker is alive.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker failed.
    pub fn run_until_signal(mut self, signals: Signals) -> Result<(), Error> {
        signals.block_on(|signals| self.wait_for_end(signals));
        self.join()
    }

    /// Waits for a signal, tells the workers, and waits until they have ended.
    /// systemd hears of each step.
    async fn wait_for_end(&mut self, mut signals: shutdown::Stream) {
        let mut systemd = Systemd::from_environment();
        let _pid_file = self.begin();
        let mut successor = None;
        let departure = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop(_) => {
                        tracing::info!("draining; a second signal exits at once");
                        break Departure::Stopped;
                    }
                    Request::Replace if successor.is_none() => successor = self.start_successor(),
                    Request::Replace => tracing::info!("a successor is starting already"),
                    Request::Hangup => self.renew_certificate(),
                },
                outcome = successor::outcome(&mut successor) => {
                    successor = None;
                    match outcome {
                        Ok(pid) => {
                            tracing::info!(pid, "a successor serves; draining");
                            systemd.hand_over(pid);
                            break Departure::HandedOver;
                        }
                        Err(reason) => {
                            tracing::error!("no successor, this server goes on: {reason}");
                            Systemd::ready(&self.status());
                        }
                    }
                }
                _ = self.crew.ended.recv() => {
                    tracing::error!("a worker ended; draining the others");
                    break Departure::Stopped;
                }
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        };
        if departure == Departure::Stopped {
            if let Some(mut successor) = successor {
                // How it ended is of no interest any more.
                let _ = successor.end();
            }
            Systemd::stopping("draining");
        }
        self.depart(departure);
        loop {
            tokio::select! {
                request = signals.next() => if let Request::Stop(signal) = request {
                    shutdown::exit_at_once(signal);
                },
                ended = self.crew.ended.recv() => if ended.is_none() {
                    return;
                },
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        }
    }

    /// Tells everybody who waits for it that the server serves.
    fn begin(&mut self) -> Option<PidFile> {
        let pid_file = self.pid_file.as_deref().and_then(|path| {
            PidFile::write(path)
                .inspect_err(|error| {
                    tracing::warn!(%error, file = %path.display(), "cannot write the pid file");
                })
                .ok()
        });
        match self.handover.as_mut().and_then(|it| it.report.take()) {
            // systemd hears it from the predecessor, and would not listen to us.
            Some(report) => {
                if let Err(error) = rustix::io::write(report, successor::SERVES) {
                    tracing::warn!(%error, "cannot tell the predecessor that this server serves");
                }
            }
            None => Systemd::ready(&self.status()),
        }
        pid_file
    }

    /// Reads the certificate and its key again.
    fn renew_certificate(&self) {
        let Some(tls) = &self.tls else {
            tracing::info!("SIGHUP: without TLS there is nothing to read again");
            return;
        };
        match tls.reload() {
            Ok(()) => tracing::info!("SIGHUP: new connections get the certificate as it is now"),
            Err(error) => tracing::error!(%error, "SIGHUP: the old certificate stays in use"),
        }
    }

    fn start_successor(&self) -> Option<Successor> {
        let Some(handover) = &self.handover else {
            tracing::warn!("SIGUSR2: this program cannot be replaced");
            return None;
        };
        if process::id() == 1 {
            // A container ends with its first process, and with it a successor.
            tracing::warn!("SIGUSR2: the first process of a container cannot be replaced");
            return None;
        }
        let Handover {
            program, origin, ..
        } = handover;
        tracing::info!(program = %program.display(), "starting a successor");
        Systemd::reloading();
        Successor::start(program, *origin, &handover.sockets, handover.admin.as_ref())
            .inspect_err(|error| {
                tracing::error!(%error, "cannot start a successor, this server goes on");
                Systemd::ready(&self.status());
            })
            .ok()
    }

    /// Lets the workers drain. The listening sockets are theirs alone from here
    /// on, or a successor's.
    fn depart(&mut self, departure: Departure) {
        self.handover = None;
        if departure == Departure::HandedOver {
            self.files.drain(..).for_each(SocketFile::leave);
            if let Some(admin) = self.admin.take() {
                admin.stop();
            }
        }
        self.trigger.pull(departure);
    }

    /// Feeds the watchdog only while every worker that has not ended gets
    /// around to its work.
    fn feed(&self, systemd: &mut Systemd) {
        let mut workers = self.crew.workers.iter().enumerate();
        let alive = workers.try_for_each(|(index, worker)| {
            if worker.thread.is_finished() {
                return Ok(());
            }
            health::is_alive(index, &worker.counters, self.epoch)
        });
        match alive {
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
            self.crew.engine,
            self.crew.workers.len()
        )
    }

    fn launch(
        config: Config,
        inherited: Option<Inherited>,
        handler: Option<&Handler>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let cores = cores::assign(&config).map_err(|source| Error::Start {
            what: "counting the cores",
            source,
        })?;
        let threads = cores.len();
        let may_hand_over = inherited.is_some();
        let mut inherited = inherited.unwrap_or_default();
        let inherited_count = inherited.sockets.len();
        let (budget, shortfall) =
            DescriptorBudget::of_this_process(&config, threads, inherited_count)?;
        let config = Config {
            max_connections: budget.connections,
            ..config
        };
        let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let admin = config
            .admin
            .map(|address| {
                let given = inherited.take_admin(&address.into());
                Bound::new(address, given)
            })
            .transpose()?;
        let doors = Doors::open(&config, &mut inherited, cores.clone())?;
        let files = doors.own_files();
        let adopted_files = doors.adopted_files(inherited.origin);
        let handover = may_hand_over
            .then(|| Handover::new(inherited, &doors, admin.as_ref()))
            .transpose()?;
        let (trigger, shutdown) = shutdown::channel();
        let house = House::new(&config, budget.rejects);
        let config = Arc::new(config);
        let epoch = Instant::now();
        let (addresses, tls_addresses) = (addresses(&doors.plain), addresses(&doors.tls));
        let listeners = by_worker(doors.plain, threads);
        let tls_listeners = by_worker(doors.tls, threads);
        let crew = config.engine.start(|engine| {
            // Another engine may need them.
            let clones = |sockets: &[OwnedFd]| {
                let clones = sockets.iter().map(OwnedFd::try_clone);
                clones.collect::<io::Result<_>>()
            };
            let assignment = |index: usize| {
                Ok(Assignment {
                    config: Arc::clone(&config),
                    engine,
                    core: cores[index],
                    listeners: clones(&listeners[index])?,
                    tls_listeners: clones(&tls_listeners[index])?,
                    tls: tls.clone(),
                    house: Arc::clone(&house),
                    counters: Arc::default(),
                    epoch,
                    shutdown: shutdown.clone(),
                    handler: handler.cloned(),
                })
            };
            Crew::start(engine, threads, assignment)
        })?;
        let mut server = Self {
            addresses,
            tls_addresses,
            tls,
            handover,
            files,
            pid_file: config.pid_file.clone(),
            crew,
            trigger,
            admin: None,
            epoch,
        };
        if let Some(bound) = admin {
            let workers = server.crew.workers.iter().zip(&server.crew.thread_ids);
            let overview = Overview {
                engine: server.crew.engine,
                workers: workers
                    .map(|(worker, &id)| Watched::new(Arc::clone(&worker.counters), id))
                    .collect(),
                house,
                tls: server.tls.clone(),
                epoch,
                shutdown,
            };
            server.admin = Some(bound.start(overview, budget.admin_connections)?);
        }
        let adopted = adopted_files.iter();
        let adopted = adopted.filter_map(|path| SocketFile::of(path).ok());
        server.files.extend(adopted);
        if let Some(shortfall) = shortfall {
            shortfall.log();
        }
        Ok(server)
    }

    fn join(self) -> Result<(), Error> {
        let result = self.crew.join();
        if let Some(admin) = self.admin {
            admin.stop();
        }
        result
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("engine", &self.crew.engine)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}
