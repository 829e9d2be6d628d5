//! `ab`: servers compared by pairs of runs.

use std::collections::BTreeSet;
use std::fs;

use crate::support::ab_servers::{SHORT, Servers};
use crate::support::child_server::Behavior;
use crate::support::poll;
use crate::support::program::{Program, Run, loadtest};
use crate::support::scratch::Scratch;
use loadtest::comparison::{Comparison, ComparisonVerdict};
use loadtest::metric::Metric;
use loadtest::result::{Document, ResultFile};
use rustix::process::{Pid, Signal, kill_process};

fn comparison(run: &Run) -> Comparison {
    match Comparison::from_json(run.stdout.as_bytes()) {
        Ok(comparison) => comparison,
        Err(problem) => panic!("{problem}: {run:?}"),
    }
}

#[test]
fn a_slower_server_is_found_worse_and_all_runs_are_kept() {
    let servers = Servers::new(&[("--a=", Behavior::Echo), ("--b=", Behavior::BurnCpu)]);
    let scratch = Scratch::new();
    let directory = scratch.file("new/results");
    let keep = ["--pairs=6", "--format=json", "-o", &directory];
    // Long enough for both to answer many messages, however busy the machine is.
    let load = [
        "--fail-on-regression",
        "--",
        "-c2",
        "-d600ms",
        "--warmup=20ms",
    ];
    let run = loadtest(&servers.arguments(&[&keep[..], &load].concat()));
    run.error();
    // The warning about six pairs comes before the first.
    let warning = "loadtest: warning: 6 pairs cannot find all differences, however large; needed \
                   at least: messages/s, p50, p99, p99.9 9";
    let warned = run.stderr.find(warning).expect("a warning");
    assert!(
        warned < run.stderr.find("pair 1/6").expect("a pair"),
        "{run:?}"
    );
    // One start as a check, and one for every pair.
    servers.assert_starts(7);

    let comparison = comparison(&run);
    let contrast = &comparison.contrasts[0];
    let cpu = contrast.finding(Metric::CpuPerMessage).expect("its cost");
    assert_eq!(cpu.runs, 6, "{cpu:?}");
    if run.code == Some(3) {
        assert_eq!(contrast.verdict, ComparisonVerdict::Worse, "{contrast:?}");
        assert_eq!(cpu.verdict, ComparisonVerdict::Worse, "{cpu:?}");
        assert!(cpu.ratio > 2.0 && cpu.interval.low > 1.0, "{cpu:?}");
    } else {
        // On a busy machine, one pair may point the other way.
        let verdict = (run.code, contrast.verdict);
        assert_eq!(
            verdict,
            (Some(0), ComparisonVerdict::Inconclusive),
            "{contrast:?}"
        );
    }

    let kept = Comparison::read(format!("{directory}/comparison.json").as_ref());
    assert_eq!(kept.expect("a comparison"), comparison);
    let mut seeds = BTreeSet::new();
    for pair in 1..=6 {
        for (suffix, label) in [("a", "A"), ("b", "B")] {
            let path = format!("{directory}/pair-{pair:02}-{suffix}.json");
            let result = ResultFile::read(path.as_ref()).expect("a result");
            assert_eq!(result.label, label);
            seeds.insert(result.plan.seed);
        }
    }
    assert_eq!(seeds, [comparison.settings.seed].into());
    assert_eq!(fs::read_dir(&directory).expect("a directory").count(), 13);

    let again = servers.compared(&keep);
    let why = format!(
        "{directory}: comparison.json of another comparison is there already; name a new directory"
    );
    assert_eq!(again.refused(2), why);
    servers.assert_starts(7);
}

#[test]
fn a_server_against_itself_is_the_noise() {
    let servers = Servers::new(&[("--a=epoll=", Behavior::Echo)]);
    let scratch = Scratch::new();
    let directory = scratch.file("results");
    let run = servers.compared(&["--aa", "--pairs=2", "-o", &directory]);
    assert_eq!(run.code, Some(0), "{run:?}");
    // Two pairs lead to no conclusion, however narrow their intervals are.
    assert!(
        run.stdout
            .contains("\n2 pairs cannot show a difference on any machine\n"),
        "{run:?}"
    );
    assert!(run.stdout.contains("epoll again/epoll"), "{run:?}");
    servers.assert_starts(5);
    for name in ["aa-01-1", "aa-01-2", "aa-02-1", "aa-02-2"] {
        let path = format!("{directory}/{name}.json");
        ResultFile::read(path.as_ref()).expect("a result");
    }
    // On two or more cores, server and generator have one each.
    if let Some((_, cores)) = run.stderr.split_once("server on core ") {
        let core = cores.split(',').next().expect("a core");
        assert_eq!(servers.servers[0].cores(), core);
    }
}

