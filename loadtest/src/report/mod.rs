//! Renders results as text, CSV and Markdown: a [`Summary`] is one run with all details, a
//! [`ServerTable`] compares servers.

pub(crate) mod cells;
mod csv;
mod grid;
mod markdown;
pub(crate) mod parts;
mod text;

pub use crate::terminal::color_allowed;
pub(crate) use csv::{line as csv_line, time_names as csv_time_names};
pub use grid::{Grid, escape};

use crate::machine::Environment;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::slo::SloResult;
use crate::verdict::Judgement;

/// The output format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Text for a terminal.
    Text,
    /// The result file; an array of them for several servers.
    Json,
    /// A header and a line per server, plain numbers.
    Csv,
    /// Tables as GitHub shows them.
    Markdown,
}

/// One run, whole.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// A URL or an engine.
    pub label: &'a str,
    /// The plan of the run.
    pub plan: &'a Plan,
    /// Its outcome.
    pub outcome: &'a Outcome,
    /// Whether it may be believed.
    pub judgement: &'a Judgement,
    /// The results of its objectives.
    pub objectives: &'a [SloResult],
    /// The machine, and the user's labels and note.
    pub environment: &'a Environment,
}

/// Servers that were driven by the same plan.
#[derive(Debug)]
pub struct ServerTable<'a> {
    /// The plan of all servers.
    pub plan: &'a Plan,
    /// The servers.
    pub rows: &'a [ServerRow],
}

/// One server's line.
#[derive(Debug)]
pub struct ServerRow {
    /// An engine or a URL.
    pub server: String,
    /// The measurement.
    pub measured: Measured,
}

/// The result of one server.
#[derive(Debug)]
pub enum Measured {
    /// It was driven.
    Run(Box<Outcome>, Judgement),
    /// It cannot run here, for this reason.
    Unavailable(String),
}

impl Summary<'_> {
    /// Everything, aligned, with units.
    pub fn text(&self, color: bool) -> String {
        text::summary(self, color)
    }

    /// Everything, as tables of GitHub-flavored Markdown.
    pub fn markdown(&self) -> String {
        markdown::summary(self)
    }

    /// A header and one line.
    pub fn csv(&self) -> String {
        let run = csv::RunFields {
            server: self.label,
            plan: self.plan,
            outcome: self.outcome,
            judgement: self.judgement,
        };
        csv::header() + &csv::run(&run)
    }
}

impl ServerTable<'_> {
    /// A line per server, aligned, and the reasons against their numbers.
    pub fn text(&self, color: bool) -> String {
        text::table(self, color)
    }

    /// The same as a table of GitHub-flavored Markdown.
    pub fn markdown(&self) -> String {
        markdown::table(self)
    }

    /// A header and a line per server.
    pub fn csv(&self) -> String {
        let mut csv = csv::header();
        for row in self.rows {
            csv += &match &row.measured {
                Measured::Run(outcome, judgement) => csv::run(&csv::RunFields {
                    server: &row.server,
                    plan: self.plan,
                    outcome,
                    judgement,
                }),
                Measured::Unavailable(reason) => csv::unavailable(&row.server, reason),
            };
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::MessageKind;
    use crate::fixture;
    use crate::outcome::{Counts, GeneratorUse, Latencies, histogram};
    use crate::plan::{Extent, Load, SizeShare};
    use crate::slo::Slo;
    use crate::verdict::{Facts, judge};
    use crate::watch::Usage;
    use std::time::{Duration, UNIX_EPOCH};

    /// The report of the fixture's run after a change.
    pub(super) fn rendered(
        change: impl FnOnce(&mut Plan, &mut Outcome),
        slo: &str,
        format: OutputFormat,
        color: bool,
    ) -> String {
        let (mut plan, mut outcome) = (fixture::plan(), fixture::outcome());
        change(&mut plan, &mut outcome);
        let objectives = match slo {
            "" => Vec::new(),
            slo => slo
                .parse::<Slo>()
                .unwrap()
                .evaluate(&outcome, plan.sockets()),
        };
        let judgement = judge(&Facts::of(&plan, &outcome));
        let environment = Environment::default();
        let summary = Summary {
            label: "ws://127.0.0.1:9001/",
            plan: &plan,
            outcome: &outcome,
            judgement: &judgement,
            objectives: &objectives,
            environment: &environment,
        };
        match format {
            OutputFormat::Text => summary.text(color),
            OutputFormat::Markdown => summary.markdown(),
            OutputFormat::Csv => summary.csv(),
            OutputFormat::Json => unreachable!("that is the result file"),
        }
    }

    /// A closed loop, and a server that ran, one that could not, and one that
    /// never answered.
    pub(super) fn three_servers() -> (Plan, Vec<ServerRow>) {
        let mut plan = fixture::plan();
        plan.connections = 2;
        plan.load = Load::Closed { window: 3 };
        plan.sizes = vec![SizeShare {
            len: 16 << 10,
            weight: 1,
        }];
        plan.kind = MessageKind::Text;
        plan.warmup = Duration::from_millis(500);
        plan.extent = Extent::Duration(Duration::from_secs(3));

        let mut outcome = brief_outcome();
        outcome.latencies.response_ns.record_n(5_000, 999).unwrap();
        outcome.latencies.response_ns.record(2_000_000).unwrap();
        let run = |outcome: Outcome| {
            let judgement = judge(&Facts::of(&plan, &outcome));
            Measured::Run(Box::new(outcome), judgement)
        };
        let rows = [
            ("epoll", run(outcome)),
            (
                "tokio-uring",
                Measured::Unavailable("unavailable: no io_uring".to_owned()),
            ),
            ("idle", run(fixture::silent_outcome())),
        ];
        let rows = rows.map(|(server, measured)| ServerRow {
            server: server.to_owned(),
            measured,
        });
        (plan, rows.into())
    }

    /// 1,000 messages of 16 KiB in half a second, without their latencies.
    fn brief_outcome() -> Outcome {
        Outcome {
            addresses: Vec::new(),
            started_at: UNIX_EPOCH,
            elapsed: Duration::from_millis(500),
            counts: Counts {
                due: 1_000,
                sent: 1_000,
                answered: 1_000,
                echoed: 1_000,
                echoed_bytes: 1_000 * (16 << 10),
                ..Counts::default()
            },
            latencies: Latencies::new(),
            handshake_ns: histogram(),
            handshakes_at_a_time: None,
            intervals: Vec::new(),
            generator: GeneratorUse::default(),
            server: Some(Usage {
                cpu_ns: 5_012_345,
                ..Usage::default()
            }),
            server_busy_max: None,
            idle_cores: None,
            shared_core: Some(true),
            steal_share: None,
            added_sources: 0,
            unclosed: None,
            interrupted: false,
            failure: None,
        }
    }
}
