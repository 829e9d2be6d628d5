//! Metrics and health of a server under a known load.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};

use ringback::{CloseCode, Config, Message};

use crate::common::admin::Admin;
use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine};
use crate::common::prometheus::Page;
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, CLOSE, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, close, frame,
    header, noise, unmasked,
};

on_every_engine![
    metrics_count_messages_bytes_and_frames,
    metrics_count_violations_by_kind,
    metrics_count_closes_by_reason_and_code,
    metrics_count_idle_closes,
    metrics_count_refusals_by_reason,
    metrics_count_handshake_timeouts,
    metrics_count_refusals_over_max_connections,
    held_bytes_count_incomplete_frame,
    metrics_count_slow_readers_and_their_cuts,
    healthz_and_readyz_answer_503_during_drain,
    readyz_answers_503_at_max_connections,
    metrics_are_labelled_by_worker,
    metrics_count_messages_and_closes_of_handlers,
    healthz_reports_blocked_worker,
];

fn ends(page: &Page, reason: &str, code: &str) -> u64 {
    page.count(
        "ringback_closes_total",
        &[("reason", reason), ("code", code)],
    )
}

/// Every upgraded connection is either open or counted as closed once.
#[track_caller]
fn expect_balance(page: &Page, open: u64) {
    let upgraded = page.count("ringback_handshakes_total", &[("outcome", "upgraded")]);
    assert_eq!(page.count("ringback_closes_total", &[]) + open, upgraded);
    assert_eq!(page.count("ringback_connections_open", &[]), open);
    let finished = page.count("ringback_handshakes_total", &[]);
    assert_eq!(
        page.count("ringback_connections_accepted_total", &[]),
        finished
    );
}

fn metrics_count_messages_bytes_and_frames(engine: Engine) {
    const CLIENTS: u64 = 3;
    let (server, admin) = Server::start_with_admin(engine, &["--threads=1"]);
    let request = [
        frame(TEXT, b"hello").repeat(4),
        frame(TEXT_FRAGMENT, b"in "),
        frame(PING, b"?"),
        frame(PONG, b"!"),
        frame(FRAGMENT, b"three "),
        frame(LAST_FRAGMENT, b"parts"),
    ]
    .concat();
    let reply = [
        unmasked(TEXT, b"hello").repeat(4),
        unmasked(TEXT_FRAGMENT, b"in "),
        unmasked(PONG, b"?"),
        unmasked(FRAGMENT, b"three "),
        unmasked(LAST_FRAGMENT, b"parts"),
    ]
    .concat();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = Raw::open(server.address());
        raw.send(&request);
        raw.expect(&reply);
        clients.push(raw);
    }
    // A write is counted when it is done, which its reader may see first.
    let sent = CLIENTS * reply.len() as u64;
    let page = admin.wait_for("the last write is counted", |page| {
        page.count("ringback_sent_bytes_total", &[]) == sent
    });
    for (name, expected) in [
        ("ringback_received_bytes_total", request.len() as u64),
        ("ringback_messages_received_total", 5),
        ("ringback_messages_sent_total", 5),
        ("ringback_reads_total", 1),
        ("ringback_writes_total", 1),
        ("ringback_frames_per_read_count", 1),
        ("ringback_frames_per_read_sum", 9),
        ("ringback_frames_per_write_count", 1),
        ("ringback_frames_per_write_sum", 8),
        ("ringback_pings_received_total", 1),
        ("ringback_pongs_received_total", 1),
        ("ringback_connections_accepted_total", 1),
        ("ringback_connections_open", 1),
        ("ringback_handshake_duration_seconds_count", 1),
    ] {
        assert_eq!(page.count(name, &[]), CLIENTS * expected, "{name}");
    }
    let bucket = |name, le| page.count(name, &[("le", le)]);
    assert_eq!(bucket("ringback_frames_per_read_bucket", "8"), 0);
    assert_eq!(bucket("ringback_frames_per_read_bucket", "16"), CLIENTS);
    assert_eq!(bucket("ringback_frames_per_write_bucket", "4"), 0);
    assert_eq!(bucket("ringback_frames_per_write_bucket", "8"), CLIENTS);
    assert!(page.sum("ringback_handshake_duration_seconds_sum", &[]) > 0.0);
    expect_balance(&page, CLIENTS);
}

