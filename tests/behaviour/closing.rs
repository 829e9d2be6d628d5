//! How connections end.

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wire::{
    BINARY, CLOSE, PING, TEXT, TEXT_FRAGMENT, close, frame, header, noise, unmasked,
};

on_every_engine_and_over_tls![
    a_close_comes_back_with_its_code_and_reason,
    a_close_without_a_code_comes_back_without,
    every_code_that_may_be_sent_comes_back,
    a_code_that_may_not_be_sent_is_a_violation,
    frames_after_a_close_are_ignored,
    replies_come_before_the_close,
    a_half_closed_client_gets_every_reply,
    a_client_that_leaves_inside_of_a_frame_is_let_go,
    a_client_that_vanishes_leaves_nothing_behind,
];

fn a_close_comes_back_with_its_code_and_reason(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut client = Client::connect(server.address());
    client.echo("before");
    let frame = CloseFrame {
        code: CloseCode::Away,
        reason: "Tschüß, 🦀".into(),
    };
    client.send(tungstenite::Message::Close(Some(frame.clone())));
    client.expect(&tungstenite::Message::Close(Some(frame)));

    let mut raw = Raw::open(server.address());
    let longest = "r".repeat(123);
    raw.send(&close(4999, &longest));
    raw.expect(&unmasked(
        CLOSE,
        &[&4999_u16.to_be_bytes(), longest.as_bytes()].concat(),
    ));
    raw.expect_end();
}

fn a_close_without_a_code_comes_back_without(engine: Engine) {
    let server = Server::start(engine, &[]);
    Client::connect(server.address()).close();
    let mut raw = Raw::open(server.address());
    raw.send(&frame(CLOSE, b""));
    raw.expect_frame(CLOSE, b"");
    raw.expect_end();
}

fn every_code_that_may_be_sent_comes_back(engine: Engine) {
    let server = Server::start(engine, &[]);
    for code in (1000..=1003)
        .chain(1007..=1014)
        .chain([3000, 3999, 4000, 4999])
    {
        let mut raw = Raw::open(server.address());
        raw.send(&close(code, ""));
        raw.expect_close(code);
    }
}

fn a_code_that_may_not_be_sent_is_a_violation(engine: Engine) {
    let server = Server::start(engine, &[]);
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
    ] {
        let mut raw = Raw::open(server.address());
        raw.send(&close(code, "because"));
        raw.expect_close(1002);
    }
}

fn frames_after_a_close_are_ignored(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let later = [
        frame(TEXT, b"one more thing"),
        frame(PING, b"?"),
        close(1001, "twice"),
        b"\xff\xff and nonsense".to_vec(),
    ];
    raw.send(&[close(1000, ""), later.concat()].concat());
    raw.expect_close(1000);
    // Nor does it matter what comes when the answer has been sent already.
    raw.send(&later.concat());
    raw.half_close();
    assert!(raw.rest_until_cut().is_empty());
}

fn replies_come_before_the_close(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let message = noise(1, 100_000);
    raw.send(
        &[
            frame(TEXT, b"one"),
            frame(BINARY, &message),
            close(1000, "bye"),
        ]
        .concat(),
    );
    raw.expect_frame(TEXT, b"one");
    raw.expect_frame(BINARY, &message);
    raw.expect_frame(CLOSE, b"\x03\xe8bye");
    raw.expect_end();
}

fn a_half_closed_client_gets_every_reply(engine: Engine) {
    let server = Server::start(engine, &[]);
    for (count, len) in [(1, 5), (1000, 20), (100, 2000), (1, 300_000)] {
        let mut raw = Raw::open(server.address());
        for index in 0..count {
            raw.send(&frame(BINARY, &noise(index, len)));
        }
        raw.half_close();
        for index in 0..count {
            raw.expect_frame(BINARY, &noise(index, len));
        }
        raw.expect_end();
    }
}

fn a_client_that_leaves_inside_of_a_frame_is_let_go(engine: Engine) {
    let server = Server::start(engine, &[]);
    let message = frame(TEXT, b"never finished");
    for len in 1..message.len() {
        let mut raw = Raw::open(server.address());
        raw.send(&message[..len]);
        raw.half_close();
        raw.expect_end();
    }
    // The beginning of a long one comes back as it streams through.
    let mut raw = Raw::open(server.address());
    raw.send(&[header(BINARY, 1 << 40), vec![0; 100]].concat());
    raw.half_close();
    assert!(raw.rest().len() <= 110);
}

fn a_client_that_vanishes_leaves_nothing_behind(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let before = server.process().descriptors().len();
    for bytes in [
        vec![],
        vec![0x82],
        frame(BINARY, &noise(1, 5000))[..3000].to_vec(),
        [header(BINARY, 1 << 40), noise(2, 200_000)].concat(),
        frame(TEXT_FRAGMENT, b"to be continued"),
        close(1000, ""),
    ] {
        let mut raw = Raw::open(server.address());
        raw.send(&bytes);
        raw.reset();
        let mut raw = Raw::open(server.address());
        raw.send(&bytes);
        drop(raw);
    }
    server.wait_for_descriptors(before);
    neighbour.echo("after");
}
