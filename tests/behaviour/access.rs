//! The access log, and the connection id of other log lines.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::server::Server;
use crate::common::wait_for;
use crate::common::wire::{
    BINARY, CLOSE, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, close,
    closed, frame, header, noise, unmasked,
};

on_every_engine![
    access_line_has_messages_bytes_reason_and_code,
    access_line_has_reason_of_each_end,
    access_line_has_slow_reader,
    access_line_has_drain,
    access_line_has_refused_handshakes,
    access_line_names_limit_that_refused,
    refusal_cut_off_by_drain_has_access_line,
    access_line_has_handler_connections,
    access_log_is_off_by_default,
    access_line_has_listener_worker_path_and_compression,
    access_line_path_is_escaped_and_truncated,
    access_log_fields_add_request_headers,
    log_lines_have_connection_id,
    violation_lines_are_limited_and_counted,
    access_lines_over_rate_are_dropped_and_counted,
];

const LOG: [&str; 3] = ["--access-log", "--log=off", "--log-format=json"];

#[track_caller]
fn start(engine: Engine, flags: &[&str]) -> Server {
    Server::start(engine, &[&LOG[..], flags].concat())
}

fn lines(log: &str) -> Vec<Value> {
    // The last line may be incomplete.
    let whole = &log[..log.rfind('\n').map_or(0, |at| at + 1)];
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn is_access(line: &Value) -> bool {
    line["target"] == "access"
}

/// The client's address.
fn peer(raw: &Raw) -> String {
    let address = raw.stream().local_addr().expect("connected");
    address.to_string()
}

/// Waits for the one access line of this peer.
#[track_caller]
fn access_line(server: &Server, peer: &str) -> Value {
    let line = wait_for(&format!("the access line of {peer}"), || {
        let lines = lines(&server.log());
        let mut of_peer = lines
            .iter()
            .filter(|line| is_access(line))
            .filter(|l| l["peer"] == peer);
        let line = of_peer.next().cloned();
        assert_eq!(of_peer.next(), None, "a second line");
        line
    });
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "connection");
    assert!(
        line["id"].is_u64() && line["duration_ms"].is_u64(),
        "{line}"
    );
    line
}

/// Compares an access line with these fields, besides those that every line has.
#[track_caller]
fn expect(line: &Value, expected: &Value) {
    let mut found = line.as_object().expect("an object").clone();
    for common in [
        "timestamp",
        "level",
        "target",
        "message",
        "id",
        "peer",
        "listener",
        "worker",
        "duration_ms",
    ] {
        assert!(
            found.remove(common).is_some(),
            "{common} is missing: {line}"
        );
    }
    // Other tests check these.
    for optional in ["path", "tls", "compression"] {
        found.remove(optional);
    }
    assert_eq!(&Value::Object(found), expected);
}

fn access_lines_over_rate_are_dropped_and_counted(engine: Engine) {
    const LEFT_OUT: &str = "ringback_access_lines_left_out_total";
    let written = |rate: &str, left_out| {
        let flags = ["--access-log", "--log-format=json", rate];
        let (mut server, admin) = Server::start_with_admin(engine, &flags);
        for _ in 0..5 {
            let mut raw = Raw::open(server.address());
            raw.send(&close(1000, ""));
            raw.expect(&closed(1000));
            raw.expect_end();
        }
        admin.wait_for("all lines are written or dropped", |page| {
            let logged = lines(&server.log()).iter().filter(|l| is_access(l)).count();
            logged as u64 + page.count(LEFT_OUT, &[]) == 5
        });
        assert_eq!(admin.metrics().count(LEFT_OUT, &[]), left_out);
        server.terminate();
        server.wait();
        let warnings = lines(&server.whole_log());
        let about = |key: &str, text: &str| {
            let matching = warnings.iter().filter(|line| line["level"] == "WARN");
            matching.filter(|line| line[key] == text).count()
        };
        let text = "access lines dropped: more than --access-log-rate";
        // The dropped lines are logged as a number.
        (
            about("message", text),
            about("kind", "access lines dropped"),
        )
    };
    assert_eq!(written("--access-log-rate=2/h", 3), (1, 1));
    assert_eq!(written("--access-log-rate=0", 0), (0, 0));
    assert_eq!(written("--access-log-rate=5/h", 0), (0, 0));
}