/// Every kind of violation, bytes that cause it, and the close code.
fn violations() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let pair = |one: u8, other: u8| [frame(one, b"a"), frame(other, b"b")].concat();
    vec![
        ("reserved_bits", frame(TEXT | 0x40, b""), "1002"),
        ("reserved_opcode", frame(0x83, b""), "1002"),
        ("unmasked", unmasked(TEXT, b"unmasked"), "1002"),
        ("non_minimal_length", vec![BINARY, 0xfe, 0, 7], "1002"),
        ("length_overflow", vec![BINARY, 0xff, 0x80], "1002"),
        ("fragmented_control", frame(PING & 0x7f, b""), "1002"),
        ("long_control", frame(PING, &[0; 126]), "1002"),
        ("unexpected_continuation", frame(FRAGMENT, b""), "1002"),
        ("interleaved_message", pair(TEXT_FRAGMENT, TEXT), "1002"),
        ("truncated_close_code", frame(CLOSE, &[3]), "1002"),
        ("invalid_close_code", close(1005, ""), "1002"),
        (
            "invalid_close_reason",
            frame(CLOSE, b"\x03\xe8\xff"),
            "1007",
        ),
        ("invalid_text", frame(TEXT, b"\xff"), "1007"),
        ("message_too_long", header(BINARY, 2000), "1009"),
        (
            "too_many_fragments",
            [
                frame(TEXT_FRAGMENT, b""),
                frame(FRAGMENT, b"").repeat(2),
                frame(LAST_FRAGMENT, b""),
            ]
            .concat(),
            "1009",
        ),
    ]
}

fn metrics_count_violations_by_kind(engine: Engine) {
    let flags = ["--max-message=1k", "--max-fragments=3"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    for (_, bytes, _) in violations() {
        let mut raw = Raw::open(server.address());
        raw.send(&bytes);
        raw.rest();
    }
    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
    });
    for (kind, _, _) in violations() {
        let counted = page.count("ringback_violations_total", &[("kind", kind)]);
        assert_eq!(counted, 1, "{kind}");
    }
    let all = violations().len() as u64;
    assert_eq!(page.count("ringback_violations_total", &[]), all);
    for code in ["1002", "1007", "1009", "none"] {
        let expected = violations().iter().filter(|(.., c)| *c == code).count();
        assert_eq!(ends(&page, "violation", code), expected as u64, "{code}");
    }
    expect_balance(&page, 0);
}

fn metrics_count_closes_by_reason_and_code(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--window=1k"]);
    let codes = [1000, 1001, 1003, 1008, 1014, 3000, 4999];
    for code in codes {
        let mut raw = Raw::open(server.address());
        raw.send(&close(code, "bye"));
        raw.rest();
    }
    let mut raw = Raw::open(server.address());
    raw.send(&frame(CLOSE, b""));
    raw.rest();
    // Two ends without a Close, one of them inside a frame, ...
    drop(Raw::open(server.address()));
    let mut raw = Raw::open(server.address());
    raw.send(&[frame(PING, b""), header(TEXT, 100)].concat());
    raw.expect_frame(PONG, b"");
    raw.reset();
    // ... and a violation where no Close can be sent.
    let mut raw = Raw::open(server.address());
    raw.send(&header(TEXT, 5000));
    raw.receive(4);
    raw.send(b"\xff\xff\xff\xff");
    raw.rest_until_cut();

    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
    });
    for (code, expected) in [
        ("1000", 1),
        ("1001", 1),
        ("1002", 0),
        ("1003", 1),
        ("1008", 1),
        ("1014", 1),
        ("other", 2),
        ("none", 1),
    ] {
        assert_eq!(ends(&page, "client", code), expected, "{code}");
    }
    assert_eq!(ends(&page, "gone", "none"), 2);
    assert_eq!(ends(&page, "violation", "none"), 1);
    expect_balance(&page, 0);
}

fn metrics_count_idle_closes(engine: Engine) {
    let flags = ["--idle-timeout=1s", "--pong-timeout=100ms"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let mut raw = Raw::open(server.address());
    raw.expect_frame(PING, b"");
    raw.expect_close(1001);
    drop(raw);
    // Inside a frame neither Ping nor Close can be sent.
    let mut raw = Raw::open(server.address());
    raw.send(&header(BINARY, 1 << 20));
    raw.rest_until_cut();
    let page = admin.wait_for("both connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
    });
    assert_eq!(page.count("ringback_pings_sent_total", &[]), 1);
    assert_eq!(ends(&page, "idle", "1001"), 1);
    assert_eq!(ends(&page, "idle", "none"), 1);
    expect_balance(&page, 0);
}