#[test]
fn the_noise_comes_before_the_pairs() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    let run = servers.compared(&["--aa", "--pairs=2", "--format=csv"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let kinds = |kind: &str| {
        let mut lines = run.stdout.lines();
        lines.any(|line| line.starts_with(kind))
    };
    assert!(kinds("noise,A again,A,cpu-per-message,"), "{run:?}");
    assert!(kinds("comparison,B,A,cpu-per-message,"), "{run:?}");
    let noise = run.stderr.find("noise pair 2/2;").expect("a line");
    let pairs = run.stderr.find(": pair 1/2;").expect("a line");
    assert!(noise < pairs, "{run:?}");
    assert_eq!(
        servers
            .servers
            .iter()
            .map(|it| it.starts().len())
            .collect::<Vec<_>>(),
        [7, 3]
    );
}

#[test]
fn an_inconclusive_comparison_is_exit_5() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    // Two pairs never find anything, and no interval is within a margin of 0.
    let run = servers.compared(&[
        "--pairs=2",
        "--margin=0%",
        "--min-effect=0%",
        "--fail-on-inconclusive",
        "--fail-on-regression",
    ]);
    assert_eq!(run.code, Some(5), "{run:?}");
    assert!(
        run.stdout.contains("\ninconclusive, B against A: "),
        "{run:?}"
    );
    let warning = "warning  2 pairs can find nothing, however large; needed at least: ";
    assert!(run.stdout.contains(&format!("\n{warning}")), "{run:?}");
    let before = run
        .stderr
        .find("loadtest: warning: 2 pairs can find nothing");
    let first = run.stderr.find("pair 1/2").expect("a pair");
    assert!(before.is_some_and(|before| before < first), "{run:?}");
}

#[test]
fn a_rate_that_a_server_does_not_reach_makes_it_invalid() {
    let servers = Servers::new(&[("--a=", Behavior::BurnCpu), ("--b=", Behavior::BurnCpu)]);
    // On one connection it answers at most 2,000 messages in a second.
    let load = ["--", "-c1", "-d200ms", "--warmup=0s", "--rate=4k"];
    let flags = ["--pairs=2", "--format=markdown"];
    let run = loadtest(&servers.arguments(&[&flags[..], &load].concat()));
    assert_eq!(run.code, Some(4), "{run:?}");
    for label in ["A", "B"] {
        let warning = format!("\n- warning: 2 of 2 runs of {label} are INVALID; of the first: ");
        assert!(run.stdout.contains(&warning), "{run:?}");
    }
    servers.assert_starts(3);
}

