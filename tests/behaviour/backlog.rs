//! Clients that send before they read, as a blocking client does with a large
//! message.

use std::thread;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine_and_over_tls, on_every_engine_with_handler};
use crate::common::process::unsent_bytes;
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, BINARY_FRAGMENT, FRAGMENT, LAST_FRAGMENT, TEXT, close, closed, frame, noise, unmasked,
};

on_every_engine_and_over_tls![
    client_may_send_64_mib_before_it_reads,
    client_may_send_fragments_before_it_reads,
    backlog_is_sent_before_end,
    backlog_is_sent_before_close,
    drained_backlog_frees_memory,
    client_over_max_backlog_is_not_read_until_half_drained,
    full_backlog_without_reads_is_cut_at_write_timeout,
    cut_client_leaves_no_unsent_bytes_in_kernel,
];

on_every_engine_with_handler![
    client_may_send_64_mib_before_it_reads,
    backlog_is_sent_before_end,
    backlog_is_sent_before_close,
    client_over_max_backlog_is_not_read_until_half_drained,
    full_backlog_without_reads_is_cut_at_write_timeout,
    cut_client_leaves_no_unsent_bytes_in_kernel,
];

const MIB: usize = 1024 * 1024;

/// What a blocking client may send at once.
const LARGE: usize = 64 * MIB;

/// A payload of whole MiB, which is made quickly.
fn large(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, MIB - 1).into_iter().cycle().take(len).collect()
}

fn client_may_send_64_mib_before_it_reads(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let payload = large(1, LARGE);
    raw.send(&frame(BINARY, &payload));
    raw.expect(&unmasked(BINARY, &payload));
    raw.send(&frame(TEXT, b"and another"));
    raw.expect_frame(TEXT, b"and another");
}

fn client_may_send_fragments_before_it_reads(engine: Engine) {
    const PARTS: usize = 1000;
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let part = noise(2, LARGE / PARTS);
    let first = |index| match index {
        0 => BINARY_FRAGMENT,
        _ if index == PARTS - 1 => LAST_FRAGMENT,
        _ => FRAGMENT,
    };
    for index in 0..PARTS {
        raw.send(&frame(first(index), &part));
    }
    for index in 0..PARTS {
        raw.expect(&unmasked(first(index), &part));
    }
}

fn backlog_is_sent_before_end(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let payload = large(3, LARGE / 2);
    raw.send(&frame(BINARY, &payload));
    raw.half_close();
    raw.expect(&unmasked(BINARY, &payload));
    raw.rest_until_cut();
}

fn backlog_is_sent_before_close(engine: Engine) {
    let server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    let payload = large(4, LARGE / 2);
    raw.send(&frame(BINARY, &payload));
    raw.send(&close(1000, ""));
    raw.expect(&unmasked(BINARY, &payload));
    raw.expect(&closed(1000));
    raw.expect_end();
}

fn drained_backlog_frees_memory(engine: Engine) {
    // For the allocator's reserve, and buffers that are made on demand.
    const ALLOWANCE: u64 = 16 * MIB as u64;
    let (server, admin) = Server::start_with_admin(engine, &["--threads=1"]);
    Client::connect(server.address()).echo("warm");
    let before = server.process().memory();
    let growth = || server.process().memory().saturating_sub(before);
    let mut raw = Raw::open(server.address());
    let payload = large(5, LARGE);
    raw.send(&frame(BINARY, &payload));
    let most = growth();
    assert!(most > LARGE as u64 / 2, "the backlog is only {most} bytes");
    let reply = unmasked(BINARY, &payload);
    let (start, end) = reply.split_at(LARGE * 7 / 8);
    raw.expect(start);
    admin.wait_for("little is held", |page| {
        page.count("ringback_held_bytes", &[]) <= end.len() as u64 + ALLOWANCE / 16
    });
    wait_until("memory is freed", || growth() < LARGE as u64 / 2);
    raw.expect(end);
    admin.wait_for("nothing is held", |page| {
        page.count("ringback_held_bytes", &[]) == 0 && page.count("ringback_slow_readers", &[]) == 0
    });
    wait_until("all memory is freed", || growth() < ALLOWANCE);
}

fn client_over_max_backlog_is_not_read_until_half_drained(engine: Engine) {
    const LIMIT: usize = 2 * MIB;
    // For the bytes of one read beyond the limit, and what TLS adds.
    const BEYOND: usize = 300_000;
    let (server, admin) = Server::start_with_admin(engine, &["--max-backlog=2m"]);
    let mut raw = Raw::open_with_small_buffers(server.address());
    let payload = noise(6, 60_000);
    let messages = 16 * MIB / payload.len();
    let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
    thread::scope(|scope| {
        let message = frame(BINARY, &payload);
        scope.spawn(move || {
            for _ in 0..messages {
                writer.send(&message);
            }
        });
        let held = || {
            let page = admin.metrics();
            usize::try_from(page.count("ringback_held_bytes", &[])).expect("few")
        };
        wait_until("the backlog is full", || held() >= LIMIT);
        let most = held();
        assert!(most < LIMIT + BEYOND, "{most} bytes are held");
        for _ in 0..messages {
            raw.expect_frame(BINARY, &payload);
        }
    });
    admin.wait_for("nothing is held", |page| {
        page.count("ringback_held_bytes", &[]) == 0
    });
}

fn full_backlog_without_reads_is_cut_at_write_timeout(engine: Engine) {
    let flags = ["--max-backlog=1m", "--write-timeout=500ms"];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let mut neighbour = Client::connect(server.address());
    neighbour.echo("before");
    let mut raw = Raw::open_with_small_buffers(server.address());
    raw.send_until_cut(&frame(BINARY, &noise(7, 60_000)));
    let page = admin.wait_for("it is cut", |page| {
        page.count("ringback_slow_readers_cut_total", &[]) == 1
    });
    let reason = [("reason", "slow_reader"), ("code", "none")];
    assert_eq!(page.count("ringback_closes_total", &reason), 1);
    neighbour.echo("after");
}

/// The server has read all that the client sent, and an orderly end would queue behind
/// the unread replies, so it must reset.
fn cut_client_leaves_no_unsent_bytes_in_kernel(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--write-timeout=1s"]);
    let mut raw = Raw::open_with_small_buffers(server.address());
    let message = frame(BINARY, &large(8, MIB));
    for _ in 0..32 {
        // On a busy machine it may be cut earlier.
        raw.try_send(&message);
    }
    admin.wait_for("it is cut", |page| {
        page.count("ringback_slow_readers_cut_total", &[]) == 1
    });
    wait_until("the send queue is empty", || {
        unsent_bytes(server.addresses()[0]) == 0
    });
    raw.rest_until_cut();
}