fn metrics_count_refusals_by_reason(engine: Engine) {
    let flags = [
        "--path=/echo",
        "--origin=https://a.example",
        "--max-header-bytes=8k",
    ];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let good = REQUEST.replacen("GET / ", "GET /echo ", 1);
    let with = |line: &str| format!("{}\r\n{line}\r\n\r\n", good.trim_end());
    let refused = [
        ("malformed", with("Sec-WebSocket-Key: short")),
        ("malformed", "nonsense\r\n\r\n".to_owned()),
        ("origin", with("Origin: https://b.example")),
        ("path", REQUEST.to_owned()),
        ("method", good.replacen("GET", "POST", 1)),
        ("version", good.replacen("Version: 13", "Version: 12", 1)),
        ("head_too_large", with(&format!("X: {}", "x".repeat(9000)))),
    ];
    for (reason, request) in &refused {
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 4"), "{reason}: {head}");
        raw.rest();
    }
    // Two that are not refused, and get no WebSocket either.
    let mut raw = Raw::dial(server.address());
    raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.rest();
    let raw = Raw::dial(server.address());
    raw.half_close();

    let page = admin.wait_for("all connections are closed", |page| {
        let all = refused.len() as u64 + 2;
        page.count("ringback_connections_open", &[]) == 0
            && page.count("ringback_connections_accepted_total", &[]) == all
    });
    let count = |reason| page.count("ringback_connections_refused_total", &[("reason", reason)]);
    for (reason, _) in &refused {
        let expected = refused.iter().filter(|(other, _)| other == reason).count();
        assert_eq!(count(*reason), expected as u64, "{reason}");
    }
    let all = page.count("ringback_connections_refused_total", &[]);
    assert_eq!(all, refused.len() as u64);
    for (outcome, expected) in [
        ("refused", all),
        ("served", 1),
        ("abandoned", 1),
        ("upgraded", 0),
    ] {
        let counted = page.count("ringback_handshakes_total", &[("outcome", outcome)]);
        assert_eq!(counted, expected, "{outcome}");
    }
    expect_balance(&page, 0);
}

fn metrics_count_handshake_timeouts(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--handshake-timeout=100ms"]);
    Raw::dial(server.address()).expect_refusal(408);
    let page = admin.wait_for("the connection is closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
    });
    let timeout = [("reason", "timeout")];
    assert_eq!(
        page.count("ringback_connections_refused_total", &timeout),
        1
    );
    assert_eq!(page.count("ringback_connections_refused_total", &[]), 1);
    let timeout = [("outcome", "timeout")];
    assert_eq!(page.count("ringback_handshakes_total", &timeout), 1);
    assert_eq!(page.count("ringback_handshakes_total", &[]), 1);
}

fn metrics_count_refusals_over_max_connections(engine: Engine) {
    /// The most simultaneous rejections; see the server's `admission`.
    const REJECTED: usize = 256;
    let flags = ["--max-connections=2", "--threads=1"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let _accepted = [(); 2].map(|()| Client::connect(server.address()));
    // The 503 is sent after the request, so these keep their slots.
    let _asking: Vec<_> = (0..REJECTED).map(|_| Raw::dial(server.address())).collect();
    for _ in 0..3 {
        let mut raw = Raw::dial(server.address());
        assert!(raw.rest_until_cut().is_empty());
    }
    let page = admin.metrics();
    let count = |reason| page.count("ringback_connections_refused_total", &[("reason", reason)]);
    assert_eq!((count("full"), count("overrun")), (REJECTED as u64, 3));
    assert_eq!(page.count("ringback_connections_max", &[]), 2);
}

fn held_bytes_count_incomplete_frame(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &[]);
    let message = frame(BINARY, &noise(1, 1000));
    let mut raw = Raw::open(server.address());
    raw.send(&message[..500]);
    let held = |page: &Page| page.count("ringback_held_bytes", &[]);
    admin.wait_for("half a message is held", |page| held(page) == 500);
    raw.send(&message[500..]);
    raw.expect_frame(BINARY, &noise(1, 1000));
    let page = admin.wait_for("nothing is held", |page| held(page) == 0);
    assert_eq!(page.count("ringback_slow_readers", &[]), 0);
    assert_eq!(
        page.count("ringback_frames_per_read_bucket", &[("le", "0")]),
        1
    );
    assert_eq!(page.count("ringback_messages_received_total", &[]), 1);
}

