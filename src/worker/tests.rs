//! A worker whose `accept` fails or whose tasks panic.

#[path = "../../tests/common/loopback.rs"]
#[expect(dead_code, reason = "the tests in `tests/` use all of it")]
mod loopback;
#[path = "../../tests/common/pki.rs"]
#[expect(dead_code, reason = "the tests in `tests/` use all of it")]
mod pki;
#[path = "../../tests/common/tunnel.rs"]
mod tunnel;

use std::io::{Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::io::Errno;

use super::accept::ACCEPT_PAUSE;
use super::*;
use crate::config::TlsFiles;
use crate::engine::tests::client::{Client, End, REQUEST, Step, TEXT, frame, open, reply};
use crate::engine::tests::on_every_engine;
use crate::handler::MessageSocket;
use crate::limits::descriptors::REJECTS_MAX;
use crate::sys::calls::{self, Call, Fault, Plan, Tally, When};
use crate::sys::shutdown::{self, StopReason, Trigger};
use crate::sys::task::panic_message;

on_every_engine![
    accept_pauses_and_resumes_when_resources_run_out,
    accept_continues_after_the_error_of_one_connection,
    accept_that_always_fails_pauses_each_time_and_the_worker_still_stops,
    a_panic_in_any_task_ends_the_worker,
];

const TIMEOUT: Duration = Duration::from_secs(300);

/// A worker on its own thread, with planned faults.
struct Rig {
    address: SocketAddr,
    /// The address for clients without TLS: a tunnel if the worker uses TLS.
    entrance: SocketAddr,
    counters: Arc<Counters>,
    trigger: Trigger,
    thread: JoinHandle<(Result<(), Error>, Tally)>,
}

impl Rig {
    fn start(kind: EngineKind, errno: Errno, when: When) -> Self {
        Self::start_with(kind, Service::default(), move || {
            calls::plan(Some(Plan {
                call: Call::Accept,
                fault: Fault::Fails(errno),
                when,
            }));
        })
    }

    /// Starts a worker; `prepare` is called on its thread before.
    fn start_with(
        kind: EngineKind,
        service: Service,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Self {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            ..Config::default()
        };
        let listener = TcpListener::bind(loopback::unused_address()).expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let (mut listeners, mut tls_listeners) = (vec![listener.into()], Vec::new());
        let (mut tls, mut entrance) = (None, address);
        if service.is_over_tls {
            let pair = pki::pair();
            let pki = pki::Pki::of(&pair);
            let [certificate, key] = pki.files();
            tls = Some(Arc::new(
                Tls::load(TlsFiles { certificate, key }).expect("a certificate"),
            ));
            mem::swap(&mut listeners, &mut tls_listeners);
            entrance = tunnel::open(address, pair.client(rustls::ALL_VERSIONS, &[]));
        }
        let counters = Arc::<Counters>::default();
        let (trigger, shutdown) = shutdown::channel();
        let assignment = Assignment {
            shared: Arc::new(Shared {
                server_limits: ServerLimits::new(&config, REJECTS_MAX),
                config,
                cores: vec![None],
                tls,
                epoch: StdInstant::now(),
                shutdown,
                handler: service.has_handler.then(|| Handler::new(echo)),
            }),
            engine: kind,
            index: 0,
            listeners,
            tls_listeners,
            counters: Arc::clone(&counters),
        };
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            prepare();
            let result = run(assignment, || ready.send(()).is_ok());
            (result, calls::tally())
        });
        is_ready.recv_timeout(TIMEOUT).expect("the worker starts");
        Self {
            address,
            entrance,
            counters,
            trigger,
            thread,
        }
    }

    /// Connects a client that echoes one message and closes.
    fn serve_one(&self) {
        let mut client = Client::new(self.open());
        client.take(&Step {
            send: frame(TEXT, b"hello"),
            expect: reply(TEXT, b"hello"),
        });
        client.close();
        assert_eq!(client.end, Some(End::Closed));
    }

    /// Connects and upgrades a client.
    fn open(&self) -> TcpStream {
        open(self.entrance)
    }

    /// Stops the worker; returns the tally of its calls.
    fn stop(self) -> Tally {
        self.trigger.initiate(StopReason::Stopped);
        let (result, tally) = self.thread.join().expect("no panic");
        result.expect("it has drained");
        assert_eq!(self.counters.open.get(), 0);
        tally
    }
}

