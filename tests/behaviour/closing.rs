//! How connections end.

use std::thread;

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wire::{
    BINARY, CLOSE, PING, TEXT, TEXT_FRAGMENT, close, frame, header, noise, unmasked,
};

on_every_engine_and_over_tls![
    close_is_echoed_with_code_and_reason,
    close_without_code_is_echoed_without_code,
    valid_close_code_is_echoed,
    invalid_close_code_gets_close_1002,
    frames_after_close_are_ignored,
    flood_after_close_is_cut_at_close_timeout,
    replies_precede_close,
    half_closed_client_gets_every_reply,
    half_close_inside_frame_ends_connection,
    abrupt_end_leaves_no_descriptor,
];

fn close_is_echoed_with_code_and_reason(engine: Engine) {
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

fn close_without_code_is_echoed_without_code(engine: Engine) {
    let server = Server::start(engine, &[]);
    Client::connect(server.address()).close();
    let mut raw = Raw::open(server.address());
    raw.send(&frame(CLOSE, b""));
    raw.expect_frame(CLOSE, b"");
    raw.expect_end();
}

fn valid_close_code_is_echoed(engine: Engine) {
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

fn invalid_close_code_gets_close_1002(engine: Engine) {
    let server = Server::start(engine, &[]);
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
    ] {
        let mut raw = Raw::open(server.address());
        raw.send(&close(code, "because"));
        raw.expect_close(1002);
    }
}

fn frames_after_close_are_ignored(engine: Engine) {
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
    // The same after the Close has been answered.
    raw.send(&later.concat());
    raw.half_close();
    assert!(raw.rest_until_cut().is_empty());
}

/// However many bytes are there whenever the server looks.
fn flood_after_close_is_cut_at_close_timeout(engine: Engine) {
    for way in [&[][..], &["--print-messages"]] {
        let flags = [&["--close-timeout=100ms", "--threads=1"], way].concat();
        let server = Server::start(engine, &flags);
        let address = server.address();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut raw = Raw::open(address);
                    raw.send(&close(1000, ""));
                    raw.send_until_cut(&noise(1, 1 << 20));
                });
            }
        });
    }
}

fn replies_precede_close(engine: Engine) {
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

fn half_closed_client_gets_every_reply(engine: Engine) {
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

fn half_close_inside_frame_ends_connection(engine: Engine) {
    let server = Server::start(engine, &[]);
    let message = frame(TEXT, b"never finished");
    for len in 1..message.len() {
        let mut raw = Raw::open(server.address());
        raw.send(&message[..len]);
        raw.half_close();
        raw.expect_end();
    }
    // The beginning of a long frame is echoed as it streams.
    let mut raw = Raw::open(server.address());
    raw.send(&[header(BINARY, 1 << 40), vec![0; 100]].concat());
    raw.half_close();
    assert!(raw.rest().len() <= 110);
}

fn abrupt_end_leaves_no_descriptor(engine: Engine) {
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
