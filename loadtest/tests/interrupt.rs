//! Ctrl-C: once ends the measurement, twice the program.

#[path = "support/flags.rs"]
mod support;

use std::io::Read;

use loadtest::result::{Document, ResultFile, Status};
use support::own_server::{Manner, OwnServer, is_alive, serve_if_asked};
use support::peer::{Peer, ringback, url_of};
use support::poll;
use support::program::Program;
use support::scratch::Scratch;

const INTERRUPTED: Option<i32> = Some(130);

#[test]
fn serves_when_another_test_asks() {
    serve_if_asked();
}

#[test]
fn once_ends_the_measurement_with_a_report() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new("once"));
    let file = scratch.file("run.json");
    for load in ["-w4", "--rate=2k", "-n1g"] {
        let program = Program::start(&["run", "-c3", load, "--warmup=0s", "-o", &file, &url]);
        program.wait_for_stderr("measuring");
        program.interrupt();
        let run = program.finish();
        assert_eq!(run.code, INTERRUPTED, "{run:?}");
        assert!(run.stdout.contains("  response time  "), "{run:?}");
        assert!(run.stdout.contains("interrupted"), "{run:?}");
        let result = ResultFile::read(file.as_ref()).expect("a result");
        assert_eq!(result.status, Status::Interrupted);
        assert_eq!(result.counts.due, result.counts.answered);
        assert!(result.counts.due > 0);
    }
}

#[test]
fn once_stops_the_server_that_was_started() {
    let server = OwnServer::new(Manner::Echoes, "stopped");
    let (command, url) = (server.command(), server.url());
    let program = Program::start(&["run", "--warmup=0s", "--server-cmd", &command, &url]);
    program.wait_for_stderr("measuring");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.code, INTERRUPTED, "{run:?}");
    assert!(run.stdout.contains("\nserver "), "{run:?}");
    assert!(!is_alive(server.pid()));
}

#[test]
fn before_anything_was_measured_it_is_one_line() {
    // It takes the request, and never answers.
    let peer = Peer::serving(|mut tap, seen| {
        let mut chunk = [0; 1024];
        while tap.read(&mut chunk).is_ok_and(|count| count > 0) {
            seen.message();
        }
    });
    let program = Program::start(&["run", "-c2", "--timeout=1m", &peer.url()]);
    poll("the handshake", || (peer.seen.messages() > 0).then_some(()));
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.refused(130), "interrupted before anything was measured");
}

#[test]
fn while_the_server_comes_up_it_is_one_line() {
    let server = OwnServer::new(Manner::Echoes, "waiting");
    let arguments = [
        "--server-cmd",
        "sleep 120",
        "--server-wait=2m",
        &server.url(),
    ];
    let program = Program::start(&[&["run"], &arguments[..]].concat());
    program.wait_for_stderr("seed ");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.refused(130), "interrupted before anything was measured");
}

#[test]
fn while_warming_up_there_is_nothing_to_report() {
    let server = ringback(|_| {});
    let program = Program::start(&["run", "--warmup=5m", &url_of(&server)]);
    program.wait_for_stderr("warming up");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.refused(130), "interrupted before anything was measured");
}

#[test]
fn twice_ends_the_program_at_once_and_the_server_with_it() {
    let server = OwnServer::new(Manner::KeepsMum, "mum");
    let (command, url) = (server.command(), server.url());
    let arguments = [
        "--timeout=5m",
        "--warmup=0s",
        "--server-cmd",
        &command,
        &url,
    ];
    let program = Program::start(&[&["run"], &arguments[..]].concat());
    program.wait_for_stderr("measuring");
    program.interrupt();
    // It now waits for replies that will never come.
    program.wait_for_stderr("draining");
    assert!(is_alive(server.pid()));
    program.interrupt();
    let run = program.finish();
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (INTERRUPTED, ""),
        "{run:?}"
    );
    poll("the server's end", || {
        (!is_alive(server.pid())).then_some(())
    });
}
