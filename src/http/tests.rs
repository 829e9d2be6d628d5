//! Answers byte for byte, over real sockets.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::config::Config;
use crate::limits::handshakes::Handshakes;
use crate::net::socket::Socket;

/// The handshake of RFC 6455, section 1.2, without its offers.
const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// "Hello" as a masked text frame, from RFC 6455, section 5.7.
const FRAME: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";

fn options() -> HttpOptions {
    HttpOptions {
        path: None,
        origins: Vec::new(),
        subprotocols: Vec::new(),
        max_header_bytes: 8192,
        handshake_timeout: Duration::from_secs(10),
        accept: None,
        keeps_request: false,
    }
}

fn short_timeout() -> HttpOptions {
    HttpOptions {
        handshake_timeout: Duration::from_millis(50),
        ..options()
    }
}

/// The slot of a handshake without limits.
fn slot() -> HandshakeSlot {
    Handshakes::new(&Config::default(), 1).enter(Instant::now())
}

/// The handshake with one line added.
fn handshake_with(line: &str) -> String {
    HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Serves a socket that was just accepted.
fn begin(served: TcpStream, options: HttpOptions) -> JoinHandle<Outcome> {
    let since = Instant::now().into();
    spawn_local(async move {
        match read_request(Stream::Plain(Socket::Tcp(served)), &options, since, &slot()).await {
            Ok(request) => request.serve(&options, &slot()).await,
            Err(outcome) => outcome,
        }
    })
}

/// A client's end of a connection whose other end is being served.
async fn connect(options: HttpOptions) -> (TcpStream, JoinHandle<Outcome>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (served, _) = listener.accept().await.unwrap();
    (client.unwrap(), begin(served, options))
}

/// Sends a request, and reads the answer to its end.
async fn ask(options: HttpOptions, request: impl AsRef<[u8]>) -> (String, Outcome) {
    let (mut client, outcome) = connect(options).await;
    client.write_all(request.as_ref()).await.unwrap();
    let answer = rest(&mut client).await;
    drop(client);
    (answer, outcome.await.unwrap())
}

async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads one response head, and not a byte more.
async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn upgraded(outcome: JoinHandle<Outcome>) -> UpgradedStream {
    match outcome.await.unwrap() {
        Outcome::Upgraded(upgraded) => upgraded,
        other => panic!("not upgraded: {other:?}"),
    }
}

/// Takes `expected` from the leftover and then the socket.
async fn assert_carries(upgraded: UpgradedStream, expected: &[u8]) {
    let mut carried = upgraded.leftover.to_vec();
    assert!(carried.len() <= expected.len());
    let mut socket = upgraded.stream;
    let mut remainder = vec![0; expected.len() - carried.len()];
    socket.read_exact(&mut remainder).await.unwrap();
    carried.extend(remainder);
    assert!(carried == expected, "the bytes behind the request changed");
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines().skip(1);
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn assert_refused(answer: &str, outcome: &Outcome, status: u16) {
    let expected = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&expected), "{status}: {answer}");
    assert!(matches!(outcome, Outcome::Refused(refused) if refused.status == status));
    let connection = header(answer, "connection").unwrap();
    assert!(connection.starts_with("close"), "{answer}");
}

/// Refused by the server, with a reason in one line.
fn assert_explained(answer: &str, outcome: &Outcome, status: u16) {
    assert_refused(answer, outcome, status);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.lines().count(), 1, "{answer}");
    assert!(body.ends_with('\n'), "{answer}");
    assert_eq!(
        header(answer, "content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        header(answer, "content-length"),
        Some(body.len().to_string().as_str())
    );
}

// The upgrade.

#[test]
fn handshake_of_rfc_6455_gets_its_accept() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        let lines: Vec<_> = answer.trim_end().lines().collect();
        assert_eq!(
            lines,
            [
                "HTTP/1.1 101 Switching Protocols",
                "connection: upgrade",
                "upgrade: websocket",
                "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ]
        );
        let upgraded = upgraded(outcome).await;
        assert_eq!(upgraded.leftover, b""[..]);
        assert_eq!(upgraded.subprotocol, None);
    });
}

