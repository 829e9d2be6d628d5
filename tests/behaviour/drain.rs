//! Drains: nothing that was sent before is lost, and no client delays the end.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;

use crate::common::client::{Client, Raw};
use crate::common::engines::{
    Engine, on_every_engine, on_every_engine_over_tls, on_every_engine_with_handler,
};
use crate::common::pki::{self, Pki};
use crate::common::server::{Server, binary};
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, CLOSE, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, frame,
    header, noise,
};

on_every_engine![
    drain_without_clients_ends_at_once,
    signal_right_after_start_line_drains,
    drain_sends_close_1001_and_ends_when_clients_have_closed,
    messages_sent_before_drain_are_echoed,
    connections_queued_before_drain_are_served,
    drain_lets_message_in_progress_finish,
    drain_lets_frame_in_progress_finish,
    busy_clients_get_echoes_then_close_1001,
    constant_sender_does_not_delay_drain_of_others,
    drain_refuses_new_connections,
    connections_are_cut_at_drain_timeout,
    second_signal_exits_at_once,
    drain_spread_spreads_closes,
    half_message_gets_close_1001_before_drain_timeout,
    constant_sender_gets_close_1001_before_drain_timeout,
];

on_every_engine_with_handler![
    drain_sends_close_1001_and_ends_when_clients_have_closed,
    drain_spread_spreads_closes,
    half_message_gets_close_1001_before_drain_timeout,
    constant_sender_gets_close_1001_before_drain_timeout,
];

on_every_engine_over_tls![
    drain_spread_spreads_closes,
    half_message_gets_close_1001_before_drain_timeout,
    constant_sender_gets_close_1001_before_drain_timeout,
    drain_sends_close_1001_and_ends_when_clients_have_closed,
    drain_lets_message_in_progress_finish,
    drain_lets_frame_in_progress_finish,
    busy_clients_get_echoes_then_close_1001,
    constant_sender_does_not_delay_drain_of_others,
    connections_are_cut_at_drain_timeout,
    second_signal_exits_at_once,
];

const GOING_AWAY: u16 = 1001;

/// Longer than [`TIMEOUT`](crate::common::TIMEOUT): a server that waits for it fails the
/// test.
const NEVER: &str = "--drain-timeout=10m";

fn drain_without_clients_ends_at_once(engine: Engine) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(engine, &[NEVER]);
        server.signal(signal);
        server.wait_for_success();
    }
}

/// The signals of containers, supervisors and limits; `docs/deploy.md` has the table.
/// They do not depend on the engine.
#[test]
fn every_termination_signal_drains() {
    for signal in [
        Signal::TERM.as_raw(),
        Signal::INT.as_raw(),
        Signal::QUIT.as_raw(),
        Signal::ALARM.as_raw(),
        Signal::XCPU.as_raw(),
        Signal::POWER.as_raw(),
        // SIGRTMIN+3, as the C library counts.
        34 + 3,
    ] {
        let mut server = Server::start("epoll", &[NEVER]);
        let mut client = Client::connect(server.address());
        let number = signal.to_string();
        let mut kill = Command::new("kill");
        kill.args(["-s", &number, &server.process().id.to_string()]);
        assert!(kill.status().expect("started").success());
        client.expect_close(GOING_AWAY);
        drop(client);
        server.wait_for_success();
    }
}

#[test]
fn other_signals_are_ignored() {
    let server = Server::start("epoll", &[]);
    let mut client = Client::connect(server.address());
    for signal in [
        Signal::USR1,
        Signal::PIPE,
        Signal::XFSZ,
        Signal::WINCH,
        Signal::URG,
        Signal::CONT,
    ] {
        server.signal(signal);
    }
    server.wait_for_log("SIGUSR1: ignored; the log goes to stderr");
    client.echo("undisturbed");
    assert_eq!(server.log().matches("SIGUSR1").count(), 1);
}

/// A certificate that is a FIFO blocks the start until something is written to it.
#[test]
fn signal_ends_blocked_start() {
    let pki = Pki::empty();
    let made = Command::new("mkfifo").arg(pki.path("cert.pem")).status();
    assert!(made.expect("started").success());
    let mut server = starting(&pki);
    server.terminate();
    let status = server.wait();
    assert_eq!(status.code(), Some(128 + Signal::TERM.as_raw()));
}

