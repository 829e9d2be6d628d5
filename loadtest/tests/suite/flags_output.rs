//! The flags of the output: formats, files, objectives.

use std::fs;

use crate::support::peer::{Peer, ringback, url_of};
use crate::support::program::{Program, Run, command, loadtest, result_of};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile, decode_latencies};
use loadtest::verdict::Verdict;
use serde_json::Value;

/// The schema that people are given.
const SCHEMA: &str = include_str!("../../schema/result-v1.schema.json");

const FEW: [&str; 5] = ["run", "-c2", "-w3", "-n600", "--warmup=0s"];

fn assert_valid(document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<_> = validator
        .iter_errors(document)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn text_is_the_default_format() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let default = loadtest(&[&FEW[..], &[&url]].concat()).assert_ok();
    let asked = loadtest(&[&FEW[..], &["--format=text", &url]].concat()).assert_ok();
    for run in [default, asked] {
        let mut lines = run.stdout.lines();
        let label = "closed loop, 2 connections × 3 in flight, 32 B binary, 600 messages";
        assert!(
            lines.next().is_some_and(|line| line.starts_with(label)),
            "{run:?}"
        );
        assert_eq!(lines.next(), Some(url.as_str()));
        let times = "        response time  service time  generator lag  handshake";
        for name in [
            times, "min ", "p50 ", "p90 ", "p95 ", "p99 ", "p99.9 ", "p99.99 ", "max ", "mean ",
            "stdev ",
        ] {
            assert!(run.stdout.contains(&format!("\n{name}")), "{name}: {run:?}");
        }
        // On a busy machine it is SUSPECT.
        let verdicts = ["\nVALID\n", "\nSUSPECT\n"];
        assert!(verdicts.iter().any(|it| run.stdout.contains(it)), "{run:?}");
        let connecting = "\nconnecting     2 handshakes, ";
        assert!(run.stdout.contains(connecting), "{run:?}");
        assert!(
            run.stdout
                .contains("600 due, 600 answered, 0 unanswered, 0 timed out")
        );
    }
}

#[test]
fn json_is_one_document_of_the_schema() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let run = loadtest(&[&FEW[..], &["--format=json", &url]].concat()).assert_ok();
    assert_valid(&serde_json::from_str(&run.stdout).expect("JSON"));
    let result = run.result();
    assert_eq!((result.counts.due, result.counts.answered), (600, 600));
    let arguments: Vec<_> = FEW.iter().copied().chain(["--format=json", &url]).collect();
    assert_eq!(result.args[..arguments.len()], arguments);
}

#[test]
fn csv_is_a_header_and_a_line() {
    let server = ringback(|_| {});
    let run = loadtest(&[&FEW[..], &["--format=csv", &url_of(&server)]].concat()).assert_ok();
    let lines: Vec<_> = run.stdout.lines().collect();
    let [header, line] = lines[..] else {
        panic!("{run:?}");
    };
    assert_eq!(header.matches(',').count(), line.matches(',').count());
    let column = |name| {
        let index = header.split(',').position(|column| column == name);
        line.split(',')
            .nth(index.expect("a column"))
            .expect("a field")
    };
    assert_eq!((column("due"), column("answered")), ("600", "600"));
    assert!(column("response_p99_ns").parse::<u64>().expect("a number") > 0);
}

#[test]
fn markdown_is_made_of_tables() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let run = loadtest(&[&FEW[..], &["--format=markdown", &url]].concat()).assert_ok();
    assert!(run.stdout.contains(&url), "{run:?}");
    let rows: Vec<_> = run
        .stdout
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert!(
        rows.iter()
            .any(|row| row.starts_with("|  | response time |")),
        "{run:?}"
    );
    assert!(rows.iter().any(|row| row.contains("---")), "{run:?}");
}

