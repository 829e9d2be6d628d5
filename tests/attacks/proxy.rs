//! Attacks from a trusted proxy's network: it may have other hosts in it than the proxy.

use std::net::{Shutdown, SocketAddr};

use crate::attack::{Attack, Budget, IN_HANDSHAKE, LOG};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{REQUEST, noise};

on_every_engine![
    incomplete_proxy_header_is_cut_at_handshake_timeout,
    longest_proxy_header_byte_by_byte_is_accepted,
    invalid_proxy_header_closes_connection,
    proxy_line_over_107_bytes_closes_connection,
    address_list_costs_no_more_than_its_bytes,
];

/// Starts a server that trusts all peers of its second address.
fn start(engine: Engine, flags: &[&str]) -> (Attack, SocketAddr) {
    let mut command = crate::common::server::binary();
    command
        .args([
            "--listen=127.0.0.1:0",
            "--listen=[::1]:0",
            "--threads=1",
            LOG,
        ])
        .args(["--no-pin", "--proxy-protocol=::1", "--engine", engine])
        .args(flags);
    let server = Server::spawn(&mut command, 2);
    let trusted = server.addresses()[1];
    (Attack::on(server), trusted)
}

/// A header of version 2 that announces the longest body.
const LONG: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0";

fn incomplete_proxy_header_is_cut_at_handshake_timeout(engine: Engine) {
    const CONNECTIONS: usize = 1000;
    let (attack, trusted) = start(engine, &["--handshake-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(trusted);
            raw.send(&LONG[..index % (LONG.len() + 1)]);
            raw
        })
        .collect();
    // Some send on, a byte at a time.
    let mut bytes = 0;
    wait_until("all connections are cut", || {
        for raw in raws.iter_mut().skip(LONG.len()).step_by(LONG.len() + 1) {
            bytes += usize::from(!raw.is_readable() && raw.try_send(b"x"));
        }
        raws.iter().all(Raw::is_readable)
    });
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    attack.wait_for_disconnects();
    drop(raws);
    attack.finish(Budget::incomplete_handshakes(CONNECTIONS, bytes));
}

/// Lines of version 1, a byte at a time, as long as one may be.
fn proxy_line_over_107_bytes_closes_connection(engine: Engine) {
    const CONNECTIONS: usize = 20;
    const LINE_BYTES_MAX: usize = 107;
    let (attack, trusted) = start(engine, &[]);
    let starts = [
        "PROXY TCP4 1",
        "PROXY TCP6 ::",
        "PROXY UNKNOWN ",
        "PROXY UNKNOWN \r",
    ];
    for index in 0..CONNECTIONS {
        let start = starts[index % starts.len()].bytes();
        let fill = [b'1', b' ', b':'][index % 3];
        let mut raw = Raw::dial(trusted);
        for byte in start.chain(std::iter::repeat(fill)).take(LINE_BYTES_MAX) {
            // It may be cut already.
            raw.try_send(&[byte]);
        }
        assert!(raw.rest_until_cut().is_empty());
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .segments(CONNECTIONS * LINE_BYTES_MAX);
    attack.finish(budget.held(1, IN_HANDSHAKE));
}

/// Lists from a trusted peer: none costs more than its bytes.
fn address_list_costs_no_more_than_its_bytes(engine: Engine) {
    const ROUNDS: usize = 20;
    const LEN: usize = 15_000;
    for header in ["x-forwarded-for", "forwarded"] {
        let flags = [
            "--forwarded-from=::1",
            &format!("--forwarded-header={header}"),
            "--max-connections-per-address=1000",
        ];
        let mut command = crate::common::server::binary();
        command
            .args([
                "--listen=127.0.0.1:0",
                "--listen=[::1]:0",
                "--threads=1",
                LOG,
            ])
            .args(["--no-pin", "--engine", engine])
            .args(flags);
        let server = Server::spawn(&mut command, 2);
        let trusted = server.addresses()[1];
        let attack = Attack::on(server);
        let lists = [
            ",",
            "::1,",
            "\"",
            "\\\"",
            "for=\"",
            "for=::1,",
            "a;",
            "192.0.2.7,",
            "for=\"[::1]\",",
        ];
        for index in 0..ROUNDS * lists.len() {
            let list = lists[index % lists.len()];
            let list = list.repeat(LEN / list.len());
            let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
            let mut raw = Raw::dial(trusted);
            raw.send(format!("{request}{header}: {list}\r\n\r\n").as_bytes());
            let head = raw.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        }
        let connections = ROUNDS * lists.len();
        let budget = Budget::new()
            .connections(connections)
            .bytes(connections * LEN);
        attack.finish(budget.held(2, IN_HANDSHAKE));
    }
}

/// It is valid, and the request after it is served.
fn longest_proxy_header_byte_by_byte_is_accepted(engine: Engine) {
    const CONNECTIONS: usize = 3;
    const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0x23, 0x29];
    /// The type `PP2_TYPE_NOOP`.
    const PADDING: [u8; 3] = [4, 0x0f, 0xf1];
    let (attack, trusted) = start(engine, &[]);
    let mut header = [LONG, &ADDRESSES, &PADDING].concat();
    header.resize(LONG.len() + 0x1000, 0);
    header.extend_from_slice(REQUEST.as_bytes());
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::dial(trusted);
        for byte in &header {
            raw.send(&[*byte]);
        }
        raw.expect_upgrade();
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .segments(CONNECTIONS * header.len())
        .held(1, IN_HANDSHAKE);
    attack.finish(budget);
}

fn invalid_proxy_header_closes_connection(engine: Engine) {
    const CONNECTIONS: usize = 600;
    let (attack, trusted) = start(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(trusted);
        let mut bytes = noise(index as u64, [20, 64, 16 * 1024][index % 3]);
        // More and more valid bytes at the start.
        let good = LONG.len().min(index % 20);
        bytes[..good].copy_from_slice(&LONG[..good]);
        raw.try_send(&bytes);
        // It may be cut already.
        let _ = raw.stream().shutdown(Shutdown::Write);
        assert!(raw.rest_until_cut().is_empty());
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * 5500)
        .held(20, IN_HANDSHAKE);
    attack.finish(budget);
}
