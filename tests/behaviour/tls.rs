//! Rules of TLS connections only.
//!
//! The other modules run their tests over TLS with `on_every_engine_over_tls`.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::date_time_ymd;
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, ClientConnection, Error as TlsError,
    HandshakeKind, ProtocolVersion, StreamOwned,
};
use tungstenite::{Message, WebSocket};

use crate::common::TIMEOUT;
use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::pki::{self, Pair, Pki};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{ACCEPT, CLOSE, REQUEST, TEXT, close, closed, frame, noise, unmasked};

on_every_engine![
    tls_1_2_and_1_3_echo,
    alpn_accepts_only_http_1_1,
    sessions_resume_without_early_data,
    connection_ends_with_close_notify,
    end_without_close_is_counted_as_gone_or_tls,
    plain_http_on_tls_port_gets_400,
    invalid_record_gets_alert,
    tls_on_plain_port_gets_alert,
    access_line_has_tls_version,
    handshake_timeout_covers_tls,
    sighup_loads_new_certificate,
    sighup_with_invalid_files_keeps_certificate,
    records_of_every_size_are_echoed,
    plain_and_tls_listeners_serve_together,
    batch_of_frames_costs_one_read_and_one_write,
    messages_sent_before_drain_are_echoed,
    handler_gets_messages_over_tls,
    metrics_have_tls_handshakes_reloads_and_expiry,
    address_over_handshake_rate_gets_no_tls_handshake,
    largest_holder_is_evicted_first_with_or_without_tls,
    incomplete_records_count_as_held_and_close_once,
];

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection before its TLS handshake.
#[track_caller]
fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    stream.set_write_timeout(Some(TIMEOUT)).expect("set");
    stream.set_nodelay(true).expect("set");
    pki::over(stream, config)
}

/// An upgraded connection over TLS.
#[track_caller]
fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    let mut tls = dial(address, config);
    tls.write_all(REQUEST.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT),
        "{head}"
    );
    tls
}

#[track_caller]
fn echo(tls: &mut TlsStream, payload: &[u8]) {
    tls.write_all(&frame(TEXT, payload)).expect("sent");
    expect(tls, &unmasked(TEXT, payload));
}

#[track_caller]
fn expect(tls: &mut TlsStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    tls.read_exact(&mut received).expect("bytes");
    assert!(received == expected, "something else came");
}

/// The error of a handshake that fails.
#[track_caller]
fn handshake_error(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsError {
    let mut tls = dial(address, config);
    let error = tls.conn.complete_io(&mut tls.sock).expect_err("refused");
    match error.downcast::<TlsError>() {
        Ok(error) => error,
        Err(error) => panic!("no error of TLS: {error}"),
    }
}

fn serve(engine: Engine, pair: &Pair, flags: &[&str]) -> Server {
    Server::start_tls(engine, Pki::of(pair), flags)
}

fn tls_1_2_and_1_3_echo(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &[]);
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let tls = dial(server.address(), &pair.client(&[version], &[]));
        let (mut socket, _response) =
            tungstenite::client("ws://localhost/", tls).expect("upgraded");
        assert_eq!(socket.get_ref().conn.protocol_version(), Some(number));
        for len in [0, 1, 125, 126, 65_535, 65_536, 300_000, 5_000_000] {
            let message = Message::from(noise(1, len));
            socket.send(message.clone()).expect("sent");
            assert!(socket.read().expect("a message") == message, "{len} bytes");
        }
        close_websocket(socket);
    }
}

/// Closes the WebSocket; expects the Close and the end of the stream.
#[track_caller]
fn close_websocket(mut socket: WebSocket<TlsStream>) {
    socket.close(None).expect("sent");
    assert!(socket.read().expect("a Close").is_close());
    let end = socket.read().expect_err("the end");
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end}");
}