fn access_line_has_messages_bytes_reason_and_code(engine: Engine) {
    let server = start(engine, &["--subprotocol=chat"]);
    let mut raw = Raw::dial(server.address());
    let request = REQUEST.trim_end().to_owned() + "\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    raw.send(request.as_bytes());
    raw.expect_upgrade();
    let batch = [
        frame(TEXT, b"hello"),
        frame(TEXT_FRAGMENT, b"in "),
        frame(PING, b"?"),
        frame(FRAGMENT, b"three "),
        frame(PONG, b"!"),
        frame(LAST_FRAGMENT, b"parts"),
        frame(BINARY, &noise(1, 100_000)),
    ]
    .concat();
    let reply = [
        unmasked(TEXT, b"hello"),
        unmasked(TEXT_FRAGMENT, b"in "),
        unmasked(PONG, b"?"),
        unmasked(FRAGMENT, b"three "),
        unmasked(LAST_FRAGMENT, b"parts"),
        unmasked(BINARY, &noise(1, 100_000)),
    ]
    .concat();
    raw.send(&batch);
    raw.expect(&reply);
    raw.send(&close(1000, "bye"));
    raw.expect(&unmasked(CLOSE, b"\x03\xe8bye"));
    let client = peer(&raw);
    drop(raw);
    let expected = json!({
        "outcome": "upgraded", "status": 101, "subprotocol": "chat",
        "messages_in": 3, "messages_out": 3,
        "bytes_in": batch.len() + close(1000, "bye").len(),
        "bytes_out": reply.len() + unmasked(CLOSE, b"\x03\xe8bye").len(),
        "reason": "client", "code": 1000,
    });
    expect(&access_line(&server, &client), &expected);
}

/// The access line of an upgraded connection.
fn upgraded(messages: u64, sent: usize, got: usize, reason: &str, code: Option<u16>) -> Value {
    let mut expected = json!({
        "outcome": "upgraded", "status": 101,
        "messages_in": messages, "messages_out": messages,
        "bytes_in": sent, "bytes_out": got,
        "reason": reason,
    });
    if let Some(code) = code {
        expected["code"] = code.into();
    }
    expected
}

fn access_line_has_reason_of_each_end(engine: Engine) {
    let flags = ["--idle-timeout=1s", "--pong-timeout=200ms"];
    let server = start(engine, &flags);
    let (hello, echo) = (frame(TEXT, b"hello"), unmasked(TEXT, b"hello"));
    let connect_and_echo = || {
        let mut raw = Raw::open(server.address());
        raw.send(&hello);
        raw.expect(&echo);
        raw
    };

    let mut wrong = connect_and_echo();
    let bare = unmasked(TEXT, b"unmasked");
    wrong.send(&bare);
    wrong.expect(&closed(1002));
    let client = peer(&wrong);
    drop(wrong);
    let (sent, got) = (hello.len() + bare.len(), echo.len() + closed(1002).len());
    let expected = upgraded(1, sent, got, "violation", Some(1002));
    expect(&access_line(&server, &client), &expected);

    let aborted = connect_and_echo();
    let client = peer(&aborted);
    aborted.reset();
    let expected = upgraded(1, hello.len(), echo.len(), "gone", None);
    expect(&access_line(&server, &client), &expected);

    let mut ended = connect_and_echo();
    ended.send(&hello[..3]);
    let client = peer(&ended);
    drop(ended);
    let expected = upgraded(1, hello.len() + 3, echo.len(), "gone", None);
    expect(&access_line(&server, &client), &expected);

    let mut silent = connect_and_echo();
    silent.expect_frame(PING, b"");
    silent.expect_close(1001);
    let client = peer(&silent);
    drop(silent);
    let got = echo.len() + unmasked(PING, b"").len() + closed(1001).len();
    let expected = upgraded(1, hello.len(), got, "idle", Some(1001));
    expect(&access_line(&server, &client), &expected);

    // Inside a frame no Ping and no Close can be sent.
    let mut streaming = connect_and_echo();
    let start = header(BINARY, 1 << 20);
    streaming.send(&start);
    let got = streaming.rest_until_cut().len();
    let client = peer(&streaming);
    let sent = hello.len() + start.len();
    let expected = upgraded(1, sent, echo.len() + got, "idle", None);
    expect(&access_line(&server, &client), &expected);
}

