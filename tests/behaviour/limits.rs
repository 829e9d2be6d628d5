//! The flags for limits.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, CLOSE, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, close,
    frame, header, noise, unmasked,
};

on_every_engine_and_over_tls![
    message_over_max_message_gets_close_1009,
    max_message_counts_all_fragments,
    any_length_streams_without_max_message,
    fragments_over_max_fragments_get_close_1009,
    frame_over_window_is_echoed_as_it_arrives,
    smallest_read_size_echoes_every_length,
    connection_over_max_connections_gets_503,
    max_connections_counts_all_workers,
    idle_client_that_answers_pings_stays,
    idle_timeout_sends_ping_then_close_1001,
    idle_timeout_inside_streamed_frame_cuts,
    client_that_never_reads_is_cut_at_write_timeout,
    handshake_over_timeout_gets_408,
    request_over_max_header_bytes_gets_431,
    client_that_stays_after_close_is_cut_at_close_timeout,
];

const TOO_BIG: u16 = 1009;

fn message_over_max_message_gets_close_1009(engine: Engine) {
    let server = Server::start(engine, &["--max-message=1k"]);
    let mut raw = Raw::open(server.address());
    for len in [1023, 1024] {
        raw.send(&frame(BINARY, &noise(1, len)));
        raw.expect_frame(BINARY, &noise(1, len));
    }
    raw.send(&frame(BINARY, &noise(1, 1025)));
    raw.expect_close(TOO_BIG);
    // The header is enough.
    for len in [1025, 65_536, 1 << 40, (1 << 63) - 1] {
        let mut raw = Raw::open(server.address());
        raw.send(&header(TEXT, len));
        raw.expect_close(TOO_BIG);
    }
}

fn max_message_counts_all_fragments(engine: Engine) {
    let server = Server::start(engine, &["--max-message=1k"]);
    let mut raw = Raw::open(server.address());
    for round in 0..2 {
        // Control frames do not count.
        for (first, len) in [
            (BINARY_FRAGMENT, 600),
            (PING, 125),
            (FRAGMENT, 424),
            (LAST_FRAGMENT, 0),
        ] {
            raw.send(&frame(first, &noise(round, len)));
            let answer = if first == PING { PONG } else { first };
            raw.expect_frame(answer, &noise(round, len));
        }
    }
    raw.send(&frame(BINARY_FRAGMENT, &noise(3, 1000)));
    raw.expect_frame(BINARY_FRAGMENT, &noise(3, 1000));
    raw.send(&header(LAST_FRAGMENT, 25));
    raw.expect_close(TOO_BIG);
}

fn any_length_streams_without_max_message(engine: Engine) {
    let server = Server::start(engine, &[]);
    let before = server.process().descriptors().len();
    let mut raw = Raw::open(server.address());
    raw.send(&header(BINARY, (1 << 63) - 1));
    let mut answer = vec![BINARY, 127];
    answer.extend_from_slice(&((1_u64 << 63) - 1).to_be_bytes());
    raw.expect(&answer);
    for seed in 0..10 {
        let piece = frame(BINARY, &noise(seed, 65_536));
        // Masked with the same key; without its header of 14 bytes.
        raw.send(&piece[14..]);
        raw.expect(&noise(seed, 65_536));
    }
    drop(raw);
    server.wait_for_descriptors(before);
}

fn fragments_over_max_fragments_get_close_1009(engine: Engine) {
    let server = Server::start(engine, &["--max-fragments=3"]);
    let mut raw = Raw::open(server.address());
    for _ in 0..2 {
        for first in [BINARY_FRAGMENT, FRAGMENT, LAST_FRAGMENT] {
            raw.send(&frame(first, b"x"));
            raw.expect_frame(first, b"x");
        }
    }
    for first in [BINARY_FRAGMENT, FRAGMENT, FRAGMENT] {
        raw.send(&frame(first, b""));
        raw.expect_frame(first, b"");
    }
    raw.send(&frame(LAST_FRAGMENT, b""));
    raw.expect_close(TOO_BIG);
}