#[test]
fn offered_extensions_go_unanswered() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        let request = handshake_with("Sec-WebSocket-Extensions: permessage-deflate");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert_eq!(header(&answer, "sec-websocket-extensions"), None);
        upgraded(outcome).await;
    });
}

#[test]
fn chosen_subprotocol_is_answered_and_returned() {
    run(async {
        let options = HttpOptions {
            subprotocols: vec!["echo".to_owned(), "mirror".to_owned()],
            ..options()
        };
        for (offer, chosen) in [("a, mirror, echo", Some("mirror")), ("a, b", None)] {
            let (mut client, outcome) = connect(options.clone()).await;
            let request = handshake_with(&format!("Sec-WebSocket-Protocol: {offer}"));
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            assert_eq!(header(&answer, "sec-websocket-protocol"), chosen);
            assert_eq!(upgraded(outcome).await.subprotocol.as_deref(), chosen);
        }
    });
}

#[test]
fn a_request_may_come_byte_by_byte() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        client.set_nodelay(true).unwrap();
        for byte in HANDSHAKE.bytes() {
            client.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        client.write_all(FRAME).await.unwrap();
        assert_carries(upgraded(outcome).await, FRAME).await;
    });
}

#[test]
fn frames_in_the_requests_own_segment_are_left_over() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        let sent = [HANDSHAKE.as_bytes(), FRAME, FRAME].concat();
        client.write_all(&sent).await.unwrap();
        let upgraded = upgraded(outcome).await;
        assert_eq!(upgraded.leftover, [FRAME, FRAME].concat());
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        client.write_all(b"later").await.unwrap();
        let expected = [FRAME, FRAME, b"later"].concat();
        assert_carries(upgraded, &expected).await;
    });
}

#[test]
fn frames_of_a_later_segment_stay_in_the_socket() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        head(&mut client).await;
        client.write_all(FRAME).await.unwrap();
        let upgraded = upgraded(outcome).await;
        assert_eq!(upgraded.leftover, b""[..]);
        assert_carries(upgraded, FRAME).await;
    });
}

#[test]
fn more_frames_than_the_read_buffer_holds_all_arrive() {
    run(async {
        let (mut client, outcome) = connect(options()).await;
        let frames: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = [HANDSHAKE.as_bytes(), &frames].concat();
        let writer = spawn_local(async move {
            client.write_all(&sent).await.unwrap();
            client
        });
        let upgraded = upgraded(outcome).await;
        assert!(!upgraded.leftover.is_empty());
        assert_carries(upgraded, &frames).await;
        writer.await.unwrap();
    });
}

/// The request's end and the first frames come in one segment, its beginning
/// in another: every split of the two.
#[test]
fn a_request_split_anywhere_leaves_its_frames_whole() {
    run(async {
        let sent = [HANDSHAKE.as_bytes(), FRAME].concat();
        for split in 1..sent.len() {
            let (mut client, outcome) = connect(options()).await;
            client.set_nodelay(true).unwrap();
            client.write_all(&sent[..split]).await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(&sent[split..]).await.unwrap();
            assert_carries(upgraded(outcome).await, FRAME).await;
        }
    });
}

#[test]
fn half_closed_client_is_answered() {
    run(async {
        for frames in [b"", FRAME] {
            let (mut client, outcome) = connect(options()).await;
            let sent = [HANDSHAKE.as_bytes(), frames].concat();
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
            assert_carries(upgraded(outcome).await, frames).await;
        }
        let (mut client, outcome) = connect(options()).await;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.0 200 "));
        assert!(matches!(outcome.await.unwrap(), Outcome::Served(_)));
    });
}

