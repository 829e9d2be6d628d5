//! The admin listener: health and metrics.
//!
//! Its own thread answers while the workers are busy, and costs them nothing: a request
//! reads the counters that each worker keeps for itself. It stays up through a drain,
//! until the last worker has ended.
//!
//! | path | 200 | else 503, with the reason in one line |
//! |---|---|---|
//! | `/healthz` | every worker runs | a worker has stalled or failed; the server stops |
//! | `/readyz` | and another connection would be accepted | the server is full as well |
//! | `/metrics` | always: the Prometheus text format, version 0.0.4 | |
//!
//! * `connections`: accepts, with a limit
//! * `answer`: the paths
//! * [`health`]: health and readiness
//! * `exposition`: every metric's name, labels and help
//! * `process`: CPU time, memory and start of this process
//! * `inquiry`: the client, for health checks

mod answer;
mod connections;
mod exposition;
pub(crate) mod health;
mod inquiry;
mod process;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::limits::admission::ServerLimits;
use crate::observe::metrics::Counters;
use crate::sys::shutdown::{self, Shutdown, StopReason, Trigger};
use crate::sys::task::panic_message;
use crate::transport::listener::bind_tcp;
use crate::transport::tls::Tls;
use answer::Answers;
pub use inquiry::{Probe, ask};
use process::ThreadClock;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The server's state that the admin listener reads.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) engine: EngineKind,
    /// By their index.
    pub(crate) workers: Vec<Watched>,
    pub(crate) server_limits: Arc<ServerLimits>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// The start of the workers' heartbeats.
    pub(crate) epoch: Instant,
    /// The workers', not the listener's own.
    pub(crate) shutdown: Shutdown,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) counters: Arc<Counters>,
    clock: ThreadClock,
}

impl Watched {
    pub(crate) fn new(counters: Arc<Counters>, thread_id: i32) -> Self {
        Self {
            counters,
            clock: ThreadClock::open(thread_id),
        }
    }
}

/// A listening socket that is not served yet.
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Listens on an address, with an inherited socket if one is given; port 0 takes a
    /// free one. `[::]` takes IPv4 as well, except on `ipv4_ports`.
    ///
    /// # Errors
    /// [`Error::Admin`] with the kernel's error.
    pub(crate) fn new(
        address: SocketAddr,
        ipv4_ports: &[u16],
        given: Option<OwnedFd>,
    ) -> Result<Self, Error> {
        let bind = || {
            let listener: TcpListener = if let Some(socket) = given {
                socket.into()
            } else {
                let socket = bind_tcp(address, false, ipv4_ports)?;
                socket.listen(BACKLOG)?;
                socket.into()
            };
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| Error::Admin { address, source })
    }

    /// The socket, for a replacement.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(OwnedFd::from)
    }

    /// Starts the thread, which serves at most `connections_max` at a time.
    ///
    /// # Errors
    /// [`Error::Start`] with the kernel's error.
    pub(crate) fn start(self, overview: Overview, connections_max: usize) -> Result<Admin, Error> {
        let start = |source| Error::Start {
            what: "the admin thread",
            source,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(start)?;
        let (trigger, stop) = shutdown::channel();
        let Self { listener, address } = self;
        let answers = Arc::new(Answers::new(overview));
        let (alive, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("ringback-admin".into())
            .spawn(move || {
                let _alive: oneshot::Sender<()> = alive;
                let serving = connections::serve(listener, answers, connections_max, stop);
                LocalSet::new().block_on(&runtime, serving)
            })
            .map_err(start)?;
        Ok(Admin {
            address,
            trigger,
            thread,
            ended,
        })
    }
}

/// The running listener. Dropping it ends its thread, without waiting.
pub(crate) struct Admin {
    address: SocketAddr,
    trigger: Trigger,
    thread: JoinHandle<io::Result<()>>,
    /// The thread holds the sender, which is dropped with it.
    ended: oneshot::Receiver<()>,
}

impl Admin {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until its thread ends by itself.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Ends it, and every connection to it.
    ///
    /// # Errors
    /// [`Error::Ended`] if it had ended by itself.
    pub(crate) fn stop(self) -> Result<(), Error> {
        self.trigger.initiate(StopReason::Stopped);
        let reason = match self.thread.join() {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_message(&*panic),
        };
        Err(Error::Ended {
            what: "the admin thread",
            reason,
        })
    }
}
