//! A metric over commits.

use std::fs;

use crate::support::example::{result_of_a_run, set_cpu_per_message};
use crate::support::program::{Run, loadtest};
use crate::support::scratch::Scratch;
use serde_json::{Value, json};

const CALM_NS: [f64; 5] = [5_000.0, 5_010.0, 4_990.0, 5_020.0, 4_980.0];

/// A directory of results derived from one run.
struct Results {
    scratch: Scratch,
    run: Value,
    written: usize,
}

impl Results {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            run: result_of_a_run(),
            written: 0,
        }
    }

    /// Adds a run of each of these costs, a minute apart.
    fn commit(&mut self, commit: &str, cpu_ns: &[f64]) {
        for ns in cpu_ns {
            let mut run = self.run.clone();
            let minute = self.written;
            run["environment"]["commit"] = json!(commit);
            run["started_at"] = json!(format!("2026-11-28T10:{minute:02}:00.000Z"));
            set_cpu_per_message(&mut run, *ns);
            let file = self.scratch.file(&format!("{}.json", 99 - minute));
            fs::write(file, run.to_string()).expect("it can be written");
            self.written += 1;
        }
    }

    fn show(&self, flags: &[&str]) -> Run {
        let directory = self.scratch.path().to_str().expect("UTF-8");
        loadtest(&[&["history", directory], flags].concat())
    }
}

#[test]
fn a_commit_that_is_slower_is_marked() {
    let mut results = Results::new();
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS);
    results.commit("bbbbbbbbbbbbbbbb", &CALM_NS);
    let run = results.show(&["--fail-on-regression"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    results.commit("cccccccccccccccc", &CALM_NS.map(|ns| ns * 1.2));
    // A document of another kind, which may lie there.
    let other = json!({"format": "ringback-loadtest-comparison", "version": 1});
    fs::write(results.scratch.file("comparison.json"), other.to_string()).expect("written");

    let run = results.show(&["--fail-on-regression"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let marked: Vec<_> = run
        .stdout
        .lines()
        .filter(|line| line.ends_with("◀ worse, +20 %"))
        .collect();
    assert_eq!(marked.len(), 1, "{run:?}");
    assert!(marked[0].starts_with("ccccccccc "), "{run:?}");

    let run = results.show(&["--format=csv"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{run:?}");
    assert!(
        lines[3].contains(",ccccccccc,2026-11-28,5,6000,"),
        "{run:?}"
    );
    assert!(lines[3].contains(",worse,1.2"), "{run:?}");

    // The throughput does not change.
    let run = results.show(&["--metric=throughput", "--fail-on-regression"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn a_copy_of_a_run_is_left_out() {
    let mut results = Results::new();
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS[..1]);
    let [first, copy] = ["99.json", "latest.json"].map(|name| results.scratch.file(name));
    fs::copy(&first, &copy).expect("copied");
    let run = results.show(&["--format=csv"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains(",aaaaaaaaa,2026-11-28,1,"), "{run:?}");
    let expected = format!("{copy} is left out: it is the same run as {first}");
    assert_eq!(run.error(), expected);
}

#[test]
fn each_workload_is_shown_by_itself() {
    let mut results = Results::new();
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS);
    results.run["plan"]["load"] = json!({"loop": "closed", "window": 3});
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS.map(|ns| ns * 9.0));
    let run = results.show(&[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    // The plot of a point is below its numbers.
    let points = |run: &Run| {
        let lines = run.stdout.lines();
        lines.filter(|it| it.starts_with("aaaaaaaaa  2")).count()
    };
    assert_eq!(points(&run), 2, "{run:?}");
    results.run["label"] = json!("another server");
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS.map(|ns| ns * 2.0));
    let run = results.show(&[]);
    assert_eq!(points(&run), 3, "{run:?}");
    assert!(!run.stdout.contains("worse"), "{run:?}");
}

#[test]
fn runs_that_are_invalid_are_left_out() {
    let mut results = Results::new();
    results.commit("aaaaaaaaaaaaaaaa", &CALM_NS);
    let slow = CALM_NS.map(|ns| ns * 2.0);
    let too_slow = json!({"verdict": "invalid", "what": "too slow", "advice": "wait"});
    results.run["judgement"]["reasons"] = json!([too_slow]);
    results.commit("bbbbbbbbbbbbbbbb", &slow);
    results.run["judgement"]["reasons"] = json!([]);
    results.run["status"] = json!("failed");
    results.run["failure"] = json!("lost connection 1");
    results.commit("cccccccccccccccc", &slow);
    let run = results.show(&["--fail-on-regression"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("aaaaaaaaa"), "{run:?}");
    assert!(!run.stdout.contains("bbbbbbbbb"), "{run:?}");
    for (why, count) in [("too slow", 5), ("lost connection 1", 5)] {
        let line = format!(" is left out: it is INVALID: {why}");
        assert_eq!(run.stderr.matches(&line).count(), count, "{run:?}");
    }
}

#[test]
fn a_directory_without_results_is_refused_in_one_line() {
    let results = Results::new();
    let directory = results.scratch.path().to_str().expect("UTF-8");
    let run = results.show(&[]);
    assert_eq!(
        run.refused(2),
        format!("{directory}: there is no valid result in it")
    );
    let run = loadtest(&["history", "/no/such/directory"]);
    assert!(
        run.refused(2).starts_with("/no/such/directory: "),
        "{run:?}"
    );
    let cut = results.run.to_string();
    let file = results.scratch.file("cut.json");
    fs::write(&file, &cut[..cut.len() / 2]).expect("it can be written");
    let run = results.show(&[]);
    assert_eq!(run.refused(2), format!("{file}: the file is cut off"));
}
