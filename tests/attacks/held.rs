//! Many clients, of which each makes the server hold a little.

use crate::attack::{Attack, BACKLOG, Budget, IDLE, IN_HANDSHAKE, LOG, SMALL_BACKLOG, UNREAD};
use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::prometheus::Page;
use crate::common::server::Server;
use crate::common::wire::{BINARY, CLOSE, frame, noise};
use crate::common::{wait_until, wait_until_stable};

on_every_engine![
    slow_readers_hold_at_most_max_held_bytes,
    incomplete_frames_hold_at_most_max_held_bytes,
    slow_readers_of_handler_hold_at_most_max_held_bytes,
    incomplete_messages_of_handler_hold_at_most_max_held_bytes,
    slow_readers_are_reset_over_max_tcp_memory,
];

on_every_engine_over_tls![
    slow_readers_hold_at_most_max_held_bytes,
    incomplete_frames_hold_at_most_max_held_bytes,
    slow_readers_are_reset_over_max_tcp_memory,
];

/// The limit, and a close timeout that makes the server check often: a wave of attackers
/// is seen before the next one comes.
const CAP: u64 = 1 << 20;
const FLAGS: [&str; 4] = [
    "--max-held-bytes=1m",
    "--close-timeout=200ms",
    "--write-timeout=10m",
    "--window=64k",
];

/// Memory of a second worker, most of it for the pool of the `ring` engine.
const ANOTHER_WORKER: u64 = 10 << 20;

/// Attackers come in waves.
const WAVES: usize = 4;
const WAVE: usize = 50;

fn start(engine: Engine, flags: &[&str]) -> (Attack, Admin) {
    let flags = [&[LOG], &FLAGS[..], flags].concat();
    let (server, admin) = Server::start_with_admin(engine, &flags);
    (Attack::on(server), admin)
}

fn held(page: &Page) -> u64 {
    page.count("ringback_held_bytes", &[])
}

fn evicted(page: &Page, code: &str) -> u64 {
    let labels = [("reason", "held_bytes"), ("code", code)];
    page.count("ringback_closes_total", &labels)
}

/// What a connection may hold until the limit is enforced: the largest reads of such a
/// window, the replies, and the bytes that came after them; or a message, its reply and
/// the next message, in vectors that have doubled.
const UNREAD_WITH_WINDOW: u64 = 2 * UNREAD;
const UNREAD_WITH_HANDLER: u64 = 3 * UNREAD;

/// Waves of clients that do not read; some are cut.
fn run_slow_readers(attack: Attack, admin: Admin, each: u64) {
    assert_eq!(admin.metrics().count("ringback_held_bytes_max", &[]), CAP);
    let message = frame(BINARY, &noise(1, 60_000));
    let mut sent = 0;
    let mut raws = Vec::new();
    for wave in 1..=WAVES {
        let mut new_clients: Vec<_> = (0..WAVE)
            .map(|_| Raw::open_with_small_buffers(attack.address()))
            .collect();
        sent += fill_open(&mut new_clients, &message);
        raws.append(&mut new_clients);
        let page = admin.wait_for("held bytes are within the limit", |page| held(page) <= CAP);
        // The server cuts no more than it must: some clients are left. Bytes that were
        // counted during a read may be gone by now.
        assert!(held(&page) > 0, "no connection is left after wave {wave}");
    }
    let page = admin.wait_for("nothing changes", |page| held(page) <= CAP);
    // Some are evicted while they still send the rest of a message.
    let cut = evicted(&page, "none") + evicted(&page, "1013");
    let all = (WAVES * WAVE) as u64;
    assert!((1..all).contains(&cut), "{cut} were cut");
    drop(raws);
    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 1
    });
    assert_eq!(page.count("ringback_slow_readers_cut_total", &[]), 0);
    // The neighbour has a buffer.
    admin.wait_for("held bytes are back", |page| held(page) <= IDLE);
    let budget = Budget::new()
        .connections(WAVES * WAVE)
        .bytes(sent)
        .held(1, CAP)
        .held(WAVES * WAVE, IDLE)
        // A wave is over the limit until the next check.
        .held(WAVE, each);
    attack.finish(budget);
}

/// As [`fill`](crate::attack::fill), but drops clients that are cut.
fn fill_open(raws: &mut Vec<Raw>, bytes: &[u8]) -> usize {
    let mut sent = 0;
    wait_until_stable("the sockets are full", || {
        raws.retain_mut(|raw| {
            let fits = raw.try_send_what_fits(bytes);
            sent += fits.unwrap_or(0);
            fits.is_some()
        });
        sent
    });
    usize::try_from(sent).expect("it fits in memory")
}

