//! What can be done with sockets: resets, ends of one side, segments, and as
//! many of them as there are descriptors.

use rustix::net::SendFlags;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, CLOSE, PING, PONG, REQUEST, TEXT, close, frame, header, noise,
    unmasked,
};
use crate::common::{wait_for, wait_until};
use crate::siege::{BACKLOG, NOT_READ, SHAKING_HANDS, SMALL_BACKLOG, Siege, Toll, WAITING, fill};

on_every_engine![
    resets_at_any_byte_leave_nothing,
    resets_during_write_leave_nothing,
    simultaneous_resets_leave_nothing,
    half_closed_client_gets_replies_then_end,
    one_byte_segments_are_echoed,
    urgent_byte_is_not_echoed,
    accept_pauses_without_descriptors,
    connections_over_max_connections_are_refused,
];

fn resets_at_any_byte_leave_nothing(engine: Engine) {
    const CONNECTIONS: usize = 10_000;
    let siege = Siege::lay(engine, &[]);
    let with_frames = [REQUEST.as_bytes(), &frame(BINARY, &noise(1, 2000))].concat();
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(siege.address());
        match index % 10 {
            0..=5 => {}
            6 => raw.send(&REQUEST.as_bytes()[..index % REQUEST.len()]),
            7 => raw.send(REQUEST.as_bytes()),
            8 => raw.send(&with_frames[..REQUEST.len() + index % 2000]),
            _ => {
                raw.send(&with_frames);
                raw.expect_upgrade();
            }
        }
        raw.reset();
    }
    // Some come in before the last ones are gone.
    let toll = Toll::new().connections(CONNECTIONS).held(50, SHAKING_HANDS);
    siege.lift(toll);
}

fn resets_during_write_leave_nothing(engine: Engine) {
    const CONNECTIONS: usize = 100;
    let siege = Siege::lay(engine, &[SMALL_BACKLOG]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_narrow(siege.address()))
        .collect();
    let sent = fill(&mut raws, &frame(BINARY, &noise(1, 60_000)));
    siege.expect_rest();
    for raw in raws {
        raw.reset();
    }
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, NOT_READ + BACKLOG)
        .bytes(sent);
    siege.lift(toll);
}

/// The server finds all of them in one batch of events.
fn simultaneous_resets_leave_nothing(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    let siege = Siege::lay(engine, &[]);
    let raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(siege.address());
            raw.send(&frame(BINARY_FRAGMENT, &noise(1, index % 100)));
            raw
        })
        .collect();
    siege.server().freeze();
    for raw in raws {
        raw.reset();
    }
    siege.server().thaw();
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, WAITING)
        .held(1, SHAKING_HANDS);
    siege.lift(toll);
}

fn half_closed_client_gets_replies_then_end(engine: Engine) {
    const ROUNDS: usize = 30;
    let siege = Siege::lay(engine, &["--write-timeout=4s", SMALL_BACKLOG]);
    let message = frame(BINARY, &noise(1, 3000));
    let reply = unmasked(BINARY, &noise(1, 3000));
    let shake = |rest: &[u8]| [REQUEST.as_bytes(), rest].concat();
    let whole = [message.clone(), frame(PING, b"?")].concat();
    let answers = [reply.clone(), unmasked(PONG, b"?")].concat();
    for _ in 0..ROUNDS {
        // Before a request, and in it, there is nobody to answer to.
        for len in [0, 1, 20, REQUEST.len() - 1] {
            let mut raw = Raw::dial(siege.address());
            raw.send(&REQUEST.as_bytes()[..len]);
            raw.half_close();
            let answer = raw.rest_until_cut();
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "),
                "{answer:x?}"
            );
        }
        let cases = [
            (vec![], vec![]),
            (message[..2].to_vec(), vec![]),
            (message[..2000].to_vec(), vec![]),
            (whole.clone(), answers.clone()),
            ([&whole, &message[..9]].concat(), answers.clone()),
            (close(1000, ""), unmasked(CLOSE, b"\x03\xe8")),
        ];
        for (frames, answer) in cases {
            let mut raw = Raw::dial(siege.address());
            raw.send(&shake(&frames));
            raw.half_close();
            raw.expect_upgrade();
            raw.expect(&answer);
            raw.expect_end();
        }
    }
    // Those who have ended their side, and do not read either.
    let mut deaf: Vec<_> = (0..ROUNDS)
        .map(|_| Raw::open_narrow(siege.address()))
        .collect();
    let sent = fill(&mut deaf, &frame(BINARY, &noise(1, 60_000)));
    for raw in &deaf {
        raw.half_close();
    }
    siege.wait_for_retreat();
    drop(deaf);
    let toll = Toll::new()
        .connections(ROUNDS * 11)
        .bytes(sent)
        .held(ROUNDS, NOT_READ + BACKLOG);
    siege.lift(toll);
}

