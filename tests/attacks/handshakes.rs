//! Those who never end their handshake, and make the server hold what came of it.

use std::net::SocketAddr;

use crate::common::admin::Admin;
use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::prometheus::Page;
use crate::common::server::{self, Server};
use crate::common::wait_until;
use crate::common::wire::{BINARY, REQUEST, frame, noise};
use crate::siege::{LOG, SHAKING_HANDS, Siege, Toll};

on_every_engine![
    first_request_byte_counts_as_held,
    incomplete_request_counts_as_held,
    incomplete_proxy_header_counts_as_held,
    oldest_handshake_is_evicted_over_max_handshakes,
    handshakes_are_evicted_before_upgraded_connections,
    handshakes_are_evicted_before_handler_connections,
];

on_every_engine_over_tls![
    first_request_byte_counts_as_held,
    incomplete_request_counts_as_held,
    incomplete_client_hello_counts_as_held,
    oldest_handshake_is_evicted_over_max_handshakes,
    handshakes_are_evicted_before_upgraded_connections,
];

const CONNECTIONS: usize = 300;

/// What a handshake holds in any case, and what those over TLS hold besides.
const EACH: usize = 4096;
const EACH_OVER_TLS: usize = 4608;

/// Most of a request's head, so that there is no room for a healthy client's in what
/// may be held by many of these.
const MOST_OF_A_HEAD: usize = 15_900;

fn most_of_a_head() -> Vec<u8> {
    let mut head = REQUEST.as_bytes()[..REQUEST.len() - 2].to_vec();
    head.extend_from_slice(b"X-Padding: ");
    head.resize(MOST_OF_A_HEAD, b'x');
    head
}

fn refused(page: &Page, reason: &str) -> u64 {
    page.count("ringback_connections_refused_total", &[("reason", reason)])
}

/// The server counts what attackers hold who have all sent this, and no more than that;
/// it takes no more memory either.
fn holding(siege: Siege, admin: Admin, address: SocketAddr, bytes: &[u8], each: usize) {
    let mut raws: Vec<_> = (0..CONNECTIONS).map(|_| Raw::dial(address)).collect();
    for raw in &mut raws {
        raw.send(bytes);
    }
    let all = (CONNECTIONS * each) as u64;
    let page = admin.wait_for("all is counted", |page| {
        page.count("ringback_held_bytes", &[]) >= all
            && page.count("ringback_handshakes_in_progress", &[]) == CONNECTIONS as u64
    });
    let held = page.count("ringback_held_bytes", &[]);
    assert!(held < all + all / 4, "{held} instead of {all}");
    drop(raws);
    // The neighbour may hold a buffer.
    admin.wait_for("nothing is held for them", |page| {
        page.count("ringback_handshakes_in_progress", &[]) == 0
            && page.count("ringback_held_bytes", &[]) < all / 4
    });
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * bytes.len())
        .held(CONNECTIONS, (each + each / 4) as u64);
    siege.lift(toll);
}

fn lay(engine: Engine, flags: &[&str]) -> (Siege, Admin) {
    let flags = [&["--threads=1", "--handshake-timeout=2m", LOG], flags].concat();
    let (server, admin) = Server::start_watched(engine, &flags);
    (Siege::around(server), admin)
}

/// What a handshake holds besides what came.
fn each(siege: &Siege) -> usize {
    let is_over_tls = siege.address() != siege.server().addresses()[0];
    EACH + if is_over_tls { EACH_OVER_TLS } else { 0 }
}

fn first_request_byte_counts_as_held(engine: Engine) {
    let (siege, admin) = lay(engine, &[]);
    let (address, each) = (siege.address(), each(&siege));
    holding(siege, admin, address, b"G", each + 1);
}

fn incomplete_request_counts_as_held(engine: Engine) {
    let (siege, admin) = lay(engine, &[]);
    let (address, each) = (siege.address(), each(&siege));
    let head = most_of_a_head();
    holding(siege, admin, address, &head, each + head.len());
}

fn incomplete_client_hello_counts_as_held(engine: Engine) {
    let (siege, admin) = lay(engine, &[]);
    let (address, each) = (siege.server().addresses()[0], each(&siege));
    // A record of 16 KiB with a message of as much.
    let mut hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec();
    hello.resize(MOST_OF_A_HEAD, 7);
    holding(siege, admin, address, &hello, each + hello.len());
}