fn frame_over_window_is_echoed_as_it_arrives(engine: Engine) {
    let server = Server::start(engine, &["--window=256"]);
    let mut raw = Raw::open(server.address());
    // A frame that fits in the window is held until it is complete ...
    let held = frame(BINARY, &noise(1, 240));
    raw.send(&held[..200]);
    // ... and a longer one is echoed as it arrives.
    let payload = noise(2, 100_000);
    let streamed = frame(BINARY, &payload);
    let reply = unmasked(BINARY, &payload);
    raw.send(&held[200..]);
    raw.expect_frame(BINARY, &noise(1, 240));
    raw.send(&streamed[..14]);
    raw.expect(&reply[..10]);
    let mut at = 14;
    for len in [1, 2, 3, 4, 5, 500, 20_000, 70_000] {
        raw.send(&streamed[at..at + len]);
        raw.expect(&reply[at - 4..at - 4 + len]);
        at += len;
    }
    raw.send(&streamed[at..]);
    raw.expect(&reply[at - 4..]);
    raw.send(&frame(TEXT, b"next"));
    raw.expect_frame(TEXT, b"next");
}

fn smallest_read_size_echoes_every_length(engine: Engine) {
    let server = Server::start(engine, &["--read-size=4k", "--window=2k"]);
    let mut raw = Raw::open(server.address());
    // Held and streamed frames that end before, at and after the end of a read.
    for len in [1, 2000, 2040, 2041, 4088, 4089, 20_000, 100_000] {
        let payload = noise(3, len);
        raw.send(&frame(BINARY, &payload).repeat(3));
        for _ in 0..3 {
            raw.expect_frame(BINARY, &payload);
        }
    }
}

fn connection_over_max_connections_gets_503(engine: Engine) {
    let server = Server::start(engine, &["--max-connections=3", "--threads=1"]);
    let mut accepted: Vec<_> = (0..3).map(|_| Client::connect(server.address())).collect();
    for _ in 0..5 {
        let mut rejected = Raw::dial(server.address());
        rejected.send(REQUEST.as_bytes());
        rejected.expect_refusal(503);
    }
    for client in &mut accepted {
        client.echo("not disturbed");
    }
    accepted.pop().expect("a client").close();
    let mut new_client = wait_for_admission(&server);
    new_client.send(&frame(TEXT, b"at last"));
    new_client.expect_frame(TEXT, b"at last");
}

fn max_connections_counts_all_workers(engine: Engine) {
    let server = Server::start(engine, &["--max-connections=8", "--threads=2"]);
    let _accepted: Vec<_> = (0..8).map(|_| Client::connect(server.address())).collect();
    for _ in 0..16 {
        let mut rejected = Raw::dial(server.address());
        rejected.send(REQUEST.as_bytes());
        rejected.expect_refusal(503);
    }
}

/// Connects until one is accepted: the server may see the end of a connection a little
/// later than its client.
fn wait_for_admission(server: &Server) -> Raw {
    let mut admitted = None;
    wait_until("a connection is accepted", || {
        let mut raw = Raw::dial(server.address());
        raw.send(REQUEST.as_bytes());
        if raw.head().starts_with("HTTP/1.1 101 ") {
            admitted = Some(raw);
        }
        admitted.is_some()
    });
    admitted.expect("admitted")
}

fn idle_client_that_answers_pings_stays(engine: Engine) {
    let server = Server::start(engine, &["--idle-timeout=50ms", "--pong-timeout=5s"]);
    let mut raw = Raw::open(server.address());
    for _ in 0..6 {
        raw.expect_frame(PING, b"");
        raw.send(&frame(PONG, b""));
    }
    raw.send(&frame(TEXT, b"not asleep"));
    // A Ping may be in flight.
    loop {
        let next = raw.frame();
        if next.first == TEXT {
            assert_eq!(next.payload, b"not asleep");
            break;
        }
        assert_eq!((next.first, &next.payload[..]), (PING, &b""[..]));
    }
}

