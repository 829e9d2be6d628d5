//! Messages in as many pieces as they can be had in.

use std::thread;

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, FRAGMENT, LAST_FRAGMENT, PING, PONG, TEXT_FRAGMENT, closed, frame,
    unmasked,
};
use crate::siege::{NOT_READ, Siege, Toll};

on_every_engine![
    fragments_over_max_fragments_get_close_1009,
    million_one_byte_fragments_are_echoed,
    pings_between_fragments_are_answered_in_order,
    continuation_without_message_gets_close_1002,
    character_split_by_empty_fragments_is_validated,
    handler_message_of_million_fragments_is_echoed,
    handler_message_over_max_message_gets_close_1009,
];

/// What `--max-fragments` allows by default.
const FRAGMENTS_MAX: usize = 1 << 20;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Sends this on a connection while it reads; gets exactly that answer, and the
/// end if the server ends the connection.
#[track_caller]
fn exchange(siege: &Siege, request: &[u8], answer: &[u8], is_last: bool) {
    let mut raw = Raw::open(siege.address());
    let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
    thread::scope(|scope| {
        scope.spawn(move || writer.send(request));
        raw.expect(answer);
        if is_last {
            raw.expect_end();
        }
    });
    raw.half_close();
    raw.expect_end();
}

/// One message of as many fragments as there may be, which is not ended: it is
/// one fragment more that is too much, and whatever follows that is discarded.
fn fragments_over_max_fragments_get_close_1009(engine: Engine) {
    let siege = Siege::lay(engine, &["--close-timeout=20s"]);
    let start = frame(BINARY_FRAGMENT, b"");
    let request = [start, frame(FRAGMENT, b"").repeat(2 * FRAGMENTS_MAX)].concat();
    let mut answer = unmasked(BINARY_FRAGMENT, b"");
    answer.extend(unmasked(FRAGMENT, b"").repeat(FRAGMENTS_MAX - 1));
    answer.extend(closed(TOO_BIG));
    exchange(&siege, &request, &answer, true);
    siege.lift(Toll::new().frames(2 * FRAGMENTS_MAX).held(1, NOT_READ));
}

fn million_one_byte_fragments_are_echoed(engine: Engine) {
    const MESSAGES: usize = 1000;
    const FRAGMENTS: usize = 1000;
    let siege = Siege::lay(engine, &[]);
    let message = |frame: fn(u8, &[u8]) -> Vec<u8>| {
        let mut bytes = frame(TEXT_FRAGMENT, b"x");
        bytes.extend(frame(FRAGMENT, b"y").repeat(FRAGMENTS - 2));
        bytes.extend(frame(LAST_FRAGMENT, b"z"));
        bytes
    };
    let request = message(frame).repeat(MESSAGES);
    exchange(&siege, &request, &message(unmasked).repeat(MESSAGES), false);
    siege.lift(Toll::new().frames(MESSAGES * FRAGMENTS).held(1, NOT_READ));
}

fn pings_between_fragments_are_answered_in_order(engine: Engine) {
    const ROUNDS: usize = 60_000;
    let siege = Siege::lay(engine, &[]);
    let round = [
        frame(FRAGMENT, b"a"),
        frame(PING, b"still there?"),
        frame(PONG, b"nobody asked"),
        frame(FRAGMENT, b""),
        frame(PING, b""),
    ]
    .concat();
    let reply = [
        unmasked(FRAGMENT, b"a"),
        unmasked(PONG, b"still there?"),
        unmasked(FRAGMENT, b""),
        unmasked(PONG, b""),
    ]
    .concat();
    let around = |start: Vec<u8>, rounds: Vec<u8>, end: Vec<u8>| [start, rounds, end].concat();
    let request = around(
        frame(BINARY_FRAGMENT, b""),
        round.repeat(ROUNDS),
        frame(LAST_FRAGMENT, b""),
    );
    let answer = around(
        unmasked(BINARY_FRAGMENT, b""),
        reply.repeat(ROUNDS),
        unmasked(LAST_FRAGMENT, b""),
    );
    exchange(&siege, &request, &answer, false);
    siege.lift(Toll::new().frames(5 * ROUNDS).held(1, NOT_READ));
}

