//! The commands other than `run`: floor, doctor, schema, completions.

use std::process::Stdio;

use crate::support::child_server::{Behavior, ChildServer, is_alive};
use crate::support::peer::{ringback, url_of};
use crate::support::program::{Program, command, loadtest};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile};
use serde_json::Value;

const FEW: [&str; 4] = ["floor", "-c2", "-d300ms", "--warmup=50ms"];

#[test]
fn the_floor_is_a_row_of_its_own() {
    for load in [
        &["-w8"][..],
        &["--rate=1k"],
        &["-s70k", "--split"],
        &["--text", "--fragment=2"],
    ] {
        let run = loadtest(&[&FEW[..], load].concat()).assert_ok();
        let rows: Vec<_> = run
            .stdout
            .lines()
            .filter(|line| line.starts_with("raw TCP echo "))
            .collect();
        let table_row = rows.first().expect("a row");
        assert!(table_row.contains(" ns "), "server CPU: {run:?}");
        run.error();
    }
}

#[test]
fn a_server_is_set_beside_the_floor() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let run = loadtest(&[&FEW[..], &["-w4", &url]].concat()).assert_ok();
    let row = |name: &str| run.stdout.lines().any(|line| line.starts_with(name));
    assert!(row("raw TCP echo ") && row(&format!("{url} ")), "{run:?}");
    let ratio = format!("{url} to the floor: messages/s ");
    assert!(row(&ratio), "{run:?}");
}

#[test]
fn the_floors_server_may_be_started_for_it() {
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let arguments = [
        "--subprotocol=x",
        "-HX-A: b",
        "--server-cmd",
        &command,
        &url,
    ];
    // The floor's raw server chooses no subprotocol, which is asked only of WebSocket servers.
    let run = loadtest(&[&FEW[..], &arguments].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(!is_alive(server.pid()));
    let server = ChildServer::new(Behavior::Echo);
    let (command, url) = (server.command(), server.url());
    let run = loadtest(&[&FEW[..], &["--server-cmd", &command, &url]].concat()).assert_ok();
    let ratio = run
        .stdout
        .lines()
        .find(|line| line.contains(" to the floor: "));
    assert!(
        ratio.is_some_and(|line| line.contains("server CPU/msg ")),
        "{run:?}"
    );
    assert!(!is_alive(server.pid()));
}

#[test]
fn the_floor_is_written_in_every_format() {
    let json = loadtest(&[&FEW[..], &["--format=json"]].concat()).assert_ok();
    let results: Vec<ResultFile> = serde_json::from_str(&json.stdout).expect("an array");
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].label, "raw TCP echo");
    assert!(results[0].server.is_some());
    let csv = loadtest(&[&FEW[..], &["--format=csv"]].concat()).assert_ok();
    assert_eq!(csv.stdout.lines().count(), 2, "{csv:?}");
    let markdown = loadtest(&[&FEW[..], &["--format=markdown"]].concat()).assert_ok();
    assert!(markdown.stdout.contains("| raw TCP echo |"), "{markdown:?}");
}

