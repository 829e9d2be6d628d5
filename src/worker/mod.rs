//! A worker: its thread, its runtime, and its connections from their accept to their
//! drain.

mod accept;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handover;
mod handshake;
mod opening;
mod tcp_eviction;
mod tick;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use socket2::SockRef;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::engine::encrypted::Encrypted;
use crate::engine::select;
use crate::engine::{Drain, Engine, Settings};
use crate::handler::{Handler, WorkerHandler};
use crate::http::HttpOptions;
use crate::limits::admission::{Admission, ServerLimits};
use crate::limits::handshakes::Handshakes;
use crate::net::address::Address;
use crate::observe::access::AccessContext;
use crate::observe::log_limit;
use crate::observe::metrics::Counters;
use crate::sys::shutdown::Shutdown;
use crate::sys::task::Tasks;
use crate::sys::task_kind::TaskKind;
use crate::sys::turn::log_longest;
use crate::transport::listener::{Accepting, UnixOptions};
use crate::transport::tls::{Acceptor, Tls};
use accept::accept;
use handover::guard_accept;
use tick::tick;

/// The state that all workers of a server share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// The core to pin each worker to.
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) server_limits: Arc<ServerLimits>,
    /// The start of the server and of the heartbeats' clocks.
    pub(crate) epoch: StdInstant,
    pub(crate) shutdown: Shutdown,
    /// Serves the upgraded connections instead of the engine.
    pub(crate) handler: Option<Handler>,
}

/// The input of one worker.
pub(crate) struct Assignment {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: EngineKind,
    /// Its index among the workers.
    pub(crate) index: usize,
    pub(crate) listeners: Vec<OwnedFd>,
    /// Listeners with TLS; they need [`Shared::tls`].
    pub(crate) tls_listeners: Vec<OwnedFd>,
    pub(crate) counters: Arc<Counters>,
}

/// Runs a worker on the current thread until the server has drained. Calls `ready` once
/// all resources are there; accepts connections if that returns true, else ends.
///
/// # Panics
/// If one of its tasks does.
pub(crate) fn run(assignment: Assignment, ready: impl FnOnce() -> bool) -> Result<(), Error> {
    let start = |what| move |source| Error::Start { what, source };
    if let Some(core) = assignment.shared.cores[assignment.index] {
        host::cores::pin(core).map_err(start("a worker on its core"))?;
    }
    let runtime = select::runtime(assignment.engine)?;
    let ended = runtime.block_on(async {
        let (worker, listeners) = Worker::new(assignment)?;
        let worker = Rc::new(worker);
        if !ready() {
            return Ok(Ok(Ok(())));
        }
        worker.beat();
        let tasks = &worker.settings.tasks;
        let ended = tokio::select! {
            biased;
            panic = tasks.panicked() => Err(panic),
            result = worker.serve(listeners, tasks) => Ok(result),
        };
        log_limit::finish();
        log_longest();
        Ok::<_, Error>(ended)
    })?;
    // Closes the connections before a panic is reported.
    drop(runtime);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Worker {
    engine: Rc<dyn Engine>,
    /// The TLS connections.
    encrypted: Rc<Encrypted>,
    settings: Rc<Settings>,
    http: Rc<HttpOptions>,
    admission: Rc<Admission>,
    handshakes: Rc<Handshakes>,
    handler: Option<WorkerHandler>,
    shared: Arc<Shared>,
}

/// Identifies an upgraded connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    /// The engine's.
    Plain(u32),
    Encrypted(u32),
}

/// The state shared by the connections of one listening socket.
#[derive(Default)]
struct Listener {
    /// Set for TLS.
    acceptor: Option<Rc<Acceptor>>,
    /// Set if access lines are logged.
    access: Option<Rc<AccessContext>>,
}

/// A worker's listening sockets.
type Listeners = Vec<(Accepting, Rc<Listener>)>;

impl Worker {
    fn new(assignment: Assignment) -> Result<(Self, Listeners), Error> {
        let shared = assignment.shared;
        let counters = assignment.counters;
        let settings = Rc::new(Settings::new(&shared.config, Arc::clone(&counters)));
        let acceptor = shared.tls.clone();
        let acceptor = acceptor.map(|tls| Rc::new(Acceptor::new(tls, settings.read_size)));
        let plain = assignment.listeners.into_iter();
        let secure = assignment.tls_listeners.into_iter();
        let listeners = plain
            .map(|socket| (socket, None))
            .chain(secure.map(|socket| (socket, acceptor.clone())))
            .map(|(socket, acceptor)| listener(socket, acceptor, assignment.index, &shared))
            .collect::<io::Result<_>>()
            .map_err(|source| Error::Start {
                what: "to accept connections",
                source,
            })?;
        let worker = Self {
            engine: select::engine(assignment.engine, Rc::clone(&settings))?,
            encrypted: Rc::new(Encrypted::new(Rc::clone(&settings))),
            settings,
            http: Rc::new(http_options(&shared, &counters)),
            admission: Admission::new(Arc::clone(&shared.server_limits), counters),
            handshakes: Handshakes::new(&shared.config, shared.cores.len()),
            handler: shared.handler.as_ref().map(Handler::for_worker),
            shared,
        };
        Ok((worker, listeners))
    }

