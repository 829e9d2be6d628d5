//! A result in the formats of other tools.

use std::fs;

use crate::support::example::result_of_a_run;
use crate::support::program::loadtest;
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile, decode};
use serde_json::Value;

/// The file of a run, and its content.
fn run_once(scratch: &Scratch) -> (String, ResultFile) {
    let file = scratch.file("run.json");
    fs::write(&file, result_of_a_run().to_string()).expect("it can be written");
    let result = ResultFile::read(file.as_ref()).expect("a result");
    (file, result)
}

fn exported(file: &str, flags: &[&str]) -> String {
    let run = loadtest(&[&["export", file], flags].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stderr, "", "{run:?}");
    run.stdout
}

#[test]
fn each_format_holds_the_run() {
    let scratch = Scratch::new();
    let (file, result) = run_once(&scratch);
    let due = result.counts.due;

    let hgrm = exported(&file, &["--hgrm"]);
    let last = hgrm
        .lines()
        .rfind(|line| !line.starts_with('#'))
        .expect("a line");
    let fields: Vec<_> = last.split_whitespace().collect();
    assert_eq!(fields[1..], ["1.000000000000", &due.to_string()], "{hgrm}");
    assert_ne!(hgrm, exported(&file, &["--hgrm", "--time=lag"]));

    let hlog = exported(&file, &["--hlog", "--time=service"]);
    let counted = hlog
        .lines()
        .filter(|line| !line.starts_with(['#', '"']))
        .map(|line| line.rsplit(',').next().expect("a histogram"))
        .map(|histogram| decode(histogram).expect("a histogram").len());
    assert_eq!(counted.sum::<u64>(), due);

    let csv = exported(&file, &["--csv"]);
    let replies = csv.lines().skip(1).map(|line| {
        let echoed = line.split(',').nth(3).expect("the column");
        echoed.parse::<u64>().expect("a number")
    });
    assert!(replies.sum::<u64>() >= result.counts.echoed, "{csv}");

    let page = exported(&file, &["--openmetrics"]);
    let count = format!(
        "loadtest_messages_due_total{{server=\"{}\"}} {due}",
        result.label
    );
    assert!(page.lines().any(|line| line == count), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[test]
fn dashboards_get_medians_by_direction() {
    let scratch = Scratch::new();
    let (file, result) = run_once(&scratch);
    let entries = |flags: &[&str]| -> Vec<(String, f64)> {
        let text = exported(&file, flags);
        let Value::Array(entries) = serde_json::from_str(&text).expect("JSON") else {
            panic!("{text}");
        };
        let name = |entry: &Value| entry["name"].as_str().expect("a name").to_owned();
        let value = |entry: &Value| entry["value"].as_f64().expect("a number");
        entries
            .iter()
            .map(|entry| (name(entry), value(entry)))
            .collect()
    };
    // The same numbers, of another run.
    let second = scratch.file("second.json");
    let mut other = result.clone();
    other.started_at = "2026-11-28T10:00:00.000Z".to_owned();
    other.write(second.as_ref()).expect("a file");
    let bigger = entries(&[&second, "--benchmark=bigger"]);
    let throughput = format!("{}: messages/s", result.label);
    assert_eq!(bigger, [(throughput, result.summary.rate_per_s)]);
    let smaller = entries(&["--benchmark=smaller"]);
    let cpu = smaller
        .iter()
        .find(|(name, _)| name.ends_with(": CPU/message"));
    let server = result.summary.server.expect("it was started");
    assert_eq!(
        cpu.map(|(_, value)| Some(*value)),
        Some(server.cpu_ns_per_message)
    );
}

#[test]
fn a_file_is_written_whole() {
    let scratch = Scratch::new();
    let (file, _) = run_once(&scratch);
    let to = scratch.file("run.hgrm");
    assert_eq!(exported(&file, &["--hgrm", "-o", &to]), "");
    assert_eq!(
        fs::read_to_string(&to).expect("a file"),
        exported(&file, &["--hgrm"])
    );
    let nowhere = scratch.file("no/run.hgrm");
    let run = loadtest(&["export", &file, "--hgrm", "-o", &nowhere]);
    assert!(run.refused(2).starts_with(&nowhere), "{run:?}");
}

#[test]
fn invalid_exports_are_refused_in_one_line() {
    let scratch = Scratch::new();
    let (file, _) = run_once(&scratch);
    let run = loadtest(&["export", &file]);
    assert!(run.refused(2).contains("--hgrm"), "{run:?}");
    let run = loadtest(&["export", &file, "--hgrm", "--csv"]);
    assert!(run.refused(2).contains("cannot be used with"), "{run:?}");
    let run = loadtest(&["export", &file, &file, "--csv"]);
    assert!(
        run.refused(2).starts_with("this format holds one result"),
        "{run:?}"
    );
    let run = loadtest(&["export", "build.rs", "--csv"]);
    assert!(
        run.refused(2).starts_with("build.rs: this is not a result"),
        "{run:?}"
    );
}
