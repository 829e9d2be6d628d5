//! The effects of `--busy-poll`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine};
use crate::common::server::Server;
use crate::common::wait_until_stable;
use crate::common::wire::{CLOSE, PING, REQUEST, TEXT, close, frame};

on_every_engine![
    spinning_worker_does_not_sleep,
    spinning_worker_of_handler_does_not_sleep,
    idle_worker_stops_spinning,
    spinning_worker_runs_handshakes_and_timers,
    spinning_worker_drains,
];

const GOING_AWAY: u16 = 1001;

/// Longer than the pauses between two messages of a test.
const LONG: &str = "--busy-poll=1s";

fn spinning_worker_does_not_sleep(engine: Engine) {
    assert_not_woken(engine, &[LONG, "--threads=1"]);
}

fn spinning_worker_of_handler_does_not_sleep(engine: Engine) {
    assert_not_woken(engine, &[LONG, "--threads=1", "--print-messages"]);
}

/// Each sleep until an event is a voluntary context switch.
#[track_caller]
fn assert_not_woken(engine: Engine, flags: &[&str]) {
    const MESSAGES: u64 = 500;
    let server = Server::start(engine, flags);
    let mut client = Client::connect(server.address());
    client.echo("before");
    let before = sleeps(&server);
    for index in 0..MESSAGES {
        client.echo(format!("message {index}"));
    }
    let slept = sleeps(&server) - before;
    // If the test is delayed for a second, the worker sleeps.
    assert!(slept < MESSAGES / 10, "slept {slept} times");
}

fn idle_worker_stops_spinning(engine: Engine) {
    for flags in [
        &["--busy-poll=200ms"][..],
        &["--busy-poll=200ms", "--print-messages"],
    ] {
        let server = Server::start(engine, flags);
        let mut client = Client::connect(server.address());
        client.echo("spin");
        // The connection stays open: idle means that no peer sends.
        wait_until_stable("the workers use no CPU time", || {
            let used = server.process().cpu_time();
            u64::try_from(used.as_millis()).expect("a short time")
        });
        client.echo("still there");
    }
}

fn spinning_worker_runs_handshakes_and_timers(engine: Engine) {
    let server = Server::start(
        engine,
        &[
            "--busy-poll=200ms",
            "--threads=1",
            // Long enough for a client that has to wait for a core.
            "--idle-timeout=1s",
            "--pong-timeout=1s",
            "--handshake-timeout=1s",
        ],
    );
    while_it_spins(&server, || {
        // Handshakes, and their timeout.
        let mut slow = Raw::dial(server.address());
        slow.send(&REQUEST.as_bytes()[..20]);
        let mut plain = Raw::dial(server.address());
        plain.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(plain.head().starts_with("HTTP/1.1 200 "));
        slow.expect_refusal(408);

        // The timers of the engine.
        let mut silent = Raw::open(server.address());
        silent.expect_frame(PING, b"");
        silent.expect_frame(CLOSE, &GOING_AWAY.to_be_bytes());

        // The end of a connection.
        let mut leaving = Raw::open(server.address());
        leaving.send(&frame(TEXT, b"bye"));
        leaving.expect_frame(TEXT, b"bye");
        leaving.send(&close(1000, ""));
        leaving.expect_close(1000);
        leaving.expect_end();
    });
}

fn spinning_worker_drains(engine: Engine) {
    let mut server = Server::start(engine, &["--busy-poll=200ms", "--threads=1"]);
    let mut client = Client::connect(server.address());
    client.echo("spin");
    server.terminate();
    client.expect_close(GOING_AWAY);
    server.wait_for_success();
}

/// Runs `all` while another connection keeps the worker spinning.
fn while_it_spins(server: &Server, all: impl FnOnce()) {
    let is_over = &AtomicBool::new(false);
    let mut client = Client::connect(server.address());
    client.echo("one, so that it spins from now on");
    thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Relaxed) {
                client.echo("and on");
            }
        });
        // The other thread must end if this one panics.
        let _end = SetOnDrop(is_over);
        all();
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Voluntary context switches of all workers.
fn sleeps(server: &Server) -> u64 {
    let workers = server.process().workers();
    workers.iter().map(|worker| worker.sleeps).sum()
}
