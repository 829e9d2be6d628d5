//! The flags that name the server's process: it is watched, or started and
//! stopped with the run.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::support::child_server::{Behavior, ChildServer, is_alive, status};
use crate::support::peer::{Peer, ringback, url_of};
use crate::support::program::{Program, loadtest};
use crate::support::scratch::Scratch;
use host::cores::pin;
use loadtest::cores::AllowedCores;
use loadtest::result::{Document, ResultFile};
use loadtest::verdict::{RUN_QUEUE_WAIT_SHARE_MAX, Verdict};
use rustix::process::{Pid, Signal, kill_process};

const FEW: [&str; 5] = ["run", "--format=json", "-c2", "-n20000", "--warmup=0s"];

#[test]
fn a_running_server_is_watched() {
    let server = ChildServer::new(Behavior::Echo);
    let started = server.start();
    assert_eq!(started.pid(), server.pid());
    let (pid, url) = (started.pid().to_string(), server.url());
    let arguments = [
        "-c2",
        "-d500ms",
        "--warmup=100ms",
        "--server-pid",
        &pid,
        &url,
    ];
    let run = loadtest(&[&["run", "--format=json"], &arguments[..]].concat()).assert_ok();
    let result = run.result();
    let info = result.server.expect("its process is known");
    assert!(info.usage.cpu_ns > 0 && info.usage.threads >= 2, "{info:?}");
    assert!(
        info.command
            .expect("a command line")
            .contains("serves_when_another")
    );
    assert_eq!(info.binary_sha256.expect("a checksum").len(), 64);
    let cost = result.summary.server.expect("its process is known");
    assert!(cost.cpu_ns_per_message.expect("messages") > 0.0, "{cost:?}");
    assert!(result.shared_core.is_some());
    // The program must not stop it.
    assert!(is_alive(started.pid()));
    let run = loadtest(&[&["run"], &arguments[..]].concat()).assert_ok();
    let mut lines = run.stdout.lines();
    let costs = lines
        .find(|line| line.starts_with("server "))
        .expect("a line");
    // The memory of this few connections is not reported.
    assert_eq!(costs.matches(" ns ").count(), 3, "{run:?}");
}

