//! A worker whose `accept` fails.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::io::Errno;

use super::*;
use crate::calls::{Call, Fault, Plan, Tally, When};
use crate::descriptors::REJECTS_MAX;
use crate::runtime::tests::client::{Client, End, Step, TEXT, frame, reply};
use crate::runtime::tests::on_every_engine;
use crate::shutdown::{self, Departure, Trigger};

on_every_engine![
    want_of_resources_is_waited_out,
    a_connection_that_is_gone_does_not_keep_the_next_one,
    an_accept_that_never_works_is_no_loop_and_no_obstacle,
];

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Longest to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker on a thread of its own, where its calls go wrong.
struct Rig {
    address: SocketAddr,
    counters: Arc<Counters>,
    trigger: Trigger,
    thread: JoinHandle<(Result<(), Error>, Tally)>,
}

impl Rig {
    fn start(kind: EngineKind, errno: Errno, when: When) -> Self {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            ..Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let counters = Arc::<Counters>::default();
        let (trigger, shutdown) = shutdown::channel();
        let assignment = Assignment {
            house: House::new(&config, REJECTS_MAX),
            config: Arc::new(config),
            engine: kind,
            core: None,
            listeners: vec![listener.into()],
            tls_listeners: Vec::new(),
            tls: None,
            counters: Arc::clone(&counters),
            epoch: StdInstant::now(),
            shutdown,
            handler: None,
        };
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            calls::plan(Some(Plan {
                call: Call::Accept,
                fault: Fault::Fails(errno),
                when,
            }));
            let result = run(assignment, || ready.send(()).is_ok());
            (result, calls::tally())
        });
        is_ready.recv_timeout(PATIENCE).expect("the worker starts");
        Self {
            address,
            counters,
            trigger,
            thread,
        }
    }

    /// A client says something and leaves.
    fn serve_one(&self) {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(REQUEST.as_bytes()).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
        let mut client = Client::new(stream);
        client.take(&Step {
            send: frame(TEXT, b"hello"),
            expect: reply(TEXT, b"hello"),
        });
        client.close();
        assert_eq!(client.end, Some(End::Closed));
    }

    /// Stops the worker; says what it has called.
    fn stop(self) -> Tally {
        self.trigger.pull(Departure::Stopped);
        let (result, tally) = self.thread.join().expect("no panic");
        result.expect("it has drained");
        assert_eq!(self.counters.open.get(), 0);
        tally
    }
}

fn want_of_resources_is_waited_out(kind: EngineKind) {
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

fn a_connection_that_is_gone_does_not_keep_the_next_one(kind: EngineKind) {
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

/// Neither what is short for ever, nor what nobody has foreseen.
fn an_accept_that_never_works_is_no_loop_and_no_obstacle(kind: EngineKind) {
    const A_WHILE: Duration = Duration::from_millis(300);
    for errno in [Errno::MFILE, Errno::INVAL] {
        let rig = Rig::start(kind, errno, When::Before(u64::MAX - 1));
        thread::sleep(A_WHILE);
        let tally = rig.stop();
        assert!(
            (1..=4).contains(&tally.planned),
            "{errno}: {}",
            tally.planned
        );
    }
}
