//! Requests that are too long, too slow, ambiguous, or not HTTP.

use crate::attack::{Attack, Budget, IDLE, IN_HANDSHAKE};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::wire::{ACCEPT, REQUEST, TEXT, closed, frame, header};

on_every_engine![
    request_byte_by_byte_is_upgraded,
    head_over_limit_gets_431,
    subprotocol_list_over_32_gets_400,
    handshake_with_body_gets_400,
    anything_but_http_1_1_gets_400,
    tls_on_plain_port_gets_alert,
    ambiguous_header_gets_400,
    pipelined_requests_are_ignored,
    request_after_upgrade_gets_close_1002,
];

const PROTOCOL_ERROR: u16 = 1002;

/// A handshake with these lines in addition.
fn request_with(lines: &str) -> String {
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    format!("{request}{lines}\r\n")
}

/// Sends `bytes`; expects one response with one of these statuses, and the end.
#[track_caller]
fn expect_refusal(attack: &Attack, bytes: &[u8], statuses: &[u16]) {
    let mut raw = Raw::dial(attack.address());
    // The server may close before it has read all of it.
    raw.try_send(bytes);
    let answer = String::from_utf8(raw.rest_until_cut()).expect("UTF-8");
    let asked = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    assert!(
        answer.starts_with("HTTP/1.") && status.is_some_and(|status| statuses.contains(&status)),
        "{asked:?}: {answer:?}, not {statuses:?}"
    );
    let heads = answer.lines().filter(|line| line.starts_with("HTTP/1."));
    assert_eq!(heads.count(), 1, "{asked:?}: {answer:?}");
}

fn request_byte_by_byte_is_upgraded(engine: Engine) {
    const CONNECTIONS: usize = 3;
    let attack = Attack::start(engine, &[]);
    let long = request_with(&format!("X-Padding: {}\r\n", "x".repeat(7000)));
    let many = request_with(&"X: y\r\n".repeat(80));
    let mut bytes = 0;
    for request in [REQUEST, &long, &many] {
        let mut raws: Vec<_> = (0..CONNECTIONS)
            .map(|_| Raw::dial(attack.address()))
            .collect();
        for byte in request.as_bytes() {
            for raw in &mut raws {
                raw.send(&[*byte]);
            }
        }
        for raw in &mut raws {
            raw.expect_upgrade();
            raw.send(&frame(TEXT, b"at last"));
            raw.expect_frame(TEXT, b"at last");
        }
        bytes += request.len();
    }
    let budget = Budget::new()
        .connections(3 * CONNECTIONS)
        .segments(bytes * CONNECTIONS)
        .held(CONNECTIONS, IN_HANDSHAKE);
    attack.finish(budget);
}

fn head_over_limit_gets_431(engine: Engine) {
    const ROUNDS: usize = 10;
    const MIB: usize = 1 << 20;
    let attack = Attack::start(engine, &[]);
    let heads = [
        request_with(&"X: y\r\n".repeat(10_000)),
        // They would fit by length, but there are too many of them.
        request_with(&"X: y\r\n".repeat(200)),
        request_with(&format!("X: {}\r\n", "y".repeat(MIB))),
        request_with(&format!("{}: y\r\n", "X".repeat(MIB))),
        format!("GET /{} HTTP/1.1\r\n", "x".repeat(MIB)),
        format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(MIB / 6)),
        format!("GET / HTTP/1.1\r\nX: {}", "y, ".repeat(MIB / 3)),
    ];
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        for head in &heads {
            expect_refusal(&attack, head.as_bytes(), &[431]);
            bytes += head.len();
        }
    }
    let budget = Budget::new()
        .connections(ROUNDS * heads.len())
        .bytes(bytes)
        .held(1, IN_HANDSHAKE);
    attack.finish(budget);
}

