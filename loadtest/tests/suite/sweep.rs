//! Many runs at many rates, and the search for the highest that holds.

use std::time::Duration;
use std::{fs, thread};

use crate::support::child_server::{Behavior, ChildServer, is_alive};
use crate::support::peer::{Peer, ringback, url_of};
use crate::support::program::{Program, Run, loadtest};
use crate::support::scratch::Scratch;
use loadtest::builtin::{Delay, Fault, Script, ScriptedServer};
use loadtest::result::Document;
use loadtest::sweep::{Answer, Purpose, SweepFile};
use loadtest::verdict::Verdict;
use tungstenite::Message;

/// Short runs of few messages. Their validity does not matter.
const BRIEF: [&str; 4] = ["sweep", "-c2", "-d200ms", "--warmup=20ms"];

/// The least time of a delayed reply, on any machine.
const DELAY: Duration = Duration::from_millis(20);

fn sweep(arguments: &[&str]) -> Run {
    loadtest(&[&BRIEF[..], arguments].concat())
}

fn document(run: &Run) -> SweepFile {
    match SweepFile::from_json(run.stdout.as_bytes()) {
        Ok(file) => file,
        Err(problem) => panic!("{problem}: {run:?}"),
    }
}

/// A server with delayed replies.
fn late_server(delay: Delay) -> (ScriptedServer, String) {
    let script = Script {
        delay,
        ..Script::default()
    };
    let server = ScriptedServer::start(script, None).expect("it starts");
    let url = format!("ws://{}/", server.address());
    (server, url)
}

#[test]
fn every_rate_is_run_as_often_as_asked() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let path = scratch.file("sweep.json");
    let arguments = [
        "--rates=1k,400",
        "--repeats=2",
        "--seed=5",
        "-o",
        &path,
        &url,
    ];
    let run = sweep(&arguments).assert_ok();
    let file = SweepFile::read(path.as_ref()).expect("a sweep");
    let rates: Vec<_> = file.points.iter().map(|point| point.rate_per_s).collect();
    assert_eq!(rates, [400.0, 1_000.0]);
    for (point, due) in file.points.iter().zip([80, 200]) {
        assert_eq!(point.runs.len() + point.skipped as usize, 2, "{run:?}");
        for result in &point.runs {
            assert_eq!(result.counts.due, due);
            assert_eq!(result.plan.rate(), Some(point.rate_per_s));
        }
    }
    // The payloads differ in each run, and all are a function of the seed.
    let mut seeds: Vec<_> = file.runs().map(|run| run.plan.seed).collect();
    seeds.sort_unstable();
    let expected: Vec<_> = (5..).take(seeds.len()).collect();
    assert_eq!(seeds, expected);
    for text in ["400/s ", "1,000/s ", "o p50   against messages/s"] {
        assert!(run.stdout.contains(text), "{text}: {run:?}");
    }
}

#[test]
fn a_sweep_is_written_in_every_format() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let once = ["--rates=200:800:log:3", "--repeats=1", &url];
    let file = document(&sweep(&[&once[..], &["--format=json"]].concat()).assert_ok());
    assert_eq!(file.points.len(), 3);
    assert!(file.search.is_none());
    let runs: usize = file.points.iter().map(|point| point.runs.len()).sum();
    assert!(runs > 0);
    let csv = sweep(&[&once[..], &["--format=csv"]].concat()).assert_ok();
    assert!(csv.stdout.starts_with("target_rate_per_s,run,"), "{csv:?}");
    let markdown = sweep(&[&once[..], &["--format=markdown"]].concat()).assert_ok();
    assert!(
        markdown.stdout.contains("| rate | reached |"),
        "{markdown:?}"
    );
    assert!(!markdown.stdout.contains('\x1b'), "{markdown:?}");
}