/// hyper adds a `close` of its own to the 101 of such a request, and some clients
/// compare the whole field with `upgrade`.
#[test]
fn the_101_has_connection_upgrade_alone_whatever_the_client_asks_for() {
    run(async {
        for connection in [
            "close, Upgrade",
            "Upgrade, close",
            "close\r\nConnection: Upgrade",
            "keep-alive, Upgrade",
            "Upgrade, keep-alive, TE",
        ] {
            let (mut client, outcome) = connect(options()).await;
            let connection = format!("Connection: {connection}");
            let request = HANDSHAKE.replace("Connection: Upgrade", &connection);
            let sent = [request.as_bytes(), FRAME].concat();
            client.write_all(&sent).await.unwrap();
            let answer = head(&mut client).await;
            assert_eq!(connection_fields(&answer), ["upgrade"], "{connection}");
            assert_carries(upgraded(outcome).await, FRAME).await;
        }
    });
}

/// hyper adds `keep-alive` for a client of HTTP/1.0 that asks for it, and such a
/// client waits for its second answer.
#[test]
fn answer_has_connection_close_alone_whatever_the_client_asks_for() {
    run(async {
        for version in ["1.0", "1.1"] {
            for connection in [
                "keep-alive",
                "Keep-Alive",
                "close",
                "close, keep-alive",
                "x",
            ] {
                for path in ["/", "/none"] {
                    let request = format!(
                        "GET {path} HTTP/{version}\r\nHost: a\r\n\
                         Connection: {connection}\r\n\r\n"
                    );
                    let (answer, _outcome) = ask(options(), &request).await;
                    let expected = format!("HTTP/{version} ");
                    assert!(answer.starts_with(&expected), "{answer}");
                    assert_eq!(connection_fields(&answer), ["close"], "{request}");
                    assert!(header(&answer, "content-length").is_some());
                    assert!(header(&answer, "date").is_some());
                }
            }
        }
    });
}

/// The values of all Connection fields of an answer.
fn connection_fields(answer: &str) -> Vec<&str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.lines()
        .filter_map(|line| line.strip_prefix("connection: "))
        .collect()
}

#[test]
fn an_empty_subprotocol_field_is_no_offer() {
    run(async {
        let options = HttpOptions {
            subprotocols: vec!["*".to_owned()],
            ..options()
        };
        for (offer, chosen) in [("", None), (" , ", None), ("a, b", Some("a"))] {
            let (mut client, outcome) = connect(options.clone()).await;
            let request = handshake_with(&format!("Sec-WebSocket-Protocol:{offer}"));
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            assert_eq!(header(&answer, "sec-websocket-protocol"), chosen);
            assert_eq!(upgraded(outcome).await.subprotocol.as_deref(), chosen);
        }
    });
}

#[test]
fn an_empty_body_may_be_announced() {
    run(async {
        for line in ["Content-Length: 0", "Expect: 100-continue"] {
            let (mut client, outcome) = connect(options()).await;
            let request = handshake_with(line);
            client.write_all(request.as_bytes()).await.unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
            upgraded(outcome).await;
        }
    });
}

// Upgrades that are refused.

#[test]
fn a_broken_handshake_is_refused_with_a_reason() {
    let swap = |from, to| HANDSHAKE.replace(from, to);
    let requests = [
        (405, swap("GET", "POST")),
        (405, swap("GET", "HEAD").replace("HEAD", "OPTIONS")),
        (400, swap("Host: server.example.com\r\n", "")),
        (400, handshake_with("Host: other.example.com")),
        (400, swap("Upgrade: websocket\r\n", "")),
        (426, swap("Upgrade: websocket", "Upgrade: h2c")),
        (400, swap("Connection: Upgrade", "Connection: close")),
        (426, swap("Version: 13", "Version: 8")),
        (426, swap("Sec-WebSocket-Version: 13\r\n", "")),
        (400, swap("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")),
        (
            400,
            handshake_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ),
        (400, handshake_with("Content-Length: 5") + "hello"),
        (
            400,
            handshake_with("Transfer-Encoding: chunked") + "0\r\n\r\n",
        ),
        (400, handshake_with("Sec-WebSocket-Protocol: a, a")),
        (400, handshake_with("Sec-WebSocket-Protocol: caf\u{e9}")),
    ];
    run(async {
        for (status, request) in requests {
            let (answer, outcome) = ask(options(), &request).await;
            assert_explained(&answer, &outcome, status);
        }
    });
}

