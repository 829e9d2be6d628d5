//! What an address may do.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{REQUEST, TEXT, close, frame};

on_every_engine![
    address_over_max_connections_per_address_gets_429,
    ipv6_address_over_max_connections_per_address_gets_429,
    every_end_frees_the_address_slot,
    address_over_handshake_rate_gets_429,
    refusals_are_bounded_and_other_addresses_connect,
];

/// An address of this machine; all of 127.0.0.0/8 are.
fn host(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A request from this address.
fn knock(server: &Server, last: u8) -> Raw {
    let mut raw = Raw::dial_from(host(last), server.address());
    raw.send(REQUEST.as_bytes());
    raw
}

fn refusals(admin: crate::common::admin::Admin, reason: &str) -> u64 {
    let page = admin.metrics();
    page.count("ringback_connections_refused_total", &[("reason", reason)])
}

fn address_over_max_connections_per_address_gets_429(engine: Engine) {
    let flags = ["--max-connections-per-address=5", "--threads=3"];
    let (server, admin) = Server::start_watched(engine, &flags);
    let mut inside: Vec<_> = (0..5).map(|_| knock(&server, 2)).collect();
    for raw in &mut inside {
        raw.expect_upgrade();
    }
    for _ in 0..20 {
        knock(&server, 2).expect_refusal(429);
    }
    let mut others: Vec<_> = (3..13).map(|last| knock(&server, last)).collect();
    for raw in &mut others {
        raw.expect_upgrade();
    }
    assert_eq!(refusals(admin, "address"), 20);
    assert_eq!(refusals(admin, "full"), 0);
    // Those inside have not noticed.
    for raw in &mut inside {
        raw.send(&frame(TEXT, b"still here"));
        raw.expect_frame(TEXT, b"still here");
    }
}

fn ipv6_address_over_max_connections_per_address_gets_429(engine: Engine) {
    let flags = ["--listen=[::1]:0", "--max-connections-per-address=1"];
    let mut command = crate::common::server::binary();
    command.args(["--engine", engine]).args(flags);
    let server = Server::spawn(&mut command, 1);
    let mut client = Client::connect(server.address());
    let mut second = Raw::dial(server.address());
    second.send(REQUEST.as_bytes());
    second.expect_refusal(429);
    client.echo("the first");
}

fn every_end_frees_the_address_slot(engine: Engine) {
    let flags = [
        "--max-connections-per-address=1",
        "--max-connections=100",
        "--path=/echo",
    ];
    let (server, admin) = Server::start_watched(engine, &flags);
    let request = REQUEST.replacen("GET / ", "GET /echo ", 1);
    let ends: [fn(Raw); 5] = [
        |mut raw| {
            raw.expect_upgrade();
            raw.send(&close(1000, ""));
            raw.expect_close(1000);
        },
        |mut raw| {
            raw.expect_upgrade();
            raw.reset();
        },
        |mut raw| {
            raw.expect_upgrade();
            raw.send(&[0xff, 0xff]);
            raw.expect_close(1002);
        },
        |raw| raw.reset(),
        drop,
    ];
    for (number, end) in ends.into_iter().enumerate() {
        // The server may notice a little later than its client that a connection
        // is over.
        wait_until(&format!("the place before {number} is free"), || {
            let mut raw = Raw::dial_from(host(2), server.address());
            raw.send(request.as_bytes());
            let head = raw.head();
            let is_free = head.starts_with("HTTP/1.1 101 ");
            assert!(is_free || head.starts_with("HTTP/1.1 429 "), "{head}");
            is_free
        });
        wait_until("it has left again", || {
            admin.metrics().count("ringback_connections_open", &[]) == 0
        });
        let mut raw = Raw::dial_from(host(2), server.address());
        raw.send(request.as_bytes());
        end(raw);
        // A refused request gives its place back, too. Who has left before the
        // server let it in may have its place still to come.
        wait_until(&format!("the place of {number} is free"), || {
            let head = knock(&server, 2).head();
            let is_free = head.starts_with("HTTP/1.1 404 ");
            assert!(is_free || head.starts_with("HTTP/1.1 429 "), "{head}");
            is_free
        });
    }
}

fn address_over_handshake_rate_gets_429(engine: Engine) {
    const BURST: usize = 8;
    let flags = ["--handshake-rate=4/m", "--handshake-burst=8", "--threads=3"];
    let (server, admin) = Server::start_watched(engine, &flags);
    let start = Instant::now();
    for _ in 0..BURST {
        knock(&server, 2).expect_upgrade();
    }
    let mut raw = knock(&server, 2);
    let head = raw.head();
    // One comes back every 15 s; a machine that stands still for that long may
    // have let it in.
    if start.elapsed() < Duration::from_secs(15) {
        assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
        let wait = head
            .lines()
            .find_map(|line| line.strip_prefix("retry-after: "));
        let wait: u64 = wait.expect("a time").parse().expect("seconds");
        assert!((1..=15).contains(&wait), "{wait} s");
        assert_eq!(refusals(admin, "rate"), 1);
    }
    for last in 3..20 {
        knock(&server, last).expect_upgrade();
    }
}

/// Whoever knocks without end is turned away or closed without a word, and in
/// between others come in at once.
fn refusals_are_bounded_and_other_addresses_connect(engine: Engine) {
    const KNOCKS: usize = 1500;
    let flags = ["--handshake-rate=1/h", "--threads=1"];
    let (server, admin) = Server::start_watched(engine, &flags);
    let before = server.process().descriptors().len();
    // They say nothing, so that each keeps the place where it would be told.
    let knocking: Vec<_> = (0..KNOCKS)
        .map(|_| Raw::dial_from(host(2), server.address()))
        .collect();
    knock(&server, 3).expect_upgrade();
    admin.wait_for("all knocks are heard", |page| {
        page.count("ringback_connections_accepted_total", &[]) == KNOCKS as u64 + 1
    });
    let open = server.process().descriptors().len() - before;
    // One is let in, and 256 are told why not.
    assert!(open <= 257 + 2, "{open} descriptors for those who knock");
    // They are counted when they are turned away, not when they have heard it.
    let page = admin.metrics();
    let count = |reason| page.count("ringback_connections_refused_total", &[("reason", reason)]);
    assert_eq!(count("rate") + count("overrun"), KNOCKS as u64 - 1);
    assert_eq!(count("rate"), 256);
    drop(knocking);
}
