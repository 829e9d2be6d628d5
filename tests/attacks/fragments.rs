//! Messages in as many fragments as possible.

use std::thread;

use crate::attack::{Attack, Budget, UNREAD};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, FRAGMENT, LAST_FRAGMENT, PING, PONG, TEXT_FRAGMENT, closed, frame,
    unmasked,
};

on_every_engine![
    fragments_over_max_fragments_get_close_1009,
    million_one_byte_fragments_are_echoed,
    pings_between_fragments_are_answered_in_order,
    continuation_without_message_gets_close_1002,
    character_split_by_empty_fragments_is_validated,
    handler_message_of_million_fragments_is_echoed,
    handler_message_over_max_message_gets_close_1009,
];

/// The default of `--max-fragments`.
const FRAGMENTS_MAX: usize = 1 << 20;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Sends `request` while it reads; expects exactly `answer`, and the end if `is_last`.
#[track_caller]
fn exchange(attack: &Attack, request: &[u8], answer: &[u8], is_last: bool) {
    let mut raw = Raw::open(attack.address());
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

/// One message with the most fragments, which does not end: the next fragment is one too
/// many, and all that follows is discarded.
fn fragments_over_max_fragments_get_close_1009(engine: Engine) {
    let attack = Attack::start(engine, &["--close-timeout=20s"]);
    let start = frame(BINARY_FRAGMENT, b"");
    let request = [start, frame(FRAGMENT, b"").repeat(2 * FRAGMENTS_MAX)].concat();
    let mut answer = unmasked(BINARY_FRAGMENT, b"");
    answer.extend(unmasked(FRAGMENT, b"").repeat(FRAGMENTS_MAX - 1));
    answer.extend(closed(TOO_BIG));
    exchange(&attack, &request, &answer, true);
    attack.finish(Budget::new().frames(2 * FRAGMENTS_MAX).held(1, UNREAD));
}

fn million_one_byte_fragments_are_echoed(engine: Engine) {
    const MESSAGES: usize = 1000;
    const FRAGMENTS: usize = 1000;
    let attack = Attack::start(engine, &[]);
    let message = |frame: fn(u8, &[u8]) -> Vec<u8>| {
        let mut bytes = frame(TEXT_FRAGMENT, b"x");
        bytes.extend(frame(FRAGMENT, b"y").repeat(FRAGMENTS - 2));
        bytes.extend(frame(LAST_FRAGMENT, b"z"));
        bytes
    };
    let request = message(frame).repeat(MESSAGES);
    exchange(
        &attack,
        &request,
        &message(unmasked).repeat(MESSAGES),
        false,
    );
    attack.finish(Budget::new().frames(MESSAGES * FRAGMENTS).held(1, UNREAD));
}

fn pings_between_fragments_are_answered_in_order(engine: Engine) {
    const ROUNDS: usize = 60_000;
    let attack = Attack::start(engine, &[]);
    let round = [
        frame(FRAGMENT, b"a"),
        frame(PING, b"still there?"),
        frame(PONG, b"unsolicited"),
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
    let on = |start: Vec<u8>, rounds: Vec<u8>, end: Vec<u8>| [start, rounds, end].concat();
    let request = on(
        frame(BINARY_FRAGMENT, b""),
        round.repeat(ROUNDS),
        frame(LAST_FRAGMENT, b""),
    );
    let answer = on(
        unmasked(BINARY_FRAGMENT, b""),
        reply.repeat(ROUNDS),
        unmasked(LAST_FRAGMENT, b""),
    );
    exchange(&attack, &request, &answer, false);
    attack.finish(Budget::new().frames(5 * ROUNDS).held(1, UNREAD));
}

fn continuation_without_message_gets_close_1002(engine: Engine) {
    const FLOOD: usize = 100_000;
    let attack = Attack::start(engine, &["--close-timeout=20s"]);
    let flood = frame(FRAGMENT, b"x").repeat(FLOOD);
    // At the start, after a whole message, and after a fragmented one.
    for message in [&[][..], &[BINARY], &[BINARY_FRAGMENT, LAST_FRAGMENT]] {
        let pieces = |frame: fn(u8, &[u8]) -> Vec<u8>| {
            message.iter().flat_map(move |first| frame(*first, b"m"))
        };
        let request: Vec<u8> = pieces(frame).chain(flood.iter().copied()).collect();
        let answer: Vec<u8> = pieces(unmasked).chain(closed(PROTOCOL_ERROR)).collect();
        exchange(&attack, &request, &answer, true);
    }
    attack.finish(Budget::new().frames(3 * FLOOD).held(1, UNREAD));
}

/// A character begins, and its last byte comes after many empty fragments.
fn character_split_by_empty_fragments_is_validated(engine: Engine) {
    const BETWEEN: usize = 50_000;
    let attack = Attack::start(engine, &["--close-timeout=20s"]);
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
        exchange(&attack, &request, &answer, !is_good);
    }
    attack.finish(Budget::new().frames(2 * 3 * BETWEEN).held(1, UNREAD));
}

/// A collected message takes no more memory for its fragments.
fn handler_message_of_million_fragments_is_echoed(engine: Engine) {
    let attack = Attack::start(engine, &["--print-messages"]);
    let mut request = frame(BINARY_FRAGMENT, b"x");
    request.extend(frame(FRAGMENT, b"x").repeat(FRAGMENTS_MAX / 2));
    request.extend(frame(FRAGMENT, b"").repeat(FRAGMENTS_MAX / 2 - 2));
    request.extend(frame(LAST_FRAGMENT, b""));
    let answer = unmasked(BINARY, &b"x".repeat(FRAGMENTS_MAX / 2 + 1));
    exchange(&attack, &request, &answer, false);
    // As much again while it grows, and a copy to be written.
    let held = 4 * (FRAGMENTS_MAX / 2) as u64 + UNREAD;
    attack.finish(Budget::new().frames(FRAGMENTS_MAX).held(1, held));
}

fn handler_message_over_max_message_gets_close_1009(engine: Engine) {
    const LIMIT: usize = 1 << 20;
    const CONNECTIONS: usize = 4;
    let flags = [
        "--print-messages",
        "--max-message=1m",
        "--close-timeout=20s",
    ];
    let attack = Attack::start(engine, &flags);
    let mut request = frame(BINARY_FRAGMENT, &vec![b'x'; LIMIT]);
    request.extend(frame(FRAGMENT, b"").repeat(1000));
    request.extend(frame(FRAGMENT, b"x"));
    request.extend(frame(FRAGMENT, b"x").repeat(100_000));
    for _ in 0..CONNECTIONS {
        exchange(&attack, &request, &closed(TOO_BIG), true);
    }
    // A connection may begin before the previous one is freed.
    let budget = Budget::new()
        .frames(CONNECTIONS * 101_000)
        .bytes(CONNECTIONS * LIMIT)
        .held(2, 2 * LIMIT as u64 + UNREAD);
    attack.finish(budget);
}
