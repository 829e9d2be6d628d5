//! Handshakes that never end, and the memory that they hold.

use std::net::SocketAddr;

use crate::attack::{Attack, Budget, IN_HANDSHAKE, LOG};
use crate::common::admin::Admin;
use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::prometheus::Page;
use crate::common::server::{self, Server};
use crate::common::wait_until;
use crate::common::wire::{BINARY, REQUEST, frame, noise};

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

/// Bytes of every handshake, and those of TLS besides.
const EACH: usize = 4096;
const EACH_OVER_TLS: usize = 4608;

/// Most of a request's head: with many of these, the limit on held bytes leaves no room
/// for another one.
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

/// Sends `bytes` on many connections: the server counts `each` for every one of them,
/// and takes no more memory than that.
fn run_incomplete_handshakes(
    attack: Attack,
    admin: Admin,
    address: SocketAddr,
    bytes: &[u8],
    each: usize,
) {
    let mut raws: Vec<_> = (0..CONNECTIONS).map(|_| Raw::dial(address)).collect();
    for raw in &mut raws {
        raw.send(bytes);
    }
    let all = (CONNECTIONS * each) as u64;
    let page = admin.wait_for("all handshakes are counted", |page| {
        page.count("ringback_held_bytes", &[]) >= all
            && page.count("ringback_handshakes_in_progress", &[]) == CONNECTIONS as u64
    });
    let held = page.count("ringback_held_bytes", &[]);
    assert!(held < all + all / 4, "{held} instead of {all}");
    drop(raws);
    // The neighbour may hold a buffer.
    admin.wait_for("held bytes are back", |page| {
        page.count("ringback_handshakes_in_progress", &[]) == 0
            && page.count("ringback_held_bytes", &[]) < all / 4
    });
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * bytes.len())
        .held(CONNECTIONS, (each + each / 4) as u64);
    attack.finish(budget);
}

fn start(engine: Engine, flags: &[&str]) -> (Attack, Admin) {
    let flags = [&["--threads=1", "--handshake-timeout=2m", LOG], flags].concat();
    let (server, admin) = Server::start_with_admin(engine, &flags);
    (Attack::on(server), admin)
}

/// Bytes of a handshake besides those that came.
fn each(attack: &Attack) -> usize {
    let is_over_tls = attack.address() != attack.server().addresses()[0];
    EACH + if is_over_tls { EACH_OVER_TLS } else { 0 }
}

fn first_request_byte_counts_as_held(engine: Engine) {
    let (attack, admin) = start(engine, &[]);
    let (address, each) = (attack.address(), each(&attack));
    run_incomplete_handshakes(attack, admin, address, b"G", each + 1);
}

fn incomplete_request_counts_as_held(engine: Engine) {
    let (attack, admin) = start(engine, &[]);
    let (address, each) = (attack.address(), each(&attack));
    let head = most_of_a_head();
    run_incomplete_handshakes(attack, admin, address, &head, each + head.len());
}

fn incomplete_client_hello_counts_as_held(engine: Engine) {
    let (attack, admin) = start(engine, &[]);
    let (address, each) = (attack.server().addresses()[0], each(&attack));
    // A record of 16 KiB with a message of the same length.
    let mut hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec();
    hello.resize(MOST_OF_A_HEAD, 7);
    run_incomplete_handshakes(attack, admin, address, &hello, each + hello.len());
}

fn incomplete_proxy_header_counts_as_held(engine: Engine) {
    let mut command = server::binary();
    command
        .args(["--listen=127.0.0.1:0", "--listen=[::1]:0", "--threads=1"])
        .args(["--no-pin", "--proxy-protocol=::1", "--engine", engine])
        .args(["--admin=127.0.0.1:0", "--handshake-timeout=2m", LOG]);
    let server = Server::spawn(&mut command, 2);
    let admin = Admin::from_line(&server.printed().expect("an admin line"));
    let trusted = server.addresses()[1];
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0";
    run_incomplete_handshakes(Attack::on(server), admin, trusted, header, EACH + 0x1000);
}

/// A handshake that completes is served, however many do not.
fn oldest_handshake_is_evicted_over_max_handshakes(engine: Engine) {
    const MOST: usize = 20;
    let (attack, admin) = start(engine, &["--max-handshakes=20"]);
    assert_eq!(
        admin.metrics().count("ringback_handshakes_max", &[]),
        MOST as u64
    );
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let raw = Raw::dial(attack.address());
            // A later connection completes its handshake.
            let mut beside = Client::connect(attack.address());
            beside.echo("beside it");
            beside.close();
            raw
        })
        .collect();
    // The last healthy client took one of the slots.
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
    let budget = Budget::new()
        .connections(3 * CONNECTIONS)
        .held(MOST + 2, IN_HANDSHAKE);
    attack.finish(budget);
}

/// An upgraded connection stays, though it holds more than each of them.
fn handshakes_before_upgraded(attack: Attack, admin: Admin) {
    const HALF: usize = 60_000;
    let message = noise(1, HALF + 100);
    let whole = frame(BINARY, &message);
    let mut upgraded = Raw::open(attack.address());
    upgraded.send(&whole[..HALF]);
    admin.wait_for("half a frame is held", |page| {
        page.count("ringback_held_bytes", &[]) >= HALF as u64 - 100
    });
    let head = most_of_a_head();
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = Raw::dial(attack.address());
            // It may be cut already.
            raw.try_send(&head);
            raw
        })
        .collect();
    let max = admin.metrics().count("ringback_held_bytes_max", &[]);
    let least = CONNECTIONS as u64 - max / MOST_OF_A_HEAD as u64;
    admin.wait_for("held bytes are within the limit", |page| {
        refused(page, "held_bytes") >= least && page.count("ringback_held_bytes", &[]) <= max
    });
    wait_until("the evicted connections have ended", || {
        let news = raws.iter().filter(|raw| raw.is_readable()).count() as u64;
        news == refused(&admin.metrics(), "held_bytes")
    });
    for raw in raws.iter_mut().filter(|raw| raw.is_readable()) {
        assert!(raw.rest_until_cut().is_empty());
    }
    upgraded.send(&whole[HALF..]);
    upgraded.expect_frame(BINARY, &message);
    drop((upgraded, raws));
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * MOST_OF_A_HEAD)
        .held(1, 2 * max)
        .held(CONNECTIONS, IN_HANDSHAKE);
    attack.finish(budget);
}

const HELD: [&str; 3] = ["--max-held-bytes=1m", "--window=64k", "--max-handshakes=0"];

fn handshakes_are_evicted_before_upgraded_connections(engine: Engine) {
    let (attack, admin) = start(engine, &HELD);
    handshakes_before_upgraded(attack, admin);
}

fn handshakes_are_evicted_before_handler_connections(engine: Engine) {
    let (attack, admin) = start(engine, &[&HELD[..], &["--print-messages"]].concat());
    handshakes_before_upgraded(attack, admin);
}
