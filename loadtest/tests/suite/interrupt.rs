//! Ctrl-C and other signals: the first ends the measurement, the second the program; none
//! leaves a server running.

use std::io::Read;

use crate::support::child_server::{Behavior, ChildServer, is_alive};
use crate::support::peer::{Peer, ringback, url_of};
use crate::support::poll;
use crate::support::program::{Program, command};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile, Status};
use rustix::process::Signal;

const INTERRUPTED: Option<i32> = Some(130);

#[test]
fn the_first_signal_ends_the_measurement_with_a_report() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let file = scratch.file("run.json");
    for load in ["-w4", "--rate=2k", "-n1g"] {
        let program = Program::start(&["run", "-c3", load, "--warmup=0s", "-o", &file, &url]);
        program.wait_for_stderr("measuring");
        // The line may be there before the first message.
        let begun = server.metrics().messages_received;
        poll("messages", || {
            (server.metrics().messages_received > begun).then_some(())
        });
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
fn the_first_signal_stops_the_started_server() {
    let server = ChildServer::new(Behavior::Echo);
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
fn a_signal_before_the_measurement_is_one_line() {
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
fn a_signal_while_the_server_starts_is_one_line() {
    let server = ChildServer::new(Behavior::Echo);
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
fn a_signal_in_the_warm_up_has_nothing_to_report() {
    let server = ringback(|_| {});
    let program = Program::start(&["run", "--warmup=5m", &url_of(&server)]);
    program.wait_for_stderr("warming up");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.refused(130), "interrupted before anything was measured");
}

#[test]
fn the_second_signal_kills_the_program_and_the_server() {
    let server = ChildServer::new(Behavior::NeverReply);
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

#[test]
fn every_signal_that_asks_it_to_end_ends_it_with_a_report() {
    for signal in [Signal::HUP, Signal::QUIT, Signal::TERM] {
        let server = ChildServer::new(Behavior::Echo);
        let (command, url) = (server.command(), server.url());
        let program = Program::start(&["run", "--warmup=0s", "--server-cmd", &command, &url]);
        program.wait_for_stderr("measuring");
        program.signal(signal);
        let run = program.finish();
        assert_eq!(run.code, INTERRUPTED, "{signal:?}: {run:?}");
        assert!(
            run.stdout.contains("  response time  "),
            "{signal:?}: {run:?}"
        );
        assert!(!is_alive(server.pid()), "{signal:?}");
    }
}

#[test]
fn a_second_hangup_does_not_end_the_program_without_a_report() {
    let server = ChildServer::new(Behavior::NeverReply);
    let (command, url) = (server.command(), server.url());
    let arguments = ["-c1", "--timeout=3s", "--warmup=0s", "--server-cmd"];
    let program = Program::start(&[&["run"], &arguments[..], &[command.as_str(), &url]].concat());
    program.wait_for_stderr("measuring");
    program.signal(Signal::HUP);
    program.wait_for_stderr("draining");
    program.signal(Signal::HUP);
    let run = program.finish();
    assert!(run.stdout.contains("  response time  "), "{run:?}");
    assert!(!is_alive(server.pid()));
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let server = ringback(|_| {});
    let mut command = std::process::Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_loadtest")]);
    command.args(["run", "-d1500ms", "--warmup=0s", &url_of(&server)]);
    let program = Program::start_as(&mut command);
    program.wait_for_stderr("measuring");
    program.signal(Signal::HUP);
    let run = program.finish().assert_ok();
    assert!(!run.stdout.contains("interrupted"), "{run:?}");
}

/// Asserts that a server and its children end when the program is killed.
fn assert_ends_with_the_program(server: &ChildServer, arguments: &[&str], sign: &str) {
    let program = Program::start_as(command().args(arguments));
    program.wait_for_stderr(sign);
    poll("a server", || (!server.starts().is_empty()).then_some(()));
    program.signal(Signal::KILL);
    let run = program.finish();
    assert_eq!(run.code, None, "{run:?}");
    poll("the server's end", || {
        let mut starts = server.starts().into_iter();
        (!starts.any(is_alive)).then_some(())
    });
}

#[test]
fn a_started_server_ends_with_the_program() {
    let long = ["-c1", "-d5m", "--warmup=0s"];
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    // A shell that waits is between the program and its server.
    let script = format!("{command} & wait; true");
    let wrapped = format!("sh -c {}", shell_words::quote(&script));
    for command in [&command, &wrapped] {
        let arguments = [&["run"], &long[..], &["--server-cmd", command, &url]].concat();
        assert_ends_with_the_program(&server, &arguments, "measuring");
    }
    let rates = ["sweep", "--rates=100", "-d5m", "--server-cmd"];
    let arguments = [&rates[..], &[wrapped.as_str(), &url]].concat();
    assert_ends_with_the_program(&server, &arguments, "measuring");

    // A server that ignores signals.
    let deaf = ChildServer::new(Behavior::NeverReply);
    let script = format!("trap '' TERM HUP INT; {} & wait; wait", deaf.command());
    let wrapped = format!("sh -c {}", shell_words::quote(&script));
    let url = deaf.url();
    let more = ["--timeout=5m", "--server-cmd", &wrapped, &url];
    let arguments = [&["run"], &long[..], &more].concat();
    assert_ends_with_the_program(&deaf, &arguments, "measuring");

    let [a, b] = [(); 2].map(|()| ChildServer::new(Behavior::Echo));
    let commands = [a.command_at_free_port(), b.command_at_free_port()];
    let sides = ["ab", "--a", &commands[0], "--b", &commands[1], "--", "-d5m"];
    assert_ends_with_the_program(&b, &sides, "pairs of");
    poll("the other server's end", || {
        (!a.starts().into_iter().any(is_alive)).then_some(())
    });
}
