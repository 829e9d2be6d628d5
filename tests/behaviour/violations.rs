//! Violations of the protocol: the answer, and other connections.

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, CLOSE, FRAGMENT, LAST_FRAGMENT, PING, PONG, TEXT, TEXT_FRAGMENT,
    close, frame, header, noise, unmasked,
};

on_every_engine_and_over_tls![
    every_violation_gets_its_close_code,
    message_before_violation_is_echoed,
    invalid_utf8_gets_close_1007_at_first_invalid_byte,
    invalid_utf8_in_streamed_frame_is_cut,
    random_bytes_do_not_disturb_other_connections,
    invalid_request_gets_400_and_end,
];

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;

/// Its description, the bytes, the close code.
type Violation = (&'static str, Vec<u8>, u16);

fn violations() -> Vec<Violation> {
    let protocol_errors = [
        invalid_headers(),
        invalid_lengths(),
        invalid_sequences(),
        invalid_closes(),
    ]
    .concat()
    .into_iter()
    .map(|(what, bytes)| (what, bytes, PROTOCOL_ERROR));
    let invalid_payloads = invalid_texts()
        .into_iter()
        .map(|(what, bytes)| (what, bytes, INVALID_PAYLOAD));
    protocol_errors.chain(invalid_payloads).collect()
}

fn invalid_headers() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("no mask", unmasked(TEXT, b"unmasked")),
        ("no mask, no payload", unmasked(BINARY, b"")),
        ("a ping without a mask", unmasked(PING, b"")),
        ("a close without a mask", unmasked(CLOSE, b"\x03\xe8")),
        ("a ping in fragments", frame(PING & 0x7f, b"")),
        ("a pong in fragments", frame(PONG & 0x7f, b"")),
        ("a close in fragments", frame(CLOSE & 0x7f, b"")),
    ];
    for bit in [0x40, 0x20, 0x10] {
        all.push(("a reserved bit", frame(TEXT | bit, b"x")));
        all.push(("a reserved bit in a ping", frame(PING | bit, b"")));
    }
    for opcode in (3..=7).chain(11..=15) {
        all.push(("a reserved opcode", frame(0x80 | opcode, b"x")));
        all.push(("a reserved opcode, fragmented", frame(opcode, b"x")));
    }
    all
}

fn invalid_lengths() -> Vec<(&'static str, Vec<u8>)> {
    let in_two = |len: u16| {
        [
            &[BINARY, 0x80 | 126],
            &len.to_be_bytes()[..],
            b"maskpayload",
        ]
        .concat()
    };
    let in_eight = |len: u64| {
        [
            &[BINARY, 0x80 | 127],
            &len.to_be_bytes()[..],
            b"maskpayload",
        ]
        .concat()
    };
    vec![
        ("125 in two bytes", in_two(125)),
        ("7 in two bytes", in_two(7)),
        ("0 in two bytes", in_two(0)),
        ("65,535 in eight bytes", in_eight(65_535)),
        ("7 in eight bytes", in_eight(7)),
        ("a length of 2^63", in_eight(1 << 63)),
        ("a length of 2^64 - 1", in_eight(u64::MAX)),
        ("a ping of 126 bytes", frame(PING, &[0; 126])),
        ("a pong of 126 bytes", frame(PONG, &[0; 126])),
        ("a close of 126 bytes", frame(CLOSE, &[3; 126])),
        ("a ping of 70,000 bytes", frame(PING, &noise(1, 70_000))),
    ]
}

fn invalid_sequences() -> Vec<(&'static str, Vec<u8>)> {
    let pair = |first: u8, second: u8| [frame(first, b"a"), frame(second, b"b")].concat();
    vec![
        ("a continuation without a message", frame(FRAGMENT, b"and")),
        (
            "a last fragment without a message",
            frame(LAST_FRAGMENT, b"so"),
        ),
        ("a text in a text", pair(TEXT_FRAGMENT, TEXT)),
        ("a binary in a text", pair(TEXT_FRAGMENT, BINARY)),
        (
            "the start of a binary in a text",
            pair(TEXT_FRAGMENT, BINARY_FRAGMENT),
        ),
    ]
}

fn invalid_closes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a close of one byte", frame(CLOSE, &[3])),
        ("code 1005", close(1005, "")),
        ("code 1006 with a reason", close(1006, "gone")),
        ("code 0", close(0, "")),
    ]
}

