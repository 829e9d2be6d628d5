//! Slow clients: slow requests, slow reads, incomplete frames, slow closes.

use std::thread;

use crate::attack::{Attack, BACKLOG, Budget, IDLE, IN_HANDSHAKE, SMALL_BACKLOG, UNREAD, fill};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, CLOSE, PING, REQUEST, TEXT, TEXT_FRAGMENT, close, closed, frame, header, noise,
    unmasked,
};

on_every_engine![
    incomplete_requests_get_408,
    ping_flood_without_reads_is_cut,
    slow_readers_get_every_byte,
    silence_after_frame_header_is_cut,
    unfinished_closing_handshake_is_cut_at_close_timeout,
    unanswered_ping_gets_close_1001,
    drain_ends_despite_slow_clients,
];

fn incomplete_requests_get_408(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    let attack = Attack::start(engine, &["--handshake-timeout=1s"]);
    let (beginning, _end) = REQUEST.split_at(REQUEST.len() - 2);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(attack.address());
            raw.send(&beginning.as_bytes()[..index % beginning.len()]);
            raw
        })
        .collect();
    // Some send on, a byte at a time, which changes nothing.
    let mut bytes = 0;
    wait_until("all are answered", || {
        for raw in raws.iter_mut().step_by(4) {
            if !raw.is_readable() {
                raw.try_send(b"x");
                bytes += 1;
            }
        }
        raws.iter().all(Raw::is_readable)
    });
    for (index, raw) in raws.iter_mut().enumerate() {
        let answer = String::from_utf8(raw.rest_until_cut()).expect("UTF-8");
        // A byte more may make a request invalid.
        let is_nonsense = index % 4 == 0 && answer.starts_with("HTTP/1.1 400 ");
        assert!(
            is_nonsense || answer.starts_with("HTTP/1.1 408 "),
            "{index}: {answer}"
        );
    }
    // They are disconnected though they do not close their end.
    attack.wait_for_disconnects();
    drop(raws);
    attack.finish(Budget::incomplete_handshakes(CONNECTIONS, bytes));
}

fn ping_flood_without_reads_is_cut(engine: Engine) {
    const CONNECTIONS: usize = 50;
    let attack = Attack::start(engine, &["--write-timeout=2s", SMALL_BACKLOG]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_with_small_buffers(attack.address()))
        .collect();
    let pings = [frame(PING, b""), frame(PING, &noise(1, 125))];
    let pings = pings.concat().repeat(1000);
    let mut sent = fill(&mut raws, &pings);
    attack.expect_idle();
    wait_until("all connections are cut", || {
        raws.retain_mut(|raw| {
            let more = raw.try_send_what_fits(&pings);
            sent += usize::try_from(more.unwrap_or(0)).expect("it fits in memory");
            more.is_some()
        });
        raws.is_empty()
    });
    attack.wait_for_disconnects();
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(sent)
        .frames(2000 * sent / pings.len())
        .held(CONNECTIONS, UNREAD + BACKLOG);
    attack.finish(budget);
}

fn slow_readers_get_every_byte(engine: Engine) {
    const CONNECTIONS: usize = 10;
    const LEN: usize = 200_000;
    const CHUNK: usize = 100;
    let attack = Attack::start(engine, &[]);
    let payload = noise(1, LEN);
    let reply = unmasked(BINARY, &payload);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_with_small_buffers(attack.address()))
        .collect();
    thread::scope(|scope| {
        for raw in &raws {
            let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
            let payload = &payload;
            scope.spawn(move || writer.send(&frame(BINARY, payload)));
        }
        for at in (0..reply.len()).step_by(CHUNK) {
            let end = reply.len().min(at + CHUNK);
            for raw in &mut raws {
                raw.expect_unbuffered(&reply[at..end]);
            }
        }
    });
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .segments(CONNECTIONS * LEN / CHUNK)
        .held(CONNECTIONS, UNREAD + BACKLOG);
    attack.finish(budget);
}

fn silence_after_frame_header_is_cut(engine: Engine) {
    const CONNECTIONS: usize = 200;
    const LEN: u64 = 64 * 1024 * 1024;
    let attack = Attack::start(engine, &["--idle-timeout=1500ms"]);
    let mut answer = vec![BINARY, 127];
    answer.extend_from_slice(&LEN.to_be_bytes());
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = Raw::open(attack.address());
            raw.send(&header(BINARY, LEN));
            raw.expect(&answer);
            raw
        })
        .collect();
    attack.expect_idle();
    // Inside a frame no Ping and no Close can be sent.
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    attack.wait_for_disconnects();
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, IDLE)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

fn unfinished_closing_handshake_is_cut_at_close_timeout(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let attack = Attack::start(engine, &["--close-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(attack.address());
            let answer = if index % 2 == 0 {
                raw.send(&close(1000, ""));
                closed(1000)
            } else {
                raw.send(&unmasked(TEXT, b"unmasked"));
                closed(1002)
            };
            raw.expect(&answer);
            raw
        })
        .collect();
    attack.expect_idle();
    // Some send on, which changes nothing.
    let messages = frame(TEXT, b"and another thing").repeat(10);
    let thread = &mut raws[..50];
    let mut sent = 0;
    wait_until("all connections are closed", || {
        for raw in &mut *thread {
            if raw.try_send(&messages) {
                sent += messages.len();
            }
        }
        attack.server().process().descriptors().len() == attack.descriptors()
    });
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .segments(sent / messages.len())
        .bytes(sent)
        .held(CONNECTIONS, IDLE)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

fn unanswered_ping_gets_close_1001(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let flags = ["--idle-timeout=400ms", "--pong-timeout=600ms"];
    let attack = Attack::start(engine, &flags);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(attack.address());
            // Half a frame is no Pong, nor is half a message.
            raw.send(&frame(TEXT_FRAGMENT, b"ab")[..index % 8]);
            raw
        })
        .collect();
    for raw in &mut raws {
        raw.expect_frame(PING, b"");
        raw.expect_close(1001);
    }
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, IDLE)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

/// No client delays the end of a drain.
fn drain_ends_despite_slow_clients(engine: Engine) {
    const EACH: usize = 20;
    let attack = Attack::start(engine, &["--drain-timeout=1500ms", SMALL_BACKLOG]);
    let address = attack.address();
    let mut all = Vec::new();
    for _ in 0..EACH {
        all.push(Raw::dial(address));
        let mut half = Raw::dial(address);
        half.send(&REQUEST.as_bytes()[..50]);
        let mut streaming = Raw::open(address);
        streaming.send(&header(BINARY, 1 << 40));
        let mut part = Raw::open(address);
        part.send(&frame(TEXT_FRAGMENT, b"well")[..7]);
        let mut closing = Raw::open(address);
        closing.send(&close(1000, ""));
        closing.expect_frame(CLOSE, b"\x03\xe8");
        let mut ended = Raw::open(address);
        ended.send(&header(TEXT, 100));
        all.extend([half, streaming, part, closing, ended]);
    }
    let mut unread: Vec<_> = (0..EACH)
        .map(|_| Raw::open_with_small_buffers(address))
        .collect();
    fill(&mut unread, &frame(BINARY, &noise(1, 60_000)));
    attack.drain();
    for raw in all.iter_mut().chain(&mut unread) {
        raw.rest_until_cut();
    }
}