#[test]
fn refusal_names_the_accepted_method_version_and_protocol() {
    run(async {
        let (answer, _) = ask(options(), HANDSHAKE.replace("GET", "POST")).await;
        assert_eq!(header(&answer, "allow"), Some("GET"));
        let (answer, _) = ask(options(), HANDSHAKE.replace(": 13", ": 14")).await;
        assert_eq!(header(&answer, "sec-websocket-version"), Some("13"));
        assert_eq!(header(&answer, "upgrade"), Some("websocket"));
        assert_eq!(header(&answer, "connection"), Some("close, upgrade"));
    });
}

#[test]
fn another_path_is_404_and_another_origin_403() {
    run(async {
        let options = HttpOptions {
            path: Some("/chat".to_owned()),
            origins: vec!["https://example.org".parse().unwrap()],
            ..options()
        };
        let request = HANDSHAKE.replace("/chat", "/other");
        let (answer, outcome) = ask(options.clone(), request).await;
        assert_explained(&answer, &outcome, 404);
        let request = handshake_with("Origin: https://evil.example");
        let (answer, outcome) = ask(options.clone(), request).await;
        assert_explained(&answer, &outcome, 403);
        let (mut client, outcome) = connect(options).await;
        let request = handshake_with("Origin: https://example.org");
        client.write_all(request.as_bytes()).await.unwrap();
        upgraded(outcome).await;
    });
}

#[test]
fn http_1_0_can_not_upgrade() {
    run(async {
        let (answer, outcome) = ask(options(), HANDSHAKE.replace("1.1", "1.0")).await;
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        assert!(matches!(outcome, Outcome::Refused(refused) if refused.status == 400));
    });
}

#[test]
fn nothing_a_peer_sent_is_sent_back() {
    run(async {
        let request = HANDSHAKE
            .replace("/chat", "/<marker>")
            .replace("Upgrade: websocket", "Upgrade: marker")
            .replace("server.example.com", "marker");
        let (answer, _) = ask(options(), request).await;
        assert!(!answer.contains("marker"), "{answer}");
    });
}

/// The answer to this request on a connection over a limit.
async fn ask_over_limit(request: &str, refusal: Refusal) -> (String, Outcome) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (served, _) = listener.accept().await.unwrap();
    let outcome = spawn_local(async move {
        let now = Instant::now().into();
        match read_request(Stream::Plain(Socket::Tcp(served)), &options(), now, &slot()).await {
            Ok(request) => request.reject_over_limit(&refusal, &slot()).await,
            Err(outcome) => outcome,
        }
    });
    let mut client = client.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    drop(client);
    (answer, outcome.await.unwrap())
}

#[test]
fn client_over_a_limit_gets_the_same_answer_to_every_request() {
    run(async {
        for request in [HANDSHAKE, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            for (refusal, status) in [
                (Refusal::FULL, 503),
                (Refusal::TOO_MANY, 429),
                (Refusal::too_often(Duration::ZERO), 429),
            ] {
                let (answer, outcome) = ask_over_limit(request, refusal).await;
                assert_explained(&answer, &outcome, status);
            }
        }
    });
}

#[test]
fn client_over_its_rate_gets_retry_after() {
    run(async {
        for (wait_ms, seconds) in [(0, "1"), (1000, "1"), (1001, "2"), (3_600_000, "3600")] {
            let refusal = Refusal::too_often(Duration::from_millis(wait_ms));
            let (answer, _outcome) = ask_over_limit(HANDSHAKE, refusal).await;
            let header = format!("\r\nretry-after: {seconds}\r\n");
            assert!(answer.contains(&header), "{answer}");
        }
    });
}

// Malformed and late requests.

