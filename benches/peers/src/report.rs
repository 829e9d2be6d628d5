//! Results as tables for people and for READMEs, and as JSON for programs.

use clap::ValueEnum;
use loadtest::report::{Grid, escape};
use serde::Serialize;

use crate::contest::Contest;
use crate::header::Header;
use crate::results::{Results, Run, Runs};
use crate::score::{Score, Verdicts};
use crate::server::FLOOR;
use crate::shape::Shape;
use crate::spread::Spread;

/// What stands for a number that there is none of.
const UNKNOWN: &str = "–";

/// The titles of a table, behind the load that it is about.
const TITLES: [&str; 6] = [
    "CPU ns/message",
    "× floor",
    "messages/s",
    "× floor",
    "server's core",
    "verdict",
];

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned, for a terminal.
    Table,
    /// For GitHub.
    Markdown,
    /// Every round, and what they come to.
    Json,
}

/// All there is to tell.
#[derive(Debug)]
pub struct Report<'a> {
    /// Where and with what.
    pub header: &'a Header,
    /// What was to be measured.
    pub contest: &'a Contest,
    /// What was measured.
    pub results: &'a Results,
}

impl Report<'_> {
    /// The text, with a line break at its end.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Markdown => self.markdown(),
            Format::Json => self.json(),
        }
    }

    fn table(&self) -> String {
        let lines = self.header.lines();
        let width = lines.iter().map(|(title, _)| title.len()).max();
        let width = width.unwrap_or(0);
        let facts = lines
            .iter()
            .map(|(title, fact)| format!("{title:<width$}  {fact}\n"));
        let tables = self.loads().map(|load| {
            let complaints = load.complaints();
            let lines = complaints.iter().map(|line| format!("{line}\n"));
            load.grid().text() + &lines.collect::<String>()
        });
        blocks(facts.collect(), tables)
    }

    fn markdown(&self) -> String {
        let lines = self.header.lines();
        let facts = lines
            .iter()
            .map(|(title, fact)| format!("- {title}: {}\n", escape(fact)));
        let tables = self.loads().map(|load| {
            let complaints = load.complaints();
            let lines = complaints
                .iter()
                .map(|line| format!("- {}\n", escape(line)));
            blocks(load.grid().markdown(), std::iter::once(lines.collect()))
        });
        blocks(facts.collect(), tables)
    }

    fn json(&self) -> String {
        let document = Document {
            header: self.header,
            loads: self.loads().collect(),
        };
        let text = serde_json::to_string_pretty(&document);
        text.expect("no map has other keys than text or numbers") + "\n"
    }

    fn loads(&self) -> impl Iterator<Item = Load<'_>> {
        let servers = &self.contest.servers;
        let floor = servers.iter().position(|server| server.name == FLOOR);
        let shapes = self.contest.shapes.iter().enumerate();
        shapes.map(move |(index, &shape)| {
            let runs = self.results.of_shape(index);
            let floor = floor.map(|floor| &runs[floor]);
            let entry = |(server, runs)| Entry::new(server, runs, floor);
            let names = servers.iter().map(|server| server.name.as_str());
            let servers = names.zip(runs).map(entry).collect();
            Load { shape, servers }
        })
    }
}

#[derive(Serialize)]
struct Document<'a> {
    header: &'a Header,
    loads: Vec<Load<'a>>,
}

#[derive(Serialize)]
struct Load<'a> {
    shape: Shape,
    servers: Vec<Entry<'a>>,
}

impl Load<'_> {
    fn grid(&self) -> Grid {
        let mut grid = Grid::default();
        let titles = TITLES.map(str::to_owned).to_vec();
        grid.add(&self.shape.to_string(), titles, "");
        for server in &self.servers {
            grid.add(server.name, cells(&server.score), "");
        }
        grid
    }

    /// A line for each run that is not in the numbers.
    fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for server in &self.servers {
            for (round, run) in server.runs {
                let (verdict, reason) = match run {
                    Run::Measured(_) => continue,
                    Run::Invalid(reason) => ("INVALID", reason),
                    Run::Failed(reason) => ("FAILED", reason),
                };
                lines.push(format!(
                    "{}, round {round}: {verdict}: {reason}",
                    server.name
                ));
            }
        }
        lines
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    score: Score,
    runs: &'a Runs,
}