fn one_byte_segments_are_echoed(engine: Engine) {
    const LEN: usize = 6000;
    let siege = Siege::lay(engine, &[]);
    // Small ones, and one that is held until its last byte is there.
    let small: Vec<u8> = (0..LEN / 8).flat_map(|_| frame(TEXT, b"ab")).collect();
    let small_reply = unmasked(TEXT, b"ab").repeat(LEN / 8);
    let text = "aé日🦀".repeat(LEN / 10);
    let large = frame(TEXT, text.as_bytes());
    let large_reply = unmasked(TEXT, text.as_bytes());
    let streamed = header(BINARY, 1 << 40);
    let mut raws: Vec<_> = (0..3).map(|_| Raw::open(siege.address())).collect();
    for at in 0..LEN {
        raws[0].send(&[small[at]]);
        raws[1].send(&large[at..=at]);
        raws[2].send(&[*streamed.get(at).unwrap_or(&0x55)]);
    }
    raws[1].send(&large[LEN..]);
    raws[0].expect(&small_reply);
    raws[1].expect(&large_reply);
    raws[2].receive(10 + LEN - streamed.len());
    drop(raws);
    siege.lift(
        Toll::new()
            .connections(3)
            .segments(3 * LEN)
            .held(3, NOT_READ),
    );
}

/// TCP's urgent byte is left out of the stream, and a read ends before it: what
/// comes behind it makes no event of its own.
fn urgent_byte_is_not_echoed(engine: Engine) {
    const CONNECTIONS: usize = 50;
    let siege = Siege::lay(engine, &[]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open(siege.address()))
        .collect();
    siege.server().freeze();
    for raw in &mut raws {
        raw.send(&frame(TEXT, b"calm"));
        rustix::net::send(raw.stream(), b"!", SendFlags::OOB).expect("sent");
        raw.send(&frame(TEXT, b"and composed"));
    }
    siege.server().thaw();
    for raw in &mut raws {
        raw.expect_frame(TEXT, b"calm");
        raw.expect_frame(TEXT, b"and composed");
    }
    siege.expect_rest();
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, WAITING);
    siege.lift(toll);
}

fn accept_pauses_without_descriptors(engine: Engine) {
    const LIMIT: usize = 64;
    const ATTACKERS: usize = 4 * LIMIT;
    const LEAVING: usize = 300;
    let siege = Siege::lay(engine, &[]);
    // The server has counted what there is; something else takes it away.
    siege.server().leave_descriptors(LIMIT);

    // The kernel lets all of them connect, the server only some.
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| Raw::dial(siege.address())).collect();
    for raw in &mut attackers {
        raw.send(REQUEST.as_bytes());
    }
    siege.server().wait_for_log("accepting rests");
    siege.expect_rest();
    // The test may have left it some with higher numbers.
    let full = siege.server().process().descriptors().len();
    assert!(full >= LIMIT, "{full} descriptors are open");
    // Each that leaves lets another one in: the server is at its limit over and
    // over again.
    for _ in 0..LEAVING {
        let inside = wait_for("some are inside", || {
            attackers.iter().position(Raw::has_news)
        });
        let leaving = attackers.swap_remove(inside);
        let mut newcomer = Raw::dial(siege.address());
        newcomer.send(REQUEST.as_bytes());
        attackers.push(newcomer);
        leaving.reset();
        wait_until("another one is let in", || {
            siege.server().process().descriptors().len() == full
        });
    }
    for raw in attackers {
        raw.reset();
    }
    let toll = Toll::new()
        .connections(ATTACKERS + LEAVING)
        .held(LIMIT, SHAKING_HANDS);
    siege.lift(toll);
}

fn connections_over_max_connections_are_refused(engine: Engine) {
    const PLACES: usize = 100;
    const ATTACKERS: usize = 600;
    /// Who is over the limit and told so at a time.
    const TURNED_AWAY: usize = 256;
    let flags = ["--max-connections=101", "--handshake-timeout=1s"];
    let siege = Siege::lay(engine, &flags);
    // They take all places, and the places of those who are turned away, and
    // do not say a word.
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| Raw::dial(siege.address())).collect();
    let answers = attackers
        .iter_mut()
        .map(|raw| String::from_utf8(raw.rest_until_cut()).expect("UTF-8"));
    let slow: Vec<_> = answers.filter(|answer| !answer.is_empty()).collect();
    assert!(
        slow.iter()
            .all(|answer| answer.starts_with("HTTP/1.1 408 "))
    );
    assert!(
        (PLACES..=PLACES + TURNED_AWAY).contains(&slow.len()),
        "{} are told that they are slow",
        slow.len()
    );
    // Those who are told leave their places when they hang up.
    drop(attackers);
    siege.wait_for_retreat();

    let mut inside: Vec<_> = (0..PLACES).map(|_| Raw::open(siege.address())).collect();
    for _ in 0..PLACES {
        let mut outside = Raw::dial(siege.address());
        outside.send(REQUEST.as_bytes());
        outside.expect_refusal(503);
    }
    for raw in &mut inside {
        raw.send(&frame(TEXT, b"inside"));
        raw.expect_frame(TEXT, b"inside");
    }
    inside.pop();
    wait_until("there is a place again", || {
        let mut raw = Raw::dial(siege.address());
        raw.send(REQUEST.as_bytes());
        raw.head().starts_with("HTTP/1.1 101 ")
    });
    drop(inside);
    siege.wait_for_retreat();
    Client::connect(siege.address()).close();
    let toll = Toll::new()
        .connections(ATTACKERS + 3 * PLACES)
        .held(PLACES + TURNED_AWAY, SHAKING_HANDS);
    siege.lift(toll);
}
