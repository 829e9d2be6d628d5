//! Those who take their time: with the request, with reading, with the rest of
//! a frame, with the end.

use std::thread;

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, CLOSE, PING, REQUEST, TEXT, TEXT_FRAGMENT, close, closed, frame, header, noise,
    unmasked,
};
use crate::siege::{BACKLOG, NOT_READ, SHAKING_HANDS, SMALL_BACKLOG, Siege, Toll, WAITING, fill};

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
    let siege = Siege::lay(engine, &["--handshake-timeout=1s"]);
    let (beginning, _end) = REQUEST.split_at(REQUEST.len() - 2);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(siege.address());
            raw.send(&beginning.as_bytes()[..index % beginning.len()]);
            raw
        })
        .collect();
    // Some send on and on, a byte at a time, and it does not help them.
    let mut bytes = 0;
    wait_until("all are answered", || {
        for raw in raws.iter_mut().step_by(4) {
            if !raw.has_news() {
                raw.try_send(b"x");
                bytes += 1;
            }
        }
        raws.iter().all(Raw::has_news)
    });
    for (index, raw) in raws.iter_mut().enumerate() {
        let answer = String::from_utf8(raw.rest_until_cut()).expect("UTF-8");
        // A byte more may make nonsense of a request.
        let is_nonsense = index % 4 == 0 && answer.starts_with("HTTP/1.1 400 ");
        assert!(
            is_nonsense || answer.starts_with("HTTP/1.1 408 "),
            "{index}: {answer}"
        );
    }
    // They are let go of though they do not hang up.
    siege.wait_for_retreat();
    drop(raws);
    siege.lift(Toll::endless_handshakes(CONNECTIONS, bytes));
}

fn ping_flood_without_reads_is_cut(engine: Engine) {
    const CONNECTIONS: usize = 50;
    let siege = Siege::lay(engine, &["--write-timeout=2s", SMALL_BACKLOG]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_narrow(siege.address()))
        .collect();
    let pings = [frame(PING, b""), frame(PING, &noise(1, 125))];
    let pings = pings.concat().repeat(1000);
    let mut sent = fill(&mut raws, &pings);
    siege.expect_rest();
    wait_until("all are cut off", || {
        raws.retain_mut(|raw| {
            let more = raw.try_send_what_fits(&pings);
            sent += usize::try_from(more.unwrap_or(0)).expect("as much as a socket holds");
            more.is_some()
        });
        raws.is_empty()
    });
    siege.wait_for_retreat();
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(sent)
        .frames(2000 * sent / pings.len())
        .held(CONNECTIONS, NOT_READ + BACKLOG);
    siege.lift(toll);
}

fn slow_readers_get_every_byte(engine: Engine) {
    const CONNECTIONS: usize = 10;
    const LEN: usize = 200_000;
    const SIP: usize = 100;
    let siege = Siege::lay(engine, &[]);
    let payload = noise(1, LEN);
    let reply = unmasked(BINARY, &payload);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_narrow(siege.address()))
        .collect();
    thread::scope(|scope| {
        for raw in &raws {
            let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
            let payload = &payload;
            scope.spawn(move || writer.send(&frame(BINARY, payload)));
        }
        for at in (0..reply.len()).step_by(SIP) {
            let end = reply.len().min(at + SIP);
            for raw in &mut raws {
                raw.sip(&reply[at..end]);
            }
        }
    });
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .segments(CONNECTIONS * LEN / SIP)
        .held(CONNECTIONS, NOT_READ + BACKLOG);
    siege.lift(toll);
}

fn silence_after_frame_header_is_cut(engine: Engine) {
    const CONNECTIONS: usize = 200;
    const LEN: u64 = 64 * 1024 * 1024;
    let siege = Siege::lay(engine, &["--idle-timeout=1500ms"]);
    let mut answer = vec![BINARY, 127];
    answer.extend_from_slice(&LEN.to_be_bytes());
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = Raw::open(siege.address());
            raw.send(&header(BINARY, LEN));
            raw.expect(&answer);
            raw
        })
        .collect();
    siege.expect_rest();
    // Within a frame there is nothing that could still be said.
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    siege.wait_for_retreat();
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, WAITING)
        .held(2, SHAKING_HANDS);
    siege.lift(toll);
}

fn unfinished_closing_handshake_is_cut_at_close_timeout(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let siege = Siege::lay(engine, &["--close-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(siege.address());
            let answer = if index % 2 == 0 {
                raw.send(&close(1000, ""));
                closed(1000)
            } else {
                raw.send(&unmasked(TEXT, b"naked"));
                closed(1002)
            };
            raw.expect(&answer);
            raw
        })
        .collect();
    siege.expect_rest();
    // Some go on talking, and it does not help them.
    let messages = frame(TEXT, b"and another thing").repeat(10);
    let talking = &mut raws[..50];
    let mut sent = 0;
    wait_until("nobody listens any more", || {
        for raw in &mut *talking {
            if raw.try_send(&messages) {
                sent += messages.len();
            }
        }
        siege.server().process().descriptors().len() == siege.descriptors()
    });
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .segments(sent / messages.len())
        .bytes(sent)
        .held(CONNECTIONS, WAITING)
        .held(2, SHAKING_HANDS);
    siege.lift(toll);
}

fn unanswered_ping_gets_close_1001(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let flags = ["--idle-timeout=400ms", "--pong-timeout=600ms"];
    let siege = Siege::lay(engine, &flags);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(siege.address());
            // Half a frame is no answer, nor is half a message.
            raw.send(&frame(TEXT_FRAGMENT, b"ab")[..index % 8]);
            raw
        })
        .collect();
    for raw in &mut raws {
        raw.expect_frame(PING, b"");
        raw.expect_close(1001);
    }
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, WAITING)
        .held(2, SHAKING_HANDS);
    siege.lift(toll);
}

/// Nobody keeps a server that is to end.
fn drain_ends_despite_slow_clients(engine: Engine) {
    const EACH: usize = 20;
    let siege = Siege::lay(engine, &["--drain-timeout=1500ms", SMALL_BACKLOG]);
    let address = siege.address();
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
    let mut deaf: Vec<_> = (0..EACH).map(|_| Raw::open_narrow(address)).collect();
    fill(&mut deaf, &frame(BINARY, &noise(1, 60_000)));
    siege.drain();
    for raw in all.iter_mut().chain(&mut deaf) {
        raw.rest_until_cut();
    }
}
