//! `ringback_held_bytes` equals what the allocator has given out for connections,
//! whatever they hold, and buffers are freed soon after use.
//!
//! The server runs in this process, whose allocator counts the allocations of all
//! threads but the tests' own.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringback::{Config, MessageSocket, Server, TlsFiles};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Stream};
use socket2::{Domain, Socket, Type};

use common::admin::Admin;
use common::engines::{Engine, OVER_TLS, on_every_engine_and_over_tls, plain_name};
use common::pki::{self, Pki};
use common::wire::{BINARY, BINARY_FRAGMENT, FRAGMENT, REQUEST, frame, noise, unmasked};
use common::{TIMEOUT, wait_until_stable};

on_every_engine_and_over_tls![
    held_bytes_of_echo_match_allocated_bytes,
    held_bytes_of_handler_match_allocated_bytes,
    echo_frees_unused_buffers,
    handler_frees_unused_buffers,
];

/// Connections that hold the same.
const CONNECTIONS: usize = 32;

/// Bytes of a connection that are not counted: its buffers' own fields.
const UNCOUNTED: u64 = 192;

/// Shared memory may change by this.
const SHARED: u64 = 16 * 1024;

/// A small window and read size: no backlog gets pages of its own, which the allocator
/// does not count.
const WINDOW: usize = 8192;
const READ_SIZE: usize = 16 * 1024;
const MAX_BACKLOG: usize = 40_000;

/// An allocator that counts the bytes in use.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Negative if the server frees what a test has allocated.
static IN_USE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Whether this thread belongs to the test.
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}

fn change(before: usize, after: usize) {
    if !IS_TEST.get() {
        // No allocation is larger than an `isize`.
        IN_USE.fetch_add(
            after.cast_signed() as i64 - before.cast_signed() as i64,
            Relaxed,
        );
    }
}

fn in_use() -> i64 {
    IN_USE.load(Relaxed)
}

// SAFETY: the system's allocator does the work, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        change(0, layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        change(0, layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        change(layout.size(), 0);
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        change(layout.size(), size);
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// A server, and what its clients need.
struct Fixture {
    admin: Admin,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// Runs a test with a server of its own, one test at a time.
fn with_server(engine: Engine, has_handler: bool, test: fn(&Fixture)) {
    static SERIAL: Mutex<()> = Mutex::new(());
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    IS_TEST.set(true);
    let pair = pki::pair();
    let files = Pki::of(&pair);
    let is_tls = engine.ends_with(OVER_TLS);
    let mut config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        engine: plain_name(engine).parse().expect("an engine"),
        threads: NonZeroUsize::new(1),
        pin: false,
        admin: Some("127.0.0.1:0".parse().expect("an address")),
        window: WINDOW,
        read_size: Some(READ_SIZE),
        max_backlog: Some(MAX_BACKLOG),
        idle_timeout: None,
        write_timeout: Duration::from_secs(600),
        // Timers are checked four times as often.
        close_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    if is_tls {
        mem::swap(&mut config.listen, &mut config.tls_listen);
        config.tls = Some(TlsFiles {
            certificate: files.path("cert.pem"),
            key: files.path("key.pem"),
        });
    }
    let server = if has_handler {
        Server::start_with(config, echo)
    } else {
        Server::start(config)
    };
    let server = server.expect("started");
    let addresses = [server.addresses(), server.tls_addresses()].concat();
    let fixture = Fixture {
        address: addresses[0].internet().expect("TCP"),
        admin: Admin {
            address: server.admin_address().expect("configured"),
        },
        tls: is_tls.then(|| pair.client(&[&TLS13], &[])),
    };
    test(&fixture);
    server.stop().expect("stopped");
}

async fn echo(mut socket: MessageSocket) {
    while let Ok(message) = socket.read_message().await {
        if socket.write_message(&message).await.is_err() {
            break;
        }
    }
}

impl Fixture {
    /// What connections hold after `fill` and `more` is counted, at least `least` bytes
    /// each.
    #[track_caller]
    fn expect_counted(
        &self,
        what: &str,
        least: usize,
        fill: fn(&mut [Peer]),
        more: fn(&mut [Peer]),
    ) {
        let least = (CONNECTIONS * least) as u64;
        let (mut peers, before) = self.settle(fill);
        self.wait_until_used(what, before, |held, used| {
            more(&mut peers);
            used >= least && held.abs_diff(used) <= used / 10
        });
    }