fn alpn_accepts_only_http_1_1(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &[]);
    for version in ALL_VERSIONS {
        for (offer, agreed) in [
            (&[][..], None),
            (&[&b"http/1.1"[..]], Some(&b"http/1.1"[..])),
            (&[b"h2", b"http/1.1"], Some(b"http/1.1")),
        ] {
            let mut tls = open(server.address(), &pair.client(&[version], offer));
            assert_eq!(tls.conn.alpn_protocol(), agreed);
            echo(&mut tls, b"agreed");
        }
        assert_eq!(
            handshake_error(server.address(), &pair.client(&[version], &[b"h2"])),
            TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)
        );
    }
}

fn sessions_resume_without_early_data(engine: Engine) {
    let pair = pki::pair();
    // Two workers: a ticket is valid at both.
    let server = serve(engine, &pair, &["--threads=2"]);
    for version in ALL_VERSIONS {
        let mut config = (*pair.client(&[version], &[])).clone();
        config.enable_early_data = true;
        let config = Arc::new(config);
        let mut tls = open(server.address(), &config);
        echo(&mut tls, b"the tickets come before this");
        assert_eq!(tls.conn.handshake_kind(), Some(HandshakeKind::Full));
        for _ in 0..4 {
            let mut tls = dial(server.address(), &config);
            assert!(tls.conn.early_data().is_none(), "0-RTT is not offered");
            tls.conn.complete_io(&mut tls.sock).expect("agreed");
            assert_eq!(tls.conn.handshake_kind(), Some(HandshakeKind::Resumed));
            drop(tls);
            // A ticket of TLS 1.3 is used once.
            echo(&mut open(server.address(), &config), b"more tickets");
        }
    }
}

fn connection_ends_with_close_notify(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &[]);
    for version in ALL_VERSIONS {
        let mut tls = open(server.address(), &pair.client(&[version], &[]));
        tls.write_all(&close(1000, "bye")).expect("sent");
        expect(&mut tls, &unmasked(CLOSE, b"\x03\xe8bye"));
        // An end without close_notify would be an error.
        assert_eq!(tls.read(&mut [0]).expect("the end"), 0);
        // The client's close_notify ends the connection.
        tls.conn.send_close_notify();
        tls.flush().expect("sent");
        // After a plain request as well.
        let mut tls = dial(server.address(), &pair.client(&[version], &[]));
        tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        let mut page = String::new();
        tls.read_to_string(&mut page)
            .expect("an end with close_notify");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    }
}

fn end_without_close_is_counted_as_gone_or_tls(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &["--admin=127.0.0.1:0"]);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let config = pair.client(ALL_VERSIONS, &[]);
    let before = server.process().descriptors().len();
    for index in 0..3 {
        let mut tls = open(server.address(), &config);
        echo(&mut tls, b"here");
        match index {
            // An end of TLS without a Close,
            0 => {
                tls.conn.send_close_notify();
                tls.flush().expect("sent");
            }
            // an end of TCP alone,
            1 => tls.sock.shutdown(Shutdown::Write).expect("connected"),
            // and bytes that are no record.
            _ => tls
                .sock
                .write_all(&[0x17, 3, 3, 0, 40])
                .and_then(|()| tls.sock.write_all(&[0; 40]))
                .expect("sent"),
        }
        let _ = tls.read(&mut [0]);
    }
    server.wait_for_descriptors(before);
    admin.wait_for("all three are counted", |page| {
        let ended = |reason| {
            let labels = [("reason", reason), ("code", "none")];
            page.count("ringback_closes_total", &labels)
        };
        (ended("gone"), ended("tls")) == (2, 1)
    });
}

fn plain_http_on_tls_port_gets_400(engine: Engine) {
    let server = serve(engine, &pki::pair(), &[]);
    for request in [REQUEST, "GET / HTTP/1.1\r\n\r\n", "HEAD"] {
        let mut raw = Raw::dial(server.address());
        raw.send(request.as_bytes());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        let body = String::from_utf8(raw.rest()).expect("UTF-8");
        assert!(body.contains("TLS"), "{body}");
    }
}

