//! Frames that break the rules of RFC 6455, sections 5 and 7.

use std::net::SocketAddr;

use crate::attack::{Attack, Budget};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{
    BINARY, CLOSE, FRAGMENT, PING, PONG, TEXT, TEXT_FRAGMENT, close, closed, frame, header, noise,
    unmasked,
};

on_every_engine![
    every_first_byte_is_echoed_or_gets_close_1002,
    invalid_length_gets_close_at_header,
    unmasked_frame_gets_close_1002,
    control_frame_over_125_bytes_gets_close_1002,
    invalid_close_code_gets_close_1002,
    invalid_close_reason_gets_close_1007,
    bytes_after_close_are_discarded,
    bytes_after_violation_are_discarded,
    print_messages_escapes_control_characters,
];

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Sends `bytes`; expects `answer` and the end, without a half-close.
#[track_caller]
fn expect_end(address: SocketAddr, bytes: &[u8], answer: &[u8]) {
    let mut raw = Raw::open(address);
    raw.send(bytes);
    let got = raw.rest();
    assert!(got == answer, "{bytes:x?} got {got:x?}, not {answer:x?}");
}

fn every_first_byte_is_echoed_or_gets_close_1002(engine: Engine) {
    const ROUNDS: usize = 4;
    let attack = Attack::start(engine, &[]);
    for _ in 0..ROUNDS {
        for first in 0..=u8::MAX {
            let bytes = frame(first, b"x");
            let echo = match first {
                TEXT | BINARY | 0x01 | 0x02 => unmasked(first, b"x"),
                PING => unmasked(PONG, b"x"),
                PONG => vec![],
                // RSV bits, reserved opcodes, fragmented control frames, continuations
                // without a message, and a Close of one byte.
                _ => {
                    expect_end(attack.address(), &bytes, &closed(PROTOCOL_ERROR));
                    continue;
                }
            };
            let mut raw = Raw::open(attack.address());
            raw.send(&bytes);
            raw.expect(&echo);
            raw.half_close();
            raw.expect_end();
        }
    }
    attack.finish(Budget::new().connections(ROUNDS * 256));
}

fn in_two(first: u8, len: u16) -> Vec<u8> {
    [&[first, 0x80 | 126], &len.to_be_bytes()[..], b"mask"].concat()
}

fn in_eight(first: u8, len: u64) -> Vec<u8> {
    [&[first, 0x80 | 127], &len.to_be_bytes()[..], b"mask"].concat()
}

fn invalid_length_gets_close_at_header(engine: Engine) {
    const LIMIT: u64 = 1 << 20;
    let attack = Attack::start(engine, &["--max-message=1m"]);
    let mut connections = 0;
    for first in [TEXT, BINARY, TEXT_FRAGMENT] {
        let top_bits = (0..63).map(|bit| in_eight(first, 1 << 63 | 1 << bit));
        let not_minimal = (0..126)
            .map(|len| in_two(first, len))
            .chain((0..16).map(|bit| in_eight(first, (1 << bit) - 1)))
            .chain([in_eight(first, 65_535)]);
        for bytes in top_bits.chain(not_minimal) {
            expect_end(attack.address(), &bytes, &closed(PROTOCOL_ERROR));
            connections += 1;
        }
        // The answer comes at the header; the payload is not awaited.
        for bit in 20..63 {
            let bytes = in_eight(first, LIMIT.max(1 << bit) + 1);
            expect_end(attack.address(), &bytes, &closed(TOO_BIG));
            connections += 1;
        }
    }
    attack.finish(Budget::new().connections(connections));
}

fn unmasked_frame_gets_close_1002(engine: Engine) {
    const MIXED: usize = 40;
    let attack = Attack::start(engine, &[]);
    let mut connections = 0;
    for first in [TEXT, BINARY, TEXT_FRAGMENT, FRAGMENT, PING, PONG, CLOSE] {
        for len in [0, 1, 125, 126, 70_000] {
            let bytes = unmasked(first, &noise(1, len));
            expect_end(attack.address(), &bytes, &closed(PROTOCOL_ERROR));
            connections += 1;
        }
    }
    // One unmasked frame among masked ones, at each position.
    for place in 0..MIXED {
        let mut bytes = frame(TEXT, b"masked").repeat(place);
        bytes.extend(unmasked(TEXT, b"unmasked"));
        bytes.extend(frame(TEXT, b"masked").repeat(MIXED - place));
        let mut answer = unmasked(TEXT, b"masked").repeat(place);
        answer.extend(closed(PROTOCOL_ERROR));
        expect_end(attack.address(), &bytes, &answer);
        connections += 1;
    }
    attack.finish(Budget::new().connections(connections));
}

