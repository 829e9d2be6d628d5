//! The admin listener: responses and limits.

#[path = "common/mod.rs"]
mod common;

use std::net::{SocketAddr, TcpListener};
use std::thread;

use common::admin::{Admin, read_response, request};
use common::client::{Client, Raw};
use common::prometheus::Page;
use common::server::{Server, binary};

fn start() -> (Server, Admin) {
    Server::start_with_admin("epoll", &["--threads=1"])
}

#[test]
fn metrics_body_matches_content_type() {
    let (_server, admin) = start();
    let response = admin.get("/metrics");
    let expected = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(response.head.contains(expected), "{}", response.head);
    let page = Page::parse(&response.body);
    assert!(page.families.len() > 20);
    for family in &page.families {
        let is_ours = family.name.starts_with("ringback_") || family.name.starts_with("process_");
        assert!(is_ours && family.help.len() > 10, "{family:?}");
    }
}

#[test]
fn health_is_one_line_of_text() {
    let (_server, admin) = start();
    for path in ["/healthz", "/readyz", "/healthz?verbose"] {
        let response = admin.get(path);
        assert_eq!((response.status, &*response.body), (200, "ok\n"), "{path}");
        let expected = "content-type: text/plain; charset=utf-8\r\n";
        assert!(response.head.contains(expected), "{}", response.head);
    }
}

#[test]
fn other_paths_get_404_and_methods_405() {
    let (_server, admin) = start();
    for path in ["/", "/metrics/", "/healthz/x", "//metrics", "/METRICS"] {
        assert_eq!(admin.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let mut raw = Raw::dial(admin.address);
            raw.send(request(method, path, "").as_bytes());
            let response = read_response(&mut raw);
            assert_eq!(response.status, 405, "{method} {path}");
            assert!(
                response.head.contains("allow: GET, HEAD\r\n"),
                "{}",
                response.head
            );
        }
    }
}

#[test]
fn head_request_gets_head_and_keeps_connection() {
    let (_server, admin) = start();
    let mut raw = Raw::dial(admin.address);
    for _ in 0..3 {
        raw.send(request("HEAD", "/healthz", "").as_bytes());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-length: 3\r\n"), "{head}");
        raw.send(request("GET", "/healthz", "").as_bytes());
        assert_eq!(read_response(&mut raw).body, "ok\n");
    }
    // Two at once, in one segment.
    raw.send(request("GET", "/readyz", "").repeat(2).as_bytes());
    assert_eq!(read_response(&mut raw).body, "ok\n");
    assert_eq!(read_response(&mut raw).body, "ok\n");
}

#[test]
fn endless_head_gets_431() {
    let (_server, admin) = start();
    let mut raw = Raw::dial(admin.address);
    let mut endless = Raw::over(raw.stream().try_clone().expect("a descriptor"));
    thread::scope(|scope| {
        scope.spawn(move || {
            endless.send(b"GET /healthz HTTP/1.1\r\nX: ");
            endless.send_until_cut(&[b'x'; 1024]);
        });
        let rest = String::from_utf8(raw.rest_until_cut()).expect("ASCII");
        // The response may be lost: bytes after it end in a reset.
        let line = "\r\n\r\nthe request head is larger than 8 KiB, or has more than 100 fields\n";
        let is_whole = rest.starts_with("HTTP/1.1 431 ") && rest.ends_with(line);
        assert!(rest.is_empty() || is_whole, "{rest}");
    });
    assert_eq!(admin.get("/healthz").status, 200);
}

#[test]
fn invalid_http_gets_400() {
    let (_server, admin) = start();
    for bytes in [&b"\0\0\r\n\r\n"[..], b"HELO\r\n\r\n"] {
        let mut raw = Raw::dial(admin.address);
        raw.send(bytes);
        raw.half_close();
        let rest = String::from_utf8(raw.rest_until_cut()).expect("ASCII");
        assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
        let line = "\r\n\r\nthis is no well-formed HTTP/1.1 request\n";
        assert!(rest.ends_with(line), "{rest}");
    }
    // After a response as well.
    let mut raw = Raw::dial(admin.address);
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nHELO\r\n\r\n");
    let rest = String::from_utf8(raw.rest_until_cut()).expect("ASCII");
    let (first, second) = rest.split_once("ok\n").expect("an answer");
    assert!(first.starts_with("HTTP/1.1 200 "), "{rest}");
    assert!(second.starts_with("HTTP/1.1 400 "), "{rest}");
    // A ClientHello gets an alert.
    let mut raw = Raw::dial(admin.address);
    raw.send(b"\x16\x03\x01\x02\x00\x01\0\0\0\0\r\n\r\n");
    assert_eq!(raw.rest_until_cut(), [21, 3, 1, 0, 2, 2, 70]);
    assert_eq!(admin.get("/healthz").status, 200);
}

#[test]
fn incomplete_head_is_cut_at_timeout() {
    let (_server, admin) = start();
    let mut raw = Raw::dial(admin.address);
    raw.send(b"GET /healthz HT");
    assert!(raw.rest_until_cut().is_empty());
    assert_eq!(admin.get("/healthz").status, 200);
}

#[test]
fn held_connections_do_not_block_admin() {
    const PLACES: usize = 64;
    let (server, admin) = start();
    let before = server.process().descriptors().len();
    let mut client = Client::connect(server.address());
    let mut holding = Vec::new();
    for number in 0..1000 {
        let mut raw = Raw::dial(admin.address);
        if number % 2 == 0 {
            raw.send(b"GET /metrics HTTP/1.1\r\n");
        }
        holding.push(raw);
        if number % 100 == 0 {
            assert_eq!(admin.get("/healthz").status, 200);
            client.echo("not disturbed");
        }
    }
    assert_eq!(admin.get("/healthz").status, 200);
    // The connection of this request took the slot of another.
    let open = server.process().descriptors().len();
    assert!(open <= before + 1 + PLACES, "{open} after {before}");
    for mut raw in holding.drain(..900) {
        assert!(raw.rest_until_cut().is_empty());
    }
    drop(holding);
    client.echo("still there");
    assert_eq!(admin.get("/metrics").status, 200);
}

#[test]
fn admin_address_in_use_exits_with_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let output = binary()
        .args(["--listen=127.0.0.1:0", "--admin", &address.to_string()])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    let line = format!("ringback: cannot listen on {address} (--admin): ");
    assert!(stderr.lines().any(|l| l.starts_with(&line)), "{stderr}");
    assert!(output.stdout.is_empty(), "no start line");
}

#[test]
fn admin_listener_ends_with_drain() {
    let (mut server, admin) = start();
    let mut keeping = Raw::dial(admin.address);
    keeping.send(request("GET", "/healthz", "").as_bytes());
    read_response(&mut keeping);
    server.terminate();
    server.wait_for_success();
    assert!(std::net::TcpStream::connect(admin.address).is_err());
}

#[test]
fn dropped_server_closes_admin_listener() {
    let anywhere: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let config = ringback::Config {
        listen: vec![anywhere.into()],
        admin: Some(anywhere),
        engine: "epoll".parse().expect("an engine"),
        pin: false,
        ..ringback::Config::default()
    };
    let server = ringback::Server::start(config).expect("started");
    let address = server.admin_address().expect("configured");
    assert_eq!(Admin { address }.get("/healthz").status, 200);
    drop(server);
    common::wait_until("the listener is closed", || {
        std::net::TcpStream::connect(address).is_err()
    });
}