fn invalid_record_gets_alert(engine: Engine) {
    let server = serve(engine, &pki::pair(), &[]);
    // The first bytes of a fatal alert (RFC 8446 section 5.1).
    let alert = |bytes: &[u8]| bytes.len() == 7 && bytes[0] == 0x15 && bytes[5] == 2;
    for bytes in [
        &b"\x80\x2e\x01\x00\x02"[..],
        b"\x16\x03\x01\xff\xff........",
        b"\x17\x03\x03\x00\x05hello",
        &[0; 64],
    ] {
        let mut raw = Raw::dial(server.address());
        raw.send(bytes);
        let answer = raw.rest();
        assert!(alert(&answer), "{answer:x?}");
    }
}

fn access_line_has_tls_version(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &["--access-log"]);
    let address = server.addresses()[0];
    for (version, name) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        drop(open(address, &pair.client(&[version], &[])));
        server.wait_for_log(&format!("listener=\"{address}\" worker="));
        server.wait_for_log(&format!(" tls=\"{name}\" outcome=\"upgraded\""));
    }
}

fn tls_on_plain_port_gets_alert(engine: Engine) {
    let pair = pki::pair();
    let flags = ["--log=ringback=debug", "--access-log"];
    let server = Server::start(engine, &flags);
    let hello = client_hello(&pair.client(ALL_VERSIONS, &[]));
    let mut raw = Raw::dial(server.address());
    raw.send(&hello);
    // The fatal alert protocol_version.
    assert_eq!(raw.rest(), b"\x15\x03\x01\0\x02\x02\x46");
    server.wait_for_log("TLS came to an address without TLS");
    server.wait_for_log("refusal=\"tls\"");
}

fn handshake_timeout_covers_tls(engine: Engine) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let pair = pki::pair();
    let server = serve(engine, &pair, &["--handshake-timeout=2s"]);
    let config = pair.client(ALL_VERSIONS, &[]);
    // Nothing, half a ClientHello, and a TLS handshake without a request.
    let start = Instant::now();
    let mut silent = Raw::dial(server.address());
    let mut half = Raw::dial(server.address());
    half.send(&client_hello(&config)[..100]);
    let mut established = dial(server.address(), &config);
    established
        .conn
        .complete_io(&mut established.sock)
        .expect("agreed");
    assert!(silent.rest_until_cut().is_empty());
    assert!(half.rest_until_cut().is_empty());
    let mut answer = String::new();
    established
        .read_to_string(&mut answer)
        .expect("an end with close_notify");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let elapsed = start.elapsed();
    // The timeout counts from accept, whatever comes meanwhile; the server may have
    // accepted a little later.
    assert!(elapsed >= DEADLINE, "{elapsed:?}");
    assert!(elapsed < 2 * DEADLINE + TIMEOUT / 4, "{elapsed:?}");
}

/// The first bytes of a client.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}

fn sighup_loads_new_certificate(engine: Engine) {
    let (old, new) = (pki::pair(), pki::pair());
    let server = serve(engine, &old, &[]);
    let (trusts_old, trusts_new) = (old.client(ALL_VERSIONS, &[]), new.client(ALL_VERSIONS, &[]));
    let mut existing = open(server.address(), &trusts_old);
    echo(&mut existing, b"before");
    handshake_error(server.address(), &trusts_new);

    server.pki().put(&new);
    server.signal(Signal::HUP);
    server.wait_for_log("new connections get the certificate as it is now");
    echo(&mut open(server.address(), &trusts_new), b"new");
    // A session ticket of the old certificate is not accepted.
    handshake_error(server.address(), &trusts_old);
    echo(&mut existing, b"after");
}

fn sighup_with_invalid_files_keeps_certificate(engine: Engine) {
    let (pair, other) = (pki::pair(), pki::pair());
    let server = serve(engine, &pair, &[]);
    let config = pair.client(ALL_VERSIONS, &[]);
    let mut existing = open(server.address(), &config);
    for (name, text, complaint) in [
        ("key.pem", other.key.as_str(), "does not match"),
        ("cert.pem", "", "it is empty"),
        (
            "cert.pem",
            "-----BEGIN CERTIFICATE-----\n",
            "end is missing",
        ),
    ] {
        server.pki().put(&pair);
        server.pki().write(name, text);
        server.signal(Signal::HUP);
        server.wait_for_log(complaint);
        echo(&mut open(server.address(), &config), b"still good");
    }
    assert!(server.log().contains("the old certificate stays in use"));
    server.pki().put(&pair);
    server.signal(Signal::HUP);
    server.wait_for_log("new connections get");
    echo(&mut existing, b"never disturbed");
}