impl<'a> Entry<'a> {
    fn new(name: &'a str, runs: &'a Runs, floor: Option<&Runs>) -> Self {
        let score = Score::of(runs, floor);
        Self { name, score, runs }
    }
}

/// Blocks with an empty line between them, those that are empty left out.
fn blocks(first: String, others: impl Iterator<Item = String>) -> String {
    let mut all: Vec<_> = std::iter::once(first).chain(others).collect();
    all.retain(|block| !block.is_empty());
    all.join("\n")
}

/// In the order of [`TITLES`].
fn cells(score: &Score) -> Vec<String> {
    let percent = |cores: f64| format!("{:.0} %", cores * 100.0);
    vec![
        range(score.cpu_ns_per_message, nanoseconds),
        range(score.cpu_to_floor, ratio),
        range(score.messages_per_s, count),
        range(score.messages_to_floor, ratio),
        score
            .server_cores
            .map_or(UNKNOWN.to_owned(), |cores| percent(cores.median)),
        verdicts(score.verdicts),
    ]
}

fn range(spread: Option<Spread>, write: fn(f64) -> String) -> String {
    spread.map_or(UNKNOWN.to_owned(), |spread| {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(write);
        if min == max {
            median
        } else {
            format!("{median} ({min}–{max})")
        }
    })
}

