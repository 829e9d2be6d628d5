//! The command line's contract: exit codes, and the streams of the output.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::program::{Program, Run, loadtest};
use crate::support::scratch::Scratch;
use crate::support::server::{echo, next_message, serve, serve_tcp};

/// A URL that is never connected to.
const URL: &str = "ws://127.0.0.1:1/";

/// Asserts that it is one line on stderr, and exit code 2.
fn assert_usage(run: &Run, error: &str) {
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    assert!(run.error().contains(error), "{error}: {run:?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn wrong_arguments_are_one_line_and_exit_2() {
    for (arguments, error) in [
        (&["--nonsense"][..], "unexpected argument '--nonsense'"),
        (&["-c0"], "--connections <N>"),
        (&["-w0"], "--window <N>"),
        (&["-s1x"], "write bytes as 32, 16k or 1m"),
        (&["-s65m"], "at most 64 MiB"),
        (&["-s64:0"], "is not a weight"),
        (&["-s1:5000"], "sizes: weight"),
        (&["-d3"], "write a duration as 500ms, 3s or 2m"),
        (&["-d0s"], "at least 1ms"),
        (&["-d999h"], "at most 168h"),
        (&["-n0"], "at least 1"),
        (&["-n1", "-d1s"], "cannot be used with"),
        (&["--timeout=0s"], "at least 1ms"),
        (&["--timeout=2h"], "at most 1h"),
        (&["--warmup=-1s"], "--warmup <TIME>"),
        (&["--rate=0"], "above 0"),
        (&["--rate=2g"], "at most 1g"),
        (&["--rate=1", "-w1"], "cannot be used with"),
        (&["--rate=1", "--rate-per-conn=1"], "cannot be used with"),
        (&["--arrival=poisson"], "--arrival is for an open loop"),
        (&["--arrival=never", "--rate=1"], "fixed, poisson"),
        (&["--pace=never"], "spin, sleep"),
        (&["--fragment=0"], "1 to 1024"),
        (&["--text", "--type=text"], "cannot be used with"),
        (&["--type=xml"], "text, binary"),
        (&["-t2", "-c1"], "threads: 2"),
        (&["--pin=x"], "write cores as 0 or 1,3-5"),
        (&["--pin=3-1"], "1 comes before 3"),
        (&["--idle=17m"], "--idle <N>"),
        (&["--churn=0"], "--churn <RATE>"),
        (&["--format=xml"], "text, json, csv, markdown"),
        (&["run"], "<URL>"),
        (
            &["run", "localhost:9001"],
            "write the target as ws://HOST:PORT/PATH",
        ),
        (&["run", "http://localhost"], "http:// is not ws://"),
        (&["run", "ws://localhost:0/"], "is not a port"),
        (&["run", "tcp://localhost"], "the port is missing"),
        (&["run", URL, "tcp://127.0.0.1:1"], "cannot be mixed"),
        (&["run", "tcp://h:1", "--fragment=2"], "raw TCP has none"),
        (&["run", URL, "--path=x"], "a path begins with /"),
        (&["run", URL, "-Hx"], "'Name: value'"),
        (&["run", URL, "-Hx y: z"], "is not a field name"),
        (&["run", URL, "-Hx: y\r\nz: a"], "control characters"),
        (&["run", URL, "--subprotocol=a b"], "is not a token"),
        (&["run", URL, "-k", "--ca=x"], "cannot be used with"),
        (&["run", URL, "--source=::1"], "--source <RANGE>"),
        (
            &["run", URL, "--server-pid=1", "--server-cmd=x"],
            "cannot be used with",
        ),
        (&["run", URL, "--slo=p99"], "--slo <OBJECTIVES>"),
        (&["run", URL, "--format=xml"], "text, json, csv, markdown"),
        (&["rerun"], "<FILE>"),
        (&["rerun", "/nonexistent/run.json"], "/nonexistent/run.json"),
    ] {
        assert_usage(&loadtest(arguments), error);
    }
}

#[test]
fn a_url_without_a_command_names_the_run_command() {
    for arguments in [&[URL][..], &["-c4", URL], &[URL, "--rate=1k"]] {
        let error = format!("loadtest run {}", arguments.join(" "));
        assert_usage(&loadtest(arguments), &error);
    }
}

#[test]
fn what_is_not_utf_8_is_a_usage_error_as_well() {
    assert_usage(&loadtest(&[OsStr::from_bytes(b"\xff")]), "unrecognized");
}

#[test]
fn help_has_examples() {
    for (arguments, example) in [
        (&["--help"][..], "loadtest -c 50 -w 256"),
        (
            &["run", "--help"],
            "loadtest run ws://127.0.0.1:9001/ --rate 50k",
        ),
        (&["floor", "--help"], "loadtest floor -c 50 -w 256"),
    ] {
        let run = loadtest(arguments);
        assert_eq!(run.code, Some(0));
        assert!(run.stdout.contains(example), "{run:?}");
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn a_refused_connection_is_one_clear_line() {
    // The port tcpmux has no listener.
    let url = "ws://127.0.0.1:1/";
    for load in ["-w1", "--rate=100"] {
        let run = loadtest(&["run", url, load]);
        run.assert_failed_early(&format!("cannot connect to {url}"));
        run.assert_failed_early("refused");
    }
}

#[test]
fn a_name_without_an_address_is_one_clear_line() {
    let run = loadtest(&["run", "ws://nowhere.invalid/"]);
    run.assert_failed_early("cannot resolve ws://nowhere.invalid:80/");
}

#[test]
fn a_server_without_tls_is_no_wss_server() {
    let server = serve(|_socket| {});
    let run = loadtest(&["run", &format!("wss://{server}/"), "-k", "--timeout=20s"]);
    run.assert_failed_early(&format!("no WebSocket at wss://{server}/"));
}

fn echo_server() -> String {
    let server = serve(|mut socket| {
        echo(&mut socket, usize::MAX);
    });
    format!("ws://{server}/")
}

#[test]
fn a_running_server_gets_a_report_on_stdout_and_progress_on_stderr() {
    let url = echo_server();
    for (arguments, plan) in [
        (
            &["-c3", "-w1", "-s0"][..],
            "closed loop, 3 connections × 1 in flight, 0 B binary",
        ),
        (
            &["-c3", "-w16", "-s1"],
            "closed loop, 3 connections × 16 in flight, 1 B binary",
        ),
        (
            &["-c3", "-w16", "--text"],
            "closed loop, 3 connections × 16 in flight, 32 B text",
        ),
        (
            &["-c2", "-w4", "-s70k", "--fragment=3"],
            "closed loop, 2 connections × 4 in flight, 70 KiB binary in 3 fragments",
        ),
        (
            &["-c2", "-w4", "-s0", "--fragment=1024"],
            "closed loop, 2 connections × 4 in flight, 0 B binary in 1024 fragments",
        ),
        (
            &["-c2", "-w2", "-s1:3,5k:1", "--split", "-t2"],
            "closed loop, 2 connections × 2 in flight, 1 B:3 + 5 KiB:1 binary, split writes",
        ),
        (
            &["-c1", "-w3", "-s2m"],
            "closed loop, 1 connections × 3 in flight, 2 MiB binary",
        ),
        (
            &["-c2", "--rate=500", "--arrival=poisson"],
            "open loop, 500/s Poisson over 2 connections, 32 B binary",
        ),
    ] {
        let common = ["run", &url, "--warmup=20ms", "-n50", "--seed=7"];
        let run = loadtest(&[&common, arguments].concat()).assert_ok();
        let lines: Vec<_> = run.stdout.lines().collect();
        assert_eq!(lines[0], format!("{plan}, 50 messages after 20ms warm-up"));
        assert_eq!(lines[1], url);
        for part in [
            "response time  ",
            "throughput  ",
            "50 due, 50 answered, 0 unanswered",
        ] {
            assert!(run.stdout.contains(part), "{part}: {run:?}");
        }
        for line in run.stderr.lines() {
            assert!(line.starts_with("loadtest: "), "{run:?}");
        }
        assert_eq!(run.stderr.lines().next(), Some("loadtest: seed 7"));
    }
}

#[test]
fn a_missed_objective_is_exit_3() {
    let url = echo_server();
    for (objectives, code, status) in [
        ("p50<1h,errors<0.01%", 0, "met "),
        ("p50<1ns", 3, "MISSED "),
        ("errors<0.01%,p50<1ns", 3, "MISSED "),
        ("p99.99<1h", 3, "too few samples "),
    ] {
        let run = loadtest(&[
            "run",
            &url,
            "-c2",
            "--warmup=0s",
            "-n200",
            "--slo",
            objectives,
        ]);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stdout.contains(status), "{run:?}");
    }
}

#[test]
fn a_saturated_server_is_exit_4() {
    let server = serve(|mut socket| {
        while let Some(message) = next_message(&mut socket) {
            thread::sleep(Duration::from_millis(5));
            if socket.send(message).is_err() {
                return;
            }
        }
    });
    let url = format!("ws://{server}/");
    let load = ["-c1", "--rate=400", "--warmup=0s", "-d500ms"];
    // An objective that was missed as well is the lesser evil.
    let rest = ["--timeout=60s", "--slo=p50<1ns"];
    let run = loadtest(&[&["run", &url], &load[..], &rest].concat());
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.stdout.contains("\nINVALID\n"), "{run:?}");
    assert!(run.stdout.contains("replies came in time"), "{run:?}");
}

#[test]
fn an_interrupted_run_reports_what_it_has_and_is_exit_130() {
    for load in ["-w1", "--rate=500"] {
        let (sender, receiver) = channel();
        let server = serve(move |mut socket| {
            echo(&mut socket, 20);
            let _ = sender.send(());
            echo(&mut socket, usize::MAX);
        });
        let url = format!("ws://{server}/");
        let run = interrupted(
            &["run", &url, "-c1", load, "--warmup=0s", "-d1h"],
            &receiver,
        );
        assert_eq!(run.code, Some(130), "{run:?}");
        assert!(run.stdout.contains("interrupted: these are"), "{run:?}");
    }
}

#[test]
fn a_run_interrupted_while_it_connects_has_nothing_to_report() {
    let (sender, receiver) = channel();
    let server = half_open_server(move || {
        let _ = sender.send(());
    });
    let url = format!("ws://{server}/");
    let run = interrupted(&["run", &url, "-c2", "-t2", "--timeout=1h"], &receiver);
    assert_eq!(run.code, Some(130), "{run:?}");
    let error = "interrupted before anything was measured";
    assert!(run.error().contains(error), "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
}

/// Completes the handshake of the first connection only, and reports when the other has arrived.
fn half_open_server(both: impl Fn() + Send + Sync + 'static) -> SocketAddr {
    let accepted = Mutex::new(0);
    let (open, opened) = channel();
    let opened = Mutex::new(opened);
    serve_tcp(move |stream| {
        let count = {
            let mut accepted = accepted.lock().unwrap();
            *accepted += 1;
            *accepted
        };
        if count == 1 {
            let mut socket = tungstenite::accept(stream).unwrap();
            open.send(()).unwrap();
            while socket.read().is_ok() {}
        } else {
            opened.lock().unwrap().recv().unwrap();
            both();
            loop {
                thread::park();
            }
        }
    })
}

/// Runs the binary, and interrupts it at the server's signal.
fn interrupted(arguments: &[&str], time: &Receiver<()>) -> Run {
    let program = Program::start(arguments);
    let is_time = time.recv_timeout(Duration::from_secs(120));
    program.interrupt();
    let run = program.finish();
    assert!(is_time.is_ok(), "{run:?}");
    run
}

#[test]
fn a_result_file_may_have_any_name_and_can_be_run_again() {
    let url = echo_server();
    let scratch = Scratch::new();
    let file = scratch.path().join(OsStr::from_bytes(b"result-\xff"));
    let arguments = ["run", &url, "-c2", "--warmup=0s", "-n100", "-o"];
    let arguments = arguments.iter().map(AsRef::as_ref);
    let arguments: Vec<&OsStr> = arguments.chain([file.as_os_str()]).collect();
    let run = loadtest(&arguments);
    assert_eq!(run.code, Some(0), "{run:?}");
    let again = loadtest(&[OsStr::new("rerun"), file.as_os_str()]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let plan = |run: &Run| run.stdout.lines().next().map(str::to_owned);
    assert_eq!(plan(&again), plan(&run));
}

#[test]
fn no_argument_compares_the_engines_that_work_here() {
    let run = loadtest(&["-c4", "-w2", "--warmup=20ms", "-d200ms"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for engine in ringback::EngineKind::ALL {
        let engine = format!("{engine} ");
        let rows = run.stdout.lines().filter(|line| line.starts_with(&engine));
        assert_eq!(rows.count(), 1, "{run:?}");
    }
    assert!(run.stdout.contains(" ns "), "CPU per message: {run:?}");
}

/// The demo in a format other than text.
fn demo(format: &str) -> String {
    let run = loadtest(&["-c2", "--warmup=0s", "-n100", "--format", format]);
    assert_eq!(run.code, Some(0), "{run:?}");
    run.stdout
}

fn working_engines() -> Vec<String> {
    let working = ringback::EngineKind::ALL
        .iter()
        .filter(|engine| engine.probe().is_ok());
    working.map(ToString::to_string).collect()
}

#[test]
fn the_demo_can_be_an_array_of_result_files() {
    let files: serde_json::Value = serde_json::from_str(&demo("json")).expect("JSON");
    let files = files.as_array().expect("an array");
    let labels: Vec<_> = files.iter().map(|file| file["label"].as_str()).collect();
    let engines = working_engines();
    let expected: Vec<_> = engines.iter().map(|engine| Some(&engine[..])).collect();
    assert_eq!(labels, expected);
    for file in files {
        assert_eq!(file["counts"]["answered"], 100, "{file}");
    }
}

#[test]
fn the_demo_can_be_csv() {
    let csv = demo("csv");
    let (header, rows) = csv.split_once('\n').expect("a header");
    assert!(header.starts_with("server,"), "{csv}");
    let rows: Vec<_> = rows.lines().collect();
    assert_eq!(rows.len(), ringback::EngineKind::ALL.len(), "{csv}");
    for (row, engine) in rows.iter().zip(ringback::EngineKind::ALL) {
        assert!(row.starts_with(&format!("{engine},")), "{csv}");
    }
}

#[test]
fn the_demo_can_be_markdown() {
    let markdown = demo("markdown");
    for engine in ringback::EngineKind::ALL {
        let row = format!("| {engine} ");
        let rows = markdown.lines().filter(|line| line.starts_with(&row));
        assert_eq!(rows.count(), 1, "{markdown}");
    }
    assert!(
        markdown.lines().any(|line| line.starts_with("|:--")),
        "{markdown}"
    );
}
