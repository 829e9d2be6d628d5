//! Those who are many, and each make the server hold a little.

use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::prometheus::Page;
use crate::common::server::Server;
use crate::common::wire::{BINARY, CLOSE, frame, noise};
use crate::common::{wait_for_rest, wait_until};
use crate::siege::{BACKLOG, LOG, NOT_READ, SHAKING_HANDS, SMALL_BACKLOG, Siege, Toll, WAITING};

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

/// What may be held, and how often the server looks: a quarter of the shortest
/// timeout, so that a wave of attackers is seen before it has settled.
const CAP: u64 = 1 << 20;
const FLAGS: [&str; 4] = [
    "--max-held-bytes=1m",
    "--close-timeout=200ms",
    "--write-timeout=10m",
    "--window=64k",
];

/// What a second worker takes, most of it for the pool of the `ring` engine.
const ANOTHER_WORKER: u64 = 10 << 20;

/// Attackers come in waves.
const WAVES: usize = 4;
const WAVE: usize = 50;

fn lay(engine: Engine, flags: &[&str]) -> (Siege, Admin) {
    let flags = [&[LOG], &FLAGS[..], flags].concat();
    let (server, admin) = Server::start_watched(engine, &flags);
    (Siege::around(server), admin)
}

fn held(page: &Page) -> u64 {
    page.count("ringback_held_bytes", &[])
}

fn dismissed(page: &Page, code: &str) -> u64 {
    let labels = [("reason", "held_bytes"), ("code", code)];
    page.count("ringback_closes_total", &labels)
}

/// What a connection may hold until that is seen: what the largest reads of such
/// a window bring, the replies, and what came behind them; or a message, the
/// reply to it and the next message, in vectors that have doubled.
const NOT_READ_OF_WINDOW: u64 = 2 * NOT_READ;
const NOT_READ_BY_HANDLER: u64 = 3 * NOT_READ;

/// Waves of clients that do not read; those who are cut are no loss.
fn slow_readers(siege: Siege, admin: Admin, each: u64) {
    assert_eq!(admin.metrics().count("ringback_held_bytes_max", &[]), CAP);
    let message = frame(BINARY, &noise(1, 60_000));
    let mut sent = 0;
    let mut raws = Vec::new();
    for wave in 1..=WAVES {
        let mut newcomers: Vec<_> = (0..WAVE)
            .map(|_| Raw::open_narrow(siege.address()))
            .collect();
        sent += fill_who_are_left(&mut newcomers, &message);
        raws.append(&mut newcomers);
        let page = admin.wait_for("no more is held than may be", |page| held(page) <= CAP);
        // Nobody is cut for nothing. What was counted of those who had not
        // settled yet may be gone by now.
        assert!(held(&page) > 0, "nobody is left after wave {wave}");
    }
    let page = admin.wait_for("all is quiet", |page| held(page) <= CAP);
    // Some are seen while they still send the rest of a message.
    let cut = dismissed(&page, "none") + dismissed(&page, "1013");
    let all = (WAVES * WAVE) as u64;
    assert!((1..all).contains(&cut), "{cut} are cut");
    drop(raws);
    let page = admin.wait_for("all have left", |page| {
        page.count("ringback_connections_open", &[]) == 1
    });
    assert_eq!(page.count("ringback_slow_readers_cut_total", &[]), 0);
    // The neighbour has a buffer.
    admin.wait_for("nothing is held for them", |page| held(page) <= WAITING);
    let toll = Toll::new()
        .connections(WAVES * WAVE)
        .bytes(sent)
        .held(1, CAP)
        .held(WAVES * WAVE, WAITING)
        // A wave is over the limit until it is seen.
        .held(WAVE, each);
    siege.lift(toll);
}

/// As [`fill`](crate::siege::fill), but lets go of those that are cut.
fn fill_who_are_left(raws: &mut Vec<Raw>, bytes: &[u8]) -> usize {
    let mut sent = 0;
    wait_for_rest("nobody takes any more", || {
        raws.retain_mut(|raw| {
            let fits = raw.try_send_what_fits(bytes);
            sent += fits.unwrap_or(0);
            fits.is_some()
        });
        sent
    });
    usize::try_from(sent).expect("as much as sockets hold")
}

fn slow_readers_hold_at_most_max_held_bytes(engine: Engine) {
    let (siege, admin) = lay(engine, &["--threads=1"]);
    slow_readers(siege, admin, NOT_READ_OF_WINDOW);
}