fn idle_timeout_sends_ping_then_close_1001(engine: Engine) {
    let server = Server::start(engine, &["--idle-timeout=200ms", "--pong-timeout=300ms"]);
    let start = Instant::now();
    let mut raw = Raw::open(server.address());
    raw.expect_frame(PING, b"");
    // The server counts whole milliseconds.
    assert!(
        start.elapsed() > Duration::from_millis(198),
        "after {:?}",
        start.elapsed()
    );
    raw.expect_close(1001);
    assert!(
        start.elapsed() > Duration::from_millis(496),
        "after {:?}",
        start.elapsed()
    );
    // Half a message does not extend the timeout.
    let mut raw = Raw::open(server.address());
    raw.send(&frame(TEXT, b"half")[..8]);
    raw.expect_frame(PING, b"");
    raw.expect_close(1001);
}

fn idle_timeout_inside_streamed_frame_cuts(engine: Engine) {
    let server = Server::start(engine, &["--idle-timeout=1s"]);
    let mut raw = Raw::open(server.address());
    raw.send(&header(BINARY, 1 << 20));
    let mut answer = vec![BINARY, 127];
    answer.extend_from_slice(&(1_u64 << 20).to_be_bytes());
    // A Ping would become part of the payload.
    assert_eq!(raw.rest_until_cut(), answer);
}

fn client_that_never_reads_is_cut_at_write_timeout(engine: Engine) {
    let server = Server::start(engine, &["--write-timeout=300ms", "--max-backlog=1m"]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();
    let mut raw = Raw::open_with_small_buffers(server.address());
    raw.send_until_cut(&frame(BINARY, &noise(1, 60_000)));
    server.wait_for_descriptors(before);
    neighbour.echo("after");
}

fn handshake_over_timeout_gets_408(engine: Engine) {
    let server = Server::start(engine, &["--handshake-timeout=1s"]);
    let (start, _end) = REQUEST.split_at(REQUEST.len() - 2);
    let beginnings = ["", "G", "GET / HTTP/1.1\r\nHost: localh", start];
    let slow = beginnings.map(|early| {
        let mut raw = Raw::dial(server.address());
        raw.send(early.as_bytes());
        raw
    });
    for mut raw in slow {
        raw.expect_refusal(408);
    }
    // A byte now and then does not extend it.
    let mut raw = Raw::dial(server.address());
    thread::scope(|scope| {
        let mut slow = Raw::over(raw.stream().try_clone().expect("a descriptor"));
        scope.spawn(move || {
            slow.send(b"GET / HTTP/1.1\r\nX: ");
            slow.send_slowly_until_cut(b"x", Duration::from_millis(10));
        });
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        raw.rest_until_cut();
    });
    // The timeout ends with the upgrade: a later client times out first.
    let mut client = Client::connect(server.address());
    Raw::dial(server.address()).expect_refusal(408);
    client.echo("no hurry");
}

fn request_over_max_header_bytes_gets_431(engine: Engine) {
    let server = Server::start(engine, &["--max-header-bytes=8k"]);
    let request = |padding: usize| {
        let head = REQUEST.trim_end();
        format!("{head}\r\nX-Padding: {}\r\n\r\n", "x".repeat(padding))
    };
    let mut raw = Raw::dial(server.address());
    raw.send(request(7000).as_bytes());
    raw.expect_upgrade();
    let mut raw = Raw::dial(server.address());
    raw.send(request(9000).as_bytes());
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    raw.rest();
}

fn client_that_stays_after_close_is_cut_at_close_timeout(engine: Engine) {
    let server = Server::start(engine, &["--close-timeout=300ms"]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();

    let mut quiet = Raw::open(server.address());
    quiet.send(&close(1000, ""));
    quiet.expect_close(1000);
    let mut wrong = Raw::open(server.address());
    wrong.send(&unmasked(TEXT, b"unmasked"));
    wrong.expect_frame(CLOSE, &1002_u16.to_be_bytes());
    server.wait_for_descriptors(before);

    // Sending on does not extend it.
    let mut busy = Raw::open(server.address());
    busy.send(&close(1000, ""));
    busy.expect_close(1000);
    busy.send_slowly_until_cut(&frame(TEXT, b"and another thing"), Duration::from_millis(5));
    neighbour.echo("after");
}