#[test]
fn headers_over_the_bounds_get_431() {
    run(async {
        let many = "x-one: of many\r\n".repeat(101);
        let filler = |length: usize| "x".repeat(length);
        let requests = [
            (8192, handshake_with(&format!("X-Filler: {}", filler(8192)))),
            (
                8192,
                HANDSHAKE.replace("/chat", &format!("/{}", filler(9000))),
            ),
            (
                8192,
                format!("GET / HTTP/1.1\r\nX-Filler: {}", filler(20_000)),
            ),
            (8192, format!("GET / HTTP/1.1\r\n{many}\r\n")),
            (256, handshake_with(&format!("X-Filler: {}", filler(256)))),
            (
                65_536,
                handshake_with(&format!("X-Filler: {}", filler(65_536))),
            ),
        ];
        for (max_header_bytes, request) in requests {
            let options = HttpOptions {
                max_header_bytes,
                ..options()
            };
            let (answer, outcome) = ask(options, request).await;
            assert_explained(&answer, &outcome, 431);
        }
    });
}

#[test]
fn headers_up_to_the_bound_pass() {
    run(async {
        for max_header_bytes in [1024, 8192, 65_536] {
            let options = HttpOptions {
                max_header_bytes,
                ..options()
            };
            let rest = max_header_bytes - handshake_with("X-Filler: ").len();
            let request = handshake_with(&format!("X-Filler: {}", "x".repeat(rest)));
            assert_eq!(request.len(), max_header_bytes);
            let (mut client, outcome) = connect(options).await;
            let sent = [request.as_bytes(), FRAME].concat();
            client.write_all(&sent).await.unwrap();
            assert_carries(upgraded(outcome).await, FRAME).await;
        }
    });
}

fn too_slow() -> String {
    String::from_utf8(refusal::TOO_SLOW.wire()).unwrap()
}

/// An answer without the line that changes every second.
fn undated(answer: &str) -> String {
    let lines = answer.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

#[test]
fn a_slow_request_gets_408() {
    run(async {
        for sent in ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            let (answer, outcome) = ask(short_timeout(), sent).await;
            assert_eq!(undated(&answer), undated(&too_slow()));
            assert!(matches!(outcome, Outcome::TimedOut));
        }
    });
}