/// A pair that is expired, or not valid yet.
fn invalid(from: i32, to: i32) -> Pair {
    pki::pair_with(|params| {
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
    })
}

/// It does not depend on the engine: all use the one certificate object.
#[test]
fn sighup_keeps_valid_certificate_over_invalid() {
    let pair = pki::pair();
    let server = serve("epoll", &pair, &["--admin=127.0.0.1:0"]);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let config = pair.client(ALL_VERSIONS, &[]);
    for (other, reason) in [
        (
            invalid(2019, 2020),
            "it was valid until 2020-01-01T00:00:00Z",
        ),
        (
            invalid(2200, 2201),
            "it is not valid before 2200-01-01T00:00:00Z",
        ),
    ] {
        server.pki().put(&other);
        server.signal(Signal::HUP);
        server.wait_for_log(reason);
        echo(&mut open(server.address(), &config), b"still valid");
    }
    let line = server.log();
    let line = line.lines().find(|it| it.contains("2020-01-01"));
    let line = line.expect("a line");
    assert!(
        line.contains("ERROR") && line.contains("stays in use"),
        "{line}"
    );
    let page = admin.metrics();
    let counted = |outcome| page.count("ringback_tls_reloads_total", &[("outcome", outcome)]);
    assert_eq!((counted("ok"), counted("failed")), (0, 2));
}

#[test]
fn sighup_replaces_expired_certificate() {
    let server = serve("epoll", &invalid(2019, 2020), &[]);
    server.pki().put(&invalid(2020, 2021));
    server.signal(Signal::HUP);
    server.wait_for_log("SIGHUP: new connections get the certificate as it is now");
    // A valid certificate replaces either.
    let pair = pki::pair();
    server.pki().put(&pair);
    server.signal(Signal::HUP);
    wait_until("the new certificate is used", || {
        server.log().matches("SIGHUP: new connections").count() == 2
    });
    let config = pair.client(ALL_VERSIONS, &[]);
    echo(&mut open(server.address(), &config), b"valid");
}

fn presents(server: &Server, pair: &Pair) -> bool {
    let mut tls = dial(server.address(), &pair.client(ALL_VERSIONS, &[]));
    tls.conn.complete_io(&mut tls.sock).is_ok()
}

#[test]
fn tls_reload_loads_changed_files() {
    let (first, second) = (pki::pair(), pki::pair());
    let server = serve("epoll", &first, &["--tls-reload=20ms"]);
    assert!(presents(&server, &first));
    server.pki().put(&second);
    wait_until("the second certificate is used", || {
        presents(&server, &second)
    });
    server.wait_for_log("the certificate's files have changed: new connections get");
}

/// The layout of a Kubernetes secret: links through a directory link, whose change
/// replaces both files at once.
#[test]
fn tls_reload_logs_each_error_once() {
    let (first, second, expired) = (pki::pair(), pki::pair(), invalid(2019, 2020));
    let pki = Pki::empty();
    for (name, certificate, key) in [
        ("first", &first, &first),
        ("mixed", &second, &first),
        ("second", &second, &second),
        ("expired", &expired, &expired),
    ] {
        fs::create_dir(pki.path(name)).expect("made");
        pki.write(&format!("{name}/cert.pem"), &certificate.certificate);
        pki.write(&format!("{name}/key.pem"), &key.key);
    }
    for file in ["cert.pem", "key.pem"] {
        symlink(format!("..data/{file}"), pki.path(file)).expect("linked");
    }
    symlink("first", pki.path("..data")).expect("linked");
    let flags = ["--tls-reload=20ms", "--admin=127.0.0.1:0"];
    let server = Server::start_tls("epoll", pki, &flags);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let switch = |name: &str| {
        symlink(name, server.pki().path("..new")).expect("linked");
        fs::rename(server.pki().path("..new"), server.pki().path("..data")).expect("switched");
    };
    let counted = |outcome| {
        let labels = [("outcome", outcome)];
        admin.metrics().count("ringback_tls_reloads_total", &labels)
    };
    switch("mixed");
    wait_until("it is refused", || counted("failed") == 1);
    assert!(presents(&server, &first));
    switch("second");
    wait_until("the new certificate is used", || counted("ok") == 1);
    assert!(presents(&server, &second));
    switch("expired");
    wait_until("it is refused", || counted("failed") == 2);
    assert!(presents(&server, &second));
    switch("first");
    wait_until("the new certificate is used", || counted("ok") == 2);
    assert!(presents(&server, &first));
    let log = server.log();
    for once in ["does not match", "2020-01-01"] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");
}

