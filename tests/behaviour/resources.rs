//! Costs of connections: memory, descriptors and system calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use ringback::Config;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::server::Server;
use crate::common::wire::{BINARY, REQUEST, TEXT, frame, noise, unmasked};
use crate::common::{wait_until, wait_until_stable};

on_every_engine![
    batch_of_frames_costs_one_read_and_one_write,
    slow_reader_memory_is_bounded_and_no_byte_is_lost,
    memory_of_many_slow_readers_is_bounded,
    arrivals_beyond_the_buffers_are_echoed,
    thousand_connections_leave_no_descriptor,
    short_connections_leave_no_descriptor,
    accept_pauses_without_descriptors,
];

on_every_engine_over_tls![
    slow_reader_memory_is_bounded_and_no_byte_is_lost,
    memory_of_many_slow_readers_is_bounded,
    arrivals_beyond_the_buffers_are_echoed,
    thousand_connections_leave_no_descriptor,
    short_connections_leave_no_descriptor,
];

const MIB: u64 = 1024 * 1024;

fn batch_of_frames_costs_one_read_and_one_write(engine: Engine) {
    const BATCH: usize = 256;
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        engine: engine.parse().expect("an engine"),
        pin: false,
        ..Config::default()
    };
    let server = ringback::Server::start(config).expect("started");
    let mut raw = Raw::open(server.addresses()[0].internet().expect("TCP"));
    // All of it fits into the smallest read buffer of an engine.
    raw.send(&frame(TEXT, b"x").repeat(BATCH));
    raw.expect(&unmasked(TEXT, b"x").repeat(BATCH));
    // The write is counted when it is done, which its reader may see first.
    wait_until("the write is counted", || server.metrics().writes > 0);
    let metrics = server.metrics();
    assert_eq!(metrics.messages_received, BATCH as u64);
    assert_eq!((metrics.reads, metrics.writes), (1, 1));
    drop(raw);
    server.stop().expect("stopped");
}

fn slow_reader_memory_is_bounded_and_no_byte_is_lost(engine: Engine) {
    const TOTAL: u64 = 128 * MIB;
    const ALLOWANCE: u64 = 8 * MIB;
    let server = Server::start(engine, &["--max-backlog=1m"]);
    Client::connect(server.address()).echo("warm");
    let before = server.process().memory();

    // Lengths without a common divisor show lost or doubled bytes.
    let payloads = [1_000_003, 7, 65_537, 524_287, 130_001].map(|len| noise(len as u64, len));
    let round: u64 = payloads.iter().map(|payload| payload.len() as u64).sum();
    let rounds = TOTAL / round + 1;
    let requests: Vec<_> = payloads
        .iter()
        .map(|payload| frame(BINARY, payload))
        .collect();
    let replies: Vec<_> = payloads
        .iter()
        .map(|payload| unmasked(BINARY, payload))
        .collect();

    let mut reader = Raw::open_with_small_buffers(server.address());
    let mut writer = Raw::over(reader.stream().try_clone().expect("a descriptor"));
    let written = &AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..rounds {
                for piece in requests
                    .iter()
                    .flat_map(|request| request.chunks(64 * 1024))
                {
                    writer.send(piece);
                    written.fetch_add(piece.len() as u64, Relaxed);
                }
            }
        });
        let stuck_at = wait_until_stable("the sockets are full", || written.load(Relaxed));
        assert!(stuck_at < TOTAL, "the server took all of it");
        let growth = server.process().memory().saturating_sub(before);
        assert!(growth < ALLOWANCE, "{growth} bytes for one slow reader");
        for _ in 0..rounds {
            for reply in &replies {
                reader.expect(reply);
            }
        }
    });
    let growth = server.process().memory().saturating_sub(before);
    assert!(
        growth < ALLOWANCE,
        "{growth} bytes after {TOTAL} bytes of echoes"
    );
}

fn memory_of_many_slow_readers_is_bounded(engine: Engine) {
    const READERS: usize = 200;
    // The backlog, a read buffer and as much again.
    const ALLOWANCE: u64 = READERS as u64 * (64 + 128) * 1024;
    let server = Server::start(engine, &["--max-backlog=64k"]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().memory();

    let request = frame(BINARY, &noise(1, 60_000));
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| Raw::open_with_small_buffers(server.address()))
        .collect();
    let mut written = 0;
    let written = wait_until_stable("the sockets are full", || {
        for raw in &mut readers {
            written += raw.send_what_fits(&request);
        }
        neighbour.echo("not disturbed");
        written
    });
    // The allocator gives back large buffers a while later.
    let what = format!("little is held for {READERS} slow readers that have sent {written}");
    wait_until(&what, || {
        server.process().memory().saturating_sub(before) < ALLOWANCE
    });
    for raw in readers {
        raw.reset();
    }
    neighbour.echo("after");
}

