//! A measurement that begins at a time, so that generators on many machines
//! measure the same seconds.

use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::child_server::{Behavior, ChildServer, is_alive};
use crate::support::frames::Transcript;
use crate::support::peer::{Peer, ringback, url_of};
use crate::support::program::{Program, loadtest};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile, format_utc, parse_utc};

/// The wall clock is read after the monotonic one, with a delay on a busy machine. Less than any
/// warm-up here.
const CLOCKS_APART_MAX: Duration = Duration::from_millis(100);

/// A start that leaves a busy machine the time to get there.
#[expect(
    clippy::disallowed_methods,
    reason = "what is tested is the wall clock"
)]
fn soon() -> SystemTime {
    let at = SystemTime::now() + Duration::from_secs(5);
    // Rounded to the millisecond, as it is written.
    parse_utc(&format_utc(at)).expect("a time")
}

fn started_at(file: &ResultFile) -> SystemTime {
    parse_utc(&file.started_at).expect("a time")
}

/// Files have whole milliseconds.
fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|error| error.duration())
}

#[test]
fn the_measurement_begins_at_the_time_and_the_warm_up_before() {
    let peer = Peer::echo();
    let (at, url) = (soon(), peer.url());
    let start = format!("--start-at={}", format_utc(at));
    let load = ["--rate=1k", "-c2", "-d500ms", "--warmup=300ms"];
    let arguments = [&["run", "--format=json", &start, &url][..], &load].concat();
    let run = loadtest(&arguments).assert_ok();
    let announced = format!("the measurement begins at {}, in ", format_utc(at));
    assert!(run.stderr.contains(&announced), "{run:?}");
    assert!(run.stderr.contains("loadtest: waiting for "), "{run:?}");
    let result = run.result();
    assert!(
        apart(started_at(&result), at) <= CLOCKS_APART_MAX,
        "{run:?}"
    );
    assert_eq!(result.elapsed_ns, 500_000_000);
    assert_eq!(result.counts.due, 500);
    let messages: usize = peer.transcripts(2).iter().map(Transcript::messages).sum();
    assert_eq!(messages, 800, "the warm-up's 300 included");
}

#[test]
fn generators_that_start_together_merge() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let start = format!("--start-at={}", format_utc(soon()));
    let files = ["a.json", "b.json"].map(|name| scratch.file(name));
    let runs: Vec<_> = files
        .iter()
        .map(|file| {
            let (start, url, file) = (start.clone(), url.clone(), file.clone());
            let load = ["run", "--rate=1k", "-c2", "-d1s", "--warmup=0s"];
            thread::spawn(move || loadtest(&[&load[..], &[&start, "-o", &file, &url]].concat()))
        })
        .collect();
    for run in runs {
        run.join().expect("no panic").assert_ok();
    }
    let merged = loadtest(&["merge", "--format=json", &files[0], &files[1]]).assert_ok();
    let parts = files.map(|file| ResultFile::read(file.as_ref()).expect("a result"));
    assert_eq!(parts[0].plan.connections, 2);
    let apart = apart(started_at(&parts[0]), started_at(&parts[1]));
    assert!(apart <= CLOCKS_APART_MAX, "{apart:?}");
    let sum = merged.result();
    assert_eq!(sum.counts.due, 2_000);
    assert_eq!(
        sum.counts.answered,
        parts[0].counts.answered + parts[1].counts.answered
    );
}

#[test]
fn a_rerun_begins_at_another_time() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let file = scratch.file("run.json");
    let load = ["run", "-n50", "-c2", "--warmup=0s"];
    let first = loadtest(&[&load[..], &["--start-at=+2s", "-o", &file, &url]].concat()).assert_ok();
    assert!(first.stderr.contains("the measurement begins at "));
    let at_once = loadtest(&["rerun", "--format=json", &file]).assert_ok();
    assert!(!at_once.stderr.contains("the measurement begins at "));
    let later = loadtest(&["rerun", "--format=json", "--start-at=+2s", &file]).assert_ok();
    assert!(later.stderr.contains("the measurement begins at "));
    assert_eq!(at_once.result().plan, later.result().plan);
}

#[test]
fn a_time_that_cannot_be_met_is_refused() {
    for (time, error) in [
        (
            "2020-01-01T00:00:00Z",
            "--start-at: 0ns from now is too near: ",
        ),
        (
            "+1s",
            "--start-at: 1s from now is too near: connecting and the warm-up need 1.3s",
        ),
        ("+25h", "--start-at: more than 24h from now is too far"),
        (
            "9999-12-31T23:59:59Z",
            "--start-at: more than 24h from now is too far",
        ),
        (
            "23:10",
            "write a time in UTC as 2026-11-28T23:10:00Z, or as +30s from now",
        ),
        ("+3", "write a duration as 500ms, 3s or 2m"),
    ] {
        let start = format!("--start-at={time}");
        let run = loadtest(&["run", "ws://127.0.0.1:1/", &start]);
        assert!(run.refused(2).contains(error), "{time}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
}

#[test]
fn unopened_connections_at_the_start_time_fail_the_run() {
    // It accepts connections, and answers no handshake.
    let peer = Peer::serving(|mut tap, _| {
        let mut chunk = [0; 1024];
        while std::io::Read::read(&mut tap, &mut chunk).is_ok_and(|count| count > 0) {}
    });
    let url = peer.url();
    let load = [
        "run",
        "-c3",
        "--warmup=0s",
        "--timeout=5m",
        "--start-at=+1s",
    ];
    let run = loadtest(&[&load[..], &[&url]].concat());
    let error = run.refused(1);
    let expected = "0 of 3 connections were open when the load had to begin, to measure at 2";
    assert!(error.starts_with(expected), "{run:?}");
    assert!(error.ends_with("give --start-at a later time"), "{run:?}");
}

#[test]
fn waiting_can_be_interrupted() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let program = Program::start(&["run", "--start-at=+20h", "--server-cmd", &command, &url]);
    program.wait_for_stderr("waiting for ");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.refused(130), "interrupted before anything was measured");
    assert!(!is_alive(server.pid()));
}