    /// What connections held after `fill` is freed and no longer counted, despite
    /// `activity`.
    #[track_caller]
    fn expect_given_back(&self, what: &str, fill: fn(&mut [Peer]), activity: fn(&mut [Peer])) {
        let most = CONNECTIONS as u64 * UNCOUNTED + SHARED;
        let (mut peers, before) = self.settle(fill);
        self.wait_until_used(what, before, |held, used| {
            activity(&mut peers);
            held == 0 && used <= most
        });
    }

    /// Connections after `fill`, and the bytes in use before it.
    #[track_caller]
    fn settle(&self, fill: fn(&mut [Peer])) -> (Vec<Peer>, i64) {
        // The first connection makes shared memory grow.
        fill(&mut [Peer::open(self)]);
        self.admin.wait_for("all connections are closed", |page| {
            page.count("ringback_connections_open", &[]) == 0
                && page.count("ringback_held_bytes", &[]) == 0
        });
        let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| Peer::open(self)).collect();
        exchange_little(&mut peers);
        wait_until_stable("nothing changes", || in_use().cast_unsigned());
        let before = in_use();
        fill(&mut peers);
        (peers, before)
    }

    /// Waits until `condition` holds for the held bytes, as the server counts them, and
    /// the bytes in use beyond `before`.
    #[track_caller]
    fn wait_until_used(
        &self,
        what: &str,
        before: i64,
        mut condition: impl FnMut(u64, u64) -> bool,
    ) {
        let start = Instant::now();
        loop {
            let held = self.admin.metrics().count("ringback_held_bytes", &[]);
            let used = (in_use() - before).max(0).cast_unsigned();
            if condition(held, used) {
                return;
            }
            assert!(
                start.elapsed() < TIMEOUT,
                "{what}: {held} bytes are counted, {used} are in use"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A client with small socket buffers.
struct Peer {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    partly_sent: usize,
}

impl Peer {
    #[track_caller]
    fn open(fixture: &Fixture) -> Self {
        let socket = Socket::new(Domain::for_address(fixture.address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        // The window is fixed when the connection is made.
        socket.set_recv_buffer_size(32 * 1024).expect("set");
        socket.set_send_buffer_size(64 * 1024).expect("set");
        socket.connect(&fixture.address.into()).expect("connected");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(TIMEOUT)).expect("set");
        socket.set_write_timeout(Some(TIMEOUT)).expect("set");
        socket.set_nodelay(true).expect("set");
        let tls = fixture.tls.as_ref().map(|config| {
            let name = "localhost".try_into().expect("a name");
            ClientConnection::new(Arc::clone(config), name).expect("a client")
        });
        let mut peer = Self {
            socket,
            tls,
            partly_sent: 0,
        };
        peer.send(REQUEST.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(peer.receive(1));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
        peer
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        self.with(|stream| stream.write_all(bytes)).expect("sent");
    }

    /// Sends as much of this as the socket takes now, and the rest the next time;
    /// returns the number of bytes.
    #[track_caller]
    fn send_what_fits(&mut self, bytes: &[u8]) -> u64 {
        let rest = &bytes[self.partly_sent..];
        self.socket.set_nonblocking(true).expect("set");
        let sent = match self.with(|stream| stream.write(rest)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent.expect("sent"),
        };
        self.socket.set_nonblocking(false).expect("set");
        self.partly_sent = (self.partly_sent + sent) % bytes.len();
        sent as u64
    }

    #[track_caller]
    fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.with(|stream| stream.read_exact(&mut bytes))
            .expect("bytes");
        bytes
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut dyn ReadWrite) -> T) -> T {
        match &mut self.tls {
            Some(tls) => call(&mut Stream::new(tls, &mut self.socket)),
            None => call(&mut self.socket),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn exchange_little(peers: &mut [Peer]) {
    exchange(peers, b"a little");
}

fn do_nothing(_peers: &mut [Peer]) {}

/// Sends a message and receives its echo.
fn exchange(peers: &mut [Peer], payload: &[u8]) {
    let (request, reply) = (frame(BINARY, payload), unmasked(BINARY, payload));
    for peer in peers {
        peer.send(&request);
        assert!(peer.receive(reply.len()) == reply, "not the same");
    }
}

/// Sends this on each connection.
fn send(peers: &mut [Peer], bytes: &[u8]) {
    for peer in peers {
        peer.send(bytes);
    }
}

/// Sends messages of this length until the sockets are full; the replies stay unread.
fn leave_unread(peers: &mut [Peer], len: usize) {
    let message = frame(BINARY, &noise(1, len));
    for peer in peers {
        while peer.send_what_fits(&message) > 0 {}
    }
}

fn held_bytes_of_echo_match_allocated_bytes(engine: Engine) {
    with_server(engine, false, |fixture| {
        let part: fn(&mut [Peer]) = |peers| send(peers, &frame(BINARY, &noise(1, 8000))[..7500]);
        fixture.expect_counted("a part of a frame", 6000, part, do_nothing);
        let pieces: fn(&mut [Peer]) = |peers| {
            for piece in frame(BINARY, &noise(1, 8000))[..7500].chunks(500) {
                send(peers, piece);
            }
        };
        fixture.expect_counted("pieces of a frame", 6000, pieces, do_nothing);
        let unread: fn(&mut [Peer]) = |peers| leave_unread(peers, 4000);
        fixture.expect_counted("unread replies", MAX_BACKLOG, unread, unread);
        if fixture.tls.is_some() {
            fixture.expect_counted(
                "a part of a record",
                14_000,
                send_part_of_record,
                do_nothing,
            );
        }
    });
}

fn send_part_of_record(peers: &mut [Peer]) {
    for peer in peers {
        let tls = peer.tls.as_mut().expect("TLS is spoken");
        let message = frame(BINARY, &noise(1, 15_900));
        tls.writer().write_all(&message).expect("one record");
        let mut record = Vec::new();
        tls.write_tls(&mut record).expect("encrypted");
        peer.socket.write_all(&record[..15_000]).expect("sent");
    }
}

fn held_bytes_of_handler_match_allocated_bytes(engine: Engine) {
    with_server(engine, true, |fixture| {
        let part: fn(&mut [Peer]) =
            |peers| send(peers, &frame(BINARY, &noise(1, 100_000))[..50_000]);
        fixture.expect_counted("a part of a message", 45_000, part, do_nothing);
        let fragments: fn(&mut [Peer]) = |peers| {
            send(peers, &frame(BINARY_FRAGMENT, b""));
            send(peers, &frame(FRAGMENT, &noise(1, 100)).repeat(500));
        };
        fixture.expect_counted("fragments", 45_000, fragments, do_nothing);
        let unread: fn(&mut [Peer]) = |peers| leave_unread(peers, 30_000);
        fixture.expect_counted("unread messages", MAX_BACKLOG, unread, unread);
    });
}

fn echo_frees_unused_buffers(engine: Engine) {
    with_server(engine, false, |fixture| {
        let bulk = |peers: &mut [Peer]| {
            for _ in 0..3 {
                exchange(peers, &noise(1, 50_000));
            }
        };
        fixture.expect_given_back("bulk, then silence", bulk, do_nothing);
        fixture.expect_given_back("bulk, then a little", bulk, exchange_little);
    });
}

fn handler_frees_unused_buffers(engine: Engine) {
    with_server(engine, true, |fixture| {
        let usual = |peers: &mut [Peer]| exchange(peers, &noise(1, 12_000));
        let large = |peers: &mut [Peer]| exchange(peers, &noise(1, 300_000));
        fixture.expect_given_back("a message, then silence", usual, do_nothing);
        fixture.expect_given_back("a large message, then silence", large, do_nothing);
        fixture.expect_given_back("a large message, then a little", large, exchange_little);
    });
}