#[test]
fn slow_bytes_do_not_extend_the_deadline() {
    run(async {
        let (client, outcome) = connect(short_timeout()).await;
        let (mut reader, mut writer) = client.into_split();
        let trickle = spawn_local(async move {
            while writer.write_u8(b'A').await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut answer = vec![0; too_slow().len()];
        reader.read_exact(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(undated(&answer), undated(&too_slow()));
        trickle.abort();
        assert!(matches!(outcome.await.unwrap(), Outcome::TimedOut));
    });
}

#[test]
fn what_is_not_http_1_gets_400() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    run(async {
        let (answer, outcome) = ask(options(), PREFACE).await;
        assert_explained(&answer, &outcome, 400);
        let junk: [&[u8]; 7] = [
            &PREFACE[..18],
            &[0; 100],
            &[0xff; 100],
            b"GET /\r\n\r\n",
            b"GET / HTTP/3.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        ];
        for sent in junk {
            let (answer, outcome) = ask(options(), sent).await;
            assert_explained(&answer, &outcome, 400);
        }
    });
}

#[test]
fn unexpected_proxy_header_gets_400_that_names_proxy_protocol() {
    run(async {
        for sent in [
            &b"PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        ] {
            let (answer, outcome) = ask(options(), sent).await;
            assert_explained(&answer, &outcome, 400);
            assert!(answer.contains("--proxy-protocol"), "{answer}");
        }
    });
}

#[test]
fn tls_gets_a_fatal_alert() {
    const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x8f\x1e";
    run(async {
        for sent in [HELLO, &HELLO[..1]] {
            let (mut client, outcome) = connect(options()).await;
            client.write_all(sent).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            // A record of an alert (RFC 8446, section 5.1): fatal, protocol_version.
            assert_eq!(answer, b"\x15\x03\x01\0\x02\x02\x46");
            drop(client);
            assert!(matches!(outcome.await.unwrap(), Outcome::RefusedTls));
        }
    });
}

#[test]
fn handshake_without_upgrade_headers_gets_the_remedy_for_a_proxy() {
    run(async {
        for request in [
            HANDSHAKE.replace("1.1", "1.0"),
            HANDSHAKE.replace("Upgrade: websocket\r\n", ""),
            HANDSHAKE.replace("Connection: Upgrade\r\n", ""),
            HANDSHAKE.replace("Connection: Upgrade", "Connection: close"),
        ] {
            let (answer, _outcome) = ask(options(), &request).await;
            assert!(answer.contains(" 400 Bad Request\r\n"), "{answer}");
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.lines().count(), 1, "{body}");
            for needed in [
                "proxy_http_version 1.1;",
                "$http_upgrade;",
                "Connection \"upgrade\";",
            ] {
                assert!(body.contains(needed), "{body}");
            }
        }
    });
}

#[test]
fn post_of_a_refused_origin_gets_the_reason() {
    run(async {
        let options = HttpOptions {
            origins: vec!["https://a.example".parse().unwrap()],
            ..options()
        };
        for (origin, status) in [("https://a.example", 405), ("https://b.example", 403)] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n");
            let (answer, _outcome) = ask(options.clone(), &request).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{answer}");
            assert_eq!(answer.contains("--origin"), status == 403, "{answer}");
        }
    });
}

#[test]
fn peer_that_closes_without_a_request_gets_no_answer() {
    run(async {
        for sent in ["", "GET / HT", "\r\n\r\n"] {
            let (mut client, outcome) = connect(options()).await;
            client.write_all(sent.as_bytes()).await.unwrap();
            drop(client);
            assert!(matches!(outcome.await.unwrap(), Outcome::Failed));
        }
        let (client, outcome) = connect(options()).await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert!(matches!(outcome.await.unwrap(), Outcome::Failed));
    });
}

// Plain requests.

#[test]
fn the_page_is_served_with_its_headers() {
    run(async {
        let options = HttpOptions {
            path: Some("/a&b".to_owned()),
            ..options()
        };
        let request = "GET /?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (answer, outcome) = ask(options, request).await;
        assert!(matches!(outcome, Outcome::Served(StatusCode::OK)));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = body.len().to_string();
        let expected = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", length.as_str()),
            ("connection", "close"),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&answer, name), Some(value), "{name}");
        }
        let policy = header(&answer, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(body.contains("\"/a&amp;b\""));
        assert!(body.trim_end().ends_with("</html>"));
    });
}

#[test]
fn head_has_the_pages_head_and_no_body() {
    run(async {
        let (get, _) = ask(options(), "GET / HTTP/1.0\r\n\r\n").await;
        let (answer, outcome) = ask(options(), "HEAD / HTTP/1.0\r\n\r\n").await;
        assert!(matches!(outcome, Outcome::Served(StatusCode::OK)));
        assert!(answer.ends_with("\r\n\r\n"));
        let length = header(&answer, "content-length");
        assert!(length.is_some());
        assert_eq!(length, header(&get, "content-length"));
    });
}