fn invalid_texts() -> Vec<(&'static str, Vec<u8>)> {
    let halves = |one: &[u8], other: &[u8]| {
        [frame(TEXT_FRAGMENT, one), frame(LAST_FRAGMENT, other)].concat()
    };
    vec![
        ("a byte that is never UTF-8", frame(TEXT, b"a\xffz")),
        ("an overlong slash", frame(TEXT, b"\xc0\xaf")),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80")),
        (
            "a character beyond Unicode",
            frame(TEXT, b"\xf4\x90\x80\x80"),
        ),
        ("text that ends in a character", frame(TEXT, b"\xe2\x82")),
        (
            "fragments that end in a character",
            halves(b"\xe2", b"\x82"),
        ),
        (
            "an invalid character over a split",
            halves(b"\xe2\x82", b"z"),
        ),
        (
            "an incomplete character before an empty fragment",
            halves(b"\xe2\x82", b""),
        ),
        (
            "a close reason that is not UTF-8",
            frame(CLOSE, b"\x03\xe8\xff"),
        ),
        (
            "a close reason with an incomplete character",
            frame(CLOSE, b"\x03\xe8\xe2\x82"),
        ),
    ]
}

/// Receives up to the Close, which must have this code, and the end; returns the bytes
/// before.
#[track_caller]
fn until_close(raw: &mut Raw, what: &str, code: u16) -> Vec<u8> {
    let mut bytes = raw.rest();
    let [high, low] = code.to_be_bytes();
    assert!(
        bytes.ends_with(&[CLOSE, 2, high, low]),
        "{what}: no Close {code} in the end of {bytes:x?}"
    );
    bytes.truncate(bytes.len() - 4);
    bytes
}

fn every_violation_gets_its_close_code(engine: Engine) {
    let server = Server::start(engine, &[]);
    for (what, bytes, code) in violations() {
        let mut raw = Raw::open(server.address());
        raw.send(&bytes);
        let before = until_close(&mut raw, what, code);
        // Valid fragments before it are echoed.
        assert!(
            before.is_empty() || bytes[0] == TEXT_FRAGMENT,
            "{what}: {before:x?}"
        );
    }
}

fn message_before_violation_is_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let good = unmasked(TEXT, "gut 🦀".as_bytes());
    for (what, bytes, code) in violations() {
        let mut together = Raw::open(server.address());
        together.send(&[frame(TEXT, "gut 🦀".as_bytes()), bytes.clone()].concat());
        let before = until_close(&mut together, what, code);
        assert!(before.starts_with(&good), "{what}, in one go: {before:x?}");

        let mut apart = Raw::open(server.address());
        apart.send(&frame(TEXT, "gut 🦀".as_bytes()));
        apart.expect(&good);
        apart.send(&bytes);
        until_close(&mut apart, what, code);
    }
}

fn invalid_utf8_gets_close_1007_at_first_invalid_byte(engine: Engine) {
    let server = Server::start(engine, &[]);
    for payload in [
        &b"\xff"[..],
        b"abc\xc0",
        b"\xe2\x28",
        b"\xf0\x9f\x28",
        b"\xed\xa0",
    ] {
        let whole = frame(TEXT, &[payload, &[b'z'; 90]].concat());
        let header_len = 6;
        let mut raw = Raw::open(server.address());
        // The bytes after it never come.
        raw.send(&whole[..header_len + payload.len() - 1]);
        raw.send(&whole[header_len + payload.len() - 1..][..1]);
        raw.expect_close(INVALID_PAYLOAD);
    }
}

/// Inside a streamed frame no Close can be sent.
fn invalid_utf8_in_streamed_frame_is_cut(engine: Engine) {
    let server = Server::start(engine, &["--window=1k"]);
    let text = [
        "a".repeat(50_000).as_bytes(),
        b"\xff",
        "z".repeat(50_000).as_bytes(),
    ]
    .concat();
    let request = frame(TEXT, &text);
    let reply = unmasked(TEXT, &text);
    let good_len = reply.len() - 50_001;

    let mut raw = Raw::open(server.address());
    raw.send(&request[..20_000]);
    raw.expect(&reply[..19_996]);
    raw.send(&request[20_000..]);
    let rest = raw.rest_until_cut();
    assert!(
        reply[19_996..good_len].starts_with(&rest),
        "only valid text is echoed"
    );
}

fn random_bytes_do_not_disturb_other_connections(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();
    for seed in 0..300 {
        let mut raw = Raw::open(server.address());
        let mut bytes = noise(seed, 20 + 10 * usize::try_from(seed).expect("small"));
        if seed % 2 == 0 {
            // Without these bytes nearly all fail at the first byte.
            bytes.splice(..1, header(BINARY_FRAGMENT | 0x80, seed % 20));
        }
        raw.send(&bytes);
        raw.half_close();
        raw.rest_until_cut();
        neighbour.echo("meanwhile");
    }
    server.wait_for_descriptors(before);
    neighbour.close();
}

fn invalid_request_gets_400_and_end(engine: Engine) {
    let server = Server::start(engine, &[]);
    for bytes in [
        &b"HELO example.org\r\n\r\n"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(bytes);
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        raw.rest();
    }
    Client::connect(server.address()).close();
}