/// The options of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Service {
    is_over_tls: bool,
    has_handler: bool,
}

async fn echo(mut socket: MessageSocket) {
    while let Ok(message) = socket.read_message().await {
        if socket.write_message(&message).await.is_err() {
            return;
        }
    }
}

fn a_panic_in_any_task_ends_the_worker(kind: EngineKind) {
    for task in [
        TaskKind::Accept,
        TaskKind::Tick,
        TaskKind::Engine,
        TaskKind::Connection,
    ] {
        for (is_over_tls, has_handler) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let service = Service {
                is_over_tls,
                has_handler,
            };
            panic_in(task, kind, service);
        }
    }
}

/// A panic ends the worker: its connections and listeners are closed, and its thread's
/// result is the panic.
#[track_caller]
fn panic_in(task: TaskKind, kind: EngineKind, service: Service) {
    let flag = Arc::new(AtomicBool::new(false));
    let panics = Arc::clone(&flag);
    // The engine's task is polled only once if other tasks serve the connections.
    let is_idle = kind == EngineKind::TokioUring || service.is_over_tls || service.has_handler;
    let is_at_once = task == TaskKind::Engine && is_idle;
    let rig = Rig::start_with(kind, service, move || {
        panics.store(is_at_once, Relaxed);
        calls::panic_in(task, panics);
    });
    let client = (!is_at_once).then(|| rig.open());
    flag.store(true, Relaxed);
    // Wakes a task that waits; the worker may have ended before.
    let other = TcpStream::connect(rig.entrance);
    if let Ok(other) = &other {
        let mut other = other;
        let _ = other.write_all(REQUEST.as_bytes());
    }
    if let Some(mut client) = client.as_ref() {
        let _ = client.write_all(&frame(TEXT, b"still there?"));
    }
    let deadline = StdInstant::now() + TIMEOUT;
    while !rig.thread.is_finished() {
        assert!(StdInstant::now() < deadline, "{task:?}, {service:?}");
        thread::sleep(Duration::from_millis(1));
    }
    let panic = rig.thread.join().expect_err("a panic");
    assert_eq!(
        panic_message(&*panic),
        "panicked: injected",
        "{task:?}, {service:?}"
    );
    if let Some(mut client) = client {
        // The end, or a reset; in time.
        let end = client.read_to_end(&mut Vec::new());
        let is_late = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        assert!(!end.as_ref().is_err_and(is_late), "{task:?}, {service:?}");
    }
    // Until a process that another test starts is the new program, it has a copy.
    while TcpStream::connect(rig.address).is_ok() {
        assert!(StdInstant::now() < deadline, "the listener is open");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.counters.open.get(), 0, "{task:?}, {service:?}");
}

fn accept_pauses_and_resumes_when_resources_run_out(kind: EngineKind) {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        let rig = Rig::start(kind, errno, When::Before(1));
        rig.serve_one();
        rig.serve_one();
        let pauses = rig.counters.accept_pauses.get();
        assert!((1..=4).contains(&pauses), "{errno}: {pauses} pauses");
        assert_eq!(rig.counters.accepted.get(), 2);
        rig.stop();
    }
}

fn accept_continues_after_the_error_of_one_connection(kind: EngineKind) {
    for errno in [
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::INTR,
    ] {
        let rig = Rig::start(kind, errno, When::Before(3));
        rig.serve_one();
        rig.serve_one();
        assert_eq!(rig.counters.accept_pauses.get(), 0, "{errno}");
        rig.stop();
    }
}

fn accept_that_always_fails_pauses_each_time_and_the_worker_still_stops(kind: EngineKind) {
    const A_WHILE: Duration = Duration::from_millis(300);
    for errno in [Errno::MFILE, Errno::INVAL] {
        let start = StdInstant::now();
        let rig = Rig::start(kind, errno, When::Before(u64::MAX - 1));
        thread::sleep(A_WHILE);
        while rig.counters.accept_pauses.get() == 0 {
            assert!(start.elapsed() < TIMEOUT, "{errno}: no pause");
            thread::sleep(Duration::from_millis(5));
        }
        let planned = rig.stop().planned;
        // One at once, one for each pause, and up to two at the end of the worker.
        let pauses = start.elapsed().as_millis() / ACCEPT_PAUSE.as_millis();
        assert!(u128::from(planned) <= pauses + 3, "{errno}: {planned}");
    }
}