fn access_line_has_slow_reader(engine: Engine) {
    let server = start(engine, &["--write-timeout=300ms", "--max-backlog=1m"]);
    let mut raw = Raw::open_with_small_buffers(server.address());
    let message = frame(BINARY, &noise(1, 60_000));
    raw.send_until_cut(&message);
    let line = access_line(&server, &peer(&raw));
    assert_eq!(line["reason"], "slow_reader");
    assert_eq!(line["code"], Value::Null);
    let number = |name: &str| line[name].as_u64().expect("a number");
    // Bytes left in the socket belong to no message; only whole frames are counted.
    let messages = number("messages_in");
    let least = messages * message.len() as u64;
    let read = number("bytes_in");
    assert!(
        (least..least + message.len() as u64).contains(&read),
        "{line}"
    );
    assert!(number("bytes_out") < read, "{line}");
    assert!(number("duration_ms") >= 299, "{line}");
}

fn access_line_has_drain(engine: Engine) {
    let mut server = start(engine, &["--drain-timeout=500ms"]);
    let mut quiet = Raw::open(server.address());
    let mut stuck = Raw::open(server.address());
    let start = header(BINARY, 1 << 20);
    stuck.send(&start);
    let echoed = stuck.receive(10).len();
    server.terminate();
    quiet.expect_close(1001);
    let (quiet, stuck) = (peer(&quiet), peer(&stuck));
    server.wait_for_success();
    server.whole_log();
    let expected = upgraded(0, 0, closed(1001).len(), "drain", Some(1001));
    expect(&access_line(&server, &quiet), &expected);
    let expected = upgraded(0, start.len(), echoed, "drain", None);
    expect(&access_line(&server, &stuck), &expected);
}

fn access_line_has_refused_handshakes(engine: Engine) {
    let flags = ["--path=/echo", "--handshake-timeout=1s"];
    let server = start(engine, &flags);
    for (request, expected) in [
        (
            REQUEST,
            json!({ "outcome": "refused", "status": 404, "refusal": "path" }),
        ),
        (
            "nonsense\r\n\r\n",
            json!({ "outcome": "refused", "status": 400, "refusal": "malformed" }),
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            json!({ "outcome": "served", "status": 200 }),
        ),
        (
            "GET / HT",
            json!({ "outcome": "timeout", "refusal": "timeout" }),
        ),
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        raw.rest();
        let client = peer(&raw);
        drop(raw);
        expect(&access_line(&server, &client), &expected);
    }
    let raw = Raw::dial(server.address());
    let client = peer(&raw);
    raw.half_close();
    expect(
        &access_line(&server, &client),
        &json!({ "outcome": "abandoned" }),
    );
}

fn access_line_names_limit_that_refused(engine: Engine) {
    let flags = [
        "--max-connections=2",
        "--max-connections-per-address=1",
        "--handshake-rate=3/h",
    ];
    let server = start(engine, &flags);
    let from = |last| {
        let address: IpAddr = Ipv4Addr::new(127, 0, 0, last).into();
        let mut raw = Raw::dial_from(address, server.address());
        raw.send(REQUEST.as_bytes());
        raw
    };
    let mut accepted = from(2);
    accepted.expect_upgrade();
    let refused = |mut raw: Raw, status: u16, refusal: &str| {
        raw.expect_refusal(status);
        let client = peer(&raw);
        drop(raw);
        let expected = json!({ "outcome": "refused", "status": status, "refusal": refusal });
        expect(&access_line(&server, &client), &expected);
    };
    refused(from(2), 429, "address");
    refused(from(2), 429, "address");
    refused(from(2), 429, "rate");
    let mut other = from(3);
    other.expect_upgrade();
    refused(from(4), 503, "full");
}

