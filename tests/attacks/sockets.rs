//! Attacks with sockets: resets, half-closes, small segments, and as many connections as
//! there are descriptors.

use rustix::net::SendFlags;

use crate::attack::{Attack, BACKLOG, Budget, IDLE, IN_HANDSHAKE, SMALL_BACKLOG, UNREAD, fill};
use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, CLOSE, PING, PONG, REQUEST, TEXT, close, frame, header, noise,
    unmasked,
};
use crate::common::{wait_for, wait_until};

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
    let attack = Attack::start(engine, &[]);
    let with_frames = [REQUEST.as_bytes(), &frame(BINARY, &noise(1, 2000))].concat();
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(attack.address());
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
    // A connection may be accepted before the previous ones are freed.
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(50, IN_HANDSHAKE);
    attack.finish(budget);
}

fn resets_during_write_leave_nothing(engine: Engine) {
    const CONNECTIONS: usize = 100;
    let attack = Attack::start(engine, &[SMALL_BACKLOG]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_with_small_buffers(attack.address()))
        .collect();
    let sent = fill(&mut raws, &frame(BINARY, &noise(1, 60_000)));
    attack.expect_idle();
    for raw in raws {
        raw.reset();
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, UNREAD + BACKLOG)
        .bytes(sent);
    attack.finish(budget);
}

/// The server gets all of them in one batch of events.
fn simultaneous_resets_leave_nothing(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    let attack = Attack::start(engine, &[]);
    let raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::open(attack.address());
            raw.send(&frame(BINARY_FRAGMENT, &noise(1, index % 100)));
            raw
        })
        .collect();
    attack.server().freeze();
    for raw in raws {
        raw.reset();
    }
    attack.server().thaw();
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, IDLE)
        .held(1, IN_HANDSHAKE);
    attack.finish(budget);
}

fn half_closed_client_gets_replies_then_end(engine: Engine) {
    const ROUNDS: usize = 30;
    let attack = Attack::start(engine, &["--write-timeout=4s", SMALL_BACKLOG]);
    let message = frame(BINARY, &noise(1, 3000));
    let reply = unmasked(BINARY, &noise(1, 3000));
    let shake = |rest: &[u8]| [REQUEST.as_bytes(), rest].concat();
    let whole = [message.clone(), frame(PING, b"?")].concat();
    let answers = [reply.clone(), unmasked(PONG, b"?")].concat();
    for _ in 0..ROUNDS {
        // Before the end of a request there is nothing to answer.
        for len in [0, 1, 20, REQUEST.len() - 1] {
            let mut raw = Raw::dial(attack.address());
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
            let mut raw = Raw::dial(attack.address());
            raw.send(&shake(&frames));
            raw.half_close();
            raw.expect_upgrade();
            raw.expect(&answer);
            raw.expect_end();
        }
    }
    // Half-closed clients that do not read either.
    let mut unread: Vec<_> = (0..ROUNDS)
        .map(|_| Raw::open_with_small_buffers(attack.address()))
        .collect();
    let sent = fill(&mut unread, &frame(BINARY, &noise(1, 60_000)));
    for raw in &unread {
        raw.half_close();
    }
    attack.wait_for_disconnects();
    drop(unread);
    let budget = Budget::new()
        .connections(ROUNDS * 11)
        .bytes(sent)
        .held(ROUNDS, UNREAD + BACKLOG);
    attack.finish(budget);
}

fn one_byte_segments_are_echoed(engine: Engine) {
    const LEN: usize = 6000;
    let attack = Attack::start(engine, &[]);
    // Small frames, and one that is held until its last byte has come.
    let small: Vec<u8> = (0..LEN / 8).flat_map(|_| frame(TEXT, b"ab")).collect();
    let small_reply = unmasked(TEXT, b"ab").repeat(LEN / 8);
    let text = "aé日🦀".repeat(LEN / 10);
    let large = frame(TEXT, text.as_bytes());
    let large_reply = unmasked(TEXT, text.as_bytes());
    let streamed = header(BINARY, 1 << 40);
    let mut raws: Vec<_> = (0..3).map(|_| Raw::open(attack.address())).collect();
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
    attack.finish(
        Budget::new()
            .connections(3)
            .segments(3 * LEN)
            .held(3, UNREAD),
    );
}