fn slow_readers_hold_at_most_max_held_bytes(engine: Engine) {
    let (attack, admin) = start(engine, &["--threads=1"]);
    run_slow_readers(attack, admin, UNREAD_WITH_WINDOW);
}

fn slow_readers_of_handler_hold_at_most_max_held_bytes(engine: Engine) {
    let (attack, admin) = start(engine, &["--threads=1", "--print-messages"]);
    run_slow_readers(attack, admin, UNREAD_WITH_HANDLER);
}

/// Waves of clients of several workers that never send the rest of a frame.
fn run_incomplete_frames(attack: Attack, admin: Admin, each: u64) {
    const LEN: usize = 60_000;
    let most = frame(BINARY, &noise(1, LEN + 100))[..LEN].to_vec();
    let mut raws = Vec::new();
    for _ in 0..WAVES {
        for _ in 0..WAVE {
            let mut raw = Raw::open(attack.address());
            raw.send(&most);
            raws.push(raw);
        }
        admin.wait_for("the wave has come", |page| {
            let connect = raws.len() as u64;
            let here = held(page).div_ceil(LEN as u64 - 100);
            here + evicted(page, "1013") >= connect && held(page) <= CAP
        });
    }
    wait_until_stable("no more are evicted", || evicted(&admin.metrics(), "1013"));
    let mut closed = 0;
    // An evicted client gets its Close; the others can still finish.
    wait_until("the evicted clients have their Close", || {
        closed = evicted(&admin.metrics(), "1013");
        let news = raws.iter().filter(|raw| raw.is_readable()).count();
        news as u64 == closed
    });
    let stay = CAP / LEN as u64;
    let all = (WAVES * WAVE) as u64;
    // Each worker evicts whole connections, in as many steps as the wave takes to come.
    assert!(
        (all - stay - 2..=all - stay / 2).contains(&closed),
        "{closed}"
    );
    assert_eq!(evicted(&admin.metrics(), "none"), 0);
    let rest = &frame(BINARY, &noise(1, LEN + 100))[LEN..];
    let (mut evicted_clients, mut finished) = (0, 0);
    for raw in &mut raws {
        if raw.is_readable() {
            raw.expect_frame(CLOSE, &1013_u16.to_be_bytes());
            evicted_clients += 1;
        } else {
            raw.send(rest);
            raw.expect_frame(BINARY, &noise(1, LEN + 100));
            finished += 1;
        }
    }
    assert_eq!((evicted_clients, evicted_clients + finished), (closed, all));
    drop(raws);
    let budget = Budget::new()
        .connections(WAVES * WAVE)
        .segments(WAVES * WAVE * 4)
        .bytes(WAVES * WAVE * LEN * 2)
        .held(1, 2 * CAP)
        .held(1, ANOTHER_WORKER)
        .held(WAVES * WAVE, IDLE)
        .held(WAVE, each)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

fn incomplete_frames_hold_at_most_max_held_bytes(engine: Engine) {
    let (attack, admin) = start(engine, &["--threads=2"]);
    run_incomplete_frames(attack, admin, UNREAD_WITH_WINDOW);
}

fn incomplete_messages_of_handler_hold_at_most_max_held_bytes(engine: Engine) {
    let (attack, admin) = start(engine, &["--threads=2", "--print-messages"]);
    run_incomplete_frames(attack, admin, UNREAD_WITH_HANDLER);
}

/// One byte: TCP has more on any machine with a connection.
fn slow_readers_are_reset_over_max_tcp_memory(engine: Engine) {
    const CONNECTIONS: usize = 200;
    let flags = [
        LOG,
        SMALL_BACKLOG,
        "--max-tcp-memory=1",
        "--write-timeout=10m",
    ];
    let (server, admin) = Server::start_with_admin(engine, &flags);
    let attack = Attack::on(server);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_with_small_buffers(attack.address()))
        .collect();
    let message = frame(BINARY, &noise(1, 60_000));
    let mut sent = 0;
    wait_until("all are reset", || {
        raws.retain_mut(|raw| {
            let fits = raw.try_send_what_fits(&message);
            sent += usize::try_from(fits.unwrap_or(0)).expect("it fits in memory");
            fits.is_some()
        });
        raws.is_empty()
    });
    let reason = [("reason", "tcp_memory"), ("code", "none")];
    let page = admin.wait_for("all connections are closed", |page| {
        page.count("ringback_connections_open", &[]) == 1
    });
    assert_eq!(
        page.count("ringback_closes_total", &reason),
        CONNECTIONS as u64
    );
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(sent)
        .held(CONNECTIONS, UNREAD + BACKLOG);
    attack.finish(budget);
}
