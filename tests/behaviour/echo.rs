//! Every message comes back unchanged.

use tungstenite::Message;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wire::{
    BINARY, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, frame,
    multibyte_text, noise, unmasked,
};

on_every_engine_and_over_tls![
    text_and_binary_keep_their_type,
    every_length_encoding_is_echoed,
    messages_of_64_mib_are_echoed,
    multibyte_text_is_echoed,
    fragments_are_echoed_one_by_one_with_pongs_between,
    ping_gets_pong_and_pong_gets_nothing,
    messages_in_flight_are_echoed_in_order,
    frames_sent_with_request_are_echoed,
    frame_begun_with_request_is_echoed,
    input_byte_by_byte_is_echoed,
    connections_get_only_their_own_bytes,
];

const MIB: usize = 1024 * 1024;

fn text_and_binary_keep_their_type(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    client.echo("plain");
    client.echo("");
    client.echo("Grüße, κόσμε, 日本語, 🦀, \u{0}\u{7f}\u{10ffff}");
    client.echo(Vec::new());
    client.echo((0..=255).collect::<Vec<u8>>());
    client.close();
}

fn every_length_encoding_is_echoed(engine: Engine) {
    // Around the bounds of the three length encodings (RFC 6455 section 5.2), and around
    // the server's window and buffers.
    const LENGTHS: [usize; 17] = [
        0, 1, 125, 126, 127, 2035, 2048, 8192, 16_375, 16_376, 16_377, 16_384, 32_768, 65_535,
        65_536, 65_537, 131_072,
    ];
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    for len in LENGTHS {
        client.echo(noise(len as u64, len));
        client.echo("x".repeat(len));
    }
    client.close();
}

fn messages_of_64_mib_are_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    let messages = [1, 16, 64].map(|mib| Message::from(noise(mib as u64, mib * MIB)));
    client.echo_all(&messages);
    client.close();
}

fn multibyte_text_is_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    // Each byte of shift cuts the characters elsewhere.
    let messages = ["", "a", "ab", "abc"]
        .map(|shift| Message::from(shift.to_owned() + &multibyte_text(2 * MIB)));
    client.echo_all(&messages);
    client.close();
}

fn fragments_are_echoed_one_by_one_with_pongs_between(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let crab = "🦀".as_bytes();
    let long = "κόσμε ".repeat(10_000);
    // The split goes through a character.
    let (start, rest) = long.as_bytes().split_at(30_001);
    for (first, payload, answer) in [
        (TEXT_FRAGMENT, &crab[..1], TEXT_FRAGMENT),
        (PING, b"one", PONG),
        (FRAGMENT, &crab[1..2], FRAGMENT),
        (FRAGMENT, b"", FRAGMENT),
        (PING, b"", PONG),
        (PING, &[b'p'; 125], PONG),
        (FRAGMENT, &crab[2..], FRAGMENT),
        (FRAGMENT, start, FRAGMENT),
        (PING, b"between the halves of a character", PONG),
        (LAST_FRAGMENT, rest, LAST_FRAGMENT),
        (TEXT, b"and whole", TEXT),
    ] {
        raw.send(&frame(first, payload));
        raw.expect_frame(answer, payload);
    }
}

fn ping_gets_pong_and_pong_gets_nothing(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    raw.send(&frame(PONG, b"unsolicited"));
    raw.send(&frame(PING, &[0xff; 125]));
    raw.send(&frame(PONG, b""));
    raw.send(&frame(PING, b""));
    raw.send(&frame(TEXT, b"still here"));
    raw.expect_frame(PONG, &[0xff; 125]);
    raw.expect_frame(PONG, b"");
    raw.expect_frame(TEXT, b"still here");
}

fn messages_in_flight_are_echoed_in_order(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    let messages: Vec<Message> = (0..5000)
        .map(|index: usize| match index % 100 {
            7 => noise(index as u64, 70_000).into(),
            13 => noise(index as u64, 16_384).into(),
            59 => multibyte_text(3000 + index).into(),
            odd if odd % 2 == 1 => format!("message {index}").into(),
            even => noise(index as u64, even * 5).into(),
        })
        .collect();
    client.echo_all(&messages);
    client.close();
}

fn frames_sent_with_request_are_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::dial(server.address());
    let frames = [
        frame(TEXT, b"impatient"),
        frame(PING, b"?"),
        frame(BINARY, &noise(1, 2500)),
    ];
    raw.send(&[REQUEST.as_bytes(), &frames.concat()].concat());
    raw.expect_upgrade();
    raw.expect_frame(TEXT, b"impatient");
    raw.expect_frame(PONG, b"?");
    raw.expect_frame(BINARY, &noise(1, 2500));
}

/// A read buffer of exactly the size of these first bytes has no room for the rest of
/// the frame.
fn frame_begun_with_request_is_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let message = frame(BINARY, &noise(2, 12_000));
    for early in [1, 7, 8, 500, 2043, 2044, 2045, 2048, 4000, 7000] {
        let mut raw = Raw::dial(server.address());
        raw.send(&[REQUEST.as_bytes(), &message[..early]].concat());
        raw.expect_upgrade();
        raw.send(&message[early..]);
        raw.expect_frame(BINARY, &noise(2, 12_000));
    }
}

fn input_byte_by_byte_is_echoed(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::dial(server.address());
    let frames = [
        frame(TEXT_FRAGMENT, "日".as_bytes()),
        frame(PING, b"still there?"),
        frame(LAST_FRAGMENT, "本".as_bytes()),
        frame(BINARY, &noise(3, 300)),
    ];
    for byte in [REQUEST.as_bytes(), &frames.concat()].concat() {
        raw.send(&[byte]);
    }
    raw.expect_upgrade();
    raw.expect_frame(TEXT_FRAGMENT, "日".as_bytes());
    raw.expect_frame(PONG, b"still there?");
    raw.expect_frame(LAST_FRAGMENT, "本".as_bytes());
    raw.expect_frame(BINARY, &noise(3, 300));
}

/// Connections share the engine's buffers, but not their contents.
fn connections_get_only_their_own_bytes(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut clients: Vec<Raw> = (0..50).map(|_| Raw::open(server.address())).collect();
    let payload = |index: usize| noise(index as u64, 100 + 397 * index);
    let frames: Vec<Vec<u8>> = (0..clients.len())
        .map(|index| frame(BINARY, &payload(index)))
        .collect();
    for third in 0..3 {
        for (raw, frame) in clients.iter_mut().zip(&frames) {
            let len = frame.len() / 3;
            let end = if third == 2 {
                frame.len()
            } else {
                (third + 1) * len
            };
            raw.send(&frame[third * len..end]);
        }
    }
    for (index, raw) in clients.iter_mut().enumerate() {
        raw.expect(&unmasked(BINARY, &payload(index)));
    }
}