#[test]
fn every_run_has_a_server_of_its_own() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let arguments = ["--rates=200,400", "--repeats=2", "--format=json"];
    let run = sweep(&[&arguments[..], &["--server-cmd", &command, &url]].concat()).assert_ok();
    let file = document(&run);
    for result in file.runs() {
        assert!(result.server.is_some(), "{run:?}");
    }
    // The last one's: if another were still running, the next would not have started.
    assert!(!is_alive(server.pid()));
}

#[test]
fn an_objective_that_always_holds_is_found_at_the_bound() {
    let (_server, url) = late_server(Delay::Constant(DELAY));
    let arguments = [
        "--find-max=p50>=20ms",
        "--rates=2k,4k",
        "--confirm=2",
        "--format=json",
        &url,
    ];
    let run = sweep(&arguments);
    assert!(matches!(run.code, Some(0 | 3 | 5)), "{run:?}");
    let file = document(&run);
    let search = file.search.as_ref().expect("a search");
    for probe in &search.probes {
        let result = file.run_of(probe).expect("its run");
        assert!(result.objectives[0].met, "{run:?}");
        // Only a rate that was not reached fails, and a doubtful run is unknown.
        match result.judgement.verdict {
            Verdict::Valid => assert_eq!(probe.held, Some(true), "{run:?}"),
            Verdict::Suspect => assert_eq!(probe.held, None, "{run:?}"),
            Verdict::Invalid => assert_ne!(probe.held, Some(true), "{run:?}"),
        }
    }
    if search.probes.iter().all(|probe| probe.held == Some(true)) {
        let found = Answer::Found {
            rate_per_s: 4_000.0,
            fails_at_per_s: None,
            confirmed: 2,
        };
        assert_eq!((search.answer, run.code), (found, Some(0)), "{run:?}");
        let purposes: Vec<_> = search.probes.iter().map(|probe| probe.purpose).collect();
        let (explore, confirm) = (Purpose::Explore, Purpose::Confirm);
        assert_eq!(purposes, [explore, explore, confirm, confirm]);
    }
}

#[test]
fn an_objective_that_never_holds_ends_the_search() {
    let (_server, url) = late_server(Delay::Constant(DELAY));
    let run = sweep(&["--find-max=p50<20ms", "--rates=2k,4k", &url]);
    let runs = |end: &str| {
        let lines = run.stdout.lines();
        lines.filter(|line| line.ends_with(end)).count()
    };
    let last = run.stdout.lines().last().unwrap_or_default();
    match run.code {
        // A single failure may be by chance.
        Some(3) => {
            assert_eq!(last, "not even 2,000/s holds p50<20ms", "{run:?}");
            assert_eq!(runs("  fails  explore"), 2, "{run:?}");
        }
        // On a busy machine, runs may be unknown.
        Some(5) => assert_eq!(runs("  unknown  explore"), 3, "{run:?}"),
        _ => panic!("{run:?}"),
    }
    assert_eq!(runs("  holds  explore"), 0, "{run:?}");
}

/// A sleeping generator makes every run at least SUSPECT.
#[test]
fn suspect_runs_lead_to_no_conclusion() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let arguments = [
        "--find-max=p50<60s",
        "--rates=2k,4k",
        "--pace=sleep",
        "--format=json",
        &url,
    ];
    let run = sweep(&arguments);
    let file = document(&run);
    let search = file.search.as_ref().expect("a search");
    assert!(
        search.probes.iter().all(|probe| probe.held != Some(true)),
        "{run:?}"
    );
    if search.probes.iter().all(|probe| probe.held.is_none()) {
        assert_eq!((run.code, search.probes.len()), (Some(5), 3), "{run:?}");
        let unknown = Answer::Unconfirmed {
            held_per_s: None,
            fails_at_per_s: None,
        };
        assert_eq!(search.answer, unknown, "{run:?}");
        assert!(run.stderr.contains("unknown whether it holds; SUSPECT: "));
    }
    assert_ne!(run.code, Some(0), "{run:?}");
}

