//! Results as an HTML page.

use std::fs;

use crate::support::peer::{ringback, url_of};
use crate::support::program::{Run, loadtest};
use crate::support::scratch::Scratch;
use loadtest::comparison::{
    Comparison, ComparisonFormat, ComparisonVerdict, Contrast, Design, LEVEL, Settings, Side,
    VERSION, Values,
};
use loadtest::machine::Environment;
use loadtest::metric::Metric;
use loadtest::result::{Document, ResultFile};

/// Makes the results of short runs at one server.
fn runs(scratch: &Scratch, names: &[&str]) -> Vec<String> {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let drive = |name: &&str| {
        let file = scratch.file(&format!("{name}.json"));
        let arguments = [
            "run",
            &url,
            "-c2",
            "--rate=1k",
            "-d1200ms",
            "--warmup=50ms",
            "-o",
            &file,
        ];
        loadtest(&arguments).assert_ok();
        file
    };
    names.iter().map(drive).collect()
}

/// The page of these files.
fn page(scratch: &Scratch, files: &[&str]) -> String {
    let output = scratch.file("report.html");
    let run = report(files, &output);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.error().ends_with("report.html is written"), "{run:?}");
    fs::read_to_string(output).expect("a page")
}

fn report(files: &[&str], output: &str) -> Run {
    loadtest(&[&["report", "-o", output], files].concat())
}

/// Two servers, of which the second costs less. Derived values are computed when it is read.
fn comparison() -> Comparison {
    let side = |label: &str, factor: f64| Side {
        label: label.to_owned(),
        command: None,
        binary_sha256: None,
        runs: 8,
        invalid: 0,
        values: [(
            Metric::CpuPerMessage,
            Values {
                by_run: (0..8)
                    .map(|run| Some(factor * (5_000.0 + 10.0 * f64::from(run))))
                    .collect(),
                median: None,
                interval: None,
            },
        )]
        .into(),
    };
    Comparison {
        format: ComparisonFormat::Comparison,
        version: VERSION,
        design: Design::Paired,
        settings: Settings {
            metrics: vec![Metric::CpuPerMessage],
            min_effect: 0.02,
            margin: None,
            level: LEVEL,
            is_closed_loop: false,
            seed: 1,
        },
        args: vec!["ab".to_owned(), "a server".to_owned()],
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        workload: "open loop, 1,000/s".to_owned(),
        sides: vec![side("epoll", 1.0), side("<b>ring</b>", 0.9)],
        noise: None,
        contrasts: vec![Contrast {
            side: "<b>ring</b>".to_owned(),
            baseline: "epoll".to_owned(),
            findings: Vec::new(),
            verdict: ComparisonVerdict::Worse,
        }],
        warnings: vec!["1 of 16 runs is SUSPECT".to_owned()],
        environment: Environment::default(),
    }
}

#[test]
fn a_page_holds_everything_of_a_run() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["run"]);
    let result = ResultFile::read(files[0].as_ref()).expect("a result");
    let page = page(&scratch, &[&files[0]]);
    for text in [
        "<h2 id=\"runs-title\">Runs</h2>",
        "Latency by percentile",
        "Distribution of the response time",
        "Response time over time",
        "Rate over time",
        "CPU and memory",
        "Environment",
        "service time",
        &result.label,
        &result.judgement.verdict.to_string(),
        &format!("loadtest run {}", result.label),
        &format!("loadtest rerun {}", files[0]),
        "default-src 'none'",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn the_same_files_make_the_same_page() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["b", "a"]);
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let first = page(&scratch, &files);
    assert_eq!(page(&scratch, &files), first);
    assert_ne!(page(&scratch, &files[..1]), first);
    // Runs of one server are distinguished by their files.
    assert!(
        first.contains("At p99, ") || first.contains("laid over each other"),
        "{first}"
    );
}

/// No run is called the best, least of all one that failed: that takes a comparison.
#[test]
fn no_run_is_called_the_best() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["a", "b", "c"]);
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let mut results: Vec<_> = files
        .iter()
        .map(|file| ResultFile::read(file.as_ref()).expect("a result"))
        .collect();
    let judged = |result: &mut ResultFile, verdict| {
        result.judgement.verdict = verdict;
        result.judgement.reasons.clear();
    };
    for result in &mut results {
        judged(result, loadtest::verdict::Verdict::Valid);
    }
    let by_p99 = |result: &ResultFile| result.summary.response_ns.percentiles["p99"];
    results.sort_by_key(by_p99);
    judged(&mut results[0], loadtest::verdict::Verdict::Invalid);
    for (result, (file, label)) in results.iter_mut().zip(files.iter().zip(["x", "y", "z"])) {
        result.label = label.to_owned();
        result.write(file.as_ref()).expect("a file");
    }
    let page = page(&scratch, &files);
    assert!(!page.contains("fastest") && !page.contains("slowest with"));
    if by_p99(&results[1]) < by_p99(&results[2]) {
        let expected = page.split_once("At p99, from ").expect("a sentence").1;
        let (expected, _) = expected.split_once('.').expect("its end");
        assert!(!expected.contains(" of x "), "x failed: {expected}");
    } else {
        assert!(page.contains("laid over each other"));
    }
}

