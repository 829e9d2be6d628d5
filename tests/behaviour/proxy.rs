//! The PROXY protocol.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::ALL_VERSIONS;
use serde_json::Value;

use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::pki::{self, Pki};
use crate::common::server::Server;
use crate::common::wait_for;
use crate::common::wire::{REQUEST, TEXT, frame, unmasked};

on_every_engine![
    proxy_header_names_client,
    header_byte_by_byte_is_accepted,
    local_header_makes_proxy_the_client,
    version_1_line_names_client,
    invalid_header_closes_connection,
    missing_header_is_logged_once,
    header_without_request_is_health_check,
    forwarded_field_after_header_names_client,
    header_of_untrusted_peer_gets_400,
    handshake_timeout_covers_header,
    header_precedes_tls,
    limits_and_access_log_use_client,
];

const TRUSTED: &str = "--proxy-protocol=127.0.0.0/8";

/// Of the client 192.0.2.7, port 12345, with a TLV after the addresses.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\
    \xc0\0\x02\x07\xc6\x33\x64\x07\x30\x39\x01\xbb\x01\0\x02h2";

/// The LOCAL command, as in a proxy's health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn proxy_header_names_client(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED, "--print-messages"]);
    let mut raw = Raw::dial(server.address());
    // The header ends inside the first read, and nothing after it is lost.
    raw.send(&[HEADER, REQUEST.as_bytes(), &frame(TEXT, b"hello")].concat());
    raw.expect_upgrade();
    raw.expect_frame(TEXT, b"hello");
    assert_eq!(
        server.printed().as_deref(),
        Some("192.0.2.7:12345 sent: hello")
    );
    let six: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x07\x01\xbb";
    let mut raw = Raw::dial(server.address());
    raw.send(&[six, REQUEST.as_bytes(), &frame(TEXT, b"six")].concat());
    raw.expect_upgrade();
    raw.expect_frame(TEXT, b"six");
    assert_eq!(
        server.printed().as_deref(),
        Some("[2001:db8::1]:7 sent: six")
    );
}

fn header_byte_by_byte_is_accepted(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED]);
    let all = [HEADER, REQUEST.as_bytes()].concat();
    let mut raw = Raw::dial(server.address());
    for byte in &all {
        raw.send(&[*byte]);
    }
    raw.expect_upgrade();
    for cut in 1..=HEADER.len() {
        let mut raw = Raw::dial(server.address());
        raw.send(&all[..cut]);
        raw.send(&all[cut..]);
        raw.expect_upgrade();
        raw.send(&frame(TEXT, b"here"));
        raw.expect_frame(TEXT, b"here");
    }
}

fn local_header_makes_proxy_the_client(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED, "--print-messages"]);
    let unknown = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x03abc";
    for header in [LOCAL, unknown] {
        let mut raw = Raw::dial(server.address());
        raw.send(&[header, REQUEST.as_bytes(), &frame(TEXT, b"me")].concat());
        raw.expect_upgrade();
        raw.expect_frame(TEXT, b"me");
        let own = raw.stream().local_addr().expect("connected");
        assert_eq!(server.printed(), Some(format!("{own} sent: me")));
    }
}

fn version_1_line_names_client(engine: Engine) {
    let server = Server::start(engine, &[TRUSTED, "--print-messages"]);
    for (line, client) in [
        (
            "PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\r\n",
            "192.0.2.7:12345",
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 7 443\r\n",
            "[2001:db8::1]:7",
        ),
        ("PROXY UNKNOWN\r\n", ""),
        ("PROXY UNKNOWN some words\r\n", ""),
    ] {
        let behind = [REQUEST.as_bytes(), &frame(TEXT, b"one")].concat();
        for cut in [0, 1, 6, 14, 15, line.len() - 1, line.len()] {
            let mut raw = Raw::dial(server.address());
            let own = raw.stream().local_addr().expect("connected").to_string();
            raw.send(&line.as_bytes()[..cut]);
            raw.send(&[&line.as_bytes()[cut..], &behind].concat());
            raw.expect_upgrade();
            raw.expect_frame(TEXT, b"one");
            let client = if client.is_empty() { &own } else { client };
            assert_eq!(server.printed(), Some(format!("{client} sent: one")));
        }
    }
    let mut raw = Raw::dial(server.address());
    for byte in b"PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\r\n" {
        raw.send(&[*byte]);
    }
    raw.send(REQUEST.as_bytes());
    raw.expect_upgrade();
}

fn missing_header_is_logged_once(engine: Engine) {
    const WARNING: &str = "a proxy of --proxy-protocol sent no valid PROXY header";
    let mut server = Server::start(engine, &[TRUSTED]);
    // A port scan sends nothing.
    Raw::dial(server.address()).half_close();
    for _ in 0..5 {
        let mut raw = Raw::dial(server.address());
        raw.send(REQUEST.as_bytes());
        assert!(raw.rest_until_cut().is_empty());
    }
    server.terminate();
    server.wait_for_success();
    let log = server.whole_log();
    // The interval of a warning may have begun anew.
    assert!((1..=2).contains(&log.matches(WARNING).count()), "{log}");
    assert!(log.contains("no PROXY header"), "{log}");
}