#[test]
fn a_file_keeps_everything() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let file = scratch.file("run.json");
    let arguments = [
        "run",
        "-c3",
        "-t2",
        "--rate=500",
        "-d2200ms",
        "--warmup=100ms",
    ];
    let run = loadtest(&[&arguments[..], &["-o", &file, &url]].concat()).assert_ok();
    assert!(
        run.stdout.starts_with("open loop, "),
        "the report is not replaced"
    );
    let text = fs::read_to_string(&file).expect("a file");
    assert_valid(&serde_json::from_str(&text).expect("JSON"));
    let result = ResultFile::read(file.as_ref()).expect("a result");
    let seconds: Vec<_> = result
        .intervals
        .iter()
        .map(|part| part.start.as_secs())
        .collect();
    assert!(seconds.starts_with(&[0, 1, 2]), "{seconds:?}");
    // Reading the file checks that the histograms add up.
    let due = result.intervals.iter().map(|part| part.due);
    assert_eq!(due.sum::<u64>(), 1100);
    let counted = result.intervals.iter().map(|part| {
        let latencies = decode_latencies(&part.latencies).expect("it was read");
        latencies.response_ns.len()
    });
    assert_eq!(counted.sum::<u64>(), result.counts.due);
    let environment = &result.environment;
    assert!(environment.kernel.is_some() && environment.cores_online.is_some());
    assert!(environment.binary_sha256.is_some() && environment.loopback);
    assert!(fs::read_dir(scratch.path()).expect("a directory").count() == 1);
}

#[test]
fn a_file_that_cannot_be_written_is_one_clear_line() {
    let server = ringback(|_| {});
    let scratch = Scratch::new();
    let file = scratch.file("no/run.json");
    let run = loadtest(&[&FEW[..], &["-o", &file, &url_of(&server)]].concat());
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!(
        run.error(),
        format!("{file}: No such file or directory (os error 2)")
    );
    assert_eq!(run.stdout, "", "before the run, not behind it: {run:?}");
}

/// A run's exit code, and the result of its one objective.
fn with_objective(objective: &str, load: &[&str]) -> (Run, loadtest::slo::SloResult) {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let common = [
        "run",
        "--format=json",
        "--slo",
        objective,
        "-c2",
        "--warmup=0s",
        &url,
    ];
    let run = loadtest(&[&common, load].concat());
    let result = run.result().objectives.pop().expect("an objective");
    (run, result)
}