    /// Accepts and serves connections until the server has drained.
    ///
    /// # Errors
    /// The engine's task has ended.
    async fn serve(self: &Rc<Self>, listeners: Listeners, tasks: &Tasks) -> Result<(), Error> {
        let running = tasks.spawn(TaskKind::Engine, Rc::clone(&self.engine).run());
        let ticking = tasks.spawn(TaskKind::Tick, tick(Rc::clone(self)));
        let accepting = listeners.into_iter().map(|(socket, listener)| {
            let accepting = accept(Rc::clone(self), socket, listener);
            tasks.spawn(TaskKind::Accept, accepting)
        });
        let accepting = accepting.collect();
        let running_abort = running.abort_handle();
        let result = tokio::select! {
            () = self.drain_on_shutdown(accepting) => Ok(()),
            ended = running => Err(Error::Start {
                what: "the engine again after it ended",
                source: ended.unwrap_or_else(io::Error::other),
            }),
        };
        running_abort.abort();
        ticking.abort();
        result
    }

    async fn drain_on_shutdown(&self, accepting: Vec<JoinHandle<()>>) {
        self.shared.shutdown.clone().initiated().await;
        self.drain(accepting).await;
    }

    /// Stops accepting and closes every connection, with a Close while there is time.
    async fn drain(&self, accepting: Vec<JoinHandle<()>>) {
        let timeout = self.shared.config.drain_timeout;
        let start = Instant::now();
        // They end by themselves, after they have accepted the rest of the queue.
        for accepting in accepting {
            let _ = accepting.await;
        }
        self.start_drain(Drain::WhenQuiet, self.shared.config.drain_spread);
        if self.all_closed_by(start + timeout / 2).await {
            return;
        }
        self.start_drain(Drain::Now, Duration::ZERO);
        if !self.all_closed_by(start + timeout).await {
            let open = self.admission.open();
            self.settings.counters.cut_off.add(open as u64);
            tracing::warn!(
                open,
                "connections are cut off at the end of the drain timeout"
            );
        }
    }

    fn start_drain(&self, drain: Drain, spread: Duration) {
        self.engine.drain(drain, spread);
        self.encrypted.drain(drain, spread);
    }

    /// Waits until no connection is left; returns whether that was before `deadline`.
    async fn all_closed_by(&self, deadline: Instant) -> bool {
        while self.admission.open() > 0 {
            tokio::select! {
                () = self.admission.one_left() => {}
                () = sleep_until(deadline) => return false,
            }
        }
        true
    }
}

fn http_options(shared: &Shared, counters: &Arc<Counters>) -> HttpOptions {
    let config = &shared.config;
    let accept = shared.handler.as_ref().and_then(Handler::accept);
    HttpOptions {
        path: config.path.clone(),
        origins: config.origins.clone(),
        subprotocols: config.subprotocols.clone(),
        max_header_bytes: config.max_header_bytes,
        handshake_timeout: config.handshake_timeout,
        accept: accept.map(|accept| guard_accept(accept, Arc::clone(counters))),
        keeps_request: shared.handler.is_some(),
    }
}

/// A listening socket of the worker with this index.
fn listener(
    socket: OwnedFd,
    acceptor: Option<Rc<Acceptor>>,
    worker: usize,
    shared: &Shared,
) -> io::Result<(Accepting, Rc<Listener>)> {
    let config = &shared.config;
    let access = config.access_log.then(|| {
        Rc::new(AccessContext {
            worker,
            listener: name_of(&socket),
            fields: config.access_log_fields.clone(),
            limit: shared.server_limits.access_limit().cloned(),
        })
    });
    let unix = UnixOptions {
        send_buffer: config.socket_send_buffer,
    };
    let listener = Rc::new(Listener { acceptor, access });
    Ok((Accepting::new(socket, unix)?, listener))
}

/// The address of a listening socket.
fn name_of(socket: &OwnedFd) -> String {
    let address = SockRef::from(socket).local_addr().ok();
    let address = address.as_ref().and_then(Address::from_kernel);
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests;