#[test]
fn the_doctor_looks_at_the_machine() {
    let run = loadtest(&["doctor"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.stdout.lines().count() > 3, "{run:?}");
    assert!(!run.stdout.contains('\x1b'), "{run:?}");
    for line in run.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let run = loadtest(&["doctor", "--format=json"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let findings: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let findings = findings.as_array().expect("an array");
    assert!(findings.len() > 3, "{run:?}");
    for finding in findings {
        assert!(finding["check"].is_string() && finding["found"].is_string());
        let level = finding["level"].as_str().expect("text");
        assert!(["good", "note", "bad"].contains(&level), "{level}");
    }
}

#[test]
fn the_schemas_are_those_that_are_checked_in() {
    let result = include_str!("../../schema/result-v1.schema.json");
    let comparison = include_str!("../../schema/comparison-v1.schema.json");
    let sweep = include_str!("../../schema/sweep-v1.schema.json");
    for (arguments, schema) in [
        (&["schema"][..], result),
        (&["schema", "result"], result),
        (&["schema", "comparison"], comparison),
        (&["schema", "sweep"], sweep),
    ] {
        let run = loadtest(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        assert!(run.stdout == schema, "{arguments:?}");
    }
    let run = loadtest(&["schema", "plan"]);
    assert!(run.refused(2).contains("'plan'"), "{run:?}");
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = loadtest(&["completions", shell]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        for word in [
            "run",
            "rerun",
            "floor",
            "doctor",
            "selftest",
            "slow-readers",
        ] {
            assert!(run.stdout.contains(word), "{shell} lacks {word}");
        }
    }
    let run = loadtest(&["completions", "csh"]);
    run.refused(2);
}

#[test]
fn completions_are_read_by_bash() {
    let script = loadtest(&["completions", "bash"]).stdout;
    let bash = std::process::Command::new("bash")
        .args(["-n", "-c", &script])
        .stderr(Stdio::piped())
        .output();
    let Ok(output) = bash else {
        eprintln!("no bash on this machine");
        return;
    };
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    for arguments in [&["schema"][..], &["completions", "bash"], &["doctor"]] {
        let mut child = command()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), stderr.as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

/// Two generators' results of the same load, at the same time.
fn shared_load(scratch: &Scratch, rates: [&str; 2]) -> [String; 2] {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let files = ["0", "1"].map(|index| scratch.file(&format!("result-{index}.json")));
    let start = |index: usize| {
        let rate = format!("--rate={}", rates[index]);
        let load = ["run", &url, "-c4", "-d1s", "--warmup=50ms", &rate];
        Program::start(&[&load[..], &["-o", &files[index]]].concat())
    };
    for program in [start(0), start(1)] {
        program.finish().assert_ok();
    }
    // A busy machine may start the second one late, which another test covers.
    let first = result(&files[0]).started_at;
    let text = std::fs::read_to_string(&files[1]).expect("a result");
    let text = text.replace(&result(&files[1]).started_at, &first);
    std::fs::write(&files[1], text).expect("written");
    files
}

fn result(file: &str) -> ResultFile {
    ResultFile::read(file.as_ref()).expect("a result")
}

#[test]
fn results_of_a_shared_load_are_added_up() {
    let scratch = Scratch::new();
    let [first, second] = shared_load(&scratch, ["400", "400"]);
    let merged = scratch.file("merged.json");
    let run = loadtest(&["merge", &first, &second, "-o", &merged]).assert_ok();
    assert!(run.stdout.contains("from 2 generators"), "{run:?}");
    let (first, second, merged) = (result(&first), result(&second), result(&merged));
    let sum = |count: fn(&ResultFile) -> u64| count(&first) + count(&second);
    assert_eq!(merged.counts.due, sum(|part| part.counts.due));
    assert_eq!(merged.counts.answered, sum(|part| part.counts.answered));
    let samples = sum(|part| part.summary.response_ns.samples);
    assert_eq!(merged.summary.response_ns.samples, samples);
    let longest = first
        .summary
        .response_ns
        .max
        .max(second.summary.response_ns.max);
    assert_eq!(merged.summary.response_ns.max, longest);
    assert_eq!(
        (merged.plan.connections, merged.plan.rate()),
        (8, Some(800.0))
    );
    // Its objectives are evaluated again.
    let files = [scratch.file("result-0.json"), scratch.file("result-1.json")];
    let missed = loadtest(&["merge", &files[0], &files[1], "--slo", "rate>1g"]);
    assert!(matches!(missed.code, Some(3 | 4)), "{missed:?}");
}

#[test]
fn a_result_is_not_added_to_itself() {
    let scratch = Scratch::new();
    let [first, second] = shared_load(&scratch, ["400", "400"]);
    let why = loadtest(&["merge", &first, &first]);
    let given_twice = format!("{first} is given twice; a run counts once");
    assert_eq!(why.refused(2), given_twice);
    let copy = scratch.file("copy.json");
    std::fs::copy(&first, &copy).expect("copied");
    let why = loadtest(&["merge", &first, &second, &copy]);
    let same_run = format!("{copy} is the same run as {first}; a run counts once");
    assert_eq!(why.refused(2), same_run);
}

#[test]
fn results_without_a_shared_load_are_not_merged() {
    let scratch = Scratch::new();
    let [first, second] = shared_load(&scratch, ["400", "200"]);
    let why = loadtest(&["merge", &first, &second]);
    assert!(
        why.refused(2).contains("result 2 is of another plan"),
        "{why:?}"
    );
    let missing = scratch.file("missing.json");
    let why = loadtest(&["merge", &first, &missing]);
    assert!(why.refused(2).starts_with(&missing), "{why:?}");
    let text = std::fs::read_to_string(&first).expect("a result");
    let early = text.replace(&result(&first).started_at, "2001-01-01T00:00:00.000Z");
    std::fs::write(&second, early).expect("written");
    let why = loadtest(&["merge", &first, &second]);
    let expected = format!("measured together for 0.0 s of 1.0 s, {first} last");
    assert!(why.refused(2).contains(&expected), "{why:?}");
}