/// No rate above this is reached: each of two connections has at most 500 of its messages
/// answered in a second, and a tenth may come late.
const REACHED_MAX: f64 = 1_200.0;

/// A server that takes 2 ms for each message, one after the other.
fn slow_server() -> Peer {
    Peer::serving(|tap, seen| {
        let mut socket = tungstenite::accept(tap).expect("a handshake");
        while let Ok(message) = socket.read() {
            if matches!(message, Message::Binary(_)) {
                seen.message();
                thread::sleep(Duration::from_millis(2));
                if socket.send(message).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn a_search_ends_below_a_limit_that_is_known() {
    let peer = slow_server();
    let run = loadtest(&[
        "sweep",
        "-c2",
        "-d1s",
        "--warmup=0s",
        "--find-max=p50<60s",
        "--rates=400:2k:log",
        "--tolerance=20%",
        "--confirm=2",
        "--format=json",
        &peer.url(),
    ]);
    let file = document(&run);
    let search = file.search.as_ref().expect("a search");
    for probe in &search.probes {
        assert!(
            probe.held != Some(true) || probe.rate_per_s < REACHED_MAX,
            "{probe:?}: {run:?}"
        );
    }
    match search.answer {
        Answer::Found {
            rate_per_s,
            fails_at_per_s,
            confirmed,
        } => {
            assert_eq!((run.code, confirmed), (Some(0), 2), "{run:?}");
            let fails = fails_at_per_s.expect("2,000/s, if nothing else");
            assert!(rate_per_s < REACHED_MAX && rate_per_s < fails, "{run:?}");
        }
        Answer::NothingHolds { .. } => assert_eq!(run.code, Some(3), "{run:?}"),
        Answer::Unconfirmed { .. } => assert_eq!(run.code, Some(5), "{run:?}"),
    }
}

/// Replies so late that some are missing at the end of a run without a warm-up.
const TOO_LATE: Delay = Delay::Constant(Duration::from_millis(60));

#[test]
fn a_rate_that_is_not_reached_is_not_held() {
    let (_server, url) = late_server(TOO_LATE);
    let unreached = ["--warmup=0s", "--find-max=p50<60s", "--rates=200,400"];
    let run = loadtest(&[&["sweep", "-c2", "-d200ms", &url], &unreached[..]].concat());
    assert!(!run.stdout.contains("  holds  "), "{run:?}");
    if run.code == Some(3) {
        assert!(run.stdout.contains("  fails  explore\n"), "{run:?}");
        assert!(
            run.stdout.ends_with("\nnot even 200/s holds p50<60s\n"),
            "{run:?}"
        );
    } else {
        // A wait for a core may be the reason.
        assert_eq!(run.code, Some(5), "{run:?}");
        assert!(run.stdout.contains("  unknown  explore\n"), "{run:?}");
    }
}

#[test]
fn rates_above_a_saturated_one_are_not_repeated() {
    let (_server, url) = late_server(TOO_LATE);
    let rates = ["--warmup=0s", "--rates=200,400,800", "--repeats=3"];
    let arguments = ["sweep", "-c2", "-d200ms", "--format=json", &url];
    let run = loadtest(&[&arguments, &rates[..]].concat());
    assert_eq!(run.code, Some(4), "no rate was reached: {run:?}");
    let file = document(&run);
    let counts = file
        .points
        .iter()
        .map(|point| (point.runs.len(), point.skipped));
    let counts: Vec<_> = counts.collect();
    assert_eq!(counts[0], (3, 0));
    for (runs, skipped) in &counts[1..] {
        // Each may precede the lowest in the first round.
        assert!(*runs <= 1 && *runs + *skipped as usize == 3, "{counts:?}");
    }
    assert!(
        run.stderr
            .contains("/s is left out: a lower rate was not reached"),
        "{run:?}"
    );
}

#[test]
fn a_run_that_fails_ends_a_sweep_with_those_before_it() {
    // In the second run: the first one has 44 messages, warm-up included.
    let script = Script {
        fault: Some((60, Fault::WrongByte)),
        ..Script::default()
    };
    let server = ScriptedServer::start(script, None).expect("it starts");
    let url = format!("ws://{}/", server.address());
    let run = sweep(&["--rates=200", "--repeats=9", "--format=json", &url]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.error().starts_with("integrity error on connection "),
        "{run:?}"
    );
    let file = document(&run);
    assert_eq!(
        (file.points.len(), file.points[0].runs.len()),
        (1, 1),
        "{run:?}"
    );
}

#[test]
fn an_interrupted_sweep_reports_what_there_is() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let scratch = Scratch::new();
    let path = scratch.file("sweep.json");
    let rest = ["--server-cmd", &command, "-o", &path, &url];
    let arguments = ["--rates=200", "--repeats=100"];
    let program = Program::start(&[&BRIEF[..], &arguments, &rest].concat());
    program.wait_for_stderr("run 3 of 100: ");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    let file = SweepFile::read(path.as_ref()).expect("a sweep");
    assert!((2..100).contains(&file.points[0].runs.len()), "{run:?}");
    assert!(run.stdout.contains("\n200/s "), "{run:?}");
    assert!(!is_alive(server.pid()));
}

#[test]
fn an_interrupted_search_reports_its_bounds() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let longer = ["sweep", "-c2", "-d2s", "--warmup=20ms"];
    let program = Program::start(&[&longer[..], &["--find-max=p50<60s", &url]].concat());
    program.wait_for_stderr("run 2: ");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    let last = run.stdout.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("no rate was confirmed to hold p50<60s"),
        "{run:?}"
    );
}

#[test]
fn before_the_first_run_there_is_nothing_to_report() {
    let run = loadtest(&["sweep", "--rates=1k", "ws://127.0.0.1:1/"]);
    assert!(
        run.refused(1)
            .starts_with("cannot connect to ws://127.0.0.1:1/ "),
        "{run:?}"
    );
    let server = ChildServer::new(Behavior::NeverReply);
    let started = server.start();
    let url = server.url();
    let run = sweep(&["--rates=1k", "--timeout=3s", &url]);
    assert!(
        run.refused(1).contains("no progress on connection"),
        "{run:?}"
    );
    drop(started);
}

#[test]
fn invalid_sweeps_are_refused() {
    let scratch = Scratch::new();
    let missing = scratch.file("no/sweep.json");
    let url = "ws://127.0.0.1:1/";
    for (arguments, error) in [
        (&[][..], "--rates"),
        (
            &["--rates=10k:1k:log"],
            "the first of two rates has to be below the last",
        ),
        (&["--rates=1k:2k"], "write rates as 10k:400k:log"),
        (
            &["--rates=1k,2k", "--points=3"],
            "--points is for --rates without a number",
        ),
        (&["--rates=1k", "-w4"], "a sweep has --rates"),
        (&["--rates=1k", "--rate=4k"], "a sweep has --rates"),
        (&["--rates=1k", "--steps=4"], "--find-max"),
        (&["--find-max=p99"], "has none of < <= > >="),
        (
            &["--rates=1k", "--server-pin=0"],
            "--server-pin is for a server",
        ),
        (&["--rates=1k", "-o", &missing], "No such file"),
    ] {
        let run = loadtest(&[&["sweep", url], arguments].concat());
        assert!(run.refused(2).contains(error), "{arguments:?}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
}

#[test]
fn a_sweep_file_is_not_a_result() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let path = scratch.file("sweep.json");
    sweep(&["--rates=200", "--repeats=1", "-o", &path, &url]).assert_ok();
    let run = loadtest(&["rerun", &path]);
    let error = format!("{path}: this is not a result of loadtest (");
    assert!(run.refused(2).starts_with(&error), "{run:?}");
    let text = fs::read_to_string(&path).expect("a file");
    assert!(SweepFile::from_json(&text.as_bytes()[..text.len() / 2]).is_err());
}
