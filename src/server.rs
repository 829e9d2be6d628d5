//! A server as a whole: bind, one worker per core, drain, join.

use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::admin::{Admin, Bound, Overview, Watched, health};
use crate::admission::House;
use crate::config::Config;
use crate::cores;
use crate::engine::EngineKind;
use crate::error::Error;
use crate::listener;
use crate::message::{self, Handler, MessageSocket};
use crate::metrics::{Counters, Snapshot};
use crate::shutdown::{self, Signals, Trigger};
use crate::systemd::Systemd;
use crate::worker::{self, Assignment};

/// A server that accepts connections, on threads of its own.
///
/// Dropping it stops it without a drain's patience: its workers are told to
/// stop, and nobody waits for them. Use [`stop`](Self::stop) or
/// [`run_until_signal`](Self::run_until_signal).
pub struct Server {
    addresses: Vec<SocketAddr>,
    engine: EngineKind,
    workers: Vec<Worker>,
    thread_ids: Vec<i32>,
    trigger: Trigger,
    admin: Option<Admin>,
    /// What the workers' heartbeats count from.
    epoch: Instant,
    /// Says so when a worker has ended, and is closed when all have.
    ended: mpsc::UnboundedReceiver<()>,
}

struct Worker {
    thread: JoinHandle<Result<(), Error>>,
    counters: Arc<Counters>,
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
        Self::launch(config, None)
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
        Self::launch(config, Some(&message::erase(handler)))
    }

    /// Where the server listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener listens, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// What moves the bytes.
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// The number of workers.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The workers' thread ids as the kernel counts them, for those who look
    /// into `/proc/self/task`.
    pub fn worker_thread_ids(&self) -> &[i32] {
        &self.thread_ids
    }

    /// What all workers have counted so far.
    pub fn metrics(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.workers {
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
    pub fn stop(self) -> Result<(), Error> {
        self.trigger.pull();
        self.join()
    }

    /// Serves until SIGTERM or SIGINT, then [`stop`](Self::stop)s. A second
    /// signal ends the process at once.
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
        Systemd::ready(&self.status());
        loop {
            tokio::select! {
                _ = signals.next() => {
                    tracing::info!("draining; a second signal exits at once");
                    break;
                }
                _ = self.ended.recv() => {
                    tracing::error!("a worker ended; draining the others");
                    break;
                }
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        }
        self.trigger.pull();
        Systemd::stopping("draining");
        loop {
            tokio::select! {
                signal = signals.next() => shutdown::exit_at_once(signal),
                ended = self.ended.recv() => if ended.is_none() {
                    return;
                },
                () = systemd.hungry() => self.feed(&mut systemd),
            }
        }
    }

    /// Feeds the watchdog only while every worker that has not ended gets
    /// around to its work.
    fn feed(&self, systemd: &mut Systemd) {
        let mut workers = self.workers.iter().enumerate();
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
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        format!(
            "serving {} with engine {} on {} threads",
            addresses.join(", "),
            self.engine,
            self.workers.len()
        )
    }

    fn launch(config: Config, handler: Option<&Handler>) -> Result<Self, Error> {
        config.validate()?;
        let cores = cores::usable().map_err(|source| Error::Start {
            what: "counting the cores",
            source,
        })?;
        let threads = config.threads.map_or(cores.len().max(1), NonZeroUsize::get);
        let (addresses, listeners) = listen(&config, threads)?;
        let admin = config.admin.map(Bound::new).transpose()?;
        let engine = config.engine.resolve()?;
        let (trigger, shutdown) = shutdown::channel();
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let house = House::new(config.max_connections);
        let config = Arc::new(config);
        let epoch = Instant::now();
        let mut server = Self {
            addresses,
            engine,
            workers: Vec::with_capacity(threads),
            thread_ids: Vec::with_capacity(threads),
            trigger,
            admin: None,
            epoch,
            ended,
        };
        for (index, listeners) in listeners.into_iter().enumerate() {
            let assignment = Assignment {
                config: Arc::clone(&config),
                engine,
                core: (config.pin && !cores.is_empty()).then(|| cores[index % cores.len()]),
                listeners,
                house: Arc::clone(&house),
                counters: Arc::default(),
                epoch,
                shutdown: shutdown.clone(),
                handler: handler.cloned(),
            };
            let (worker, thread_id) = Worker::start(index, assignment, ended_sender.clone())?;
            server.workers.push(worker);
            server.thread_ids.push(thread_id);
        }
        if let Some(bound) = admin {
            let workers = server.workers.iter().zip(&server.thread_ids);
            let overview = Overview {
                engine,
                workers: workers
                    .map(|(worker, &id)| Watched::new(Arc::clone(&worker.counters), id))
                    .collect(),
                house,
                epoch,
                shutdown,
            };
            server.admin = Some(bound.start(overview)?);
        }
        Ok(server)
    }

    fn join(self) -> Result<(), Error> {
        let mut result = Ok(());
        for (index, worker) in self.workers.into_iter().enumerate() {
            let ended = worker.thread.join().unwrap_or_else(|panic| {
                Err(Error::Worker {
                    worker: index,
                    reason: panic_message(&*panic),
                })
            });
            result = result.and(ended);
        }
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
            .field("engine", &self.engine)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a worker's thread and waits until it accepts connections; says
    /// which thread it is.
    fn start(
        index: usize,
        assignment: Assignment,
        ended: mpsc::UnboundedSender<()>,
    ) -> Result<(Self, i32), Error> {
        let counters = Arc::clone(&assignment.counters);
        let (ready_sender, ready) = std_mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("ringback-{index}"))
            .spawn(move || {
                let _says_so = SaysWhenEnded { ended };
                let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
                worker::run(assignment, || {
                    // Nobody listens any more if another worker failed.
                    let _ = ready_sender.send(thread_id);
                })
            })
            .map_err(|source| Error::Start {
                what: "a worker's thread",
                source,
            })?;
        match ready.recv() {
            Ok(thread_id) => Ok((Self { thread, counters }, thread_id)),
            // It ended before it was ready, and says why.
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) => Error::Worker {
                    worker: index,
                    reason: "it stopped before it started".into(),
                },
                Err(panic) => Error::Worker {
                    worker: index,
                    reason: panic_message(&*panic),
                },
            }),
        }
    }
}

/// Reports the end of a worker's thread, even by a panic.
struct SaysWhenEnded {
    ended: mpsc::UnboundedSender<()>,
}

impl Drop for SaysWhenEnded {
    fn drop(&mut self) {
        // The server may be gone.
        let _ = self.ended.send(());
    }
}

/// All listeners, by worker.
fn listen(
    config: &Config,
    workers: usize,
) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), Error> {
    let mut addresses = Vec::new();
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in &config.listen {
        let (bound, listeners) = listener::bind_all(address, workers, config.backlog)?;
        addresses.push(bound);
        for (of_worker, listener) in by_worker.iter_mut().zip(listeners) {
            of_worker.push(listener);
        }
    }
    Ok((addresses, by_worker))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
