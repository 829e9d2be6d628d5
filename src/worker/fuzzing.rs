//! A worker without listeners, whose connections are ends of socket pairs.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::{Assignment, Listener, Shared};
use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::engine::runtime::Runtime;
use crate::engine::select;
use crate::handler::{Handler, MessageSocket};
use crate::limits::admission::ServerLimits;
use crate::limits::descriptors::REJECTS_MAX;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::metrics::{Counters, Snapshot};
use crate::sys::shutdown;
use crate::transport::tls::{Acceptor, Tls};

/// A worker on the current thread, which runs during [`serve`](Self::serve).
pub struct Worker {
    tasks: LocalSet,
    runtime: Runtime,
    worker: Rc<super::Worker>,
    secure: Rc<Listener>,
    counters: Arc<Counters>,
    _running: shutdown::Trigger,
}

impl Worker {
    /// A worker on this engine; with `whole`, a handler reads and writes whole messages.
    ///
    /// # Errors
    /// The engine does not work here.
    pub fn new(config: Config, engine: EngineKind, whole: bool) -> Result<Self, Error> {
        config.validate()?;
        engine.probe()?;
        let runtime = select::runtime(engine)?;
        let tasks = LocalSet::new();
        let counters = Arc::<Counters>::default();
        let (running, shutdown) = shutdown::channel();
        let tls = config.tls.clone().map(Tls::load).transpose()?;
        let assignment = Assignment {
            shared: Arc::new(Shared {
                server_limits: ServerLimits::new(&config, REJECTS_MAX),
                config,
                cores: vec![None],
                tls: None,
                epoch: Instant::now(),
                shutdown,
                handler: whole.then(|| Handler::new(echo)),
            }),
            engine,
            index: 0,
            listeners: Vec::new(),
            tls_listeners: Vec::new(),
            counters: Arc::clone(&counters),
        };
        let made = block_on(&tasks, &runtime, async {
            let (worker, _) = super::Worker::new(assignment)?;
            let worker = Rc::new(worker);
            tokio::task::spawn_local(Rc::clone(&worker.engine).run());
            Ok::<_, Error>(worker)
        });
        let worker = made?;
        let acceptor = |tls| Rc::new(Acceptor::new(Arc::new(tls), worker.settings.read_size));
        let acceptor = tls.map(acceptor);
        Ok(Self {
            worker,
            secure: Rc::new(Listener {
                acceptor,
                access: None,
            }),
            tasks,
            runtime,
            counters,
            _running: running,
        })
    }

    /// Serves `socket`, one of a connected pair, over TLS if `is_secure`, while `client`
    /// runs at the other end, and until the connection has ended.
    ///
    /// # Panics
    /// If the socket cannot be registered.
    pub fn serve<F: Future>(&self, socket: OwnedFd, is_secure: bool, client: F) -> F::Output {
        block_on(&self.tasks, &self.runtime, async {
            let socket = StdUnixStream::from(socket);
            socket.set_nonblocking(true).expect("non-blocking");
            let socket = UnixStream::from_std(socket).expect("registered");
            let plain = Rc::default();
            let listener = if is_secure { &self.secure } else { &plain };
            let decision = self.worker.admission.enter();
            let socket = Socket::Unix(socket);
            self.worker
                .start_connection(socket, Peer::Local, listener, decision);
            let output = client.await;
            while self.worker.admission.open() > 0 {
                self.worker.admission.one_left().await;
            }
            output
        })
    }

    /// The metrics so far.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.counters.merge_into(&mut snapshot);
        snapshot
    }

    /// Bytes that the worker buffers for its connections.
    pub fn held_bytes(&self) -> usize {
        self.worker.tick_connections().0
    }
}

/// [`Runtime::block_on`] with tasks that continue in the next call.
fn block_on<F: Future>(tasks: &LocalSet, runtime: &Runtime, future: F) -> F::Output {
    match runtime {
        Runtime::Tokio(runtime) => tasks.block_on(runtime, future),
        Runtime::TokioUring(runtime) => runtime.block_on(future),
    }
}

async fn echo(mut socket: MessageSocket) {
    while let Ok(message) = socket.read_message().await {
        if socket.write_message(&message).await.is_err() {
            break;
        }
    }
}