fn refusal_cut_off_by_drain_has_access_line(engine: Engine) {
    let flags = ["--max-connections=1", "--drain-timeout=10m"];
    let (mut server, admin) = Server::start_with_admin(engine, &[&LOG[..], &flags].concat());
    let accepted = Raw::open(server.address());
    let silent = Raw::dial(server.address());
    admin.wait_for("the connection is refused", |page| {
        page.count("ringback_connections_refused_total", &[("reason", "full")]) == 1
    });
    server.terminate();
    let line = access_line(&server, &peer(&silent));
    expect(&line, &json!({ "outcome": "cut_off", "refusal": "full" }));
    drop(accepted);
    server.wait_for_success();
}

fn access_line_has_handler_connections(engine: Engine) {
    let server = start(engine, &["--print-messages"]);
    let mut raw = Raw::open(server.address());
    let sent = [
        frame(TEXT_FRAGMENT, b"to"),
        frame(LAST_FRAGMENT, b"gether"),
        close(1000, ""),
    ]
    .concat();
    let reply = [unmasked(TEXT, b"together"), closed(1000)].concat();
    raw.send(&sent);
    raw.expect(&reply);
    let client = peer(&raw);
    drop(raw);
    let expected = upgraded(1, sent.len(), reply.len(), "client", Some(1000));
    expect(&access_line(&server, &client), &expected);
}

fn access_line_has_listener_worker_path_and_compression(engine: Engine) {
    let server = start(engine, &["--threads=2", "--path=/echo"]);
    for (request, path, compression) in [
        (
            REQUEST.replacen("GET / ", "GET /echo?x=1 ", 1),
            json!("/echo"),
            json!("none"),
        ),
        (REQUEST.to_owned(), json!("/"), Value::Null),
        ("nonsense\r\n\r\n".to_owned(), Value::Null, Value::Null),
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        raw.head();
        let client = peer(&raw);
        drop(raw);
        let line = access_line(&server, &client);
        assert_eq!(line["listener"], server.address().to_string());
        assert!(
            line["worker"].as_u64().is_some_and(|worker| worker < 2),
            "{line}"
        );
        assert_eq!(line["path"], path);
        assert_eq!(line["compression"], compression);
        assert_eq!(line["tls"], Value::Null);
        for field in ["query", "host", "origin", "user_agent"] {
            assert_eq!(line[field], Value::Null, "{field}");
        }
    }
}

fn access_line_path_is_escaped_and_truncated(engine: Engine) {
    let server = start(engine, &[]);
    for (path, logged) in [
        ("/a%20b\"'", "/a%20b\"'".to_owned()),
        ("/\u{e9}", "/\\xc3\\xa9".to_owned()),
        (
            &*format!("/{}", "a".repeat(5000)),
            format!("/{}\u{2026}", "a".repeat(255)),
        ),
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(
            REQUEST
                .replacen("GET / ", &format!("GET {path} "), 1)
                .as_bytes(),
        );
        raw.expect_upgrade();
        let client = peer(&raw);
        drop(raw);
        assert_eq!(access_line(&server, &client)["path"], logged);
    }
}