fn continuation_without_message_gets_close_1002(engine: Engine) {
    const FLOOD: usize = 100_000;
    let siege = Siege::lay(engine, &["--close-timeout=20s"]);
    let flood = frame(FRAGMENT, b"x").repeat(FLOOD);
    // At the start, behind a whole message, and behind one in fragments.
    for message in [&[][..], &[BINARY], &[BINARY_FRAGMENT, LAST_FRAGMENT]] {
        let pieces = |frame: fn(u8, &[u8]) -> Vec<u8>| {
            message.iter().flat_map(move |first| frame(*first, b"m"))
        };
        let request: Vec<u8> = pieces(frame).chain(flood.iter().copied()).collect();
        let answer: Vec<u8> = pieces(unmasked).chain(closed(PROTOCOL_ERROR)).collect();
        exchange(&siege, &request, &answer, true);
    }
    siege.lift(Toll::new().frames(3 * FLOOD).held(1, NOT_READ));
}

/// A character is begun, and nothing is decided about it for very long.
fn character_split_by_empty_fragments_is_validated(engine: Engine) {
    const BETWEEN: usize = 50_000;
    let siege = Siege::lay(engine, &["--close-timeout=20s"]);
    let crab = "🦀".as_bytes();
    for (last, is_good) in [(crab[3], true), (b'!', false)] {
        let nothing = |frame: fn(u8, &[u8]) -> Vec<u8>| frame(FRAGMENT, b"").repeat(BETWEEN);
        let message = |frame: fn(u8, &[u8]) -> Vec<u8>| {
            [
                frame(TEXT_FRAGMENT, &crab[..1]),
                nothing(frame),
                frame(FRAGMENT, &crab[1..2]),
                nothing(frame),
                frame(FRAGMENT, &crab[2..3]),
                nothing(frame),
            ]
            .concat()
        };
        let request = [message(frame), frame(LAST_FRAGMENT, &[last])].concat();
        let end = if is_good {
            unmasked(LAST_FRAGMENT, &[last])
        } else {
            closed(INVALID_PAYLOAD)
        };
        let answer = [message(unmasked), end].concat();
        exchange(&siege, &request, &answer, !is_good);
    }
    siege.lift(Toll::new().frames(2 * 3 * BETWEEN).held(1, NOT_READ));
}

/// Where messages are collected, they are no larger for their pieces.
fn handler_message_of_million_fragments_is_echoed(engine: Engine) {
    let siege = Siege::lay(engine, &["--print-messages"]);
    let mut request = frame(BINARY_FRAGMENT, b"x");
    request.extend(frame(FRAGMENT, b"x").repeat(FRAGMENTS_MAX / 2));
    request.extend(frame(FRAGMENT, b"").repeat(FRAGMENTS_MAX / 2 - 2));
    request.extend(frame(LAST_FRAGMENT, b""));
    let answer = unmasked(BINARY, &b"x".repeat(FRAGMENTS_MAX / 2 + 1));
    exchange(&siege, &request, &answer, false);
    // As much again while it grows, and a copy to be written.
    let held = 4 * (FRAGMENTS_MAX / 2) as u64 + NOT_READ;
    siege.lift(Toll::new().frames(FRAGMENTS_MAX).held(1, held));
}

fn handler_message_over_max_message_gets_close_1009(engine: Engine) {
    const LIMIT: usize = 1 << 20;
    const CONNECTIONS: usize = 4;
    let flags = [
        "--print-messages",
        "--max-message=1m",
        "--close-timeout=20s",
    ];
    let siege = Siege::lay(engine, &flags);
    let mut request = frame(BINARY_FRAGMENT, &vec![b'x'; LIMIT]);
    request.extend(frame(FRAGMENT, b"").repeat(1000));
    request.extend(frame(FRAGMENT, b"x"));
    request.extend(frame(FRAGMENT, b"x").repeat(100_000));
    for _ in 0..CONNECTIONS {
        exchange(&siege, &request, &closed(TOO_BIG), true);
    }
    // One may begin before the last one is forgotten.
    let toll = Toll::new()
        .frames(CONNECTIONS * 101_000)
        .bytes(CONNECTIONS * LIMIT)
        .held(2, 2 * LIMIT as u64 + NOT_READ);
    siege.lift(toll);
}
