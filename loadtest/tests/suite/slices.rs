//! Runs that alternate by slices.

use crate::support::ab_servers::{SHORT, Servers};
use crate::support::child_server::Behavior;
use crate::support::poll;
use crate::support::program::{Program, loadtest};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile};
use loadtest::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process};

const TWO: [(&str, Behavior); 2] = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];

/// Runs of three slices, long enough for threads to get a core on a busy machine.
const LONGER: [&str; 5] = ["--slice=500ms", "--", "-c2", "-d1500ms", "--warmup=20ms"];

/// The runs of a comparison of two pairs, those of A first.
fn runs_of(behaviors: &[(&str, Behavior)], flags: &[&str]) -> Vec<ResultFile> {
    let servers = Servers::new(behaviors);
    let scratch = Scratch::new();
    let directory = scratch.file("results");
    let keep = ["--pairs=2", "-o", &directory];
    loadtest(&servers.arguments(&[&keep, flags].concat())).assert_ok();
    servers.assert_starts(3);
    let names = ["01-a", "02-a", "01-b", "02-b"].into_iter();
    names
        .map(|name| {
            let path = format!("{directory}/pair-{name}.json");
            ResultFile::read(path.as_ref()).expect("a result")
        })
        .collect()
}

#[test]
fn a_run_is_all_of_its_slices() {
    let load = [&LONGER[..], &["-t2", "--idle=3"]].concat();
    for run in runs_of(&TWO, &load) {
        assert_eq!(run.plan.slices, 3);
        assert_eq!(run.elapsed_ns, 1_500_000_000);
        let counts = run.counts;
        assert_eq!(counts.due, counts.answered, "{counts:?}");
        assert_eq!(counts.handshakes, 2 + 3, "the same for all slices");
        // The slices, and the drain.
        let starts: Vec<_> = run
            .intervals
            .iter()
            .map(|it| it.start.as_millis())
            .collect();
        assert_eq!(starts[..3], [0, 500, 1_000], "{starts:?}");
        for slice in &run.intervals[..3] {
            assert_eq!(slice.length.as_millis(), 500);
        }
        // On a busy machine no thread may get a core in one of them.
        assert!(counts.echoed > 0);
        let echoed: u64 = run.intervals.iter().map(|it| it.echoed).sum();
        assert_eq!(echoed, counts.echoed);
        let server = run.server.expect("its process is known").usage;
        assert!(server.cpu_ns > 0);
        // It may not have run for longer than the measurement, with some tolerance for the time
        // of the sample.
        assert!(server.cpu_ns < 3_000_000_000, "{server:?}");
    }
}

#[test]
fn an_open_loop_keeps_its_rate_over_all_slices() {
    let load = ["--", "-c4", "-d300ms", "--warmup=20ms", "--rate=2k"];
    for (arrival, threads) in [("--arrival=fixed", "-t2"), ("--arrival=poisson", "-t1")] {
        for run in runs_of(&TWO, &[&load[..], &[arrival, threads]].concat()) {
            assert_eq!(run.plan.slices, 6);
            let counts = run.counts;
            assert_eq!(counts.due, counts.answered, "{counts:?}");
            // 600, within four standard deviations of a Poisson number.
            assert!((500..700).contains(&counts.due), "{counts:?}");
            if arrival == "--arrival=fixed" {
                assert!((594..=606).contains(&counts.due), "{counts:?}");
            }
        }
    }
}

#[test]
fn slice_none_keeps_runs_whole() {
    for run in runs_of(&TWO, &[&["--slice=none"], &SHORT[..]].concat()) {
        assert_eq!(run.plan.slices, 1);
        assert_eq!(run.elapsed_ns, 150_000_000);
    }
    for run in runs_of(&TWO, &[&["--slice=75ms"], &SHORT[..]].concat()) {
        assert_eq!(run.plan.slices, 2);
    }
}

#[test]
fn loads_that_cannot_pause_refuse_slices() {
    for (load, why) in [
        ("-n200", "--slice cannot be used with -n"),
        ("--churn=50", "--slice cannot be used with --churn"),
    ] {
        let flags = ["--", "-c2", "--warmup=20ms", load];
        for run in runs_of(&TWO, &flags) {
            assert_eq!(run.plan.slices, 1);
        }
        let servers = Servers::new(&TWO);
        let asked = [&["--slice=50ms"], &flags[..]].concat();
        let run = loadtest(&servers.arguments(&asked));
        assert!(run.refused(2).starts_with(why), "{run:?}");
    }
    let run = loadtest(&["ab", "--a=x", "--b=y", "--slice=50ms"]);
    let why = "--slice needs a port for each server: {port} in the commands";
    assert!(run.refused(2).starts_with(why), "{run:?}");
    for wrong in ["--slice=0s", "--slice=some"] {
        loadtest(&["ab", "--a=x", "--b=y", wrong]).refused(2);
    }
}

#[test]
fn a_server_busy_in_pauses_is_suspect() {
    let one = [("--a=", Behavior::Echo), ("--b=", Behavior::Poll)];
    let runs = runs_of(&one, &LONGER);
    for (index, run) in runs.iter().enumerate() {
        let reasons = run.judgement.reasons.iter();
        let restless = reasons.filter(|it| it.what.contains("busy while others had their turn"));
        let found = restless.map(|it| it.verdict).collect::<Vec<_>>();
        let expected = if index < 2 {
            vec![]
        } else {
            vec![Verdict::Suspect]
        };
        assert_eq!(found, expected, "{:?}", run.judgement);
    }
}

#[test]
fn a_run_in_slices_is_repeated_as_one() {
    let servers = Servers::new(&TWO);
    let scratch = Scratch::new();
    let directory = scratch.file("results");
    let keep = ["--pairs=2", "-o", &directory];
    assert_eq!(servers.compared(&keep).code, Some(0));
    let server = &servers.servers[0];
    let _started = server.start();
    let file = format!("{directory}/pair-01-a.json");
    let url = server.url();
    let run = loadtest(&["rerun", &file, "--target", &url, "--format=json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let again = ResultFile::from_json(run.stdout.as_bytes()).expect("a result");
    assert_eq!((again.plan.slices, again.elapsed_ns), (3, 150_000_000));
    assert_eq!(again.counts.due, again.counts.answered);
}

#[test]
fn a_server_that_cannot_keep_up_is_invalid_and_no_failure() {
    // The 5,000 messages of a slice take longer than the timeout, and none of them alone does.
    let load = [
        "--",
        "-c2",
        "-d100ms",
        "--warmup=0s",
        "--rate=100k",
        "--timeout=1s",
    ];
    let servers = Servers::new(&[("--a=", Behavior::BurnCpu), ("--b=", Behavior::BurnCpu)]);
    let run = loadtest(&servers.arguments(&[&["--pairs=2"], &load[..]].concat()));
    assert_eq!(run.code, Some(4), "{run:?}");
    servers.assert_stopped();
}

#[test]
fn a_server_that_ends_is_named_in_any_slice() {
    for (index, name) in ["A", "B"].into_iter().enumerate() {
        let servers = Servers::new(&TWO);
        let program = Program::start(&servers.arguments(&["--", "-c2", "-d5m"]));
        let pid = poll("its run", || {
            let ready = servers.servers.iter().all(|it| it.starts().len() == 2);
            ready.then(|| servers.servers[index].starts()[1])
        });
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::KILL).expect("it runs");
        let run = program.finish();
        let error = run.refused(1);
        let start = format!("pair 1, {name}: ");
        assert!(error.starts_with(&start), "{error}");
        servers.assert_stopped();
    }
}