#[test]
fn more_than_two_are_ranked() {
    let three = [
        ("--a=one=", Behavior::Echo),
        ("--b=two=", Behavior::Echo),
        ("--c=three=", Behavior::BurnCpu),
    ];
    let servers = Servers::new(&three);
    let run = servers.compared(&["--pairs=2", "--metric=cpu-per-message"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let mut lines = run.stdout.lines();
    let title = lines.find(|line| line.starts_with("CPU/message  rank"));
    assert!(title.is_some(), "{run:?}");
    // The slowest of the three.
    let last = lines.nth(2).expect("a line");
    assert!(last.starts_with("three "), "{run:?}");
    assert!(
        run.stderr.contains("round 2/2; CPU/message two/one "),
        "{run:?}"
    );
    servers.assert_starts(3);
}

#[test]
fn a_server_that_does_not_start_is_found_first() {
    let servers = Servers::new(&[("--a=", Behavior::Echo)]);
    for (b, error) in [
        (
            "--b=/no/such/server {port}",
            "B: cannot start /no/such/server: No such file or directory (os error 2)",
        ),
        (
            "--b=new=sh -c 'exit 3' {port}",
            "new: sh ended before it completed a handshake (exit status: 3)",
        ),
    ] {
        let run = servers.compared(&[b]);
        assert_eq!(run.refused(1), error);
        assert!(!run.stderr.contains("pair 1/"), "{run:?}");
    }
    servers.assert_starts(2);
}

#[test]
fn a_run_that_fails_is_named() {
    let servers = Servers::new(&[("--a=", Behavior::Echo), ("--b=", Behavior::NeverReply)]);
    let load = ["--", "-c2", "-d100ms", "--warmup=0s", "--timeout=3s"];
    let run = loadtest(&servers.arguments(&load));
    let error = run.refused(1);
    assert!(
        error.starts_with("pair 1, B: no progress on connection "),
        "{run:?}"
    );
    servers.assert_stopped();
}

#[test]
fn invalid_arguments_are_one_line() {
    let scratch = Scratch::new();
    let file = scratch.file("file");
    fs::write(&file, "").expect("a file");
    for (arguments, why) in [
        (&["--b=x"][..], "--a <CMD>"),
        (&["--a=x"], "--b <CMD>"),
        (&["--a= ", "--b=x"], "the command is empty"),
        (&["--a=x 'y", "--b=x"], "missing closing quote"),
        (&["--a=x", "--b=A=y"], "two servers are called A"),
        (
            &["--a=x", "--b=y", "--pairs=1"],
            "write a number from 2 to 1000",
        ),
        (
            &["--a=x", "--b=y", "--metric=p98"],
            "\"p98\" is not a metric",
        ),
        (
            &["--a=x {port}", "--b=y"],
            "the URL has {port}, but the command of B has not",
        ),
        (
            &["--a=x", "--b=y", "--", "--server-cmd=z"],
            "unexpected argument '--server-cmd'",
        ),
        (&["--a=x", "--b=y", "--", "-d1x"], "write a duration as"),
        (&["--a=x", "--b=y", "-o", &file], &file),
    ] {
        let run = loadtest(&[&["ab"], arguments].concat());
        let error = run.refused(2);
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
}

#[test]
fn an_interrupt_in_the_first_pair_is_one_line() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    let program = Program::start(&servers.arguments(&["--", "-d5m", "--warmup=0s"]));
    // One start of each as a check, and one for a run.
    poll("a run", || {
        let starts = servers.servers.iter().map(|it| it.starts().len());
        (starts.sum::<usize>() >= 3).then_some(())
    });
    program.interrupt();
    let run = program.finish();
    assert_eq!(
        run.refused(130),
        "interrupted before two pairs were complete"
    );
    servers.assert_stopped();
}

/// A comparison that has come to its second pair, and is far from its end.
fn in_second_pair(servers: &Servers, more: &[&str]) -> Program {
    let flags = [&["--pairs=1000", "--format=json"], more, &SHORT[..]].concat();
    let program = Program::start(&servers.arguments(&flags));
    program.wait_for_stderr(": pair 2/1000;");
    program
}

#[test]
fn an_interrupt_later_reports_the_pairs_that_are_complete() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    let scratch = Scratch::new();
    let directory = scratch.file("results");
    let program = in_second_pair(&servers, &["-o", &directory]);
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    let comparison = comparison(&run);
    let pairs = comparison.sides[0].runs;
    assert!((2..1000).contains(&pairs), "{pairs}");
    assert_eq!(comparison.sides[1].runs, pairs);
    let expected = format!("interrupted when {pairs} of 1000 pairs were complete");
    assert_eq!(comparison.warnings[0], expected);
    let kept = Comparison::read(format!("{directory}/comparison.json").as_ref());
    assert_eq!(kept.expect("a comparison"), comparison);
    servers.assert_stopped();
}

/// Asserts that a comparison that ended early for a reason reports the pairs until then.
fn assert_ended_early(run: &Run, code: i32, why: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert_eq!(run.stderr.matches(why).count(), 1, "{run:?}");
    let failure = run.error();
    assert!(failure.contains(why), "{run:?}");
    let comparison = comparison(run);
    let pairs = comparison.sides[0].runs;
    assert!((2..1000).contains(&pairs), "{pairs}");
    assert_eq!(
        comparison.warnings[0],
        format!("ended when {pairs} of 1000 pairs were complete: {failure}")
    );
}

#[test]
fn a_run_that_cannot_be_written_ends_with_a_report_of_earlier_pairs() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    let scratch = Scratch::new();
    let directory = scratch.file("results");
    let program = in_second_pair(&servers, &["-o", &directory]);
    // Directories in place of the next files stand for a disk that is full.
    for pair in 3..1000 {
        let _ = fs::create_dir(format!("{directory}/pair-{pair:02}-a.json"));
    }
    let run = program.finish();
    assert_ended_early(&run, 2, "-a.json: Is a directory (os error 21)");
    let kept = Comparison::read(format!("{directory}/comparison.json").as_ref());
    assert_eq!(kept.expect("a comparison"), comparison(&run));
    servers.assert_stopped();
}

#[test]
fn a_failed_run_ends_with_a_report_of_earlier_pairs() {
    let both = [("--a=", Behavior::Echo), ("--b=", Behavior::Echo)];
    let servers = Servers::new(&both);
    let mut program = in_second_pair(&servers, &[]);
    // A server killed after the end of its last slice fails no run.
    poll("a run that ends", || {
        let pid = servers.servers[1].starts().pop().expect("a process");
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let _ = kill_process(pid.expect("a process"), Signal::KILL);
        program.has_ended().then_some(())
    });
    assert_ended_early(&program.finish(), 1, ", B: ");
    servers.assert_stopped();
}