#[test]
fn plain_request_gets_the_status_of_its_fault() {
    let cases = [
        (404, "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n"),
        (404, "GET /../ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (404, "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
        (404, "GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (200, "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            200,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        ),
        (
            200,
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        ),
    ];
    run(async {
        for (status, request) in cases {
            let (answer, outcome) = ask(options(), request).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{request}{answer}");
            assert_eq!(header(&answer, "connection"), Some("close"));
            let allow = (status == 405).then_some("GET, HEAD");
            assert_eq!(header(&answer, "allow"), allow);
            assert!(matches!(outcome, Outcome::Served(served) if served == status));
        }
    });
}

#[test]
fn a_connection_carries_one_request() {
    run(async {
        let request = "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
        let (answer, _) = ask(options(), request).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    });
}

// The lingering close.

#[test]
fn a_body_is_not_waited_for_and_does_not_destroy_the_answer() {
    run(async {
        for length in [0, 1, 50_000] {
            let body = "b".repeat(length);
            for line in [
                "Content-Length: 1000000",
                "Expect: 100-continue\r\nContent-Length: 9999999",
            ] {
                let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n{body}");
                let (answer, outcome) = ask(options(), request).await;
                assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
                assert!(matches!(outcome, Outcome::Served(_)));
            }
        }
    });
}

/// If the socket was closed at once, the first of these bytes would cause a RST.
#[test]
fn bytes_after_the_answer_are_discarded() {
    run(async {
        for (request, status) in [("GET / HTTP/1.0\r\n\r\n", 200), ("\0", 400)] {
            let (mut client, outcome) = connect(options()).await;
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = rest(&mut client).await;
            assert_eq!(answer.split(' ').nth(1), Some(status.to_string().as_str()));
            for _ in 0..32 {
                client.write_all(&[b'x'; 1024]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
            outcome.await.unwrap();
        }
    });
}

#[test]
fn peer_that_sends_too_much_after_the_answer_is_cut() {
    /// More than is discarded, and than the buffers of both sockets.
    const SENT_BYTES_MAX: usize = 32 << 20;
    run(async {
        let (mut client, outcome) = connect(options()).await;
        client.write_all(b"\0").await.unwrap();
        let (block, mut sent) = (vec![0; 65_536], 0);
        while let Ok(written) = client.write(&block).await {
            sent += written;
            assert!(sent < SENT_BYTES_MAX);
        }
        assert!(matches!(outcome.await.unwrap(), Outcome::Refused(_)));
    });
}

#[test]
fn peer_that_never_closes_is_cut_after_the_linger_timeout() {
    run(async {
        let start = Instant::now();
        let (mut client, outcome) = connect(options()).await;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.0 200 "));
        assert!(matches!(outcome.await.unwrap(), Outcome::Served(_)));
        assert!(start.elapsed() < options().handshake_timeout);
    });
}

/// Both ends have buffers smaller than the page.
async fn connect_narrowly(options: HttpOptions) -> (TcpStream, JoinHandle<Outcome>) {
    let listening = TcpSocket::new_v4().unwrap();
    listening.set_send_buffer_size(2048).unwrap();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let connecting = TcpSocket::new_v4().unwrap();
    connecting.set_recv_buffer_size(2048).unwrap();
    let client = connecting.connect(listener.local_addr().unwrap()).await;
    let (served, _) = listener.accept().await.unwrap();
    (client.unwrap(), begin(served, options))
}

/// hyper considers its answer done, half flushed, when it gives up on the request's body;
/// the other half was lost.
#[test]
fn an_answer_to_a_request_with_a_body_is_flushed_whole() {
    run(async {
        let (mut client, outcome) = connect_narrowly(options()).await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
        client.write_all(request).await.unwrap();
        let answer = rest(&mut client).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = body.len().to_string();
        assert_eq!(header(&answer, "content-length"), Some(length.as_str()));
        drop(client);
        assert!(matches!(outcome.await.unwrap(), Outcome::Served(_)));
    });
}

#[test]
fn no_408_is_written_into_an_answer_that_has_begun() {
    run(async {
        // The request has to be read before the deadline.
        let options = HttpOptions {
            handshake_timeout: Duration::from_secs(1),
            ..options()
        };
        let past_deadline = 2 * options.handshake_timeout;
        let (mut client, outcome) = connect_narrowly(options).await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        // The rest is read only after the deadline.
        tokio::time::sleep(past_deadline).await;
        let answer = rest(&mut client).await;
        assert!(matches!(outcome.await.unwrap(), Outcome::TimedOut));
        assert!(answer.starts_with("HTTP/1.1 200 OK"));
        assert!(!answer.contains("HTTP/1.1 408"));
    });
}
