//! Renders results for people.

use std::fmt;

use crate::plan::Plan;
use crate::recorder::Outcome;
use crate::units::{format_count, format_ns};

/// What stands for a number that is not known.
const UNKNOWN: &str = "–";

/// Behind the titles `p50` to `p99.9`.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

const TITLES: [&str; 9] = [
    "server",
    "messages/s",
    "MB/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "server CPU/msg",
];

/// One server's line.
#[derive(Debug)]
pub struct Row {
    /// An engine or a URL.
    pub server: String,
    /// What was measured.
    pub result: Measured,
}

/// What there is to say about one server.
#[derive(Debug)]
pub enum Measured {
    /// It echoed everything.
    Echoed {
        /// The generator's numbers.
        outcome: Outcome,
        /// CPU time of the server while measuring, where it can be known.
        server_cpu_ns: Option<u64>,
    },
    /// It cannot run here, for this reason.
    Unavailable(String),
}

/// A plan and the lines of the servers that were driven by it. Its `Display` is
/// a table.
#[derive(Debug)]
pub struct Report<'a> {
    /// What every server was asked to do.
    pub plan: &'a Plan,
    /// The servers.
    pub rows: &'a [Row],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<Line> = self
            .rows
            .iter()
            .map(|row| Line::new(row, self.plan.payload_len))
            .collect();
        let mut widths = TITLES.map(width);
        for line in &lines {
            widths[0] = widths[0].max(width(&line.server));
            for (column, cell) in widths[1..].iter_mut().zip(&line.cells) {
                *column = (*column).max(width(cell));
            }
        }

        writeln!(f, "{}", self.plan)?;
        write_cells(f, TITLES[0], &TITLES[1..], &widths)?;
        for line in &lines {
            match &line.remark {
                Some(remark) => writeln!(f, "{:<1$}  {remark}", line.server, widths[0])?,
                None => write_cells(f, &line.server, &line.cells, &widths)?,
            }
        }
        Ok(())
    }
}

/// A row's text.
struct Line {
    server: String,
    cells: Vec<String>,
    /// Stands in for the cells.
    remark: Option<String>,
}

impl Line {
    fn new(row: &Row, payload_len: usize) -> Self {
        let (cells, remark) = match &row.result {
            Measured::Echoed {
                outcome,
                server_cpu_ns,
            } => (cells(outcome, *server_cpu_ns, payload_len), None),
            Measured::Unavailable(reason) => (Vec::new(), Some(reason.clone())),
        };
        Self {
            server: row.server.clone(),
            cells,
            remark,
        }
    }
}

fn cells(outcome: &Outcome, server_cpu_ns: Option<u64>, payload_len: usize) -> Vec<String> {
    let rate = outcome.rate();
    let latency_ns = &outcome.latency_ns;
    // Without a message there is no latency, rather than one of 0.
    let latency = |value_ns: u64| match outcome.messages {
        0 => UNKNOWN.to_owned(),
        _ => format_ns(value_ns),
    };
    let mut cells = vec![
        format_count(rounded(rate)),
        format!("{:.1}", rate * payload_len as f64 / 1e6),
    ];
    cells.extend(QUANTILES.map(|q| latency(latency_ns.value_at_quantile(q))));
    cells.push(latency(latency_ns.max()));
    let cpu_ns = server_cpu_ns.and_then(|cpu_ns| outcome.per_message(cpu_ns));
    cells.push(cpu_ns.map_or_else(|| UNKNOWN.to_owned(), |ns| format!("{ns} ns")));
    cells
}

fn write_cells(
    f: &mut fmt::Formatter<'_>,
    server: &str,
    cells: &[impl fmt::Display],
    widths: &[usize],
) -> fmt::Result {
    write!(f, "{server:<0$}", widths[0])?;
    for (cell, width) in cells.iter().zip(&widths[1..]) {
        write!(f, "  {cell:>width$}")?;
    }
    writeln!(f)
}

/// Every character that occurs in a table is one column wide.
fn width(cell: impl AsRef<str>) -> usize {
    cell.as_ref().chars().count()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below 2^64"
)]
fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::MessageKind;
    use crate::recorder::Recorder;
    use std::time::Duration;

    #[test]
    fn the_table_lines_up() {
        let plan = Plan {
            connections: 2,
            window: 3,
            payload_len: 16 << 10,
            kind: MessageKind::Text,
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            seed: 1,
        };
        let mut recorder = Recorder::new();
        recorder.start();
        recorder.record(5_000, 999);
        recorder.record(2_000_000, 1);
        let echoed = |recorder: Recorder, server_cpu_ns| Measured::Echoed {
            outcome: recorder.finish(Duration::from_millis(500), 0),
            server_cpu_ns,
        };
        let rows = [
            Row {
                server: "epoll".to_owned(),
                result: echoed(recorder, Some(5_012_345)),
            },
            Row {
                server: "tokio-uring".to_owned(),
                result: Measured::Unavailable("unavailable: no io_uring".to_owned()),
            },
            Row {
                server: "idle".to_owned(),
                result: echoed(Recorder::new(), Some(1)),
            },
        ];
        let report = Report {
            plan: &plan,
            rows: &rows,
        };
        assert_eq!(
            report.to_string(),
            "\
closed loop, 2 connections × 3 in flight, 16 KiB text, 3s after 500ms warm-up
server       messages/s  MB/s      p50      p90      p99    p99.9      max  server CPU/msg
epoll             2,000  32.8  5.00 µs  5.00 µs  5.00 µs  5.00 µs  2.00 ms         5012 ns
tokio-uring  unavailable: no io_uring
idle                  0   0.0        –        –        –        –        –               –
"
        );
    }
}