fn metrics_count_slow_readers_and_their_cuts(engine: Engine) {
    let (server, admin) =
        Server::start_with_admin(engine, &["--write-timeout=5s", "--max-backlog=1m"]);
    let mut raw = Raw::open_with_small_buffers(server.address());
    raw.send_until_stuck(&frame(BINARY, &noise(1, 60_000)));
    admin.wait_for("the slow reader is counted", |page| {
        page.count("ringback_slow_readers", &[]) == 1
            && page.count("ringback_held_bytes", &[]) > 1000
    });
    let page = admin.wait_for("it is cut", |page| {
        page.count("ringback_slow_readers_cut_total", &[]) == 1
            && page.count("ringback_connections_open", &[]) == 0
    });
    assert_eq!(ends(&page, "slow_reader", "none"), 1);
    expect_balance(&page, 0);
    admin.wait_for("nothing is held", |page| {
        page.count("ringback_slow_readers", &[]) == 0 && page.count("ringback_held_bytes", &[]) == 0
    });
}

fn healthz_and_readyz_answer_503_during_drain(engine: Engine) {
    let (mut server, admin) = Server::start_with_admin(engine, &["--drain-timeout=10m"]);
    for path in ["/healthz", "/readyz"] {
        let response = admin.get(path);
        assert_eq!((response.status, &*response.body), (200, "ok\n"), "{path}");
    }
    assert_eq!(admin.metrics().count("ringback_draining", &[]), 0);
    let mut quiet = Raw::open(server.address());
    let mut busy = Raw::open(server.address());
    busy.send(&frame(TEXT_FRAGMENT, b"unfinished"));
    busy.expect_frame(TEXT_FRAGMENT, b"unfinished");
    server.terminate();
    quiet.expect_close(1001);
    drop(quiet);
    for path in ["/healthz", "/readyz"] {
        let response = admin.get(path);
        let expected = (503, "draining: the server stops\n");
        assert_eq!((response.status, &*response.body), expected, "{path}");
    }
    let page = admin.wait_for("the quiet connection is closed", |page| {
        page.count("ringback_connections_open", &[]) == 1
    });
    assert_eq!(page.count("ringback_draining", &[]), 1);
    assert_eq!(ends(&page, "drain", "1001"), 1);
    expect_balance(&page, 1);
    busy.send(&frame(LAST_FRAGMENT, b""));
    busy.expect_frame(LAST_FRAGMENT, b"");
    busy.expect_close(1001);
    drop(busy);
    server.wait_for_success();
}

fn readyz_answers_503_at_max_connections(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--max-connections=1"]);
    let client = Client::connect(server.address());
    let response = admin.get("/readyz");
    let expected = (503, "full: 1 connections are open\n");
    assert_eq!((response.status, &*response.body), expected);
    assert_eq!(admin.get("/healthz").status, 200);
    client.close();
    wait_until("a slot is free", || admin.get("/readyz").status == 200);
}

