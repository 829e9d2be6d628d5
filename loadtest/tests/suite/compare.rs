//! Groups of result files, compared.

use std::cell::Cell;
use std::fs;

use crate::support::example::{result_of_a_run, set_cpu_per_message};
use crate::support::program::{Run, loadtest};
use crate::support::scratch::Scratch;
use loadtest::comparison::{Comparison, ComparisonVerdict, Design};
use loadtest::metric::Metric;
use loadtest::result::Document;
use serde_json::{Value, json};

/// The nanoseconds of CPU per message of six runs that are alike.
const ALIKE_NS: [f64; 6] = [5_000.0, 5_010.0, 4_990.0, 5_030.0, 4_980.0, 5_020.0];

/// The file of a run, and files derived from it.
struct Files {
    scratch: Scratch,
    run: Value,
    written: Cell<u32>,
}

impl Files {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            run: result_of_a_run(),
            written: Cell::new(0),
        }
    }

    /// Writes a file for each of these, and returns the argument that names them. Each is a run
    /// of its own, begun a second after the one before.
    fn group(&self, label: &str, cpu_ns: &[f64], change: impl Fn(&mut Value)) -> String {
        for (index, ns) in cpu_ns.iter().enumerate() {
            let mut run = self.run.clone();
            set_cpu_per_message(&mut run, *ns);
            let second = self.written.replace(self.written.get() + 1);
            run["started_at"] = json!(format!("2026-11-28T10:00:{second:02}.000Z"));
            change(&mut run);
            let file = self.scratch.file(&format!("{label}-{index}.json"));
            fs::write(file, run.to_string()).expect("it can be written");
        }
        format!("{label}={}", self.scratch.file(&format!("{label}-*.json")))
    }
}

fn compare(a: &str, b: &str, flags: &[&str]) -> Run {
    loadtest(&[&["compare", a, b], flags].concat())
}

fn slower(by: f64) -> [f64; 6] {
    ALIKE_NS.map(|ns| ns * by)
}

fn same(_: &mut Value) {}

#[test]
fn a_regression_is_exit_3() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &slower(1.3), same);
    let kept = files.scratch.file("comparison.json");
    let run = compare(&a, &b, &["--fail-on-regression", "-o", &kept]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stdout.contains("worse"), "{run:?}");
    let comparison = Comparison::read(kept.as_ref()).expect("a comparison");
    assert_eq!(comparison.design, Design::Unpaired);
    let contrast = &comparison.contrasts[0];
    let finding = contrast
        .finding(Metric::CpuPerMessage)
        .expect("it is there");
    assert_eq!(
        (contrast.verdict, finding.verdict),
        (ComparisonVerdict::Worse, ComparisonVerdict::Worse)
    );
    assert!((finding.ratio - 1.3).abs() < 1e-9, "{finding:?}");

    let run = compare(&a, &b, &[]);
    assert_eq!(
        run.code,
        Some(0),
        "without the flag it is told only: {run:?}"
    );
    let run = compare(
        &b.replacen('B', "old", 1),
        &a.replacen('A', "new", 1),
        &["--fail-on-regression"],
    );
    assert_eq!(
        run.code,
        Some(0),
        "what is better is no regression: {run:?}"
    );
    assert!(run.stdout.contains("better"), "{run:?}");
}

#[test]
fn equal_groups_are_no_difference_and_noisy_ones_inconclusive() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &slower(1.001), same);
    let only = ["--metric=cpu-per-message", "--fail-on-inconclusive"];
    let run = compare(&a, &b, &only);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("no difference"), "{run:?}");

    // The margin does not depend on the noise of the runs.
    let values_ns = [1_000.0, 30_000.0, 5_000.0, 40_000.0, 2_000.0, 9_000.0];
    let noisy = files.group("C", &values_ns, same);
    for (one, other) in [(&a, &noisy), (&noisy, &a)] {
        let run = compare(one, other, &only);
        assert_eq!(run.code, Some(5), "{run:?}");
        assert!(run.stdout.contains("inconclusive"), "{run:?}");
        assert!(!run.stdout.contains("no difference"), "{run:?}");
    }
    let run = compare(&a, &noisy, &[&only[..], &["--margin=1000%"]].concat());
    assert_eq!(run.code, Some(0), "who asks for a margin gets it: {run:?}");
}

