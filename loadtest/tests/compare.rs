//! Groups of result files, compared.

#[path = "support/flags.rs"]
mod support;

use std::fs;

use loadtest::comparison::{Comparison, Design, Verdict};
use loadtest::metric::Metric;
use loadtest::result::Document;
use serde_json::{Value, json};
use support::example::result_of_a_run;
use support::own_server::serve_if_asked;
use support::program::{Run, loadtest};
use support::scratch::Scratch;

#[test]
fn serves_when_another_test_asks() {
    serve_if_asked();
}

/// The nanoseconds of CPU per message of six runs that are alike.
const ALIKE_NS: [f64; 6] = [5_000.0, 5_010.0, 4_990.0, 5_030.0, 4_980.0, 5_020.0];

/// A run's file, and others made of it.
struct Files {
    scratch: Scratch,
    run: Value,
}

impl Files {
    fn new(name: &str) -> Self {
        Self {
            scratch: Scratch::new(name),
            run: result_of_a_run(name),
        }
    }

    /// Writes a file for each of these, and gives the argument that names them.
    fn group(&self, label: &str, cpu_ns: &[f64], change: impl Fn(&mut Value)) -> String {
        for (index, ns) in cpu_ns.iter().enumerate() {
            let mut run = self.run.clone();
            run["summary"]["server"]["cpu_ns_per_message"] = json!(ns);
            run["judgement"] = json!({"verdict": "valid", "reasons": [], "notes": []});
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
fn a_regression_is_found_and_told_by_the_exit_code() {
    let files = Files::new("compare-regression");
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
        (Verdict::Worse, Verdict::Worse)
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
fn what_is_alike_is_no_difference_and_what_is_noise_is_inconclusive() {
    let files = Files::new("compare-alike");
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &slower(1.001), same);
    let only = ["--metric=cpu-per-message", "--fail-on-inconclusive"];
    let run = compare(&a, &b, &only);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("no difference"), "{run:?}");

    let values_ns = [3_000.0, 8_000.0, 5_000.0, 12_000.0, 2_000.0, 6_000.0];
    let noisy = files.group("C", &values_ns, same);
    let run = compare(&a, &noisy, &[&only[..], &["--margin=10%"]].concat());
    assert_eq!(run.code, Some(5), "{run:?}");
    assert!(run.stdout.contains("inconclusive"), "{run:?}");
    // Unless that much is what runs of one server differ by.
    let run = compare(&a, &noisy, &only);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("no difference"), "{run:?}");
}

#[test]
fn workloads_that_differ_are_refused() {
    let files = Files::new("compare-workloads");
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS, |run| {
        run["plan"]["timeout_ns"] = json!(7_000_000_000_u64);
    });
    let run = compare(&a, &b, &[]);
    let complaint = run.refused(2);
    let says = "the workloads differ, and so nothing can be compared: timeout_ns is 5000000000 in ";
    assert!(complaint.starts_with(says), "{complaint}");
}

#[test]
fn too_few_runs_are_refused() {
    let files = Files::new("compare-few");
    let a = files.group("A", &ALIKE_NS, same);
    let b = files.group("B", &ALIKE_NS[..3], same);
    let run = compare(&a, &b, &[]);
    let complaint = run.refused(2);
    assert!(
        complaint.starts_with("B has 3 runs, and fewer than 4"),
        "{complaint}"
    );
    let run = loadtest(&["compare", &a]);
    let complaint = run.refused(2);
    assert!(
        complaint.starts_with("there has to be something to compare with"),
        "{complaint}"
    );
}

#[test]
fn files_that_are_no_results_are_named_in_one_line() {
    let files = Files::new("compare-foreign");
    let a = files.group("A", &ALIKE_NS, same);
    let text = files.run.to_string();
    for (content, says) in [
        (&text[..text.len() / 2], "the file is cut off"),
        ("{\"wrk\": 1}", "this is no result of loadtest"),
        ("", "the file is cut off"),
        ("[]", "this is an array of results"),
    ] {
        let file = files.scratch.file("foreign.json");
        fs::write(&file, content).expect("it can be written");
        let run = compare(&a, &format!("B={file}"), &[]);
        let complaint = run.refused(2);
        assert!(
            complaint.starts_with(&file) && complaint.contains(says),
            "{complaint}"
        );
    }
    let run = compare(&a, "B=/no/such/*.json", &[]);
    assert_eq!(run.refused(2), "/no/such/*.json: no file has such a name");
}

#[test]
fn machines_that_differ_are_told() {
    let files = Files::new("compare-machines");
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
fn a_run_that_is_invalid_is_told_and_one_that_failed_is_refused() {
    let files = Files::new("compare-invalid");
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
