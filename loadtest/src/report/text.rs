//! Reports for a terminal.

use super::grid::Grid;
use super::{Measured, ServerTable, Summary, cells, parts};
use crate::paint::paint;
use crate::slo::SloResult;
use crate::terminal::sanitized;
use crate::verdict::{Judgement, Verdict};

/// The width of the longest title, so that all tables of a summary begin in the same column.
const TITLE_WIDTH: usize = "response time".len();

pub(super) fn summary(summary: &Summary<'_>, color: bool) -> String {
    let counts = &summary.outcome.counts;
    let mut facts = Grid::default();
    for (title, fact) in [
        ("throughput", parts::throughput(summary)),
        ("messages", cells::messages(counts)),
        ("batching", cells::batching(counts)),
        ("connecting", parts::connecting(summary)),
    ] {
        facts.add(&format!("{title:<TITLE_WIDTH$}"), Vec::new(), &fact);
    }
    let mut costs = parts::costs(summary);
    let below = " ".repeat(TITLE_WIDTH);
    for line in parts::busiest(summary) {
        costs.add(&below, Vec::new(), &line);
    }

    let mut text = format!("{}\n{}\n", summary.plan, parts::targets(summary));
    for line in parts::annotations(summary.environment) {
        text.extend([&line, "\n"]);
    }
    text.push('\n');
    for grid in [parts::times(summary), facts, costs] {
        text += &grid.text();
        text.push('\n');
    }
    text += &verdict(summary.judgement, color);
    text += &objectives(summary.objectives, color);
    text
}

pub(super) fn table(table: &ServerTable<'_>, color: bool) -> String {
    let mut text = format!("{}\n{}", table.plan, parts::servers(table).text());
    for row in table.rows {
        if let Measured::Run(_, judgement) = &row.measured {
            text += &reasons_of(&row.server, judgement, color);
        }
    }
    text
}

fn verdict(judgement: &Judgement, color: bool) -> String {
    let verdict = judgement.verdict;
    let mut lines = vec![paint(&verdict.to_string(), verdict, color)];
    for reason in &judgement.reasons {
        let key = paint(&format!("{:<7}", reason.verdict), reason.verdict, color);
        lines.push(format!("  {key}  {}", sanitized(&reason.what)));
        lines.push(format!("  {:<7}  {}", "", sanitized(&reason.advice)));
    }
    for note in &judgement.notes {
        lines.push(format!("  {:<7}  {}", "note", sanitized(note)));
    }
    lines.join("\n") + "\n"
}

