//! Clients that do not read, with TCP over its memory limit.

use std::thread;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls, on_every_engine_with_handler};
use crate::common::server::Server;
use crate::common::wire::{BINARY, frame, noise};

on_every_engine_and_over_tls![max_tcp_memory_resets_only_clients_that_do_not_read,];

on_every_engine_with_handler![max_tcp_memory_resets_only_clients_that_do_not_read,];

/// One byte: TCP has more on any machine with a connection. No other limit closes a
/// connection meanwhile.
const FLAGS: [&str; 5] = [
    "--max-tcp-memory=1",
    "--write-timeout=10m",
    "--max-backlog=1m",
    "--threads=1",
    "--access-log",
];

fn max_tcp_memory_resets_only_clients_that_do_not_read(engine: Engine) {
    const UNREAD: u64 = 3;
    let (server, admin) = Server::start_with_admin(engine, &FLAGS);
    let mut reader = Client::connect(server.address());
    thread::scope(|scope| {
        for _ in 0..UNREAD {
            let mut raw = Raw::open_with_small_buffers(server.address());
            scope.spawn(move || raw.send_until_cut(&frame(BINARY, &noise(1, 60_000))));
        }
        let labels = [("reason", "tcp_memory"), ("code", "none")];
        let page = admin.wait_for("they are evicted", |page| {
            reader.echo(noise(2, 200_000));
            page.count("ringback_closes_total", &labels) == UNREAD
        });
        assert_eq!(page.count("ringback_tcp_memory_max_bytes", &[]), 1);
        // The kernel counts pages, and some later.
        admin.wait_for("TCP has memory", |page| {
            page.count("ringback_tcp_memory_bytes", &[]) > 1
        });
    });
    server.wait_for_log("reason=\"tcp_memory\"");
    reader.echo("still here");
    let page = admin.metrics();
    assert_eq!(page.count("ringback_closes_total", &[]), UNREAD);
    assert_eq!(page.count("ringback_connections_open", &[]), 1);
}