#[test]
fn objectives_that_are_met_are_fine() {
    for objective in [
        "errors<1%",
        "errors<=0",
        "p99<1h",
        "max<1h",
        "rate>1",
        "handshake.max<1h",
    ] {
        let (run, result) = with_objective(objective, &["-n2000"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(result.met && result.supported, "{result:?}");
    }
}

#[test]
fn objectives_that_are_missed_have_an_exit_code() {
    for objective in ["p50<1us", "rate>900m", "errors<1%,max<1us"] {
        let (run, result) = with_objective(objective, &["-n2000"]);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(!result.met && result.supported, "{result:?}");
        let server = ringback(|_| {});
        let arguments = [
            "run",
            "--slo",
            objective,
            "-n2000",
            "--warmup=0s",
            &url_of(&server),
        ];
        let run = loadtest(&arguments);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stdout.contains("\n  MISSED  "), "{run:?}");
    }
}

#[test]
fn objectives_without_the_samples_are_not_met() {
    let (run, result) = with_objective("p99.99<1h", &["-n100"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(!result.met && !result.supported, "{result:?}");
}

#[test]
fn an_invalid_result_has_an_exit_code() {
    let impossible = ["--rate=50m", "-d300ms", "--timeout=1s"];
    let (run, _) = with_objective("p50<1us", &impossible);
    assert_eq!(run.code, Some(4), "no objective is judged by it: {run:?}");
    let result = run.result();
    assert_eq!(result.judgement.verdict, Verdict::Invalid);
    assert_eq!(result.counts.due, 15_000_000);
    assert!(result.counts.echoed < 15_000_000);
}

#[test]
fn invalid_objectives_are_wrong_arguments() {
    for objective in ["p99", "p99<2", "p101<2ms", "speed>3", ""] {
        let run = loadtest(&["run", "--slo", objective, "ws://127.0.0.1:9/"]);
        let error = run.refused(2);
        assert!(error.contains("--slo"), "{run:?}");
    }
}

#[test]
fn a_file_is_run_again() {
    let peer = Peer::echo();
    let (url, scratch) = (peer.url(), Scratch::new());
    let (first, second) = (scratch.file("1.json"), scratch.file("2.json"));
    let flags = [
        "-c1",
        "-n300",
        "--warmup=0s",
        "--size=20:1,700:2",
        "--split",
        "--text",
    ];
    let fields = ["-HX-A: b", "--path=/chat", "-o", &first, &url];
    loadtest(&[&["run"], &flags[..], &fields].concat()).assert_ok();
    let original = peer.transcript();
    loadtest(&["rerun", &first, "-o", &second]).assert_ok();
    let repeated = peer.transcript();
    assert_eq!(original.bytes, repeated.bytes);
    assert_eq!(original.request, repeated.request);
    let read = |file: &str| ResultFile::read(file.as_ref()).expect("a result");
    assert_eq!(read(&first).plan, read(&second).plan);
    assert_eq!(read(&second).args, ["rerun", &first, "-o", &second]);

    // Another server gets the same messages.
    let other = Peer::echo();
    let target = format!("--target={}chat", other.url());
    let run = loadtest(&["rerun", "--format=json", &first, &target]).assert_ok();
    assert_eq!(
        run.result().plan.targets[0].to_string(),
        format!("{}chat", other.url())
    );
    assert_eq!(other.transcript().bytes, original.bytes);
    assert_eq!(peer.seen.messages(), 600, "and the first one none");
}

#[test]
fn a_file_that_is_no_result_is_one_clear_line() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let file = scratch.file("run.json");
    result_of(&[&FEW[1..], &["-o", &file, &url]].concat());
    let text = fs::read_to_string(&file).expect("a file");
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    for (contents, reason) in [
        (text[..text.len() / 2].to_owned(), "the file is cut off"),
        (String::new(), "the file is cut off"),
        (
            "{\"a\": 1}".to_owned(),
            "this is not a result of loadtest (",
        ),
        (
            "# README\n".to_owned(),
            "this is not a result of loadtest (",
        ),
        (format!("[{text}]"), "this is an array of results"),
        (
            edited("\"version\": 1,", "\"version\": 9,"),
            "version 9 of the format is newer",
        ),
        (
            edited("\"connections\": 2,", "\"connections\": 0,"),
            "broken plan: connections: 0",
        ),
        (
            edited("\"answered\": 600,", "\"answered\": 700,"),
            "inconsistent result: ",
        ),
        (
            edited("\"connections\": 2,", "\"connections\": \"2\","),
            "broken result: ",
        ),
    ] {
        fs::write(&file, contents).expect("a file");
        let run = loadtest(&["rerun", &file]);
        let error = run.refused(2);
        assert!(
            error.starts_with(&format!("{file}: {reason}")),
            "{reason}: {run:?}"
        );
    }
    let missing = scratch.file("missing.json");
    let run = loadtest(&["rerun", &missing]);
    assert!(run.refused(2).starts_with(&missing), "{run:?}");
}

#[test]
fn pipes_get_no_control_characters() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    for variable in [
        None,
        Some(("NO_COLOR", "1")),
        Some(("TERM", "xterm-256color")),
    ] {
        let mut command = command();
        command.args(["run", "-c2", "-d1100ms", "--warmup=0s", &url]);
        command.envs(variable);
        let run = Program::start_as(&mut command).finish().assert_ok();
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "{run:?}"
        );
        // One line after the other, for logs.
        assert!(run.stderr.contains("loadtest: measuring "), "{run:?}");
        assert!(!run.stderr.contains('\r'), "{run:?}");
    }
}

#[test]
fn labels_and_a_note_are_kept_and_shown() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let file = scratch.file("run.json");
    let words = [
        "--label=build=12",
        "--label=host=a b",
        "--note=after the fix",
    ];
    let run = loadtest(&[&FEW[..], &words, &["-o", &file, &url]].concat()).assert_ok();
    for line in ["labels: build=12, host=a b", "note: after the fix"] {
        assert!(run.stdout.lines().any(|it| it == line), "{run:?}");
    }
    let environment = ResultFile::read(file.as_ref())
        .expect("a result")
        .environment;
    assert_eq!(environment.labels["build"], "12");
    assert_eq!(environment.labels["host"], "a b");
    assert_eq!(environment.note.as_deref(), Some("after the fix"));
    let page = scratch.file("report.html");
    loadtest(&["report", &file, "-o", &page]).assert_ok();
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("labels: build=12, host=a b"), "{page}");
    for wrong in ["--label=build", "--label==1"] {
        let run = loadtest(&[&FEW[..], &[wrong, &url]].concat());
        assert!(run.refused(2).contains("KEY=VALUE"), "{run:?}");
    }
}
