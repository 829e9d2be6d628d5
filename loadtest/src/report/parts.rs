//! The parts of a report that text and Markdown share.

use super::cells::{self, UNKNOWN};
use super::grid::Grid;
use super::{Measured, ServerTable, Summary};
use crate::machine::Environment;
use crate::result::Cost;
use crate::slo::SloResult;
use crate::target::Target;
use crate::terminal::sanitized;
use crate::units::{format_count, format_rate};
use crate::verdict::Facts;

/// The servers, with their label if it differs.
pub(super) fn targets(summary: &Summary<'_>) -> String {
    let places = places(summary);
    if summary.label == summary.plan.label() {
        return places;
    }
    format!("{} at {places}", sanitized(summary.label))
}

/// The label of the servers, with their addresses if the label is their names.
pub(super) fn label(summary: &Summary<'_>) -> String {
    if summary.label == summary.plan.label() {
        return places(summary);
    }
    summary.label.to_owned()
}

/// The servers' URLs, with the chosen address if the host is a name.
fn places(summary: &Summary<'_>) -> String {
    let addresses = &summary.outcome.addresses;
    let place = |(index, target): (usize, &Target)| match addresses.get(index) {
        Some(address) if !target.is_address() => format!("{target} ({address})"),
        _ => target.to_string(),
    };
    let targets = summary.plan.targets.iter().enumerate();
    targets.map(place).collect::<Vec<_>>().join(" ")
}

/// A line per server.
pub(super) fn servers(table: &ServerTable<'_>) -> Grid {
    let mut grid = Grid::default();
    let titles = cells::TABLE_TITLES.map(str::to_owned);
    grid.add(&titles[0], titles[1..].to_vec(), "");
    for row in table.rows {
        match &row.measured {
            Measured::Run(outcome, judgement) => {
                grid.add(&row.server, cells::table(outcome, judgement), "");
            }
            Measured::Unavailable(reason) => grid.add(&row.server, Vec::new(), reason),
        }
    }
    grid
}

/// The distribution of a run's times: a line for each statistic, so that all columns fit a
/// terminal of 80.
pub(super) fn times(summary: &Summary<'_>) -> Grid {
    let latencies = &summary.outcome.latencies;
    let censored = summary.outcome.counts.unanswered;
    let columns = [
        ("response time", &latencies.response_ns, censored),
        ("service time", &latencies.service_ns, censored),
        ("generator lag", &latencies.lag_ns, 0),
        ("handshake", &summary.outcome.handshake_ns, 0),
    ];
    let mut grid = Grid::default();
    grid.add("", columns.map(|(name, ..)| name.to_owned()).to_vec(), "");
    let spreads = columns.map(|(_, times_ns, censored)| cells::spread(times_ns, censored));
    for (line, title) in cells::spread_titles().iter().enumerate() {
        let cells = spreads.iter().map(|spread| spread[line].clone());
        grid.add(title, cells.collect(), "");
    }
    grid
}

/// The costs of server and generator.
pub(super) fn costs(summary: &Summary<'_>) -> Grid {
    let outcome = summary.outcome;
    let sockets = summary.plan.sockets();
    let mut grid = Grid::default();
    grid.add("", cells::COST_TITLES.map(str::to_owned).to_vec(), "");
    let server = match &outcome.server {
        Some(usage) => cells::cost(&Cost::of(usage, outcome, sockets)),
        None => cells::COST_TITLES.map(|_| UNKNOWN.to_owned()).to_vec(),
    };
    grid.add("server", server, "");
    let generator = cells::cost(&Cost::of(&outcome.generator.usage, outcome, sockets));
    grid.add("generator", generator, "");
    grid
}

/// The throughput, and its target.
pub(super) fn throughput(summary: &Summary<'_>) -> String {
    let outcome = summary.outcome;
    let facts = Facts::of(summary.plan, outcome);
    let target = match (summary.plan.rate(), facts.achieved_share()) {
        (Some(rate), Some(share)) => format!(
            "   (target {}/s, {:.1} %)",
            format_rate(rate),
            share * 100.0
        ),
        (Some(rate), None) => format!("   (target {}/s)", format_rate(rate)),
        (None, _) => String::new(),
    };
    format!(
        "{} messages/s   {} MB/s{target}",
        format_rate(outcome.rate()),
        cells::megabytes_per_second(outcome)
    )
}

/// The number of handshakes, and how many were concurrent, on which their times depend.
pub(super) fn connecting(summary: &Summary<'_>) -> String {
    let outcome = summary.outcome;
    let at_a_time = match outcome.handshakes_at_a_time {
        Some(count) => format!(", {} at a time at most", format_count(count)),
        None => String::new(),
    };
    let handshakes = format_count(outcome.counts.handshakes);
    format!("{handshakes} handshakes{at_a_time}")
}

/// The share of spinning in the generator's CPU time, and the utilization of the busiest threads.
pub(super) fn busiest(summary: &Summary<'_>) -> [String; 2] {
    let outcome = summary.outcome;
    let server = match outcome.server_busy_max {
        Some(share) => format!(", server {:.0} %", share * 100.0),
        None => String::new(),
    };
    [
        format!(
            "{} of the generator's CPU/msg were spinning",
            cells::nanoseconds(outcome.per_message(outcome.generator.spin_ns)),
        ),
        format!(
            "busiest thread: generator {:.0} %{server} of the time",
            outcome.generator.busy_max * 100.0
        ),
    ]
}

/// The user's labels and note, a line for each.
pub(crate) fn annotations(environment: &Environment) -> Vec<String> {
    let labels = labels(environment);
    let labels = (!labels.is_empty()).then(|| format!("labels: {labels}"));
    let note = environment.note.as_ref();
    let note = note.map(|note| format!("note: {}", sanitized(note)));
    labels.into_iter().chain(note).collect()
}

/// The labels of a run: `build=12, host=a`.
fn labels(environment: &Environment) -> String {
    let labels = environment.labels.iter();
    let labels: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    sanitized(&labels.join(", "))
}

/// The status of an objective.
pub(crate) fn objective_status(result: &SloResult) -> &'static str {
    match (result.met, result.supported) {
        (true, _) => "met",
        (false, true) => "MISSED",
        (false, false) if result.observed == UNKNOWN => "too few samples",
        (false, false) => "not known",
    }
}