fn access_log_fields_add_request_headers(engine: Engine) {
    let flags = [
        "--access-log-fields=query,host,origin,user-agent,x-request-id,traceparent",
        "--access-log-fields=x-forwarded-for,forwarded,sec-websocket-protocol",
        "--access-log-fields=sec-websocket-extensions",
        "--subprotocol=*",
    ];
    let long = "x".repeat(300);
    let request = REQUEST.replacen("GET / ", "GET /?a=1&b=\\ ", 1);
    let request = request.trim_end().to_owned()
        + "\r\nOrigin: https://a.example\r\nUser-Agent: \"it\" \u{e9}\r\n\
           X-Request-ID: 1\r\nX-Request-ID: 2\r\nTraceparent: 00-1-2-01\r\n\
           X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n\
           Sec-WebSocket-Extensions: permessage-deflate\r\n\
           Cookie: secret\r\nAuthorization: secret\r\n"
        + &format!("Sec-WebSocket-Protocol: {long}\r\n\r\n");
    let cut = format!("{}\u{2026}", "x".repeat(256));
    for format in ["json", "text"] {
        let all = [
            &flags[..],
            &["--access-log", "--log=off", "--log-format", format],
        ]
        .concat();
        let server = Server::start(engine, &all);
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        raw.head();
        let client = peer(&raw);
        drop(raw);
        if format == "text" {
            server.wait_for_log("user_agent=\"\\\"it\\\" \\\\xc3\\\\xa9\"");
            server.wait_for_log(" x_request_id=\"1, 2\" ");
            server.wait_for_log(" compression=\"none\" ");
            assert!(!server.log().contains("secret"));
            continue;
        }
        let line = access_line(&server, &client);
        for (field, value) in [
            ("query", "a=1&b=\\x5c"),
            ("host", "localhost"),
            ("origin", "https://a.example"),
            ("user_agent", "\"it\" \\xc3\\xa9"),
            ("x_request_id", "1, 2"),
            ("traceparent", "00-1-2-01"),
            ("x_forwarded_for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7"),
            ("sec_websocket_protocol", &cut),
            ("sec_websocket_extensions", "permessage-deflate"),
            ("subprotocol", &cut),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
    }
}

fn access_log_is_off_by_default(engine: Engine) {
    let mut server = Server::start(engine, &["--log=trace", "--log-format=json"]);
    let mut raw = Raw::open(server.address());
    raw.send(&close(1000, ""));
    raw.expect_close(1000);
    drop(raw);
    server.terminate();
    server.wait_for_success();
    let log = server.whole_log();
    assert!(!log.contains("\"access\""), "{log}");
}

fn log_lines_have_connection_id(engine: Engine) {
    const CONNECTIONS: usize = 40;
    let flags = [
        "--access-log",
        "--log=ringback=debug",
        "--log-format=json",
        "--threads=3",
        "--path=/echo",
    ];
    let mut server = Server::start(engine, &flags);
    let mut peers = Vec::new();
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(server.address());
        if index % 2 == 0 {
            raw.send(REQUEST.replacen("GET / ", "GET /echo ", 1).as_bytes());
            raw.expect_upgrade();
            raw.send(&unmasked(TEXT, b"unmasked"));
            raw.expect_close(1002);
        } else {
            raw.send(REQUEST.as_bytes());
            raw.expect_refusal(404);
        }
        peers.push(peer(&raw));
    }
    server.terminate();
    server.wait_for_success();
    let lines = lines(&server.whole_log());
    let mut ids = BTreeSet::new();
    for (index, peer) in peers.iter().enumerate() {
        let access = lines.iter().filter(|line| is_access(line));
        let access: Vec<_> = access.filter(|line| line["peer"] == **peer).collect();
        assert_eq!(access.len(), 1, "{peer}");
        let id = access[0]["id"].as_u64().expect("an id");
        assert!(ids.insert(id), "{id} is not unique");
        let message = ["a client broke the protocol", "a request was refused"][index % 2];
        let of_peer: Vec<_> = lines
            .iter()
            .filter(|line| line["span"]["peer"] == **peer)
            .collect();
        assert_eq!(of_peer.len(), 1, "{of_peer:?}");
        assert_eq!(of_peer[0]["message"], message);
        assert_eq!(of_peer[0]["span"]["name"], "connection");
        assert_eq!(of_peer[0]["span"]["id"], id);
    }
}

fn violation_lines_are_limited_and_counted(engine: Engine) {
    const CONNECTIONS: usize = 1000;
    /// The server's limit of lines in an interval; on a busy machine the test may span
    /// several intervals.
    const LINES: usize = 100;
    let flags = ["--log=ringback=debug", "--log-format=json", "--threads=2"];
    let mut server = Server::start(engine, &flags);
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open(server.address());
        raw.send(&unmasked(TEXT, b"unmasked"));
        raw.expect_close(1002);
    }
    server.terminate();
    server.wait_for_success();
    let lines = lines(&server.whole_log());
    let violations = |line: &&Value| line["message"] == "a client broke the protocol";
    let logged = lines.iter().filter(violations).count();
    assert!((LINES..=4 * LINES).contains(&logged), "{logged} lines");
    // Suppressed lines are counted.
    let suppressed: u64 = lines
        .iter()
        .filter(|line| line["message"] == "lines were suppressed")
        .filter(|line| line["kind"] == "a client broke the protocol")
        .map(|line| line["suppressed"].as_u64().expect("a number"))
        .sum();
    assert_eq!(logged as u64 + suppressed, CONNECTIONS as u64);
}