fn metrics_are_labelled_by_worker(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--threads=3"]);
    let mut clients: Vec<_> = (0..30).map(|_| Client::connect(server.address())).collect();
    for client in &mut clients {
        client.echo("hello");
    }
    let page = admin.wait_for("all messages are counted", |page| {
        page.count("ringback_messages_sent_total", &[]) == 30
    });
    let number = |name, worker| page.count(name, &[("worker", worker)]);
    let mut open = 0;
    for worker in ["0", "1", "2"] {
        assert_eq!(number("ringback_worker_up", worker), 1);
        let here = number("ringback_connections_open", worker);
        assert_eq!(number("ringback_messages_received_total", worker), here);
        open += here;
        let cpu = page.sum("ringback_worker_cpu_seconds_total", &[("worker", worker)]);
        assert!(cpu > 0.0 && cpu < page.sum("process_cpu_seconds_total", &[]));
    }
    assert_eq!(open, 30);
    let engine_label = [("engine", engine), ("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(page.count("ringback_build_info", &engine_label), 1);
    let descriptors = page.count("process_open_fds", &[]);
    assert!(descriptors >= 30 && descriptors < page.count("process_max_fds", &[]));
    assert!(page.count("process_resident_memory_bytes", &[]) > 1 << 20);
}

/// A server in this process, whose admin listener is reached over its socket.
fn with_handler<F>(
    engine: Engine,
    handler: impl Fn(ringback::MessageSocket) -> F + Send + Sync + 'static,
) -> (ringback::Server, SocketAddr, Admin)
where
    F: Future<Output = ()> + 'static,
{
    let anywhere: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let config = Config {
        listen: vec![anywhere.into()],
        admin: Some(anywhere),
        engine: engine.parse().expect("an engine"),
        threads: std::num::NonZeroUsize::new(1),
        pin: false,
        ..Config::default()
    };
    let server = ringback::Server::start_with(config, handler).expect("started");
    let address = server.addresses()[0].internet().expect("TCP");
    let admin = Admin {
        address: server.admin_address().expect("configured"),
    };
    (server, address, admin)
}

fn metrics_count_messages_and_closes_of_handlers(engine: Engine) {
    let (server, address, admin) = with_handler(engine, async |mut socket| {
        while let Ok(message) = socket.read_message().await {
            match &message {
                Message::Text(text) if text == "close" => {
                    return socket.close(CloseCode::NORMAL, "").await;
                }
                Message::Text(text) if text == "drop" => return,
                message => drop(socket.write_message(message).await),
            }
        }
    });
    let mut raw = Raw::open(address);
    let batch = [
        frame(TEXT, b"hello"),
        frame(TEXT_FRAGMENT, b"in "),
        frame(PING, b"?"),
        frame(PONG, b""),
        frame(LAST_FRAGMENT, b"parts"),
    ];
    raw.send(&batch.concat());
    // The Ping is answered at once, and the messages by the handler.
    let answers: Vec<_> = (0..3).map(|_| raw.frame()).collect();
    let (pongs, answers): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|frame| frame.first == PONG);
    assert_eq!(pongs[0].payload, b"?");
    let payloads: Vec<_> = answers.into_iter().map(|frame| frame.payload).collect();
    assert_eq!(payloads, [&b"hello"[..], b"in parts"]);
    raw.send(&frame(TEXT, b"close"));
    raw.expect_close(1000);
    drop(raw);
    for bytes in [frame(TEXT, b"drop"), close(1001, ""), frame(FRAGMENT, b"")] {
        let mut raw = Raw::open(address);
        raw.send(&bytes);
        raw.rest_until_cut();
    }
    drop(Raw::open(address));
    let mut half = Raw::open(address);
    half.send(&frame(BINARY, &[0; 100])[..50]);
    // The header is consumed; the buffer for the payload has some memory of its own.
    admin.wait_for("half a message is held", |page| {
        (44..500).contains(&page.count("ringback_held_bytes", &[]))
    });
    drop(half);

    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
            && page.count("ringback_held_bytes", &[]) == 0
    });
    assert_eq!(page.count("ringback_messages_received_total", &[]), 4);
    assert_eq!(page.count("ringback_messages_sent_total", &[]), 2);
    assert_eq!(page.count("ringback_pings_received_total", &[]), 1);
    assert_eq!(page.count("ringback_pongs_received_total", &[]), 1);
    assert_eq!(page.count("ringback_frames_per_read_sum", &[]), 8);
    for (reason, code, expected) in [
        ("handler", "1000", 1),
        ("handler", "none", 1),
        ("client", "1001", 1),
        ("violation", "1002", 1),
        ("gone", "none", 2),
    ] {
        assert_eq!(ends(&page, reason, code), expected, "{reason} {code}");
    }
    expect_balance(&page, 0);
    server.stop().expect("stopped");
}

fn healthz_reports_blocked_worker(engine: Engine) {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (server, address, admin) = with_handler(engine, move |_socket| {
        let released = Arc::clone(&released);
        async move {
            // A handler must not block.
            let _ = released.lock().expect("not poisoned").recv();
        }
    });
    assert_eq!(admin.get("/healthz").status, 200);
    let mut raw = Raw::dial(address);
    raw.send(REQUEST.as_bytes());
    wait_until("/healthz answers 503", || {
        let response = admin.get("/healthz");
        let is_noticed = response.status == 503;
        if is_noticed {
            let text = &response.body;
            assert!(text.starts_with("worker 0 has stalled for "), "{text}");
        }
        is_noticed
    });
    assert_eq!(admin.get("/readyz").status, 503);
    assert_eq!(admin.metrics().count("ringback_worker_up", &[]), 0);
    drop(release);
    wait_until("/healthz answers 200", || {
        admin.get("/healthz").status == 200
    });
    assert_eq!(admin.metrics().count("ringback_worker_up", &[]), 1);
    server.stop().expect("stopped");
}