fn records_of_every_size_are_echoed(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &[]);
    for version in ALL_VERSIONS {
        let mut tls = open(server.address(), &pair.client(&[version], &[]));
        // Each byte of a frame in a record of its own.
        for byte in frame(TEXT, b"byte by byte") {
            tls.write_all(&[byte]).expect("sent");
        }
        expect(&mut tls, &unmasked(TEXT, b"byte by byte"));
        // Records that end anywhere in frames, and frames that end anywhere in records.
        let mut config = (*pair.client(&[version], &[])).clone();
        for size in [32, 100, 1000, 5000, 16_389] {
            config.max_fragment_size = Some(size);
            let mut tls = open(server.address(), &Arc::new(config.clone()));
            let message: String = "κόσμε".repeat(4000);
            for _ in 0..3 {
                echo(&mut tls, message.as_bytes());
            }
        }
        // A record in two pieces.
        let mut tls = open(server.address(), &pair.client(&[version], &[]));
        tls.conn
            .writer()
            .write_all(&frame(TEXT, b"cut"))
            .expect("taken");
        let mut record = Vec::new();
        tls.conn.write_tls(&mut record).expect("written");
        let (start, end) = record.split_at(record.len() / 2);
        tls.sock.write_all(start).expect("sent");
        assert!(is_silent(&tls.sock), "half a record gets no reply");
        tls.sock.write_all(end).expect("sent");
        expect(&mut tls, &unmasked(TEXT, b"cut"));
    }
}

/// Whether nothing arrives for a while.
fn is_silent(stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("set");
    let peeked = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    matches!(
        peeked.map_err(|error: io::Error| error.kind()),
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)
    )
}

fn plain_and_tls_listeners_serve_together(engine: Engine) {
    let pair = pki::pair();
    let pki = Pki::of(&pair);
    let [cert, key] = pki.flags();
    let flags = [
        "--listen=127.0.0.1:0",
        "--tls-listen=127.0.0.1:0",
        &cert,
        &key,
        "--threads=1",
        "--engine",
        engine,
    ];
    let server = Server::spawn(crate::common::server::binary().args(flags), 2);
    let [plain, tls] = server.addresses() else {
        panic!("{:?}", server.start_lines());
    };
    assert!(server.start_lines()[0].starts_with(&format!("listening ws://{plain} ")));
    assert!(server.start_lines()[1].starts_with(&format!("listening wss://{tls} ")));
    let mut tls = open(*tls, &pair.client(ALL_VERSIONS, &[]));
    let mut raw = Raw::open(*plain);
    for _ in 0..3 {
        echo(&mut tls, b"secret");
        raw.send(&frame(TEXT, b"plain"));
        raw.expect_frame(TEXT, b"plain");
    }
}

fn batch_of_frames_costs_one_read_and_one_write(engine: Engine) {
    const BATCH: usize = 256;
    let pair = pki::pair();
    let server = serve(engine, &pair, &["--admin=127.0.0.1:0"]);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let mut tls = open(server.address(), &pair.client(ALL_VERSIONS, &[]));
    tls.write_all(&frame(TEXT, b"x").repeat(BATCH))
        .expect("sent");
    expect(&mut tls, &unmasked(TEXT, b"x").repeat(BATCH));
    // The write is counted when it is done, which its reader may see first.
    let page = admin.wait_for("the write is counted", |page| {
        page.count("ringback_writes_total", &[]) > 0
    });
    let total = |name| page.count(name, &[]);
    assert_eq!(total("ringback_messages_received_total"), BATCH as u64);
    assert_eq!(total("ringback_reads_total"), 1);
    assert_eq!(total("ringback_writes_total"), 1);
}

