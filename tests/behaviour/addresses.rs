//! Limits per address.

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

/// An address of this machine, which has all of 127.0.0.0/8.
fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Sends a request from this address.
fn connect_from(server: &Server, last: u8) -> Raw {
    let mut raw = Raw::dial_from(ip(last), server.address());
    raw.send(REQUEST.as_bytes());
    raw
}

fn refusals(admin: crate::common::admin::Admin, reason: &str) -> u64 {
    let page = admin.metrics();
    page.count("ringback_connections_refused_total", &[("reason", reason)])
}

fn address_over_max_connections_per_address_gets_429(engine: Engine) {
    let flags = ["--max-connections-per-address=5", "--threads=3"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let mut accepted: Vec<_> = (0..5).map(|_| connect_from(&server, 2)).collect();
    for raw in &mut accepted {
        raw.expect_upgrade();
    }
    for _ in 0..20 {
        connect_from(&server, 2).expect_refusal(429);
    }
    let mut others: Vec<_> = (3..13).map(|last| connect_from(&server, last)).collect();
    for raw in &mut others {
        raw.expect_upgrade();
    }
    assert_eq!(refusals(admin, "address"), 20);
    assert_eq!(refusals(admin, "full"), 0);
    // The connections within the limit are not disturbed.
    for raw in &mut accepted {
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
    let (server, admin) = Server::start_with_admin(engine, &flags);
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
        // The server may see the end of a connection a little later than its client.
        wait_until(&format!("the slot before {number} is free"), || {
            let mut raw = Raw::dial_from(ip(2), server.address());
            raw.send(request.as_bytes());
            let head = raw.head();
            let is_free = head.starts_with("HTTP/1.1 101 ");
            assert!(is_free || head.starts_with("HTTP/1.1 429 "), "{head}");
            is_free
        });
        wait_until("the connection is closed", || {
            admin.metrics().count("ringback_connections_open", &[]) == 0
        });
        let mut raw = Raw::dial_from(ip(2), server.address());
        raw.send(request.as_bytes());
        end(raw);
        // A refused request frees its slot, too. A connection that was reset early may
        // take its slot only now.
        wait_until(&format!("the slot of {number} is free"), || {
            let head = connect_from(&server, 2).head();
            let is_free = head.starts_with("HTTP/1.1 404 ");
            assert!(is_free || head.starts_with("HTTP/1.1 429 "), "{head}");
            is_free
        });
    }
}

fn address_over_handshake_rate_gets_429(engine: Engine) {
    const BURST: usize = 8;
    let flags = ["--handshake-rate=4/m", "--handshake-burst=8", "--threads=3"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let start = Instant::now();
    for _ in 0..BURST {
        connect_from(&server, 2).expect_upgrade();
    }
    let mut raw = connect_from(&server, 2);
    let head = raw.head();
    // One is added every 15 s; on a machine that pauses for so long it may be allowed
    // already.
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
        connect_from(&server, last).expect_upgrade();
    }
}

/// Connections over the rate are refused or closed, and other addresses connect
/// meanwhile.
fn refusals_are_bounded_and_other_addresses_connect(engine: Engine) {
    const CONNECTIONS: usize = 1500;
    let flags = ["--handshake-rate=1/h", "--threads=1"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let before = server.process().descriptors().len();
    // They send nothing, so that each keeps its slot for a 429.
    let refused: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::dial_from(ip(2), server.address()))
        .collect();
    connect_from(&server, 3).expect_upgrade();
    admin.wait_for("all connections are accepted", |page| {
        page.count("ringback_connections_accepted_total", &[]) == CONNECTIONS as u64 + 1
    });
    let open = server.process().descriptors().len() - before;
    // One is accepted, and 256 wait for a 429.
    assert!(open <= 257 + 2, "{open} descriptors are open");
    // A refusal is counted when it is decided, not when it is sent.
    let page = admin.metrics();
    let count = |reason| page.count("ringback_connections_refused_total", &[("reason", reason)]);
    assert_eq!(count("rate") + count("overrun"), CONNECTIONS as u64 - 1);
    assert_eq!(count("rate"), 256);
    drop(refused);
}