/// A server that has caught its signals, and has not read its certificate yet.
fn starting(pki: &Pki) -> Server {
    let mut command = binary();
    command
        .args(["--tls-listen=127.0.0.1:0", "--engine=epoll", "--threads=1"])
        .args(["--no-pin", "--pid-file"])
        .arg(pki.path("pid"))
        .args(pki.flags());
    let server = Server::spawn(&mut command, 0);
    wait_until("it starts", || pki.path("pid.new").exists());
    server
}

#[test]
fn signal_during_start_exits_without_listening() {
    let pair = pki::pair();
    let pki = Pki::empty();
    pki.write("key.pem", &pair.key);
    let made = Command::new("mkfifo").arg(pki.path("cert.pem")).status();
    assert!(made.expect("started").success());
    // Opened for reading as well, so that the open does not block.
    let mut options = OpenOptions::new();
    let pipe = options.read(true).write(true).open(pki.path("cert.pem"));
    let mut pipe = pipe.expect("opened");
    let mut server = starting(&pki);
    server.terminate();
    // The start goes on within the time that it has to end.
    pipe.write_all(pair.certificate.as_bytes())
        .expect("written");
    drop(pipe);
    let status = server.wait();
    let log = server.whole_log();
    if status.code() == Some(143) {
        // The machine was too busy.
        return;
    }
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("stopped by a signal before it served"),
        "{log}"
    );
    assert_eq!(server.printed(), None, "no start line");
    assert!(!pki.path("pid").exists() && !pki.path("pid.new").exists());
}

/// A script may stop a server as soon as it has read the start line.
fn signal_right_after_start_line_drains(engine: Engine) {
    for _ in 0..20 {
        let mut server = Server::start(engine, &[NEVER, "--log=off"]);
        server.terminate();
        server.wait_for_success();
    }
}

fn drain_sends_close_1001_and_ends_when_clients_have_closed(engine: Engine) {
    let mut server = Server::start(engine, &[NEVER]);
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(server.address())).collect();
    for client in clients.iter_mut().step_by(2) {
        client.echo("hello");
    }
    server.terminate();
    for mut client in clients {
        client.expect_close(GOING_AWAY);
    }
    server.wait_for_success();
}

fn messages_sent_before_drain_are_echoed(engine: Engine) {
    let mut server = Server::start(engine, &[NEVER]);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server.address())).collect();
    let messages = |client: usize| {
        (0..300).map(move |index| Message::from(format!("client {client}, message {index}")))
    };
    server.freeze();
    for (index, client) in clients.iter_mut().enumerate() {
        for message in messages(index) {
            client.queue(message);
        }
        client.flush();
    }
    server.terminate();
    server.thaw();
    for (index, client) in clients.iter_mut().enumerate() {
        for message in messages(index) {
            client.expect(&message);
        }
        client.expect_close(GOING_AWAY);
    }
    drop(clients);
    server.wait_for_success();
}

fn connections_queued_before_drain_are_served(engine: Engine) {
    let mut server = Server::start(engine, &[NEVER]);
    server.freeze();
    let mut clients: Vec<_> = (0..100).map(|_| Raw::dial(server.address())).collect();
    for raw in &mut clients {
        raw.send(&[REQUEST.as_bytes(), &frame(TEXT, b"in time")].concat());
    }
    server.terminate();
    server.thaw();
    for mut raw in clients {
        raw.expect_upgrade();
        raw.expect_frame(TEXT, b"in time");
        raw.expect_close(GOING_AWAY);
    }
    server.wait_for_success();
}

fn drain_lets_message_in_progress_finish(engine: Engine) {
    let mut server = Server::start(engine, &[]);
    let mut raw = Raw::open(server.address());
    raw.send(&frame(TEXT_FRAGMENT, b"to be "));
    raw.expect_frame(TEXT_FRAGMENT, b"to be ");
    server.terminate();
    server.wait_for_log("draining");
    for (first, answer, payload) in [
        (FRAGMENT, FRAGMENT, &b"contin"[..]),
        (PING, PONG, b"?"),
        (LAST_FRAGMENT, LAST_FRAGMENT, b"ued"),
    ] {
        raw.send(&frame(first, payload));
        raw.expect_frame(answer, payload);
    }
    raw.expect_close(GOING_AWAY);
    drop(raw);
    server.wait_for_success();
}