fn incomplete_proxy_header_counts_as_held(engine: Engine) {
    let mut command = server::binary();
    command
        .args(["--listen=127.0.0.1:0", "--listen=[::1]:0", "--threads=1"])
        .args(["--no-pin", "--proxy-protocol=::1", "--engine", engine])
        .args(["--admin=127.0.0.1:0", "--handshake-timeout=2m", LOG]);
    let server = Server::spawn(&mut command, 2);
    let admin = Admin::of_line(&server.printed().expect("an admin line"));
    let trusted = server.addresses()[1];
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0";
    holding(Siege::around(server), admin, trusted, header, EACH + 0x1000);
}

/// So who does what a handshake takes is served, however many do not.
fn oldest_handshake_is_evicted_over_max_handshakes(engine: Engine) {
    const MOST: usize = 20;
    let (siege, admin) = lay(engine, &["--max-handshakes=20"]);
    assert_eq!(
        admin.metrics().count("ringback_handshakes_max", &[]),
        MOST as u64
    );
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let raw = Raw::dial(siege.address());
            // Whoever comes after it finds it.
            let mut beside = Client::connect(siege.address());
            beside.echo("beside it");
            beside.close();
            raw
        })
        .collect();
    // The last healthy client took one of the places.
    let (evicted, stay) = raws.split_at_mut(CONNECTIONS - (MOST - 1));
    for raw in evicted {
        assert!(raw.rest_until_cut().is_empty());
    }
    let page = admin.metrics();
    assert_eq!(
        refused(&page, "handshakes"),
        (CONNECTIONS - (MOST - 1)) as u64
    );
    for raw in stay {
        raw.send(REQUEST.as_bytes());
        raw.expect_upgrade();
    }
    drop(raws);
    let toll = Toll::new()
        .connections(3 * CONNECTIONS)
        .held(MOST + 2, SHAKING_HANDS);
    siege.lift(toll);
}

/// Whoever has upgraded, and holds more than each of them, stays.
fn handshakes_before_upgraded(siege: Siege, admin: Admin) {
    const HALF: usize = 60_000;
    let message = noise(1, HALF + 100);
    let whole = frame(BINARY, &message);
    let mut upgraded = Raw::open(siege.address());
    upgraded.send(&whole[..HALF]);
    admin.wait_for("half a frame is held", |page| {
        page.count("ringback_held_bytes", &[]) >= HALF as u64 - 100
    });
    let head = most_of_a_head();
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = Raw::dial(siege.address());
            // It may be cut already.
            raw.try_send(&head);
            raw
        })
        .collect();
    let max = admin.metrics().count("ringback_held_bytes_max", &[]);
    let least = CONNECTIONS as u64 - max / MOST_OF_A_HEAD as u64;
    admin.wait_for("no more is held than may be", |page| {
        refused(page, "held_bytes") >= least && page.count("ringback_held_bytes", &[]) <= max
    });
    wait_until("those who are evicted know", || {
        let news = raws.iter().filter(|raw| raw.has_news()).count() as u64;
        news == refused(&admin.metrics(), "held_bytes")
    });
    for raw in raws.iter_mut().filter(|raw| raw.has_news()) {
        assert!(raw.rest_until_cut().is_empty());
    }
    upgraded.send(&whole[HALF..]);
    upgraded.expect_frame(BINARY, &message);
    drop((upgraded, raws));
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * MOST_OF_A_HEAD)
        .held(1, 2 * max)
        .held(CONNECTIONS, SHAKING_HANDS);
    siege.lift(toll);
}

const HELD: [&str; 3] = ["--max-held-bytes=1m", "--window=64k", "--max-handshakes=0"];

fn handshakes_are_evicted_before_upgraded_connections(engine: Engine) {
    let (siege, admin) = lay(engine, &HELD);
    handshakes_before_upgraded(siege, admin);
}

fn handshakes_are_evicted_before_handler_connections(engine: Engine) {
    let (siege, admin) = lay(engine, &[&HELD[..], &["--print-messages"]].concat());
    handshakes_before_upgraded(siege, admin);
}
