//! Rings under a low limit on locked memory: `auto` falls back to epoll and logs the
//! reason, an engine given by name fails with advice, and `ringback doctor` has found it
//! before. On kernels that do not charge rings to the limit, all of them start.

mod common;

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;
use tungstenite::Message;

use common::client::Client;
use common::engines;
use common::loopback::unused_address;
use common::process::pid_in;
use common::server::{Server, binary, run_to_end};
use common::wait_for;

const FLAGS: [&str; 3] = ["--no-pin", "--threads=8", "--max-connections=100"];
const ANYWHERE: &str = "--listen=127.0.0.1:0";

/// Room for a probe and some of the rings.
const TOO_LITTLE_KIB: u64 = 500;

/// Room for all rings, but not twice.
const ENOUGH_FOR_ONE_KIB: u64 = 2000;

/// What the message must have.
const ADVICE: [&str; 4] = [
    "locked memory, 500 KiB",
    "ulimit -l",
    "LimitMEMLOCK=",
    "--engine epoll",
];

/// The binary in a process with this limit on locked memory.
fn limited(kib: u64) -> Command {
    let limit = Rlimit {
        current: Some(kib << 10),
        maximum: Some(kib << 10),
    };
    let mut command = binary();
    // SAFETY: between fork and exec this makes two system calls, and allocates
    // nothing.
    unsafe {
        command.pre_exec(move || {
            // Dropping the capability needs it; without it there is nothing to drop.
            let _ = remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK);
            Ok(setrlimit(Resource::Memlock, limit)?)
        });
    }
    command
}

/// Doctor's finding for such a process, if rings are charged here.
fn doctor(kib: u64, engine: &str) -> Option<Value> {
    let mut command = limited(kib);
    command.args(["doctor", "--format=json", ANYWHERE, "--engine", engine]);
    let output = run_to_end(command.args(FLAGS));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a JSON array");
    let mut findings = findings.into_iter();
    findings.find(|finding| finding["check"] == "locked memory")
}

#[track_caller]
fn expect_finding(finding: &Value, level: &str, about: &str) {
    assert_eq!(finding["level"], level, "{finding}");
    let found = finding["found"].as_str().expect("text");
    assert!(found.contains(about), "{finding}");
}

#[track_caller]
fn start(kib: u64, engine: &str) -> Server {
    let mut command = limited(kib);
    command.args(FLAGS).args([ANYWHERE, "--engine", engine]);
    Server::spawn(&mut command, 1)
}

#[track_caller]
fn expect_engine(start_line: &str, engine: &str) {
    assert!(
        start_line.contains(&format!(" engine={engine} threads=8")),
        "{start_line}"
    );
}

#[track_caller]
fn serve_and_end(mut server: Server, engine: &str) -> String {
    expect_engine(&server.start_lines()[0], engine);
    // Every worker serves some.
    for _ in 0..32 {
        let mut client = Client::connect(server.address());
        client.echo(Message::text("on what there is room for"));
        client.close();
    }
    server.terminate();
    server.wait_for_success();
    server.whole_log()
}

/// The kernel charges rings to the user, and frees them a little later: so the tests run
/// one after the other, each with room for the rings of the one before.
#[test]
fn rings_over_locked_memory_limit_are_reported() {
    engines::run("ring", replacement_needs_rings_beside_its_predecessor);
    engines::run("tokio-uring", named_engine_fails_with_advice);
    engines::run("ring", named_engine_fails_with_advice);
    engines::run("ring", auto_falls_back_to_epoll_and_logs_reason);
}

fn auto_falls_back_to_epoll_and_logs_reason(ring: &str) {
    let Some(finding) = doctor(TOO_LITTLE_KIB, "auto") else {
        serve_and_end(start(TOO_LITTLE_KIB, "auto"), ring);
        return;
    };
    expect_finding(&finding, "warning", "so auto takes epoll");
    let log = serve_and_end(start(TOO_LITTLE_KIB, "auto"), "epoll");
    let mut lines = log.lines().filter(|line| line.contains("falling back"));
    let line = lines.next().unwrap_or_else(|| panic!("not logged: {log}"));
    for part in [&["WARN", ring][..], &ADVICE].concat() {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    assert_eq!(lines.next(), None, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

fn named_engine_fails_with_advice(engine: &str) {
    let Some(finding) = doctor(TOO_LITTLE_KIB, engine) else {
        serve_and_end(start(TOO_LITTLE_KIB, engine), engine);
        return;
    };
    expect_finding(&finding, "problem", "the server will not start");
    let mut command = limited(TOO_LITTLE_KIB);
    command.args(FLAGS).args([ANYWHERE, "--engine", engine]);
    let output = run_to_end(&mut command);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [&[engine][..], &ADVICE].concat() {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    // The advised limit is enough.
    let change = finding["change"].as_str().expect("advice");
    let advised = change
        .split_once("LimitMEMLOCK=")
        .and_then(|(_, rest)| rest.split_once("K "))
        .and_then(|(kib, _)| kib.parse().ok())
        .unwrap_or_else(|| panic!("no limit in {change}"));
    let finding = doctor(advised, engine).expect("charged");
    assert_eq!(finding["level"], "ok", "{finding}");
    serve_and_end(start(advised, engine), engine);
}

fn replacement_needs_rings_beside_its_predecessor(ring: &str) {
    let finding = doctor(ENOUGH_FOR_ONE_KIB, "auto");
    let expected = if let Some(finding) = finding {
        expect_finding(&finding, "warning", "while SIGUSR2 replaces the server");
        "epoll"
    } else {
        ring
    };
    let directory = tempfile::tempdir().expect("a directory");
    let pid_file = directory.path().join("pid");
    // A replacement has the same flags.
    let address = unused_address();
    let mut command = limited(ENOUGH_FOR_ONE_KIB);
    command.args(FLAGS).arg("--pid-file").arg(&pid_file);
    command.arg(format!("--listen={address}"));
    let mut server = Server::spawn(&mut command, 1);
    expect_engine(&server.start_lines()[0], ring);
    let pid = || pid_in(&pid_file);
    let first = wait_for("the pid file", pid);
    server.signal(Signal::USR2);
    let start_line = server.printed().expect("the replacement's start line");
    let replacement = wait_for("its pid file", || pid().filter(|&pid| pid != first));
    expect_engine(&start_line, expected);
    server.wait_for_success();
    Client::connect(address).echo(Message::text("on what is left"));
    let replacement = Pid::from_raw(replacement).expect("a process");
    kill_process(replacement, Signal::TERM).expect("it serves");
    assert_eq!(server.printed(), None, "it ends");
}