fn drain_lets_frame_in_progress_finish(engine: Engine) {
    let mut server = Server::start(engine, &[]);
    let held = frame(TEXT, b"a frame that is held");
    let payload = noise(1, 50_000);
    let streamed = frame(BINARY, &payload);
    let mut clients = Vec::new();
    for (first, message, payload) in [
        (TEXT, &held, &b"a frame that is held"[..]),
        (BINARY, &streamed, &payload),
    ] {
        let mut raw = Raw::open(server.address());
        // The Pong shows that the server has read the bytes after the Ping, too.
        let (early, late) = message.split_at(message.len() / 2);
        raw.send(&[&frame(PING, b""), early].concat());
        raw.expect_frame(PONG, b"");
        clients.push((raw, late, first, payload));
    }
    server.terminate();
    server.wait_for_log("draining");
    for (mut raw, late, first, payload) in clients {
        raw.send(late);
        raw.expect_frame(first, payload);
        raw.expect_close(GOING_AWAY);
    }
    server.wait_for_success();
}

fn busy_clients_get_echoes_then_close_1001(engine: Engine) {
    let mut server = Server::start(engine, &[NEVER]);
    let address = server.address();
    thread::scope(|scope| {
        let (echoing, all_echoing) = std::sync::mpsc::channel();
        for number in 0..4 {
            let echoing = echoing.clone();
            scope.spawn(move || {
                let mut client = Client::connect(address);
                client.echo("hello");
                echoing.send(()).expect("the test waits");
                for index in 0.. {
                    let message = Message::from(format!("{number}: {index}"));
                    // After the server's Close there are no replies.
                    if !client.try_send(message.clone()) {
                        break;
                    }
                    match client.receive() {
                        Message::Close(Some(frame)) => {
                            assert_eq!(u16::from(frame.code), GOING_AWAY);
                            break;
                        }
                        answer => assert_eq!(answer, message),
                    }
                }
            });
        }
        for _ in 0..4 {
            all_echoing
                .recv_timeout(crate::common::TIMEOUT)
                .expect("connected");
        }
        server.terminate();
    });
    server.wait_for_success();
}

/// The final read of a socket must let the runtime submit the operations of other tasks.
fn constant_sender_does_not_delay_drain_of_others(engine: Engine) {
    let mut server = Server::start(engine, &["--threads=1", "--drain-timeout=2s"]);
    let mut busy = Raw::open(server.address());
    let mut quiet = Raw::open(server.address());
    // Pongs get no reply that would have to be read.
    let pongs = frame(PONG, b"").repeat(500_000);
    busy.send(&pongs);
    let cut = busy.shutdown_handle();
    thread::scope(|scope| {
        scope.spawn(move || busy.send_until_cut(&pongs));
        quiet.send(&frame(TEXT, b"me too"));
        quiet.expect_frame(TEXT, b"me too");
        server.terminate();
        quiet.expect_close(GOING_AWAY);
        server.wait_for_success();
        // The server is gone, and the connection with it. But its last window may have
        // been 0, and then the kernel keeps the connection for another minute.
        cut();
    });
}

