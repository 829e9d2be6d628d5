//! Idle connections, churn, slow readers, and the rate of opening connections.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, Seen, Tap, echo, ringback, url_of};
use crate::support::poll;
use crate::support::program::{Program, loadtest, result_of};
use crate::support::server::{self, next_message, serve};
use loadtest::result::{ResultFile, Status};
use tungstenite::Error;

fn assert_nothing_was_lost(result: &ResultFile) {
    let counts = &result.counts;
    assert!(counts.due > 0);
    assert_eq!(
        (counts.sent, counts.answered),
        (counts.due, counts.due),
        "{counts:?}"
    );
    assert_eq!((counts.unanswered, counts.timed_out), (0, 0), "{counts:?}");
    assert_eq!(result.status, Status::Complete);
}

#[test]
fn idle_connections_stay_open_until_the_end() {
    let peer = Peer::echo();
    let url = peer.url();
    for threads in ["-t1", "-t2"] {
        let arguments = ["-c2", "--idle=9", threads, "-n500", "--warmup=0s", &url];
        let result = result_of(&arguments);
        assert_nothing_was_lost(&result);
        assert_eq!(result.counts.handshakes, 11);
        assert_eq!(peer.open_max(), 11);
        let transcripts = peer.transcripts(11);
        let idle = transcripts.iter().filter(|sent| sent.messages() == 0);
        assert_eq!(idle.count(), 9);
        for transcript in &transcripts {
            assert!(transcript.ended_well(), "a Close comes last");
        }
    }
}

/// Echoes, and closes a client without a message by the time that others have sent a hundred.
fn echo_to_the_talkative(tap: Tap, seen: &Seen) {
    let Ok(mut socket) = tungstenite::accept(tap) else {
        return;
    };
    let stream = socket.get_ref().stream();
    let look_up = Duration::from_millis(20);
    stream.set_read_timeout(Some(look_up)).expect("an option");
    while seen.messages() < 100 {
        match socket.read() {
            Ok(message) if message.is_binary() => {
                seen.message();
                socket.send(message).expect("the client reads");
                let stream = socket.get_ref().stream();
                stream.set_read_timeout(None).expect("an option");
                return echo(&mut socket, seen);
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

#[test]
fn an_idle_connection_that_ends_is_one_clear_line() {
    let peer = Peer::serving(echo_to_the_talkative);
    let run = loadtest(&["run", "-c1", "--idle=1", "-d5m", &peer.url()]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let expected = "lost idle connection 2: the server closed";
    assert!(run.error().starts_with(expected), "{run:?}");
}

#[test]
fn connections_are_replaced_without_losing_a_message() {
    for (load, threads) in [
        (&["-w3"][..], "-t1"),
        (&["--rate=500"], "-t1"),
        (&["--rate=500", "--arrival=poisson"], "-t2"),
        (&["--rate=300", "-s100k", "--split"], "-t2"),
    ] {
        let peer = Peer::echo();
        let url = peer.url();
        let arguments = ["-c4", threads, "--churn=40", "-d1s", "--warmup=0s", &url];
        let result = result_of(&[load, &arguments].concat());
        assert_nothing_was_lost(&result);
        let counts = &result.counts;
        assert!(counts.replaced > 0, "{counts:?}");
        assert_eq!(counts.handshakes, 4 + counts.replaced, "{counts:?}");
        // A closed loop goes on for as long as it takes to see the end.
        assert!(counts.due <= peer.seen.messages() as u64, "{counts:?}");
        // One more replacement may have been begun at the end.
        poll("the end of all connections", || {
            (peer.seen.open() == 0).then_some(())
        });
        let transcripts = peer.ended();
        let open = transcripts.iter().filter(|sent| !sent.bytes.is_empty());
        assert_eq!(open.count() as u64, counts.handshakes);
        for transcript in transcripts.iter().filter(|sent| !sent.bytes.is_empty()) {
            assert!(transcript.ended_well(), "{load:?}");
        }
    }
}

#[test]
fn slow_readers_do_not_affect_the_load() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let arguments = ["-c2", "--rate=400", "--slow-readers=2", "-d600ms", "-s16k"];
    let result = result_of(&[&arguments[..], &["--warmup=200ms", &url]].concat());
    assert_nothing_was_lost(&result);
    assert_eq!((result.counts.due, result.counts.handshakes), (240, 4));
    assert_eq!(result.counts.slow_readers_cut, 0);
    // Their messages are not part of the load, and not counted.
    assert!(server.metrics().messages_received > 320);
}

/// A server that closes two connections that keep sending without a reply, and then answers the
/// others.
fn cuts_off_two() -> String {
    let cut_off = AtomicUsize::new(0);
    let server = serve(move |mut socket| {
        let Some(first) = next_message(&mut socket) else {
            return;
        };
        // It is not woken when another connection is closed.
        let now_and_then = Some(Duration::from_millis(5));
        socket.get_ref().set_read_timeout(now_and_then).unwrap();
        while cut_off.load(Ordering::Relaxed) < 2 {
            match socket.read() {
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) => {
                    cut_off.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(_) => return,
            }
        }
        socket.get_ref().set_read_timeout(None).unwrap();
        if socket.send(first).is_ok() {
            server::echo(&mut socket, usize::MAX);
        }
    });
    format!("ws://{server}/")
}

#[test]
fn closed_slow_readers_are_counted() {
    // They read ten times a second.
    let arguments = ["-c2", "-w1", "--slow-readers=2", "-d2s", "--warmup=0s"];
    let result = result_of(&[&arguments[..], &[&cuts_off_two()]].concat());
    assert_nothing_was_lost(&result);
    assert_eq!(result.counts.slow_readers_cut, 2);
    let run = loadtest(&[&["run"], &arguments[..], &[&cuts_off_two()]].concat()).assert_ok();
    assert!(
        run.report().contains(", 2 slow readers cut off "),
        "{run:?}"
    );
}

#[test]
fn connections_are_opened_at_a_rate() {
    let peer = Peer::echo();
    let url = peer.url();
    let arguments = ["run", "-c13", "--idle=2", "--connect-rate=20", "-n10"];
    let began = Instant::now();
    let program = Program::start(&[&arguments[..], &["--warmup=0s", &url]].concat());
    let run = program.finish().assert_ok();
    // The fifteenth is due 14 periods after the first.
    assert!(began.elapsed() >= Duration::from_millis(14 * 50), "{run:?}");
    assert_eq!(peer.transcripts(15).len(), 15);
}
