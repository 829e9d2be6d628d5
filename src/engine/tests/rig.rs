//! An engine as its worker has it, without the worker.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::engine::ring::RingEngine;
use crate::engine::select;
use crate::engine::{Buffered, Drain, Engine, Settings, Upgraded};
use crate::limits::admission::{Admission, Decision, ServerLimits};
use crate::limits::descriptors::REJECTS_MAX;
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::EndReason;
use crate::sys::calls;

/// Longest that anything here may take: who waits for so long is forgotten.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two ticks; a worker's may be longer.
const TICK: Duration = Duration::from_millis(2);

/// The send buffer of a connection that is to be written to in small pieces; the
/// kernel doubles it.
const NARROW: usize = 8 * 1024;

pub(super) struct Rig {
    engine: Rc<dyn Engine>,
    ring: Option<Rc<RingEngine>>,
    admission: Rc<Admission>,
    counters: Arc<Counters>,
    settings: Rc<Settings>,
    listener: TcpListener,
    /// What `/proc` calls the server's sockets.
    sockets: RefCell<Vec<PathBuf>>,
    running: JoinHandle<io::Error>,
}

/// Runs `test` on an engine of this kind, with the settings of
/// `Config::default()` and the smallest read size for them. All its connections have to be over in the end, and the
/// engine must not hold on to anything.
pub(super) fn on_engine<T>(kind: EngineKind, test: impl AsyncFnOnce(&Rig) -> T) -> T {
    let runtime = select::runtime(kind).expect("this engine works here");
    runtime.block_on(async {
        let rig = Rig::new(kind);
        let result = test(&rig).await;
        rig.expect_nothing_left().await;
        rig.running.abort();
        calls::plan(None);
        calls::shift_clock(calls::Shift::None);
        result
    })
}

impl Rig {
    fn new(kind: EngineKind) -> Self {
        let counters = Arc::<Counters>::default();
        let settings = Rc::new(settings(Arc::clone(&counters)));
        let ring = (kind == EngineKind::Ring)
            .then(|| RingEngine::new(Rc::clone(&settings)).expect("a ring"))
            .map(Rc::new);
        let engine: Rc<dyn Engine> = match &ring {
            Some(ring) => Rc::<RingEngine>::clone(ring),
            None => select::engine(kind, Rc::clone(&settings)).expect("an engine"),
        };
        let server_limits = ServerLimits::new(&Config::default(), REJECTS_MAX);
        Self {
            running: spawn_local(Rc::clone(&engine).run()),
            engine,
            ring,
            admission: Admission::new(server_limits, Arc::clone(&counters)),
            counters,
            settings,
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
            sockets: RefCell::default(),
        }
    }

    /// Gives the engine a connection, with what came behind its request.
    /// Returns the client's end.
    pub(super) fn connect(&self, leftover: &[u8]) -> TcpStream {
        let address = self.listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("connected");
        client.set_nodelay(true).expect("TCP");
        let (socket, _) = self.listener.accept().expect("accepted");
        socket.set_nodelay(true).expect("TCP");
        self.adopt(socket, leftover);
        client
    }

    /// As [`connect`](Self::connect), of a client that has to be written to in
    /// small pieces. Its socket is a local one: with so small a buffer, TCP would
    /// wait for its timers between any two of them.
    pub(super) fn connect_narrow(&self, leftover: &[u8]) -> TcpStream {
        let (socket, client) = UnixStream::pair().expect("a pair");
        let set = SockRef::from(&socket).set_send_buffer_size(NARROW);
        set.expect("small buffers are allowed");
        self.adopt(OwnedFd::from(socket).into(), leftover);
        OwnedFd::from(client).into()
    }

    fn adopt(&self, socket: TcpStream, leftover: &[u8]) {
        socket.set_nonblocking(true).expect("a socket");
        self.sockets.borrow_mut().push(name(socket.as_raw_fd()));
        let Decision::Accept(permit) = self.admission.enter() else {
            panic!("the house is large enough");
        };
        Rc::clone(&self.engine).adopt(Upgraded {
            socket: socket.into(),
            leftover: Bytes::copy_from_slice(leftover),
            permit,
            handler: None,
        });
    }

    /// The engine, where it is a ring's.
    pub(super) fn ring(&self) -> &RingEngine {
        self.ring.as_deref().expect("a ring")
    }

    pub(super) fn drain(&self) {
        self.engine.drain(Drain::WhenQuiet, Duration::ZERO);
    }

    /// Evicts the first connection.
    pub(super) fn evict(&self) {
        self.engine.evict(0, EndReason::HeldBytes);
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.admission.open()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn tick(&self) -> Buffered {
        self.settings.timers.refill();
        self.engine.tick()
    }

    /// Lets the engine run while clients do their work on a thread of their own.
    pub(super) async fn clients<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (sender, mut receiver) = oneshot::channel();
        let thread = thread::spawn(move || {
            // If nobody waits for it any more, the test has failed.
            let _ = sender.send(work());
        });
        let deadline = Instant::now() + PATIENCE;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut receiver => break result,
                () = sleep(TICK) => { self.tick(); }
            }
            assert!(!self.running.is_finished(), "the engine has given up");
            assert!(Instant::now() < deadline, "the clients do not get done");
        };
        // Without a result it has panicked, which is said there.
        thread.join().expect("the clients are content");
        result.expect("sent")
    }

    /// Lets the engine run, without a tick, for so long.
    pub(super) async fn run_for(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets the engine run, without a tick, for as long as something is so.
    pub(super) async fn run_while(&self, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while is_so() {
            assert!(Instant::now() < deadline, "waited for too long");
            sleep(TICK).await;
        }
    }

    /// Lets the engine run, and tick, until something is so.
    pub(super) async fn run_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(!self.running.is_finished(), "the engine has given up");
            assert!(Instant::now() < deadline, "waited for too long: {what}");
            sleep(TICK).await;
            self.tick();
        }
    }

    async fn expect_nothing_left(&self) {
        self.run_until("every connection is over", || self.open() == 0)
            .await;
        self.run_until("nothing is held", || self.tick() == Buffered::default())
            .await;
        if let Some(ring) = &self.ring {
            self.run_until("all buffers are back", || ring.has_all_buffers())
                .await;
        }
        let open = self.open_sockets();
        assert!(open.is_empty(), "sockets are still open: {open:?}");
    }

    /// Those of its connections' sockets that this process has open. (Other
    /// tests open and close descriptors at the same time, so that their number
    /// says nothing.)
    fn open_sockets(&self) -> Vec<PathBuf> {
        let ours = self.sockets.borrow();
        fs::read_dir("/proc/self/fd")
            .expect("Linux")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|name| ours.contains(name))
            .collect()
    }
}

/// `socket:[…]`, which no other socket is called as long as it exists.
fn name(descriptor: i32) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("an open descriptor")
}

pub(crate) fn settings(counters: Arc<Counters>) -> Settings {
    let mut config = Config::default();
    // The smallest, so that one read seldom takes all there is.
    config.read_size = Some(2 * config.window);
    let settings = Settings::new(&config, counters);
    settings.backlog_room.set(usize::MAX);
    settings
}