fn drain_refuses_new_connections(engine: Engine) {
    let mut server = Server::start(engine, &[NEVER]);
    let mut raw = Raw::open(server.address());
    raw.send(&frame(TEXT_FRAGMENT, b"unfinished"));
    raw.expect_frame(TEXT_FRAGMENT, b"unfinished");
    server.terminate();
    wait_until("connections are refused", || {
        matches!(
            TcpStream::connect(server.address()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused
        )
    });
    raw.send(&frame(LAST_FRAGMENT, b""));
    raw.expect_frame(LAST_FRAGMENT, b"");
    raw.expect_close(GOING_AWAY);
    drop(raw);
    server.wait_for_success();
}

fn connections_are_cut_at_drain_timeout(engine: Engine) {
    const DRAIN: Duration = Duration::from_millis(600);
    let flags = [
        "--drain-timeout=600ms",
        "--close-timeout=10m",
        "--write-timeout=10m",
    ];
    let mut server = Server::start(engine, &flags);
    // One that gets a Close and does not close its end,
    let mut lingering = Raw::open(server.address());
    // one that never ends its message,
    let mut slow = Raw::open(server.address());
    slow.send(&frame(TEXT_FRAGMENT, b"well "));
    slow.expect_frame(TEXT_FRAGMENT, b"well ");
    // one inside a streamed frame, where no Close can be sent,
    let mut streaming = Raw::open(server.address());
    streaming.send(&header(BINARY, 1 << 40));
    streaming.receive(10);
    // one that does not read,
    let mut unread = Raw::open_with_small_buffers(server.address());
    unread.send_until_stuck(&frame(BINARY, &noise(1, 60_000)));
    // and one without a request.
    let silent = Raw::dial(server.address());

    let start = Instant::now();
    server.terminate();
    lingering.expect_frame(CLOSE, &GOING_AWAY.to_be_bytes());
    slow.expect_frame(CLOSE, &GOING_AWAY.to_be_bytes());
    server.wait_for_success();
    assert!(start.elapsed() >= DRAIN, "after {:?}", start.elapsed());
    assert!(lingering.rest_until_cut().is_empty());
    assert!(slow.rest_until_cut().is_empty());
    assert!(streaming.rest_until_cut().is_empty());
    unread.rest_until_cut();
    drop(silent);
}

/// Most of that time passes between the first Close and the last.
fn drain_spread_spreads_closes(engine: Engine) {
    let spread = Duration::from_secs(1);
    let flags = ["--threads=1", "--drain-timeout=10m", "--drain-spread=1s"];
    let mut server = Server::start(engine, &flags);
    let mut clients: Vec<_> = (0..100)
        .map(|_| {
            let mut raw = Raw::open(server.address());
            raw.send(&frame(PING, b""));
            raw.expect_frame(PONG, b"");
            raw
        })
        .collect();
    let start = Instant::now();
    server.terminate();
    let (first, others) = clients.split_first_mut().expect("some");
    first.expect_close(GOING_AWAY);
    for client in others {
        client.expect_close(GOING_AWAY);
    }
    // All of them are in the first chunk of 256.
    assert!(start.elapsed() > spread / 4, "{:?}", start.elapsed());
    server.wait_for_success();
}

fn half_message_gets_close_1001_before_drain_timeout(engine: Engine) {
    let mut server = Server::start(engine, &["--drain-timeout=2s"]);
    let mut raw = Raw::open(server.address());
    let half = frame(TEXT, b"never whole");
    raw.send(&[&frame(PING, b""), &half[..8]].concat());
    raw.expect_frame(PONG, b"");
    server.terminate();
    raw.expect_close(GOING_AWAY);
    server.wait_for_success();
}

fn constant_sender_gets_close_1001_before_drain_timeout(engine: Engine) {
    let mut server = Server::start(engine, &["--threads=1", "--drain-timeout=4s"]);
    let mut raw = Raw::open(server.address());
    // Pongs get no reply that would have to be read.
    let pongs = frame(PONG, b"").repeat(50_000);
    raw.send(&pongs);
    server.terminate();
    wait_until("a frame arrives", || {
        raw.send_what_fits(&pongs);
        raw.is_readable()
    });
    raw.expect_frame(CLOSE, &GOING_AWAY.to_be_bytes());
    drop(raw);
    server.wait_for_success();
}

#[test]
fn shutdown_delay_fails_readyz_before_drain() {
    let (mut server, admin) = Server::start_with_admin("epoll", &["--shutdown-delay=10m"]);
    assert_eq!(admin.get("/readyz").status, 200);
    server.terminate();
    wait_until("/readyz answers 503", || admin.get("/readyz").status == 503);
    assert_eq!(admin.get("/healthz").status, 200);
    // Later connections are served.
    Client::connect(server.address()).echo("late");
    server.terminate();
    assert_eq!(server.wait().code(), Some(128 + 15));
}

fn second_signal_exits_at_once(engine: Engine) {
    for (signal, status) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let mut server = Server::start(engine, &[NEVER]);
        let mut raw = Raw::open(server.address());
        raw.send(&frame(TEXT_FRAGMENT, b"never finished"));
        raw.expect_frame(TEXT_FRAGMENT, b"never finished");
        server.terminate();
        server.wait_for_log("a second signal exits at once");
        server.signal(signal);
        let ended = server.wait();
        assert_eq!((ended.code(), ended.signal()), (Some(status), None));
    }
}
