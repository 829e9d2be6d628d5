//! Reports as text.

use super::super::fixture::{changed_run, search, sweep};
use super::*;

fn text(file: &SweepFile) -> String {
    SweepReport { file, columns: 70 }.text(false)
}

#[test]
fn a_sweep_has_a_line_and_a_band_for_each_rate() {
    let mut file = sweep();
    file.points[0].runs[1] = changed_run(10e3, |outcome| {
        outcome
            .latencies
            .response_ns
            .record_n(4_000_000, 20_000)
            .expect("in range");
    });
    let text = text(&file);
    let lines: Vec<_> = text.lines().collect();
    let first = "ws://127.0.0.1:9001/: open loop, fixed over 100 connections, 32 B binary, 10s \
                 after 1s warm-up";
    assert_eq!(lines[0], first);
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(words(lines[2]), "rate reached runs p50 p99 p99.9");
    assert_eq!(words(lines[3]), "10,000/s 50,000 3 50.0 µs 80.1 µs 1.00 ms");
    assert_eq!(
        words(lines[4]),
        "50,000–50,000 50.0–50.0 µs 80.1 µs–4.00 ms 1.00–4.00 ms"
    );
    // Columns that do not fit beside those.
    for line in [
        "rate max server CPU/msg verdict",
        "10,000/s 5.00 ms 5000 ns VALID",
        "5.00–5.00 ms 5000–5000 ns",
    ] {
        assert!(lines.iter().any(|it| words(it) == line), "{line}: {text}");
    }
    assert!(text.contains("INVALID, 1 left out\n"), "{text}");
    assert!(
        text.contains("400,000/s  left out: a lower rate was not reached\n"),
        "{text}"
    );
    assert!(
        text.contains("INVALID at 200k/s: only 250,000 of 500,000"),
        "{text}"
    );
    assert!(text.contains("o p50  x p99   against messages/s"), "{text}");
}

#[test]
fn the_median_of_two_runs_is_their_mean() {
    let mut file = sweep();
    let slower = changed_run(10e3, |outcome| {
        outcome.server.as_mut().expect("it is known").cpu_ns *= 3;
    });
    file.points[0].runs = vec![file.points[0].runs[0].clone(), slower];
    // 5,000 and 15,000 ns per message.
    assert!(text(&file).contains(" 10000 ns "), "{}", text(&file));
}

#[test]
fn the_width_of_a_plot_is_bounded() {
    let file = sweep();
    for (columns, most) in [(20, 60), (70, 70), (500, 76)] {
        let text = SweepReport {
            file: &file,
            columns,
        }
        .text(false);
        let lines = text.lines().filter(|line| line.contains(['│', '┤', '└']));
        let widest = lines.map(|line| line.chars().count()).max();
        assert!(
            widest.is_some_and(|widest| (most - 8..=most).contains(&widest)),
            "{text}"
        );
    }
}

#[test]
fn a_search_lists_its_runs_and_ends_in_its_answer() {
    let text = text(&search());
    let runs: Vec<_> = text.lines().skip(2).take(5).collect();
    assert!(
        runs[0].starts_with("run") && runs[0].contains("p99<1ms"),
        "{text}"
    );
    assert!(
        runs[1].contains("holds") && runs[1].ends_with("explore"),
        "{text}"
    );
    assert!(
        runs[2].contains("INVALID") && runs[2].contains("fails"),
        "{text}"
    );
    assert!(
        runs[4].contains("holds") && runs[4].ends_with("confirm"),
        "{text}"
    );
    assert!(
        text.ends_with(
            "\nhighest rate that holds p99<1ms: 10,000/s (fails at 200,000/s), confirmed 2 of 2\n"
        ),
        "{text}"
    );
}

#[test]
fn every_answer_is_a_line() {
    let answer = |answer| {
        let mut file = search();
        file.search.as_mut().expect("a search").answer = answer;
        SweepReport {
            file: &file,
            columns: 70,
        }
        .answer()
        .expect("a line")
    };
    assert_eq!(
        answer(Answer::Found {
            rate_per_s: 5e3,
            fails_at_per_s: None,
            confirmed: 1
        }),
        "highest rate that holds p99<1ms: 5,000/s (the highest that was tried), confirmed 1 of 1"
    );
    assert_eq!(
        answer(Answer::NothingHolds { lowest_per_s: 1e3 }),
        "not even 1,000/s holds p99<1ms"
    );
    assert_eq!(
        answer(Answer::Unconfirmed {
            held_per_s: Some(1e3),
            fails_at_per_s: Some(2e3)
        }),
        "no rate was confirmed to hold p99<1ms; 1,000/s held; 2,000/s failed"
    );
}

#[test]
fn an_answer_of_doubtful_runs_has_a_remark() {
    let mut file = search();
    file.points[0].runs[2] = changed_run(10e3, |outcome| outcome.shared_core = Some(true));
    let text = text(&file);
    let expected = "confirmed 2 of 2; its runs are SUSPECT, see above\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(
        text.contains("SUSPECT at 10k/s: server and generator"),
        "{text}"
    );
}

#[test]
fn a_search_that_doubtful_runs_ended_names_the_rate() {
    let mut file = search();
    let answer = Answer::Unconfirmed {
        held_per_s: Some(10e3),
        fails_at_per_s: None,
    };
    let search = file.search.as_mut().expect("a search");
    search.answer = answer;
    search.probes.truncate(3);
    search.probes[2].held = None;
    let text = text(&file);
    let expected = "no rate was confirmed to hold p99<1ms; 10,000/s held; runs at 10,000/s are \
                    unknown, see above\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(text.contains("  unknown  explore\n") || text.contains("  unknown  confirm\n"));
}

#[test]
fn markdown_has_the_band_in_the_cell() {
    let file = sweep();
    let markdown = SweepReport {
        file: &file,
        columns: 70,
    }
    .markdown();
    assert!(
        markdown.contains("| 50.0 µs (50.0–50.0 µs) |"),
        "{markdown}"
    );
    assert!(markdown.contains("```text\n"), "{markdown}");
    assert!(!markdown.contains('\x1b'));
}

#[test]
fn csv_has_a_line_per_run() {
    let file = search();
    let csv = SweepReport {
        file: &file,
        columns: 70,
    }
    .csv();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + file.runs().count());
    let commas = |line: &str| line.matches(',').count();
    assert!(
        lines.iter().all(|line| commas(line) == commas(lines[0])),
        "{csv}"
    );
    assert!(lines[1].starts_with("10000,1,"), "{csv}");
    assert!(
        lines[1].contains(",VALID,true,50000,500000,500000,0,5001215,5000,0.4,50015,"),
        "{csv}"
    );
}