#[test]
fn directories_are_read_by_name_and_files_once() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["b", "a"]);
    fs::write(scratch.file("notes.txt"), "not for a report").expect("a file");
    fs::create_dir(scratch.file("more.json")).expect("a directory");
    let directory = scratch.path().to_str().expect("UTF-8").to_owned();
    let page = page(&scratch, &[&directory, &files[0]]);
    assert!(page.contains("every reply checked: 2 runs."), "two runs");
    let load = "open loop, 1,000/s fixed over 2 connections, 32 B binary, 1.2s after 50ms warm-up";
    assert!(page.contains(&format!("<p>Load of every run: {load}.</p>")));
    assert!(!page.contains(">load</th>"), "no column of it");
    let at = |file: &str| {
        page.find(&format!("loadtest rerun {file}"))
            .expect("its command")
    };
    assert!(at(&files[1]) < at(&files[0]));
}

#[test]
fn a_copy_of_a_run_is_left_out() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["run"]);
    let (copy, output) = (scratch.file("copy.json"), scratch.file("report.html"));
    fs::copy(&files[0], &copy).expect("copied");
    let run = report(&[&files[0], &copy], &output);
    assert_eq!(run.code, Some(0), "{run:?}");
    let expected = format!("{copy} is left out: it is the same run as {}", files[0]);
    assert!(run.stderr.contains(&expected), "{run:?}");
    let page = fs::read_to_string(output).expect("a page");
    assert!(page.contains("every reply checked: 1 run"), "one run");
}

#[test]
fn a_comparison_is_shown_as_a_forest() {
    let scratch = Scratch::new();
    let file = scratch.file("comparison.json");
    comparison().write(file.as_ref()).expect("a file");
    let page = page(&scratch, &[&file]);
    for text in [
        "&lt;b&gt;ring&lt;/b&gt; against epoll is better: CPU/message 0.900× [0.900, 0.900], better.",
        "1 of 16 runs is SUSPECT",
        "▲ better",
        "Every run's values",
        "loadtest ab 'a server'",
        "comparison-1-forest-1-wide",
        "run 3: 4518 ns",
    ] {
        assert!(page.contains(text), "{text} is missing: {page}");
    }
    assert!(!page.contains("<b>"));
}

#[test]
fn a_sweep_is_drawn_against_its_load() {
    let scratch = Scratch::new();
    let server = ringback(|_| {});
    let (url, file) = (url_of(&server), scratch.file("sweep.json"));
    let arguments = [
        "sweep",
        "-c2",
        "-d200ms",
        "--warmup=20ms",
        "--rates=400,1k",
        "-o",
        &file,
        &url,
    ];
    loadtest(&arguments).assert_ok();
    let page = page(&scratch, &[&file]);
    for text in [
        "Response time against load",
        "p50 at 400/s: ",
        "<td class=\"number\">1</td>",
        "every reply checked: 1 sweep.",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
}

#[test]
fn many_runs_share_lines_by_their_labels() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["run"]);
    let result = ResultFile::read(files[0].as_ref()).expect("a result");
    let copies: Vec<_> = (0..12)
        .map(|index| {
            let file = scratch.file(&format!("copy-{index}.json"));
            let mut copy = result.clone();
            copy.label = format!("server {}", index % 2);
            copy.started_at = format!("2026-11-28T10:00:{index:02}.000Z");
            copy.write(file.as_ref()).expect("a file");
            file
        })
        .collect();
    let copies: Vec<_> = copies.iter().map(String::as_str).collect();
    let page = page(&scratch, &copies);
    assert!(page.contains("12 runs are too many for a line each"));
    assert!(page.contains("server 1 (6 runs)"));
    assert!(page.contains("The first 8 of 12 runs are shown."));
}

#[test]
fn a_file_without_a_document_is_one_line() {
    let scratch = Scratch::new();
    let files = runs(&scratch, &["run"]);
    let text = fs::read_to_string(&files[0]).expect("a result");
    let bad = |name: &str, text: &str| {
        let file = scratch.file(name);
        fs::write(&file, text).expect("a file");
        file
    };
    let output = scratch.file("report.html");
    fs::create_dir(scratch.file("empty")).expect("a directory");
    let of_next_version = text.replacen("\"version\": 1", "\"version\": 99", 1);
    for (file, expected) in [
        (
            bad("cut.json", &text[..text.len() / 2]),
            "the file is cut off",
        ),
        (
            bad("foreign.json", "{\"format\": \"other\"}"),
            "its format is not that of a run",
        ),
        (
            bad("text.json", "hello"),
            "this is not a result of loadtest",
        ),
        (bad("array.json", "[]"), "this is an array of results"),
        (
            bad("new.json", &of_next_version),
            "version 99 of the format is newer",
        ),
        (scratch.file("missing.json"), "No such file"),
        (scratch.file("empty"), "there is no .json file in it"),
    ] {
        let run = report(&[&files[0], &file], &output);
        let error = run.refused(2);
        assert!(error.contains(&file) && error.contains(expected), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(fs::metadata(&output).is_err(), "a page of {file}");
    }
    let run = report(&[&files[0]], &scratch.file("no/report.html"));
    assert!(run.refused(2).contains("No such file"), "{run:?}");
    assert!(
        loadtest(&["report", &files[0]])
            .refused(2)
            .contains("--output")
    );
    assert!(
        loadtest(&["report", "-o", &output])
            .refused(2)
            .contains("FILE")
    );
}

#[test]
fn help_has_examples() {
    let run = loadtest(&["report", "--help"]);
    assert_eq!(run.code, Some(0));
    assert!(
        run.stdout
            .contains("loadtest report results/ -o report.html"),
        "{run:?}"
    );
}
