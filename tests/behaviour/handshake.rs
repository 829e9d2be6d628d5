//! The response to a handshake, byte for byte.

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::server::Server;
use crate::common::wire::{ACCEPT, REQUEST, TEXT, frame};

on_every_engine_and_over_tls![
    response_101_has_connection_upgrade_only,
    http_1_0_keep_alive_gets_connection_close,
    empty_subprotocol_field_is_no_offer,
    subprotocol_asterisk_accepts_first_offer,
    origins_are_compared_normalized,
    unparsable_request_gets_reason,
    connection_upgrade_without_upgrade_is_plain_request,
];

/// Without and with a handler.
const SERVERS: [&[&str]; 2] = [&[], &["--print-messages"]];

fn request_with(lines: &str) -> String {
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    format!("{request}{lines}\r\n")
}

/// Sends a handshake; returns the head of its 101, after an echo.
#[track_caller]
fn upgrade(server: &Server, request: &str) -> String {
    let mut raw = Raw::dial(server.address());
    raw.send(request.as_bytes());
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{request}{head}");
    raw.send(&frame(TEXT, b"hello"));
    raw.expect_frame(TEXT, b"hello");
    head
}

fn response_101_has_connection_upgrade_only(engine: Engine) {
    for flags in SERVERS {
        let server = Server::start(engine, flags);
        for connection in ["Upgrade", "close, Upgrade", "keep-alive, Upgrade"] {
            let request =
                REQUEST.replace("Connection: Upgrade", &format!("Connection: {connection}"));
            let expected = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
            );
            assert_eq!(upgrade(&server, &request), expected, "{connection}");
        }
    }
}

fn http_1_0_keep_alive_gets_connection_close(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::dial(server.address());
    raw.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert_eq!(head.matches("connection: close\r\n").count(), 1, "{head}");
    assert!(!head.contains("keep-alive"), "{head}");
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
        .expect("a length");
    assert_eq!(raw.rest().len(), length);
}

fn empty_subprotocol_field_is_no_offer(engine: Engine) {
    for flags in SERVERS {
        let server = Server::start(engine, &[flags, &["--subprotocol=chat"]].concat());
        let head = upgrade(&server, &request_with("Sec-WebSocket-Protocol:\r\n"));
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    }
}

fn subprotocol_asterisk_accepts_first_offer(engine: Engine) {
    for flags in SERVERS {
        let server = Server::start(engine, &[flags, &["--subprotocol=*"]].concat());
        let offer = "Sec-WebSocket-Protocol: soap, chat\r\n";
        let head = upgrade(&server, &request_with(offer));
        assert!(
            head.contains("\r\nsec-websocket-protocol: soap\r\n"),
            "{head}"
        );
        upgrade(&server, REQUEST);
    }
}

fn origins_are_compared_normalized(engine: Engine) {
    let flags = [
        "--origin=https://Example.org:443/",
        "--origin=http://*.example.org",
    ];
    let server = Server::start(engine, &flags);
    for origin in [
        "https://example.org",
        "https://example.org:443",
        "http://a.example.org",
        "http://a.b.example.org:80",
    ] {
        upgrade(&server, &request_with(&format!("Origin: {origin}\r\n")));
    }
    for origin in ["http://example.org", "https://a.example.org", "null", "*"] {
        let mut raw = Raw::dial(server.address());
        raw.send(request_with(&format!("Origin: {origin}\r\n")).as_bytes());
        raw.expect_refusal(403);
    }
}

fn unparsable_request_gets_reason(engine: Engine) {
    let server = Server::start(engine, &[]);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        (request_with(&format!("X: {}\r\n", "x".repeat(20_000))), 431),
        (request_with(&"X: y\r\n".repeat(200)), 431),
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        raw.expect_refusal(status);
    }
}

fn connection_upgrade_without_upgrade_is_plain_request(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::dial(server.address());
    raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\r\n");
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}