fn objectives(results: &[SloResult], color: bool) -> String {
    if results.is_empty() {
        return String::new();
    }
    let statuses = results.iter().map(parts::objective_status);
    let width = statuses.map(str::len).max().unwrap_or(0);
    let line = |result: &SloResult| {
        let verdict = if result.met {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        let status = format!("{:<width$}", parts::objective_status(result));
        let status = paint(&status, verdict, color);
        format!("  {status}  {}  ({})\n", result.objective, result.observed)
    };
    "\nobjectives\n".to_owned() + &results.iter().map(line).collect::<String>()
}

/// The reasons against one of several servers.
fn reasons_of(server: &str, judgement: &Judgement, color: bool) -> String {
    let lines = judgement.reasons.iter().map(|reason| {
        format!(
            "{}: {}, {}\n    {}\n",
            sanitized(server),
            paint(&reason.verdict.to_string(), reason.verdict, color),
            sanitized(&reason.what),
            reason.advice
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{rendered, three_servers};
    use super::*;
    use crate::failure::Failure;
    use crate::plan::Load;
    use crate::report::OutputFormat;

    #[test]
    fn the_summary_lines_up() {
        assert_eq!(
            rendered(|_, _| {}, "", OutputFormat::Text, false),
            "\
open loop, 50,000/s fixed over 100 connections, 32 B binary, 10s after 1s warm-up
ws://127.0.0.1:9001/

        response time  service time  generator lag  handshake
min           50.0 µs       49.0 µs        1.00 µs     200 µs
p50           50.0 µs       49.0 µs        1.00 µs     200 µs
p90           50.0 µs       49.0 µs        1.00 µs     200 µs
p95           50.0 µs       49.0 µs        1.00 µs     200 µs
p99           80.1 µs       79.0 µs        1.00 µs          –
p99.9         1.00 ms        999 µs        1.00 µs          –
p99.99        1.00 ms        999 µs        1.00 µs          –
max           5.00 ms       5.00 ms        1.00 µs     200 µs
mean          51.8 µs       50.8 µs        1.00 µs     200 µs
stdev         39.6 µs       39.6 µs           0 ns       0 ns

throughput     50,000 messages/s   1.6 MB/s   (target 50,000/s, 100.0 %)
messages       500,000 due, 500,000 answered, 0 unanswered, 0 timed out
batching       1.2 messages per read, 1.0 per write
connecting     100 handshakes, 2 at a time at most

                CPU/msg     user   system  switches  RSS/conn   CPU  waited
server          5000 ns  1000 ns  4000 ns     0.500         –  25 %   3.8 %
generator      10000 ns  6000 ns  4000 ns     0.010         –  50 %   0.2 %
               2000 ns of the generator's CPU/msg were spinning
               busiest thread: generator 40 %, server 24 % of the time

VALID
"
        );
    }

    #[test]
    fn reasons_are_listed_with_advice() {
        let text = rendered(
            |_, outcome| {
                outcome.counts.echoed = 410_000;
                outcome.counts.answered = 499_400;
                outcome.counts.sent = 499_900;
                outcome.counts.unanswered = 600;
                outcome.counts.timed_out = 600;
                outcome.server = None;
                outcome.server_busy_max = None;
                outcome.shared_core = Some(true);
            },
            "p99<2ms,p99.9<5ms,handshake.p99<1s",
            OutputFormat::Text,
            false,
        );
        assert_eq!(
            text,
            "\
open loop, 50,000/s fixed over 100 connections, 32 B binary, 10s after 1s warm-up
ws://127.0.0.1:9001/

        response time  service time  generator lag  handshake
min           50.0 µs       49.0 µs        1.00 µs     200 µs
p50           50.0 µs       49.0 µs        1.00 µs     200 µs
p90           50.0 µs       49.0 µs        1.00 µs     200 µs
p95           50.0 µs       49.0 µs        1.00 µs     200 µs
p99           80.1 µs       79.0 µs        1.00 µs          –
p99.9        ≥1.00 ms       ≥999 µs        1.00 µs          –
p99.99       ≥1.00 ms       ≥999 µs        1.00 µs          –
max          ≥5.00 ms      ≥5.00 ms        1.00 µs     200 µs
mean         ≥51.8 µs      ≥50.8 µs        1.00 µs     200 µs
stdev        ≥39.6 µs      ≥39.6 µs           0 ns       0 ns

throughput     41,000 messages/s   1.6 MB/s   (target 50,000/s, 82.0 %)
messages       500,000 due, 499,400 answered, 600 unanswered, 600 timed out, 100
               never sent
batching       1.0 messages per read, 1.0 per write
connecting     100 handshakes, 2 at a time at most

                CPU/msg     user   system  switches  RSS/conn   CPU  waited
server                –        –        –         –         –     –       –
generator      12195 ns  7317 ns  4878 ns     0.012         –  50 %   0.2 %
               2439 ns of the generator's CPU/msg were spinning
               busiest thread: generator 40 % of the time

INVALID
  INVALID  only 410,000 of 500,000 replies came in time (82.0 % of the target rate)
           the server is saturated: latency grows for as long as the run lasts; lower --rate
  SUSPECT  server and generator were seen on the same core
           keep them apart with --pin and --server-pin
  note     600 messages timed out, 600 were never answered: those count with their age when given up, the least their latency can be

objectives
  met              p99<2ms  (80.1 µs)
  MISSED           p99.9<5ms  (≥1.00 ms)
  too few samples  handshake.p99<1s  (–)
"
        );
    }

    #[test]
    fn a_failed_run_of_another_loop_has_no_target() {
        let text = rendered(
            |plan, outcome| {
                plan.load = Load::Closed { window: 1 };
                outcome.failure = Some(Failure::Embedded {
                    engine: "epoll".to_owned(),
                    reason: "\x1b[2J".to_owned(),
                });
            },
            "",
            OutputFormat::Text,
            true,
        );
        let (_, end) = text.split_once("throughput     ").unwrap();
        assert_eq!(
            end,
            "\
     50,000 messages/s   1.6 MB/s
messages       500,000 due, 500,000 answered, 0 unanswered, 0 timed out
batching       1.2 messages per read, 1.0 per write
connecting     100 handshakes, 2 at a time at most

                CPU/msg     user   system  switches  RSS/conn   CPU  waited
server          5000 ns  1000 ns  4000 ns     0.500         –  25 %   3.8 %
generator      10000 ns  6000 ns  4000 ns     0.010         –  50 %   0.2 %
               2000 ns of the generator's CPU/msg were spinning
               busiest thread: generator 40 %, server 24 % of the time

\x1b[1;31mINVALID\x1b[0m
  \x1b[1;31mINVALID\x1b[0m  the embedded server (engine epoll):  [2J
           what was counted is no measurement
  note     a closed loop slows down with its server and under-reports stalls; use --rate for latency
  note     neither is the limit: the server's busiest thread ran 24 % of the time, the generator's 40 %; try more in flight (-c, -w)
"
        );
    }

    #[test]
    fn no_table_is_wider_than_a_terminal() {
        let text = rendered(
            |plan, outcome| {
                plan.connections = 1 << 24;
                let counts = &mut outcome.counts;
                counts.due = u64::MAX / 4;
                counts.sent = counts.due - 1;
                counts.unanswered = 123_456_789_012;
                counts.timed_out = 123_456_789_012;
                counts.blocked = 987_654_321_098;
                counts.handshakes = 98_765_432_109;
                let longest = outcome.latencies.response_ns.high();
                outcome.latencies.response_ns.record(longest).unwrap();
                outcome.generator.usage.cpu_ns = u64::MAX / 2;
                outcome.generator.usage.rss_after = u64::MAX;
            },
            "",
            OutputFormat::Text,
            false,
        );
        let (_, tables) = text.split_once("\n\n").unwrap();
        let (tables, _) = tables.rsplit_once("\n\n").unwrap();
        assert!(
            tables.contains("p99.99") && tables.contains("busiest thread"),
            "{text}"
        );
        for line in tables.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let (plan, rows) = three_servers();
        let table = ServerTable {
            plan: &plan,
            rows: &rows,
        };
        assert_eq!(
            table.text(false),
            "\
closed loop, 2 connections × 3 in flight, 16 KiB text, 3s after 500ms warm-up
server       messages/s      p50      p99  p99.9      max  CPU/msg  verdict
epoll             2,000  5.00 µs  5.00 µs      –  2.00 ms  5012 ns  SUSPECT
tokio-uring  unavailable: no io_uring
idle                  0        –        –      –        –        –  INVALID
epoll: SUSPECT, server and generator were seen on the same core
    keep them apart with --pin and --server-pin
idle: INVALID, no message was answered
    there is nothing to measure; run longer (-d) or look at the server
"
        );
    }
}
