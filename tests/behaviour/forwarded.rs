//! Requests from a proxy, with the client's address in a field.

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wait_for;
use crate::common::wire::{REQUEST, TEXT, frame};

on_every_engine_and_over_tls![
    forwarded_field_names_client,
    address_limit_counts_forwarded_client,
    handshake_rate_counts_forwarded_client,
    field_of_untrusted_peer_is_ignored,
    only_the_configured_field_is_read,
    proxy_without_field_is_client_and_logged_once,
];

const TRUSTED: &str = "--forwarded-from=127.0.0.0/8";

/// A handshake with this field in addition.
fn request_with(field: &str) -> String {
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    format!("{request}{field}\r\n\r\n")
}

fn send_request(server: &Server, field: &str) -> Raw {
    let mut raw = Raw::dial(server.address());
    raw.send(request_with(field).as_bytes());
    raw
}

/// The client of a request with this field, as a handler sees it.
#[track_caller]
fn client_of(server: &Server, field: &str) -> String {
    let mut raw = send_request(server, field);
    raw.expect_upgrade();
    raw.send(&frame(TEXT, b"me"));
    raw.expect_frame(TEXT, b"me");
    let line = server.printed().expect("a line");
    line.strip_suffix(" sent: me")
        .expect("an address")
        .to_owned()
}

fn forwarded_field_names_client(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED, "--print-messages"]);
    for (field, client) in [
        ("X-Forwarded-For: 192.0.2.7", "192.0.2.7"),
        ("X-Forwarded-For: 192.0.2.7:443", "192.0.2.7:443"),
        ("X-Forwarded-For: 2001:db8::1", "2001:db8::1"),
        (
            "X-Forwarded-For: 198.51.100.9, 192.0.2.7, 127.0.0.5",
            "192.0.2.7",
        ),
        (
            "X-Forwarded-For: <x>\r\nX-Forwarded-For: 192.0.2.7",
            "192.0.2.7",
        ),
    ] {
        assert_eq!(client_of(&server, field), client, "{field}");
    }
}

fn address_limit_counts_forwarded_client(engine: Engine) {
    let flags = [
        TRUSTED,
        "--max-connections-per-address=1",
        "--access-log",
        "--log=off",
    ];
    let server = Server::start(engine, &flags);
    let mut first = send_request(&server, "X-Forwarded-For: 192.0.2.7");
    first.expect_upgrade();
    send_request(&server, "X-Forwarded-For: 192.0.2.8").expect_upgrade();
    // Whatever the client has written in front.
    let mut second = send_request(&server, "X-Forwarded-For: 192.0.2.9, 192.0.2.7");
    second.expect_refusal(429);
    drop(second);
    server.wait_for_log("peer=192.0.2.7 proxy=127.0.0.1:");
    server.wait_for_log("refusal=\"address\"");
    drop(first);
    wait_for("its slot is free", || {
        let mut raw = send_request(&server, "X-Forwarded-For: 192.0.2.7");
        raw.head().starts_with("HTTP/1.1 101 ").then_some(())
    });
}

/// Over TLS as well: the client is known only after the TLS handshake.
fn handshake_rate_counts_forwarded_client(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED, "--handshake-rate=1/h"]);
    for client in ["192.0.2.7", "192.0.2.8"] {
        let field = format!("X-Forwarded-For: {client}");
        send_request(&server, &field).expect_upgrade();
        let mut again = send_request(&server, &field);
        assert!(again.head().contains("\r\nretry-after: "));
    }
}

fn field_of_untrusted_peer_is_ignored(engine: Engine) {
    for flags in [
        &[][..],
        &["--forwarded-from=192.0.2.0/24", "--forwarded-from=unix"],
    ] {
        let limit = ["--max-connections-per-address=1"];
        let server = Server::start(engine, &[&limit[..], flags].concat());
        let mut first = send_request(&server, "X-Forwarded-For: 192.0.2.7");
        first.expect_upgrade();
        send_request(&server, "X-Forwarded-For: 192.0.2.8").expect_refusal(429);
    }
}

fn only_the_configured_field_is_read(engine: Engine) {
    let flags = [TRUSTED, "--print-messages"];
    let both = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2;proto=https";
    let server = Server::start(engine, &flags);
    assert_eq!(client_of(&server, both), "192.0.2.1");
    let flags = [&flags[..], &["--forwarded-header=forwarded"]].concat();
    let server = Server::start(engine, &flags);
    assert_eq!(client_of(&server, both), "192.0.2.2");
    let six = "Forwarded: for=\"[2001:db8::1]:7\"";
    assert_eq!(client_of(&server, six), "[2001:db8::1]:7");
}

fn proxy_without_field_is_client_and_logged_once(engine: Engine) {
    const WARNING: &str = "a proxy of --forwarded-from did not name its client";
    let mut server = Server::start(engine, &[TRUSTED, "--print-messages"]);
    // A health check.
    let mut check = Raw::dial(server.address());
    check.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(check.head().starts_with("HTTP/1.1 200 "));
    // A proxy that does not know its client.
    assert!(client_of(&server, "X-Forwarded-For: unknown").starts_with("127.0.0.1:"));
    assert!(!server.log().contains(WARNING), "{}", server.log());
    for field in [
        "X: y",
        "X-Forwarded-For: garbage",
        "Forwarded: for=192.0.2.7",
    ] {
        assert!(
            client_of(&server, field).starts_with("127.0.0.1:"),
            "{field}"
        );
    }
    server.wait_for_log(WARNING);
    server.terminate();
    server.wait_for_success();
    let log = server.whole_log();
    // The interval of a warning may have begun anew.
    assert!((1..=2).contains(&log.matches(WARNING).count()), "{log}");
    assert!(log.contains("the field is missing"), "{log}");
}