fn control_frame_over_125_bytes_gets_close_1002(engine: Engine) {
    let attack = Attack::start(engine, &[]);
    let mut connections = 0;
    for first in [PING, PONG, CLOSE] {
        for bytes in [
            frame(first, &noise(1, 126)),
            frame(first, &noise(1, 65_535)),
            frame(first, &noise(1, 65_536)),
            header(first, 1 << 40),
            in_two(first, 5),
            in_eight(first, 125),
            in_eight(first, u64::MAX),
            // The length's first byte is enough.
            vec![first, 0x80 | 126],
            vec![first, 0x80 | 127],
        ] {
            expect_end(attack.address(), &bytes, &closed(PROTOCOL_ERROR));
            connections += 1;
        }
    }
    attack.finish(Budget::new().connections(connections).bytes(400_000));
}

fn invalid_close_code_gets_close_1002(engine: Engine) {
    let may_be_sent = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    let attack = Attack::start(engine, &[]);
    let codes: Vec<u16> = (0..=u16::MAX)
        .step_by(119)
        .chain(995..=1020)
        .chain([2999, 3000, 3999, 4000, 4999, 5000, u16::MAX])
        .collect();
    for &code in &codes {
        let answer = if may_be_sent(code) {
            code
        } else {
            PROTOCOL_ERROR
        };
        expect_end(attack.address(), &close(code, ""), &closed(answer));
    }
    for byte in 0..=u8::MAX {
        let bytes = frame(CLOSE, &[byte]);
        expect_end(attack.address(), &bytes, &closed(PROTOCOL_ERROR));
    }
    attack.finish(Budget::new().connections(codes.len() + 256));
}

fn invalid_close_reason_gets_close_1007(engine: Engine) {
    let attack = Attack::start(engine, &[]);
    let reason = "aé日🦀".repeat(13);
    let longest = &reason.as_bytes()[..123];
    for len in 0..=longest.len() {
        let payload = [&1000_u16.to_be_bytes(), &longest[..len]].concat();
        let answer = if reason.is_char_boundary(len) {
            unmasked(CLOSE, &payload)
        } else {
            closed(INVALID_PAYLOAD)
        };
        expect_end(attack.address(), &frame(CLOSE, &payload), &answer);
    }
    for at in 0..longest.len() {
        let mut payload = [&1000_u16.to_be_bytes(), longest].concat();
        payload[2 + at] = 0xff;
        let bytes = frame(CLOSE, &payload);
        expect_end(attack.address(), &bytes, &closed(INVALID_PAYLOAD));
    }
    attack.finish(Budget::new().connections(2 * longest.len() + 1));
}

/// Bytes after the last frame are discarded, however many: a reply to them would be no
/// frame, and unread bytes in the socket would reset the connection and destroy the
/// Close.
#[track_caller]
fn flood_behind(engine: Engine, last: &[u8], answer: &[u8]) {
    const CONNECTIONS: usize = 8;
    const FLOOD: usize = 2 * 1024 * 1024;
    let attack = Attack::start(engine, &["--close-timeout=20s"]);
    let flood = [
        frame(TEXT, b"one more thing").repeat(1000),
        frame(PING, b"?").repeat(1000),
        close(1001, "again"),
        unmasked(TEXT, b"unmasked"),
        noise(1, FLOOD),
    ]
    .concat();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open(attack.address());
        raw.send(&[last, &flood].concat());
        let got = raw.rest();
        assert!(got == answer, "{got:x?}, not {answer:x?}");
        // More of them after the answer.
        raw.send(&flood);
        raw.half_close();
    }
    let bytes = 2 * CONNECTIONS * flood.len();
    attack.finish(Budget::new().connections(CONNECTIONS).bytes(bytes));
}

fn bytes_after_close_are_discarded(engine: Engine) {
    flood_behind(engine, &close(1000, ""), &closed(1000));
}

fn bytes_after_violation_are_discarded(engine: Engine) {
    let message = unmasked(TEXT, b"before");
    let violation = [frame(TEXT, b"before"), frame(0xc1, b"")].concat();
    flood_behind(
        engine,
        &violation,
        &[message, closed(PROTOCOL_ERROR)].concat(),
    );
}

/// A printed message is one line, whatever is in it.
fn print_messages_escapes_control_characters(engine: Engine) {
    const ROUNDS: usize = 50;
    let attack = Attack::start(engine, &["--print-messages"]);
    let mut raw = Raw::open(attack.address());
    let text = "\u{1b}[2J\r\n127.0.0.1:1 sent: forged\n".repeat(ROUNDS);
    raw.send(&frame(TEXT, text.as_bytes()));
    raw.expect_frame(TEXT, text.as_bytes());
    let peer = raw.stream().local_addr().expect("connected");
    let escaped = "\\u{1b}[2J\\r\\n127.0.0.1:1 sent: forged\\n".repeat(ROUNDS);
    loop {
        let line = attack.server().printed().expect("a line");
        assert!(!line.starts_with("127.0.0.1:1 "), "{line}");
        if line.starts_with(&format!("{peer} ")) {
            assert_eq!(line, format!("{peer} sent: {escaped}"));
            break;
        }
    }
    drop(raw);
    attack.finish(Budget::new().connections(1).bytes(text.len()));
}