/// A multishot receive of the ring ends when the buffers run out, and must be armed
/// again.
fn arrivals_beyond_the_buffers_are_echoed(engine: Engine) {
    const CLIENTS: usize = 200;
    let server = Server::start(engine, &["--threads=1"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Raw::open(server.address())).collect();
    for len in [3, 60_000, 3000, 40_000] {
        let payload = noise(len as u64, len);
        server.freeze();
        for raw in &mut clients {
            raw.send(&frame(BINARY, &payload));
        }
        server.thaw();
        for raw in &mut clients {
            raw.expect(&unmasked(BINARY, &payload));
        }
    }
}

fn thousand_connections_leave_no_descriptor(engine: Engine) {
    const CLIENTS: usize = 1000;
    let server = Server::start(engine, &[]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();

    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect(server.address()))
        .collect();
    assert!(server.process().descriptors().len() >= before + CLIENTS);
    for round in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("client {index}, round {round}"));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            client.expect(&format!("client {index}, round {round}").into());
        }
    }
    for (index, client) in clients.into_iter().enumerate() {
        // One in two ends without a Close.
        if index % 2 == 0 {
            client.close();
        }
    }
    server.wait_for_descriptors(before);
    neighbour.echo("after");
}

fn short_connections_leave_no_descriptor(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();
    for index in 0..2000 {
        let mut raw = Raw::dial(server.address());
        match index % 8 {
            0 | 1 => {}
            2 | 3 => raw.send(&REQUEST.as_bytes()[..index % REQUEST.len()]),
            4 | 5 => raw.send(REQUEST.as_bytes()),
            _ => {
                raw.send(REQUEST.as_bytes());
                raw.expect_upgrade();
            }
        }
        if index % 2 == 0 {
            raw.reset();
        }
    }
    neighbour.echo("after");
    server.wait_for_descriptors(before);
}

fn accept_pauses_without_descriptors(engine: Engine) {
    const LIMIT: usize = 64;
    let server = Server::start(engine, &["--threads=1"]);
    // The limit falls after the server has read it at its start.
    server.limit_free_descriptors(LIMIT);

    // The kernel connects all of them; the server accepts only some.
    let mut accepted: Vec<_> = (0..LIMIT + 16)
        .map(|_| Raw::dial(server.address()))
        .collect();
    for raw in &mut accepted {
        raw.send(REQUEST.as_bytes());
    }
    server.wait_for_log("accept paused");
    let capacity = wait_until_stable("the accepted connections stay the same", || {
        accepted.iter().filter(|raw| raw.is_readable()).count() as u64
    });
    let capacity = usize::try_from(capacity).expect("few");
    assert!(
        (LIMIT / 2..LIMIT + 8).contains(&capacity),
        "{capacity} connections"
    );
    let mut rejected = accepted.split_off(capacity);
    for raw in &mut accepted {
        raw.expect_upgrade();
        raw.send(&frame(TEXT, b"inside"));
        raw.expect_frame(TEXT, b"inside");
    }
    assert!(rejected.iter().all(|raw| !raw.is_readable()));

    // There is no event to wait for: a worker that spins would use all of this interval.
    let while_full = Duration::from_secs(1);
    let before = server.process().cpu_time();
    thread::sleep(while_full);
    let used = server.process().cpu_time().saturating_sub(before);
    assert!(
        used < while_full / 10,
        "{used:?} of CPU time in {while_full:?}"
    );

    accepted.drain(..10);
    for raw in &mut rejected[..10] {
        raw.expect_upgrade();
        raw.send(&frame(TEXT, b"at last"));
        raw.expect_frame(TEXT, b"at last");
    }
    assert!(rejected[10..].iter().all(|raw| !raw.is_readable()));
    for raw in &mut accepted {
        raw.send(&frame(TEXT, b"still inside"));
        raw.expect_frame(TEXT, b"still inside");
    }
}