fn header_without_request_is_health_check(engine: Engine) {
    let count = |page: &crate::common::prometheus::Page, outcome: &str| {
        page.count("ringback_handshakes_total", &[("outcome", outcome)])
    };
    let flags = [TRUSTED, "--access-log", "--admin=127.0.0.1:0"];
    let pair = pki::pair();
    for server in [
        Server::start(engine, &flags),
        Server::start_tls(engine, Pki::of(&pair), &flags),
    ] {
        let admin = Admin::from_line(&server.printed().expect("an admin line"));
        for header in [
            LOCAL,
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0",
        ] {
            let mut raw = Raw::dial(server.address());
            raw.send(header);
        }
        // A client that closes behind a proxy is no health check.
        let mut raw = Raw::dial(server.address());
        raw.send(HEADER);
        drop(raw);
        let page = admin.wait_for("all four connections are closed", |page| {
            count(page, "health_check") + count(page, "abandoned") == 4
        });
        assert_eq!(count(&page, "health_check"), 3);
        let tls = page.count("ringback_tls_handshakes_total", &[("outcome", "abandoned")]);
        assert!(tls <= 1, "{tls}");
        server.wait_for_log("outcome=\"health_check\"");
    }
}

fn forwarded_field_after_header_names_client(engine: Engine) {
    let flags = [TRUSTED, "--forwarded-from=192.0.2.0/24", "--access-log"];
    let server = Server::start(engine, &flags);
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    let request = format!("{request}X-Forwarded-For: 198.51.100.9\r\n\r\n");
    let mut raw = Raw::dial(server.address());
    let own = raw.stream().local_addr().expect("connected");
    raw.send(&[HEADER, request.as_bytes()].concat());
    raw.expect_upgrade();
    drop(raw);
    server.wait_for_log(&format!("peer=198.51.100.9 proxy={own} "));
}

fn invalid_header_closes_connection(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &[TRUSTED]);
    let mut datagram = HEADER.to_vec();
    datagram[13] = 0x12;
    let mut third_version = HEADER.to_vec();
    third_version[12] = 0x31;
    let wrong = [
        REQUEST.as_bytes(),
        b"\r\n\r\n\0\r\nQUIX",
        b"PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.7 12345 65536\r\n",
        &[&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
        &datagram,
        &third_version,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0babcdefghijk",
    ];
    for bytes in wrong {
        let mut raw = Raw::dial(server.address());
        raw.send(bytes);
        assert!(raw.rest_until_cut().is_empty());
    }
    admin.wait_for("each is counted", |page| {
        let reason = [("reason", "proxy")];
        page.count("ringback_connections_refused_total", &reason) == wrong.len() as u64
    });
}

fn header_of_untrusted_peer_gets_400(engine: Engine) {
    for flags in [
        &[][..],
        &["--proxy-protocol=192.0.2.0/24", "--proxy-protocol=unix"],
    ] {
        let server = Server::start(engine, flags);
        let mut raw = Raw::dial(server.address());
        raw.send(&[HEADER, REQUEST.as_bytes()].concat());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        Raw::open(server.address());
    }
}

fn handshake_timeout_covers_header(engine: Engine) {
    let flags = [TRUSTED, "--handshake-timeout=1s"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let slow = [0, 1, 12, 16, HEADER.len() - 1].map(|len| {
        let mut raw = Raw::dial(server.address());
        raw.send(&HEADER[..len]);
        raw
    });
    for mut raw in slow {
        assert!(raw.rest_until_cut().is_empty());
    }
    // The rest of the timeout is for the request.
    let mut raw = Raw::dial(server.address());
    raw.send(HEADER);
    raw.expect_refusal(408);
    admin.wait_for("all six are counted", |page| {
        page.count("ringback_handshakes_total", &[("outcome", "timeout")]) == 6
    });
}

fn header_precedes_tls(engine: Engine) {
    let pair = pki::pair();
    let flags = [TRUSTED, "--print-messages", "--admin=127.0.0.1:0"];
    let server = Server::start_tls(engine, Pki::of(&pair), &flags);
    let _admin = Admin::from_line(&server.printed().expect("an admin line"));
    let mut stream = TcpStream::connect(server.address()).expect("connected");
    stream
        .set_read_timeout(Some(crate::common::TIMEOUT))
        .expect("set");
    stream.write_all(HEADER).expect("sent");
    let mut tls = pki::over(stream, &pair.client(ALL_VERSIONS, &[]));
    tls.write_all(REQUEST.as_bytes()).expect("sent");
    tls.write_all(&frame(TEXT, b"in secret")).expect("sent");
    let expected = unmasked(TEXT, b"in secret");
    let mut received = Vec::new();
    while !received.ends_with(&expected) {
        let mut byte = [0];
        tls.read_exact(&mut byte).expect("a byte");
        received.push(byte[0]);
    }
    assert_eq!(
        server.printed().as_deref(),
        Some("192.0.2.7:12345 sent: in secret")
    );
}

fn limits_and_access_log_use_client(engine: Engine) {
    let flags = [
        TRUSTED,
        "--max-connections-per-address=1",
        "--access-log",
        "--log=off",
        "--log-format=json",
    ];
    let server = Server::start(engine, &flags);
    let connect = |last: u8| {
        let mut header = HEADER.to_vec();
        header[19] = last;
        let mut raw = Raw::dial(server.address());
        raw.send(&[&header, REQUEST.as_bytes()].concat());
        raw
    };
    let mut first = connect(7);
    first.expect_upgrade();
    connect(8).expect_upgrade();
    let mut second = connect(7);
    second.expect_refusal(429);
    let proxy = second.stream().local_addr().expect("connected");
    drop(second);
    let line = wait_for("the access line of the refused connection", || {
        let log = server.log();
        let mut lines = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .find(|line| line.contains("refused"))
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
    });
    assert_eq!(line["peer"], "192.0.2.7:12345");
    assert_eq!(line["proxy"], proxy.to_string());
    assert_eq!(line["refusal"], "address");
}