fn subprotocol_list_over_32_gets_400(engine: Engine) {
    const ROUNDS: usize = 20;
    // About as much as a head may hold besides the required fields.
    const LEN: usize = 15_000;
    let attack = Attack::start(engine, &["--subprotocol=echo", "--subprotocol=chat"]);
    let fill = |piece: &str| piece.repeat(LEN / piece.len());
    let different = |count| -> Vec<String> { (0..count).map(|n| format!("p{n}")).collect() };
    let refused = [
        fill("a,"),
        different(2500).join(","),
        fill("a b,"),
        fill("\"quoted\", "),
        different(33).join(","),
    ];
    for _ in 0..ROUNDS {
        for list in &refused {
            let request = request_with(&format!("Sec-WebSocket-Protocol: {list}\r\n"));
            expect_refusal(&attack, request.as_bytes(), &[400]);
        }
    }
    // The same in many fields.
    let each_its_own = request_with(&"Sec-WebSocket-Protocol: echo\r\n".repeat(90));
    expect_refusal(&attack, each_its_own.as_bytes(), &[400]);

    let accepted = [
        format!("Sec-WebSocket-Protocol: {}echo\r\n", fill(", ,")),
        format!("Sec-WebSocket-Protocol: {}\r\n", fill(",")),
        format!("Sec-WebSocket-Protocol: {},echo\r\n", "x".repeat(LEN)),
        format!(
            "Sec-WebSocket-Extensions: {}\r\n",
            fill("permessage-deflate,")
        ),
        format!("Sec-WebSocket-Extensions: {}\r\n", fill("x;y=\"\\\"\",")),
        format!("Sec-WebSocket-Extensions: {}\r\n", fill(";,=\"")),
        "Sec-WebSocket-Extensions: permessage-deflate\r\n".repeat(90),
        format!("Upgrade: {}\r\n", fill("h2c,")),
        format!("Connection: {}\r\n", fill("keep-alive,")),
    ];
    for _ in 0..ROUNDS {
        for lines in &accepted {
            let mut raw = Raw::dial(attack.address());
            raw.send(request_with(lines).as_bytes());
            let head = raw.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert!(head.contains(ACCEPT), "{head}");
            let lower = head.to_ascii_lowercase();
            assert!(!lower.contains("sec-websocket-extensions"), "{head}");
            let agreed = lower.contains("sec-websocket-protocol: echo\r\n");
            assert_eq!(agreed, lines.contains("echo"), "{head}");
        }
    }
    let connections = ROUNDS * (refused.len() + accepted.len());
    let budget = Budget::new()
        .connections(connections)
        .bytes(connections * LEN)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

/// Request smuggling needs two parties that disagree where a request ends.
fn handshake_with_body_gets_400(engine: Engine) {
    const ROUNDS: usize = 10;
    let attack = Attack::start(engine, &[]);
    let inner = "GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let len = inner.len();
    let bodies = [
        (format!("Content-Length: {len}\r\n"), inner),
        (format!("Content-Length: {}\r\n", 1_u64 << 62), inner),
        ("Content-Length: 99999999999999999999999\r\n".into(), inner),
        ("Content-Length: -1\r\n".into(), inner),
        ("Content-Length: +5\r\n".into(), inner),
        ("Content-Length: 0x5\r\n".into(), inner),
        ("Content-Length: 0, 0\r\n".into(), inner),
        (
            format!("Content-Length: 0\r\nContent-Length: {len}\r\n"),
            inner,
        ),
        (
            format!("Content-Length: {len}\r\nContent-Length: 0\r\n"),
            inner,
        ),
        ("Transfer-Encoding: chunked\r\n".into(), &chunked),
        ("Transfer-Encoding: gzip, chunked\r\n".into(), &chunked),
        ("Transfer-Encoding: chunked, identity\r\n".into(), &chunked),
        ("Transfer-Encoding: \x0bchunked\r\n".into(), &chunked),
        ("Transfer-Encoding : chunked\r\n".into(), &chunked),
        ("Transfer-Encoding:\r\n chunked\r\n".into(), &chunked),
        ("Transfer-Encoding: nonsense\r\n".into(), &chunked),
        (
            format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n"),
            &chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".into(),
            &chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(),
            &chunked,
        ),
        // An endless chunk, and a size that overflows.
        (
            "Transfer-Encoding: chunked\r\n".into(),
            "7fffffffffffffff\r\nx",
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            "1000000000000000005\r\nx",
        ),
    ];
    for _ in 0..ROUNDS {
        for (lines, body) in &bodies {
            let request = request_with(lines) + body;
            expect_refusal(&attack, request.as_bytes(), &[400]);
        }
    }
    attack.finish(Budget::new().connections(ROUNDS * bodies.len()));
}

fn anything_but_http_1_1_gets_400(engine: Engine) {
    const ROUNDS: usize = 10;
    let attack = Attack::start(engine, &[]);
    let version = |version: &str| REQUEST.replace("HTTP/1.1", version).into_bytes();
    let all = [
        version("HTTP/1.0"),
        version("HTTP/0.9"),
        version("HTTP/1.2"),
        version("HTTP/2.0"),
        version("HTTP/3"),
        version("http/1.1"),
        version("HTTP/1.1 "),
        version("HTTP/11"),
        version("ICY/1.1"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        // SSLv2, SSH, SOCKS 5, RDP, PROXY protocols 1 and 2, and a frame.
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"\x05\x01\x00".to_vec(),
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
        frame(TEXT, b"no handshake"),
        b"GET /\r\n\r\n".to_vec(),
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\0".repeat(5000),
        b"\xff".repeat(5000),
        b" ".repeat(5000),
    ];
    for _ in 0..ROUNDS {
        for bytes in &all {
            expect_refusal(&attack, bytes, &[400]);
        }
    }
    attack.finish(Budget::new().connections(ROUNDS * all.len()));
}

fn tls_on_plain_port_gets_alert(engine: Engine) {
    const ROUNDS: usize = 50;
    const MIB: usize = 1 << 20;
    let attack = Attack::start(engine, &[]);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for round in 0..ROUNDS {
        let mut raw = Raw::dial(attack.address());
        let behind = [0, 500, MIB][round % 3];
        raw.try_send(&[&hello[..], &vec![7; behind]].concat());
        let answer = raw.rest_until_cut();
        // If much is unread when the server closes, the kernel resets the connection.
        if behind < MIB {
            assert_eq!(answer, b"\x15\x03\x01\0\x02\x02\x46");
        }
    }
    let budget = Budget::new().connections(ROUNDS).bytes(ROUNDS * MIB / 2);
    attack.finish(budget.held(1, IN_HANDSHAKE));
}

fn ambiguous_header_gets_400(engine: Engine) {
    const ROUNDS: usize = 10;
    let attack = Attack::start(engine, &[]);
    let twice = |line: &str| request_with(&format!("{line}\r\n"));
    let all = [
        twice("Host: elsewhere"),
        twice("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        REQUEST.replace("Host: localhost", "Host: a, b"),
        REQUEST.replace("Host: localhost", "Host: a@b"),
        REQUEST.replace("Host: localhost", "Host: a/b"),
        REQUEST.replace("Host: localhost", "Host:"),
        REQUEST.replace("Host: localhost\r\n", ""),
        REQUEST.replace("Host: localhost", "Host: local\r\n host"),
        REQUEST.replace("Host: localhost", "Host: local\0host"),
        REQUEST.replace("Host: localhost", "Host: local\rhost"),
        REQUEST.replace("Host:", "Host :"),
        REQUEST.replace("Host:", " Host:"),
        REQUEST.replace("Host: localhost", "Host"),
        REQUEST.replace("Host:", "Ho\0st:"),
        REQUEST.replace("Upgrade: websocket", "Upgrade: websocket\0"),
        REQUEST.replace("GET / ", "GET /\0 "),
        REQUEST.replace("GET / ", "GET /\r "),
    ];
    for _ in 0..ROUNDS {
        for request in &all {
            expect_refusal(&attack, request.as_bytes(), &[400]);
        }
    }
    attack.finish(Budget::new().connections(ROUNDS * all.len()));
}

/// A connection carries one request: the bytes after it are ignored.
fn pipelined_requests_are_ignored(engine: Engine) {
    const ROUNDS: usize = 10;
    let attack = Attack::start(engine, &[]);
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bad = REQUEST.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12");
    let broken = "GET / HTTP/1.1\r\nno colon\r\n\r\n";
    let firsts = [(plain, 200), (&bad, 426), (broken, 400)];
    for _ in 0..ROUNDS {
        for (first, status) in firsts {
            for behind in [plain, REQUEST, broken] {
                let pipelined = [first, &behind.repeat(50)].concat();
                expect_refusal(&attack, pipelined.as_bytes(), &[status]);
            }
        }
    }
    attack.finish(Budget::new().connections(ROUNDS * firsts.len() * 3));
}

/// After an upgrade a request is an invalid frame, and gets no HTTP response.
fn request_after_upgrade_gets_close_1002(engine: Engine) {
    const CONNECTIONS: usize = 100;
    let attack = Attack::start(engine, &[]);
    let inner = "GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for number in 0..CONNECTIONS {
        let mut raw = Raw::dial(attack.address());
        if number % 2 == 0 {
            raw.send(&[REQUEST, inner].concat().into_bytes());
            raw.expect_upgrade();
        } else {
            raw.send(REQUEST.as_bytes());
            raw.expect_upgrade();
            raw.send(inner.as_bytes());
        }
        assert_eq!(raw.rest(), closed(PROTOCOL_ERROR));
    }
    // As the payload of a frame it is echoed; the mask is there to protect proxies from
    // it.
    let mut raw = Raw::open(attack.address());
    raw.send(&header(TEXT, inner.len() as u64));
    raw.send(&frame(TEXT, inner.as_bytes())[6..]);
    raw.expect_frame(TEXT, inner.as_bytes());
    drop(raw);
    let budget = Budget::new()
        .connections(CONNECTIONS + 1)
        .held(1, IN_HANDSHAKE + IDLE);
    attack.finish(budget);
}