fn messages_sent_before_drain_are_echoed(engine: Engine) {
    let pair = pki::pair();
    let mut server = serve(engine, &pair, &["--drain-timeout=10m"]);
    let config = pair.client(ALL_VERSIONS, &[]);
    let mut clients: Vec<_> = (0..20).map(|_| open(server.address(), &config)).collect();
    server.freeze();
    for (seed, tls) in (0..).zip(&mut clients) {
        for index in 0..300 {
            let message = frame(TEXT, format!("client {seed}, message {index}").as_bytes());
            tls.conn.writer().write_all(&message).expect("taken");
        }
        tls.flush().expect("sent");
    }
    server.terminate();
    server.thaw();
    for (seed, tls) in (0..).zip(&mut clients) {
        for index in 0..300 {
            let message = format!("client {seed}, message {index}");
            expect(tls, &unmasked(TEXT, message.as_bytes()));
        }
        expect(tls, &closed(1001));
        assert_eq!(tls.read(&mut [0]).expect("the end"), 0);
    }
    drop(clients);
    server.wait_for_success();
}

fn largest_holder_is_evicted_first_with_or_without_tls(engine: Engine) {
    const HELD_MAX: u64 = 256 * 1024;
    const HALVES: usize = 40;
    let pair = pki::pair();
    let pki = Pki::of(&pair);
    let [certificate, key] = pki.flags();
    let flags = [
        "--listen=127.0.0.1:0",
        "--tls-listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--max-held-bytes=256k",
        "--threads=1",
        &certificate,
        &key,
        "--engine",
        engine,
    ];
    let server = Server::spawn(crate::common::server::binary().args(flags), 2);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let [plain, tls] = *server.addresses() else {
        panic!("{:?}", server.start_lines());
    };
    let mut tls = open(tls, &pair.client(ALL_VERSIONS, &[]));
    let small = frame(TEXT, &[b'x'; 120]);
    tls.write_all(&small[..100]).expect("sent");
    admin.wait_for("it is held", |page| {
        page.count("ringback_held_bytes", &[]) > 0
    });
    let large = frame(TEXT, &[b'x'; 15_100]);
    let raws: Vec<_> = (0..HALVES)
        .map(|_| {
            let mut raw = Raw::open(plain);
            raw.send(&large[..15_000]);
            raw
        })
        .collect();
    let reason = [("reason", "held_bytes")];
    admin.wait_for("enough connections are evicted", |page| {
        let evicted = page.count("ringback_closes_total", &reason);
        evicted > 20 && page.count("ringback_held_bytes", &[]) <= HELD_MAX
    });
    // It holds the least, so it is not evicted.
    tls.write_all(&small[100..]).expect("sent");
    expect(&mut tls, &unmasked(TEXT, &[b'x'; 120]));
    drop(raws);
}

fn incomplete_records_count_as_held_and_close_once(engine: Engine) {
    const HELD_MAX: u64 = 256 * 1024;
    const CLIENTS: usize = 40;
    let pair = pki::pair();
    let flags = [
        "--admin=127.0.0.1:0",
        "--max-held-bytes=256k",
        "--threads=1",
    ];
    let server = serve(engine, &pair, &flags);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let config = pair.client(ALL_VERSIONS, &[]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut tls = open(server.address(), &config);
            let mut record = Vec::new();
            tls.conn.writer().write_all(&[0; 16_000]).expect("taken");
            tls.conn.write_tls(&mut record).expect("written");
            tls.sock.write_all(&record[..15_000]).expect("sent");
            tls
        })
        .collect();
    admin.wait_for("enough connections are evicted", |page| {
        let evicted = page.count("ringback_closes_total", &[("reason", "held_bytes")]);
        evicted > 20 && page.count("ringback_held_bytes", &[]) <= HELD_MAX
    });
    drop(clients);
    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 0
    });
    // An evicted client gets a Close and must send the rest of its record or end; if it
    // does neither it is cut, which is not counted as a second close.
    assert_eq!(page.count("ringback_closes_total", &[]), CLIENTS as u64);
}