/// Threads that are always busy, on one core, until this is dropped.
struct BusyLoops {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyLoops {
    fn on(core: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |stop: Arc<AtomicBool>| {
            move || {
                pin(core).expect("one of the cores");
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }
        };
        let threads = (0..3).map(|_| thread::spawn(spin(Arc::clone(&stop))));
        Self {
            threads: threads.collect(),
            stop,
        }
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_side_that_waits_for_its_core_is_suspect() {
    let (core, _) = AllowedCores::of_this_thread()
        .expect("an affinity mask")
        .server_and_generator();
    let _busy = BusyLoops::on(core);
    let core = core.to_string();
    for (flag, side) in [("--pin", "generator"), ("--server-pin", "server")] {
        let server = ChildServer::new(Behavior::Echo);
        let (command, url) = (server.command(), server.url());
        let load = ["-c4", "-d1s", "--warmup=100ms", flag, &core];
        let arguments = [&load[..], &["--server-cmd", &command, &url]].concat();
        let run = loadtest(&[&["run", "--format=json"], &arguments[..]].concat()).assert_ok();
        let result = run.result();
        let summary = &result.summary;
        let cost = match side {
            "server" => summary.server.as_ref().expect("its process is known"),
            _ => &summary.generator,
        };
        let share = cost.run_queue_wait_share.expect("this kernel counts it");
        assert!(share > RUN_QUEUE_WAIT_SHARE_MAX, "{side}: {share}");
        assert!(result.judgement.verdict >= Verdict::Suspect, "{run:?}");
        let what = format!("the {side} waited for a core ");
        let reasons = &result.judgement.reasons;
        assert!(
            reasons.iter().any(|reason| reason.what.starts_with(&what)),
            "{reasons:?}"
        );
    }
}

#[test]
fn a_process_that_is_not_there_is_one_clear_line() {
    let server = ringback(|_| {});
    let (url, result) = (url_of(&server), Scratch::new());
    let file = result.file("run.json");
    loadtest(&[&FEW[..], &["-o", &file, &url]].concat()).assert_ok();
    for command in [
        &["run", &url][..],
        &["sweep", "--rates=1k", &url],
        &["floor", &url],
        &["rerun", &file],
    ] {
        // Linux has no ids above 2²².
        let run = loadtest(&[command, &["--server-pid=4194305"]].concat());
        assert_eq!(
            run.refused(2),
            "--server-pid: there is no process 4194305 (see loadtest --help)"
        );
        // This process is an ancestor of the program.
        let own = std::process::id().to_string();
        let run = loadtest(&[command, &["--server-pid", &own]].concat());
        assert!(
            run.refused(2).contains(") has started this program, "),
            "{run:?}"
        );
        let run = loadtest(&[command, &["--server-cmd=server --port {port}"]].concat());
        assert!(
            run.refused(2).contains("{port} is for loadtest ab"),
            "{run:?}"
        );
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
}

#[test]
fn a_server_is_started_and_stopped_with_the_run() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let run = loadtest(&[&FEW[..], &["--server-cmd", &command, &url]].concat()).assert_ok();
    let result = run.result();
    assert_eq!(
        (result.counts.due, result.counts.answered),
        (20_000, 20_000)
    );
    assert!(!is_alive(server.pid()));
    let info = result.server.expect("its process is known");
    assert!(
        info.command
            .expect("a command line")
            .contains("serves_when_another")
    );
    run.error();
}

#[test]
fn a_server_has_the_cores_it_is_given() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let allowed = status("/proc/self/status", "Cpus_allowed_list").expect("a list");
    let core = allowed.rsplit([',', '-']).next().expect("a core");
    let arguments = ["--server-cmd", &command, "--server-pin", core, &url];
    loadtest(&[&FEW[..], &arguments].concat()).assert_ok();
    assert_eq!(server.cores(), core);
    let run = loadtest(
        &[
            &FEW[..],
            &["--server-cmd", "sleep 60", "--server-pin=1023", &url],
        ]
        .concat(),
    );
    let error = run.refused(2);
    let expected = "--server-pin: nothing of this program may run on core 1023; online are ";
    assert!(error.starts_with(expected), "{run:?}");
}

#[test]
fn a_server_that_does_not_come_up_is_one_clear_line() {
    let server = ChildServer::new(Behavior::Echo);
    let url = server.url();
    let late = format!(
        "sleep completed no handshake within 50ms: {url}: Connection refused (os error 111)"
    );
    for (command, error) in [
        (
            "/no/such/server",
            "cannot start /no/such/server: No such file or directory (os error 2)",
        ),
        (
            "sh -c 'exit 3'",
            "sh ended before it completed a handshake (exit status: 3)",
        ),
        ("sleep 60", &late),
        (
            "sleep '60",
            "missing closing quote in the server's command line: sleep '60",
        ),
        ("", "the server's command line is empty"),
    ] {
        // An immediate error does not wait for it.
        let is_late = error == late;
        let wait = if is_late {
            "--server-wait=50ms"
        } else {
            "--server-wait=1h"
        };
        let arguments = ["run", wait, "--server-cmd", command, &url];
        assert_eq!(loadtest(&arguments).refused(1), error);
    }
}

#[test]
fn the_exit_of_a_server_is_reported_at_once() {
    let server = ChildServer::new(Behavior::Echo);
    for (script, ending) in [
        (
            "echo starting; echo no such library >&2; exit 127",
            "(exit status: 127; it printed last: no such library)",
        ),
        (
            "printf incomplete; kill -SEGV $$",
            "(signal: 11 (SIGSEGV); it printed last: incomplete)",
        ),
    ] {
        let command = format!("sh -c {}", shell_words::quote(script));
        // Longer than the test may take.
        let wait = "--server-wait=1h";
        let arguments = ["run", wait, "--server-cmd", &command, &server.url()];
        let run = loadtest(&arguments);
        let expected = format!("sh ended before it completed a handshake {ending}");
        assert_eq!(run.refused(1), expected);
    }
}

#[test]
fn the_run_waits_for_the_servers_first_handshake() {
    // It closes the first connections that it accepts.
    let server = ChildServer::new(Behavior::CloseFirst);
    let (command, url) = (server.command(), server.url());
    loadtest(&[&FEW[..], &["--server-cmd", &command, &url]].concat()).assert_ok();
    let arguments = [
        "run",
        "--server-wait=100ms",
        "--subprotocol=none",
        "--server-cmd",
    ];
    let refuses = ChildServer::new(Behavior::Echo);
    let (command, url) = (refuses.command(), refuses.url());
    let run = loadtest(&[&arguments[..], &[command.as_str(), &url]].concat());
    let error = run.refused(1);
    assert!(
        error.contains(" completed no handshake within 100ms: ws://"),
        "{run:?}"
    );
}

#[test]
fn server_output_is_shown_line_by_line() {
    let server = ChildServer::new(Behavior::Echo);
    let script = format!("echo one; echo two >&2; exec {}", server.command());
    let command = format!("sh -c {}", shell_words::quote(&script));
    let url = server.url();
    let run = loadtest(&[&FEW[..], &["--server-cmd", &command, &url]].concat()).assert_ok();
    run.error();
    let lines = run
        .stderr
        .lines()
        .filter(|line| line.contains("the server printed: "));
    let expected = ["one", "two"].map(|line| format!("loadtest: the server printed: {line}"));
    assert!(lines.eq(expected), "{run:?}");
}

#[test]
fn an_address_with_a_listener_is_refused() {
    let peer = Peer::echo();
    let run = loadtest(&["run", "--server-cmd=sleep 60", &peer.url()]);
    let expected = format!("something else already listens on {}", peer.address());
    assert_eq!(run.refused(1), expected);
}

#[test]
fn a_server_that_dies_in_mid_run_is_one_clear_line() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let scratch = Scratch::new();
    let file = scratch.file("run.json");
    let arguments = [
        "run",
        "-d5m",
        "--warmup=0s",
        "-o",
        &file,
        "--server-cmd",
        &command,
        &url,
    ];
    let program = Program::start(&arguments);
    program.wait_for_stderr("measuring");
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("an id");
    kill_process(pid, Signal::KILL).expect("it runs");
    let run = program.finish();
    assert_eq!(run.code, Some(1), "{run:?}");
    let error = run.error();
    let is_told = error.starts_with("the server ended in mid-run (signal: 9 (SIGKILL)")
        || error.starts_with("lost connection ");
    assert!(is_told, "{run:?}");
    // The numbers until then are reported, and are INVALID.
    assert!(run.stdout.contains("INVALID"), "{run:?}");
    let result = ResultFile::read(file.as_ref()).expect("a result");
    assert!(result.failure.is_some());
}

#[test]
fn one_server_is_either_watched_or_started() {
    let run = loadtest(&[
        "run",
        "--server-pid=1",
        "--server-cmd=x",
        "ws://127.0.0.1:9/",
    ]);
    let error = run.refused(2);
    assert!(error.contains("cannot be used with"), "{run:?}");
}

#[test]
fn a_server_stalled_since_the_warm_up_is_not_valid() {
    let server = ChildServer::new(Behavior::Echo);
    let started = server.start();
    let pid = i32::try_from(started.pid()).ok().and_then(Pid::from_raw);
    let signal = |signal| kill_process(pid.expect("a process"), signal).expect("it runs");
    let url = server.url();
    let load = ["-c2", "--rate=1k", "-d3s", "--warmup=3s", "--timeout=1m"];
    let program = Program::start(&[&["run", "--format=json"], &load[..], &[&url]].concat());
    program.wait_for_stderr("warming up 1s/3s");
    signal(Signal::STOP);
    program.wait_for_stderr("measuring 1s/3s");
    signal(Signal::CONT);
    let run = program.finish().assert_ok();
    let judgement = run.result().judgement;
    assert_ne!(judgement.verdict, Verdict::Valid, "{run:?}");
    let mut reasons = judgement.reasons.iter();
    let is_told = |what: &str| what.contains("of the warm-up") || what.contains("came in time");
    assert!(reasons.any(|it| is_told(&it.what)), "{judgement:?}");
}