fn slow_readers_of_handler_hold_at_most_max_held_bytes(engine: Engine) {
    let (siege, admin) = lay(engine, &["--threads=1", "--print-messages"]);
    slow_readers(siege, admin, NOT_READ_BY_HANDLER);
}

/// Waves of clients of several workers that never send the rest of a frame.
fn halves(siege: Siege, admin: Admin, each: u64) {
    const LEN: usize = 60_000;
    let most = frame(BINARY, &noise(1, LEN + 100))[..LEN].to_vec();
    let mut raws = Vec::new();
    for _ in 0..WAVES {
        for _ in 0..WAVE {
            let mut raw = Raw::open(siege.address());
            raw.send(&most);
            raws.push(raw);
        }
        admin.wait_for("the wave has come", |page| {
            let come = raws.len() as u64;
            let here = held(page).div_ceil(LEN as u64 - 100);
            here + dismissed(page, "1013") >= come && held(page) <= CAP
        });
    }
    let closed = wait_for_rest("nobody else has to go", || {
        dismissed(&admin.metrics(), "1013")
    });
    let stay = CAP / LEN as u64;
    let all = (WAVES * WAVE) as u64;
    // Each worker lets go of whole connections, in several steps.
    assert!(
        (all - stay - 2..=all - stay + 6).contains(&closed),
        "{closed}"
    );
    assert_eq!(dismissed(&admin.metrics(), "none"), 0);
    // Who goes is told why; the others can still finish.
    wait_until("those who go are told", || {
        let news = raws.iter().filter(|raw| raw.has_news()).count();
        news as u64 == closed
    });
    let rest = &frame(BINARY, &noise(1, LEN + 100))[LEN..];
    let (mut gone, mut finished) = (0, 0);
    for raw in &mut raws {
        if raw.has_news() {
            raw.expect_frame(CLOSE, &1013_u16.to_be_bytes());
            gone += 1;
        } else {
            raw.send(rest);
            raw.expect_frame(BINARY, &noise(1, LEN + 100));
            finished += 1;
        }
    }
    assert_eq!((gone, gone + finished), (closed, all));
    drop(raws);
    let toll = Toll::new()
        .connections(WAVES * WAVE)
        .segments(WAVES * WAVE * 4)
        .bytes(WAVES * WAVE * LEN * 2)
        .held(1, 2 * CAP)
        .held(1, ANOTHER_WORKER)
        .held(WAVES * WAVE, WAITING)
        .held(WAVE, each)
        .held(2, SHAKING_HANDS);
    siege.lift(toll);
}

fn incomplete_frames_hold_at_most_max_held_bytes(engine: Engine) {
    let (siege, admin) = lay(engine, &["--threads=2"]);
    halves(siege, admin, NOT_READ_OF_WINDOW);
}

fn incomplete_messages_of_handler_hold_at_most_max_held_bytes(engine: Engine) {
    let (siege, admin) = lay(engine, &["--threads=2", "--print-messages"]);
    halves(siege, admin, NOT_READ_BY_HANDLER);
}

/// A byte is less than TCP has on any machine where somebody is connected.
fn slow_readers_are_reset_over_max_tcp_memory(engine: Engine) {
    const CONNECTIONS: usize = 200;
    let flags = [
        LOG,
        SMALL_BACKLOG,
        "--max-tcp-memory=1",
        "--write-timeout=10m",
    ];
    let (server, admin) = Server::start_watched(engine, &flags);
    let siege = Siege::around(server);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::open_narrow(siege.address()))
        .collect();
    let message = frame(BINARY, &noise(1, 60_000));
    let mut sent = 0;
    wait_until("all are reset", || {
        raws.retain_mut(|raw| {
            let fits = raw.try_send_what_fits(&message);
            sent += usize::try_from(fits.unwrap_or(0)).expect("as much as sockets hold");
            fits.is_some()
        });
        raws.is_empty()
    });
    let reason = [("reason", "tcp_memory"), ("code", "none")];
    let page = admin.wait_for("all have left", |page| {
        page.count("ringback_connections_open", &[]) == 1
    });
    assert_eq!(
        page.count("ringback_closes_total", &reason),
        CONNECTIONS as u64
    );
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(sent)
        .held(CONNECTIONS, NOT_READ + BACKLOG);
    siege.lift(toll);
}
