//! The cost of a short connection: the server's CPU time for connect, upgrade, one
//! message and the closing handshake, on every engine, and for a raw TCP server as the
//! floor.
//!
//! The server is a process of its own on the first core, its one client is this process
//! on the second. A few connections go through each step together, so that the server is
//! not woken for each of them: the cost of waking differs between machines and has
//! nothing to do with handshakes.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod server;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use host::stat::{Schedstat, Stat};
use ringback::EngineKind;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::param::clock_ticks_per_second;
use slab::Slab;

use server::{CLIENT_CORE, REQUEST, SERVER_CORE, Server, pin, ringback};

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 4096;

/// Simultaneous connections.
const TOGETHER: usize = 32;

/// The argument that makes this binary the raw TCP server.
const FLOOR: &str = "--serve-floor";

const MESSAGE: &[u8] = b"\x82\x83\x00\x00\x00\x00abc";
const ECHO: &[u8] = b"\x82\x03abc";
const CLOSE: &[u8] = b"\x88\x82\x00\x00\x00\x00\x03\xe8";
const CLOSED: &[u8] = b"\x88\x02\x03\xe8";

fn main() {
    if std::env::args().any(|arg| arg == FLOOR) {
        serve_floor();
        return;
    }
    // `cargo test --benches` only checks that this runs.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let (rounds, connections) = if is_test {
        (1, TOGETHER)
    } else {
        (ROUNDS, CONNECTIONS)
    };
    pin(CLIENT_CORE);
    println!("server CPU per connection, median of {rounds} rounds of {connections} (range)");
    for &engine in EngineKind::ALL {
        match engine.probe() {
            Ok(()) => {
                let server = Server::start(&mut ringback(engine));
                report(engine.name(), &server, rounds, connections, converse);
            }
            Err(error) => println!("{engine:<12} {error}"),
        }
    }
    let mut floor = Command::new(std::env::current_exe().expect("this binary"));
    let server = Server::start(floor.arg(FLOOR));
    report("raw TCP", &server, rounds, connections, converse_raw);
}

fn report(
    name: &str,
    server: &Server,
    rounds: usize,
    connections: usize,
    converse: fn(&mut [TcpStream]),
) {
    let serve = |connections: usize| {
        for _ in 0..connections / TOGETHER {
            let mut streams: Vec<_> = (0..TOGETHER).map(|_| server.connect()).collect();
            converse(&mut streams);
        }
    };
    // The first connections allocate what all share.
    serve(connections.min(512));
    let mut costs: Vec<_> = (0..rounds)
        .map(|_| {
            let before = cpu_time(server);
            serve(connections);
            let used = cpu_time(server).saturating_sub(before);
            micros(used) / connections as f64
        })
        .collect();
    let (user, system) = user_and_system(server);
    let share = |part: Duration| 100.0 * micros(part) / micros(user + system).max(1.0);
    costs.sort_by(f64::total_cmp);
    println!(
        "{name:<12} {:>6.1} µs  ({:.1} to {:.1})  user {:.0} %, system {:.0} %",
        f64::midpoint(costs[(costs.len() - 1) / 2], costs[costs.len() / 2]),
        costs[0],
        costs[costs.len() - 1],
        share(user),
        share(system),
    );
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Upgrades, has one message echoed, and closes.
fn converse(streams: &mut [TcpStream]) {
    send_all(streams, REQUEST);
    for stream in &mut *streams {
        let mut head = [0; 512];
        let mut len = 0;
        while !head[..len].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut head[len..]).expect("an answer");
            assert!(read > 0, "hung up");
            len += read;
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
    }
    for (request, reply) in [(MESSAGE, ECHO), (CLOSE, CLOSED)] {
        send_all(streams, request);
        for stream in &mut *streams {
            let mut buf = [0; 16];
            stream.read_exact(&mut buf[..reply.len()]).expect("a reply");
            assert_eq!(&buf[..reply.len()], reply);
        }
    }
    expect_ends(streams);
}

/// The same number of bytes in both directions, without a protocol.
fn converse_raw(streams: &mut [TcpStream]) {
    for piece in [REQUEST, MESSAGE, CLOSE] {
        send_all(streams, piece);
        for stream in &mut *streams {
            let mut echo = [0; REQUEST.len()];
            stream
                .read_exact(&mut echo[..piece.len()])
                .expect("a reply");
        }
    }
    for stream in &*streams {
        stream.shutdown(Shutdown::Write).expect("shut down");
    }
    expect_ends(streams);
}

fn send_all(streams: &mut [TcpStream], bytes: &[u8]) {
    for stream in streams {
        stream.write_all(bytes).expect("sent");
    }
}

fn expect_ends(streams: &mut [TcpStream]) {
    for stream in streams {
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
}

/// Accepts, echoes what is read, and closes.
fn serve_floor() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    println!("listening ws://{address} raw");
    pin(SERVER_CORE);
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance");
    let mut streams: Slab<Option<TcpStream>> = Slab::new();
    let watch = |source: &dyn AsFd, key: usize| {
        let data = EventData::new_u64(key as u64);
        epoll::add(&epoll, source.as_fd(), data, EventFlags::IN).expect("registered");
    };
    watch(&listener, streams.insert(None));
    let mut events: Vec<Event> = Vec::with_capacity(TOGETHER);
    let mut buf = [0; 1024];
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).expect("events");
        for event in &events {
            let key = usize::try_from(event.data.u64()).expect("a key");
            let Some(stream) = &mut streams[key] else {
                let (stream, _) = listener.accept().expect("accepted");
                let entry = streams.vacant_entry();
                watch(&stream, entry.key());
                entry.insert(Some(stream));
                continue;
            };
            match stream.read(&mut buf) {
                Ok(len @ 1..) => stream.write_all(&buf[..len]).expect("sent"),
                _ => drop(streams.remove(key)),
            }
        }
    }
}

/// CPU time of all threads, to the nanosecond.
fn cpu_time(server: &Server) -> Duration {
    let tasks = format!("/proc/{}/task", server.id());
    let nanos = fs::read_dir(tasks)
        .expect("the server runs")
        .map(|task| {
            let path = task.expect("a thread").path().join("schedstat");
            let schedstat = fs::read(path).expect("a thread that lives");
            Schedstat::parse(&schedstat).expect("a number").cpu_ns
        })
        .sum();
    Duration::from_nanos(nanos)
}

/// CPU time since its start, split by the kernel by ticks.
fn user_and_system(server: &Server) -> (Duration, Duration) {
    let stat = fs::read(format!("/proc/{}/stat", server.id())).expect("the server runs");
    let stat = Stat::parse(&stat).expect("a stat file");
    let time = |ticks| Duration::from_millis(1000 * ticks / clock_ticks_per_second());
    (time(stat.user_ticks), time(stat.system_ticks))
}