#[test]
fn groups_too_small_to_find_anything_get_a_warning() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS[..4], same);
    let b = files.group("B", &slower(73.0)[..4], same);
    let run = compare(&a, &b, &[]);
    assert!(
        run.stdout.contains("B is worse than A: CPU/message"),
        "{run:?}"
    );
    let warning = "4 runs of A and 4 of B cannot find all differences, however large; needed at \
                   least: messages/s, p50, p99";
    assert!(run.stdout.contains(warning), "{run:?}");
    let run = compare(&a, &b, &["--metric=cpu-per-message"]);
    assert!(!run.stdout.contains("needed at least"), "{run:?}");
}

#[test]
fn contradicting_numbers_are_refused() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS, |run| {
        run["summary"]["server"]["cpu_ns_per_message"] = json!(1.0);
    });
    let run = compare(&a, &b, &[]);
    let expected = "the summary is not that of the counts and histograms";
    assert!(run.refused(2).ends_with(expected), "{run:?}");
}

#[test]
fn the_same_run_counts_once() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS, same);
    let [first, copy] = ["A-0.json", "copy.json"].map(|name| files.scratch.file(name));
    let run = loadtest(&["compare", &a, &first, &b]);
    let given_twice = format!("{first} is given twice; a run counts once");
    assert_eq!(run.refused(2), given_twice);
    // A copy is detected by its content, also in the other group.
    let text = fs::read_to_string(&first).expect("a file");
    let mut renamed: Value = serde_json::from_str(&text).expect("JSON");
    renamed["label"] = json!("another");
    fs::write(&copy, renamed.to_string()).expect("it can be written");
    let same_run = format!("{copy} is the same run as {first}; a run counts once");
    let run = loadtest(&["compare", &a, &b, &copy]);
    assert_eq!(run.refused(2), same_run);
    let run = loadtest(&["export", &first, &copy, "--benchmark=smaller"]);
    assert_eq!(run.refused(2), same_run);
}

#[test]
fn workloads_that_differ_are_refused() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS, |run| {
        run["plan"]["timeout_ns"] = json!(7_000_000_000_u64);
    });
    let run = compare(&a, &b, &[]);
    let error = run.refused(2);
    let expected =
        "the workloads differ, and so nothing can be compared: timeout_ns is 120000000000 in ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn too_few_runs_are_refused() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS[..3], same);
    let run = compare(&a, &b, &[]);
    let error = run.refused(2);
    assert!(
        error.starts_with("B has 3 runs, and fewer than 4"),
        "{error}"
    );
    let run = loadtest(&["compare", &a]);
    let error = run.refused(2);
    assert!(
        error.starts_with("there has to be something to compare with"),
        "{error}"
    );
}

#[test]
fn files_without_a_result_are_named_in_one_line() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let text = files.run.to_string();
    for (content, expected) in [
        (&text[..text.len() / 2], "the file is cut off"),
        ("{\"wrk\": 1}", "this is not a result of loadtest"),
        ("", "the file is cut off"),
        ("[]", "this is an array of results"),
    ] {
        let file = files.scratch.file("foreign.json");
        fs::write(&file, content).expect("it can be written");
        let run = compare(&a, &format!("B={file}"), &[]);
        let error = run.refused(2);
        assert!(
            error.starts_with(&file) && error.contains(expected),
            "{error}"
        );
    }
    let run = compare(&a, "B=/no/such/*.json", &[]);
    assert_eq!(run.refused(2), "/no/such/*.json: no file has such a name");
}

#[test]
fn differing_machines_are_listed() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, |run| {
        run["environment"]["kernel"] = json!("6.1.0");
    });
    let b = files.group("B", &ALIKE_NS, |run| {
        run["environment"]["kernel"] = json!("6.18.0");
    });
    let run = compare(&a, &b, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let line = "the runs differ in kernel: 6.1.0 (A), 6.18.0 (B)";
    assert!(run.stdout.contains(line), "{run:?}");
}

#[test]
fn an_invalid_run_is_a_warning_and_a_failed_one_is_refused() {
    let files = Files::new();
    let a = files.group("A", &ALIKE_NS, same);
    let reason = json!({"verdict": "invalid", "what": "too slow", "advice": "wait"});
    let b = files.group("B", &ALIKE_NS, |run| {
        run["judgement"] = json!({"verdict": "invalid", "reasons": [reason], "notes": []});
    });
    let run = compare(&a, &b, &[]);
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(
        run.stdout.contains("B: 6 of 6 runs INVALID: too slow"),
        "{run:?}"
    );
    let c = files.group("C", &ALIKE_NS, |run| {
        run["status"] = json!("failed");
        run["failure"] = json!("lost\nconnection\u{1b}[1m 1");
    });
    let run = compare(&a, &c, &[]);
    assert!(
        run.refused(2)
            .ends_with("is of a run that failed: lost connection [1m 1"),
        "{run:?}"
    );
}
