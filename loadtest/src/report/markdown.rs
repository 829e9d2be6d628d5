//! Reports as GitHub-flavored Markdown.

use super::grid::{Grid, escape};
use super::{Measured, ServerTable, Summary, cells, parts};
use crate::verdict::{Judgement, Reason};

pub(super) fn summary(summary: &Summary<'_>) -> String {
    let counts = &summary.outcome.counts;
    let title = format!(
        "**{}**: {}\n",
        escape(&parts::label(summary)),
        escape(&summary.plan.to_string())
    );
    let annotations = parts::annotations(summary.environment);
    let annotations = annotations
        .iter()
        .map(|line| format!("- {}\n", escape(line)));
    let [spinning, busiest] = parts::busiest(summary);
    let facts = [
        parts::throughput(summary),
        cells::messages(counts),
        cells::batching(counts),
        parts::connecting(summary),
        spinning,
        busiest,
    ];
    let mut blocks = vec![
        title,
        annotations.collect(),
        parts::times(summary).markdown(),
        facts.map(|fact| format!("- {}\n", escape(&fact))).concat(),
        parts::costs(summary).markdown(),
        format!("**{}**\n", summary.judgement.verdict),
        reasons(summary.judgement, "") + &notes(summary.judgement),
    ];
    if !summary.objectives.is_empty() {
        blocks.push(objectives(summary).markdown());
    }
    apart(blocks)
}

pub(super) fn table(table: &ServerTable<'_>) -> String {
    let against = table.rows.iter().map(|row| match &row.measured {
        Measured::Run(_, judgement) => reasons(judgement, &format!("{}: ", escape(&row.server))),
        Measured::Unavailable(_) => String::new(),
    });
    apart(vec![
        format!("{}\n", escape(&table.plan.to_string())),
        parts::servers(table).markdown(),
        against.collect(),
    ])
}

/// Joins blocks with an empty line between them, which Markdown needs; empty ones are left out.
fn apart(mut blocks: Vec<String>) -> String {
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n")
}

fn reasons(judgement: &Judgement, prefix: &str) -> String {
    let line = |reason: &Reason| {
        let (what, advice) = (escape(&reason.what), escape(&reason.advice));
        format!("- {prefix}**{}** {what}: {advice}\n", reason.verdict)
    };
    judgement.reasons.iter().map(line).collect()
}

fn notes(judgement: &Judgement) -> String {
    let line = |note: &String| format!("- {}\n", escape(note));
    judgement.notes.iter().map(line).collect()
}

fn objectives(summary: &Summary<'_>) -> Grid {
    let mut grid = Grid::default();
    let titles = ["observed", "result"].map(str::to_owned);
    grid.add("objective", titles.to_vec(), "");
    for result in summary.objectives {
        let cells = vec![
            result.observed.clone(),
            parts::objective_status(result).to_owned(),
        ];
        grid.add(&result.objective, cells, "");
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::super::tests::{rendered, three_servers};
    use super::*;
    use crate::report::OutputFormat;

    #[test]
    fn a_summary_is_tables_and_lists() {
        let markdown = rendered(
            |_, outcome| outcome.shared_core = Some(true),
            "p99<2ms,rate>60k",
            OutputFormat::Markdown,
            false,
        );
        assert_eq!(
            markdown,
            "\
**ws://127.0.0.1:9001/**: open loop, 50,000/s fixed over 100 connections, 32 B binary, 10s after 1s warm-up

|  | response time | service time | generator lag | handshake |
|:---|---:|---:|---:|---:|
| min | 50.0 µs | 49.0 µs | 1.00 µs | 200 µs |
| p50 | 50.0 µs | 49.0 µs | 1.00 µs | 200 µs |
| p90 | 50.0 µs | 49.0 µs | 1.00 µs | 200 µs |
| p95 | 50.0 µs | 49.0 µs | 1.00 µs | 200 µs |
| p99 | 80.1 µs | 79.0 µs | 1.00 µs | – |
| p99.9 | 1.00 ms | 999 µs | 1.00 µs | – |
| p99.99 | 1.00 ms | 999 µs | 1.00 µs | – |
| max | 5.00 ms | 5.00 ms | 1.00 µs | 200 µs |
| mean | 51.8 µs | 50.8 µs | 1.00 µs | 200 µs |
| stdev | 39.6 µs | 39.6 µs | 0 ns | 0 ns |

- 50,000 messages/s   1.6 MB/s   (target 50,000/s, 100.0 %)
- 500,000 due, 500,000 answered, 0 unanswered, 0 timed out
- 1.2 messages per read, 1.0 per write
- 100 handshakes, 2 at a time at most
- 2000 ns of the generator's CPU/msg were spinning
- busiest thread: generator 40 %, server 24 % of the time

|  | CPU/msg | user | system | switches | RSS/conn | CPU | waited |
|:---|---:|---:|---:|---:|---:|---:|---:|
| server | 5000 ns | 1000 ns | 4000 ns | 0.500 | – | 25 % | 3.8 % |
| generator | 10000 ns | 6000 ns | 4000 ns | 0.010 | – | 50 % | 0.2 % |

**SUSPECT**

- **SUSPECT** server and generator were seen on the same core: keep them apart with --pin and --server-pin

| objective | observed | result |
|:---|---:|---:|
| p99\\<2ms | 80.1 µs | met |
| rate>60000 | 50,000/s | MISSED |
"
        );
    }

    #[test]
    fn a_table_has_a_line_per_server() {
        let (plan, rows) = three_servers();
        let table = ServerTable {
            plan: &plan,
            rows: &rows,
        };
        assert_eq!(
            table.markdown(),
            "\
closed loop, 2 connections × 3 in flight, 16 KiB text, 3s after 500ms warm-up

| server | messages/s | p50 | p99 | p99.9 | max | CPU/msg | verdict |
|:---|---:|---:|---:|---:|---:|---:|---:|
| epoll | 2,000 | 5.00 µs | 5.00 µs | – | 2.00 ms | 5012 ns | SUSPECT |
| tokio-uring | unavailable: no io\\_uring |  |  |  |  |  |  |
| idle | 0 | – | – | – | – | – | INVALID |

- epoll: **SUSPECT** server and generator were seen on the same core: keep them apart with --pin and --server-pin
- idle: **INVALID** no message was answered: there is nothing to measure; run longer (-d) or look at the server
"
        );
    }
}