/// TCP leaves the urgent byte out of the stream and ends a read before it; the bytes
/// after it make no event of their own.
fn urgent_byte_is_not_echoed(engine: Engine) {
    const CONNECTIONS: usize = 50;
    let attack = Attack::start(engine, &[]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open(attack.address()))
        .collect();
    attack.server().freeze();
    for raw in &mut raws {
        raw.send(&frame(TEXT, b"calm"));
        rustix::net::send(raw.stream(), b"!", SendFlags::OOB).expect("sent");
        raw.send(&frame(TEXT, b"and composed"));
    }
    attack.server().thaw();
    for raw in &mut raws {
        raw.expect_frame(TEXT, b"calm");
        raw.expect_frame(TEXT, b"and composed");
    }
    attack.expect_idle();
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(CONNECTIONS, IDLE);
    attack.finish(budget);
}

fn accept_pauses_without_descriptors(engine: Engine) {
    const LIMIT: usize = 64;
    const ATTACKERS: usize = 4 * LIMIT;
    const LEAVING: usize = 300;
    let attack = Attack::start(engine, &[]);
    // The limit falls after the server has read it at its start.
    attack.server().limit_free_descriptors(LIMIT);

    // The kernel connects all of them; the server accepts only some.
    let mut attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| Raw::dial(attack.address()))
        .collect();
    for raw in &mut attackers {
        raw.send(REQUEST.as_bytes());
    }
    attack.server().wait_for_log("accept paused");
    attack.expect_idle();
    // Some of the open descriptors may have higher numbers than the limit.
    let full = attack.server().process().descriptors().len();
    assert!(full >= LIMIT, "{full} descriptors are open");
    // Each reset lets another one in, so that the server is at its limit over and over
    // again.
    for _ in 0..LEAVING {
        let accepted = wait_for("a connection is accepted", || {
            attackers.iter().position(Raw::is_readable)
        });
        let leaving = attackers.swap_remove(accepted);
        let mut new_client = Raw::dial(attack.address());
        new_client.send(REQUEST.as_bytes());
        attackers.push(new_client);
        leaving.reset();
        wait_until("another connection is accepted", || {
            attack.server().process().descriptors().len() == full
        });
    }
    for raw in attackers {
        raw.reset();
    }
    let budget = Budget::new()
        .connections(ATTACKERS + LEAVING)
        .held(LIMIT, IN_HANDSHAKE);
    attack.finish(budget);
}

fn connections_over_max_connections_are_refused(engine: Engine) {
    const SLOTS: usize = 100;
    const ATTACKERS: usize = 600;
    /// The most simultaneous connections that get a 503.
    const REJECTED: usize = 256;
    let flags = ["--max-connections=101", "--handshake-timeout=1s"];
    let attack = Attack::start(engine, &flags);
    // Silent connections take all slots and all slots for rejections.
    let mut attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| Raw::dial(attack.address()))
        .collect();
    let answers = attackers
        .iter_mut()
        .map(|raw| String::from_utf8(raw.rest_until_cut()).expect("UTF-8"));
    let slow: Vec<_> = answers.filter(|answer| !answer.is_empty()).collect();
    assert!(
        slow.iter()
            .all(|answer| answer.starts_with("HTTP/1.1 408 "))
    );
    assert!(
        (SLOTS..=SLOTS + REJECTED).contains(&slow.len()),
        "{} got a 408",
        slow.len()
    );
    // A rejected connection frees its slot when it ends.
    drop(attackers);
    attack.wait_for_disconnects();

    let mut accepted: Vec<_> = (0..SLOTS).map(|_| Raw::open(attack.address())).collect();
    for _ in 0..SLOTS {
        let mut rejected = Raw::dial(attack.address());
        rejected.send(REQUEST.as_bytes());
        rejected.expect_refusal(503);
    }
    for raw in &mut accepted {
        raw.send(&frame(TEXT, b"inside"));
        raw.expect_frame(TEXT, b"inside");
    }
    accepted.pop();
    wait_until("a slot is free", || {
        let mut raw = Raw::dial(attack.address());
        raw.send(REQUEST.as_bytes());
        raw.head().starts_with("HTTP/1.1 101 ")
    });
    drop(accepted);
    attack.wait_for_disconnects();
    Client::connect(attack.address()).close();
    let budget = Budget::new()
        .connections(ATTACKERS + 3 * SLOTS)
        .held(SLOTS + REJECTED, IN_HANDSHAKE);
    attack.finish(budget);
}