fn handler_gets_messages_over_tls(engine: Engine) {
    let pair = pki::pair();
    let server = serve(engine, &pair, &["--print-messages"]);
    let mut tls = open(server.address(), &pair.client(ALL_VERSIONS, &[]));
    let address = tls.sock.local_addr().expect("connected");
    echo(&mut tls, b"in secret");
    assert_eq!(server.printed(), Some(format!("{address} sent: in secret")));
    let message = "x".repeat(1_000_000);
    echo(&mut tls, message.as_bytes());
    server.printed();
    tls.write_all(&close(1000, "")).expect("sent");
    expect(&mut tls, &unmasked(CLOSE, b"\x03\xe8"));
    assert_eq!(tls.read(&mut [0]).expect("the end"), 0);
}

fn address_over_handshake_rate_gets_no_tls_handshake(engine: Engine) {
    let pair = pki::pair();
    let flags = ["--admin=127.0.0.1:0", "--handshake-rate=1/h"];
    let server = serve(engine, &pair, &flags);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let config = pair.client(ALL_VERSIONS, &[]);
    echo(&mut open(server.address(), &config), b"once");
    assert!(Raw::dial(server.address()).rest_until_cut().is_empty());
    let refused = [("reason", "rate")];
    let page = admin.wait_for("it is counted", |page| {
        page.count("ringback_connections_refused_total", &refused) == 1
    });
    let outcome = |name, outcome| page.count(name, &[("outcome", outcome)]);
    assert_eq!(outcome("ringback_handshakes_total", "refused"), 1);
    assert_eq!(outcome("ringback_tls_handshakes_total", "tls13"), 1);
    assert_eq!(outcome("ringback_tls_handshakes_total", "abandoned"), 0);
}

fn metrics_have_tls_handshakes_reloads_and_expiry(engine: Engine) {
    let pair = pki::pair_with(|params| params.not_after = date_time_ymd(2222, 2, 22));
    let server = serve(engine, &pair, &["--admin=127.0.0.1:0"]);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    for version in [&TLS12, &TLS13] {
        echo(
            &mut open(server.address(), &pair.client(&[version], &[])),
            b"hi",
        );
    }
    handshake_error(server.address(), &pair.client(ALL_VERSIONS, &[b"h2"]));
    Raw::dial(server.address()).send(b"GET / HTTP/1.1\r\n\r\n");
    drop(Raw::dial(server.address()));
    server.signal(Signal::HUP);
    server.wait_for_log("new connections get");
    server.pki().write("key.pem", "");
    server.signal(Signal::HUP);
    server.wait_for_log("stays in use");
    let page = admin.wait_for("all are counted", |page| {
        page.count("ringback_tls_handshakes_total", &[("outcome", "abandoned")]) == 1
            && page.count(
                "ringback_tls_handshakes_total",
                &[("outcome", "plain_http")],
            ) == 1
            && page.count("ringback_tls_handshakes_total", &[("outcome", "failed")]) == 1
    });
    let tls = |name: &str, outcome| page.count(name, &[("outcome", outcome)]);
    for outcome in ["tls12", "tls13"] {
        assert_eq!(
            tls("ringback_tls_handshakes_total", outcome),
            1,
            "{outcome}"
        );
    }
    assert_eq!(tls("ringback_tls_reloads_total", "ok"), 1);
    assert_eq!(tls("ringback_tls_reloads_total", "failed"), 1);
    assert_eq!(tls("ringback_handshakes_total", "upgraded"), 2);
    assert_eq!(
        page.count("ringback_connections_refused_total", &[("reason", "tls")]),
        2
    );
    // 2222-02-22T00:00:00Z
    assert_eq!(
        page.count("ringback_tls_certificate_not_after_seconds", &[]),
        7_956_835_200
    );
}