fn nanoseconds(ns: f64) -> String {
    if ns < 99.95 {
        format!("{ns:.1}")
    } else {
        loadtest::units::format_rate(ns)
    }
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Three significant digits: the rounds differ by more than the fourth.
fn count(count: f64) -> String {
    const UNITS: [(&str, f64); 3] = [("", 1.0), ("k", 1e3), ("M", 1e6)];
    // 999.5k would be shown as 1000k: such a number belongs to the next unit.
    let fitting = UNITS.into_iter().find(|(_, scale)| count / scale < 999.5);
    let (unit, scale) = fitting.unwrap_or(UNITS[2]);
    let value = count / scale;
    let decimals = match value {
        _ if value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{unit}")
}

/// The worst there is, and how often.
fn verdicts(verdicts: Verdicts) -> String {
    let all = verdicts.valid + verdicts.suspect + verdicts.invalid + verdicts.failed;
    let worst_first = [
        ("FAILED", verdicts.failed),
        ("INVALID", verdicts.invalid),
        ("SUSPECT", verdicts.suspect),
        ("VALID", verdicts.valid),
    ];
    let worst = worst_first.into_iter().find(|&(_, times)| times > 0);
    match worst {
        None => UNKNOWN.to_owned(),
        Some((name, times)) if times == all => name.to_owned(),
        Some((name, times)) => format!("{name} {times} of {all}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::results::tests::measured;
    use crate::server::{Places, Server};

    /// The floor and another server, one load, two rounds of which one failed.
    fn rendered(format: Format) -> String {
        let places = Places {
            binaries: "bin".into(),
            peers: "peers".into(),
        };
        let mut servers = Server::all(&places, 1);
        servers.truncate(2);
        let contest = Contest {
            servers,
            shapes: vec![Shape::DEFAULT[2]],
            rounds: 2,
            duration: Duration::from_secs(3),
            warmup: Duration::from_millis(500),
            seed: 1,
            server_core: 0,
            generator_core: 1,
            loadtest: "bin/loadtest".into(),
        };
        let mut results = Results::new(1, 2);
        results.add(0, 0, 1, measured(20.0, 10_000_000.0));
        results.add(0, 0, 2, measured(30.0, 9_000_000.0));
        results.add(0, 1, 1, measured(40.0, 5_000_000.0));
        results.add(0, 1, 2, Run::Failed("lost *it*".to_owned()));
        let versions = vec![("raw".to_owned(), "raw 1".to_owned())];
        let arguments = ["--rounds".to_owned(), "2".to_owned()];
        let environment = loadtest::machine::Environment::default();
        let header = Header::new(&arguments, &contest, &environment, versions);
        Report {
            header: &header,
            contest: &contest,
            results: &results,
        }
        .render(format)
    }

    #[test]
    fn a_table_has_a_header_and_a_line_for_each_server() {
        assert_eq!(
            rendered(Format::Table),
            "\
command  cargo run --release -p ringback-peers -- --rounds 2
method   2 rounds of 3s each after 500ms warm-up, in an order drawn anew each time (seed 1); a fresh server on core 0, the generator on core 1
kernel   unknown
CPU      unknown
raw      raw 1

50 × 256 × 32 B    CPU ns/message  × floor           messages/s  × floor
raw              25.0 (20.0–30.0)     1.00  9.50M (9.00M–10.0M)     1.00
ringback-epoll               40.0     2.00                5.00M     0.50

50 × 256 × 32 B  server's core        verdict
raw                      100 %          VALID
ringback-epoll           100 %  FAILED 1 of 2
ringback-epoll, round 2: FAILED: lost *it*
"
        );
    }

    #[test]
    fn markdown_is_a_list_and_tables() {
        assert_eq!(
            rendered(Format::Markdown),
            "\
- command: cargo run --release -p ringback-peers -- --rounds 2
- method: 2 rounds of 3s each after 500ms warm-up, in an order drawn anew each time (seed 1); a fresh server on core 0, the generator on core 1
- kernel: unknown
- CPU: unknown
- raw: raw 1

| 50 × 256 × 32 B | CPU ns/message | × floor | messages/s | × floor | server's core | verdict |
|:---|---:|---:|---:|---:|---:|---:|
| raw | 25.0 (20.0–30.0) | 1.00 | 9.50M (9.00M–10.0M) | 1.00 | 100 % | VALID |
| ringback-epoll | 40.0 | 2.00 | 5.00M | 0.50 | 100 % | FAILED 1 of 2 |

- ringback-epoll, round 2: FAILED: lost \\*it\\*
"
        );
    }

    #[test]
    fn json_has_every_round() {
        let value: serde_json::Value = serde_json::from_str(&rendered(Format::Json)).unwrap();
        let load = &value["loads"][0];
        assert_eq!(load["shape"]["window"], 256);
        let server = &load["servers"][1];
        assert_eq!(server["score"]["cpu_to_floor"]["median"], 2.0);
        assert_eq!(server["runs"]["1"]["measured"]["verdict"], "valid");
        assert_eq!(server["runs"]["2"]["failed"], "lost *it*");
    }

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        assert_eq!(nanoseconds(24.62), "24.6");
        assert_eq!(nanoseconds(4893.4), "4,893");
        assert_eq!(count(171_077.0), "171k");
        assert_eq!(count(23_811_669.0), "23.8M");
        assert_eq!(count(999_600.0), "1.00M");
        assert_eq!(count(12.0), "12.0");
        assert_eq!(ratio(1.2349), "1.23");
    }

    #[test]
    fn a_median_comes_with_its_range() {
        let spread = Spread::of([5000.0, 4000.0, 6000.0]);
        assert_eq!(range(spread, nanoseconds), "5,000 (4,000–6,000)");
        assert_eq!(range(Spread::of([1.0, 1.001]), ratio), "1.00");
        assert_eq!(range(None, nanoseconds), UNKNOWN);
    }

    #[test]
    fn the_worst_verdict_is_told() {
        let told = |valid, suspect, invalid, failed| {
            verdicts(Verdicts {
                valid,
                suspect,
                invalid,
                failed,
            })
        };
        assert_eq!(told(5, 0, 0, 0), "VALID");
        assert_eq!(told(3, 2, 0, 0), "SUSPECT 2 of 5");
        assert_eq!(told(3, 1, 1, 0), "INVALID 1 of 5");
        assert_eq!(told(0, 0, 0, 1), "FAILED");
        assert_eq!(told(0, 0, 0, 0), UNKNOWN);
    }
}
