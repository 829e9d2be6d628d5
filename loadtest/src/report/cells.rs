//! Numbers as the cells of tables.

use crate::outcome::{Counts, Histogram, Outcome, per_second};
use crate::percentile::Percentile;
use crate::result::Cost;
use crate::units::{format_bytes, format_count, format_ns, format_rate};
use crate::verdict::Judgement;

/// The text for an unknown number.
pub(crate) const UNKNOWN: &str = "–";

/// Titles of a table that compares servers.
pub(super) const TABLE_TITLES: [&str; 8] = [
    "server",
    "messages/s",
    "p50",
    "p99",
    "p99.9",
    "max",
    "CPU/msg",
    "verdict",
];

/// The percentiles of the titles `p50` to `p99.9`.
const TABLE_PERCENTILES: [Percentile; 3] = [Percentile::P50, Percentile::P99, Percentile::P99_9];

/// Titles of the costs of processes, after the process's name.
pub(crate) const COST_TITLES: [&str; 7] = [
    "CPU/msg", "user", "system", "switches", "RSS/conn", "CPU", "waited",
];

/// The cells of a server, after its name, in the order of [`TABLE_TITLES`].
pub(super) fn table(outcome: &Outcome, judgement: &Judgement) -> Vec<String> {
    let response_ns = &outcome.latencies.response_ns;
    let censored = outcome.counts.unanswered;
    let mut cells = vec![format_rate(outcome.rate())];
    for percentile in TABLE_PERCENTILES {
        cells.push(at(percentile, response_ns, censored));
    }
    cells.push(max(response_ns, censored));
    let server_cpu_ns = outcome.server.map(|usage| usage.cpu_ns);
    let cpu_ns = server_cpu_ns.and_then(|cpu_ns| outcome.per_message(cpu_ns));
    cells.push(nanoseconds(cpu_ns));
    cells.push(judgement.verdict.to_string());
    cells
}

/// The titles of [`spread`], in its order.
pub(crate) fn spread_titles() -> Vec<String> {
    let percentiles = Percentile::REPORTED.iter().map(ToString::to_string);
    let ends = ["max", "mean", "stdev"].map(str::to_owned);
    ["min".to_owned()]
        .into_iter()
        .chain(percentiles)
        .chain(ends)
        .collect()
}

/// The distribution of times, of which the `censored` highest are lower bounds.
pub(crate) fn spread(times_ns: &Histogram, censored: u64) -> Vec<String> {
    let known = |text: String| {
        // Without messages the value is unknown, not 0.
        if times_ns.is_empty() {
            UNKNOWN.to_owned()
        } else {
            text
        }
    };
    let mut cells = vec![known(format_ns(times_ns.min()))];
    for percentile in Percentile::REPORTED {
        cells.push(at(percentile, times_ns, censored));
    }
    cells.push(max(times_ns, censored));
    for ns in [times_ns.mean(), times_ns.stdev()] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are of values that fit: positive, and they fit"
        )]
        let ns = ns.round() as u64;
        cells.push(known(bounded(ns, censored > 0)));
    }
    cells
}

/// The cost of a process, in the order of [`COST_TITLES`].
pub(crate) fn cost(cost: &Cost) -> Vec<String> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    vec![
        nanoseconds(cost.cpu_ns_per_message),
        nanoseconds(cost.user_ns_per_message),
        nanoseconds(cost.system_ns_per_message),
        or_unknown(cost.switches_per_message.map(|count| format!("{count:.3}"))),
        or_unknown(
            cost.rss_bytes_per_connection
                .map(|bytes| format_bytes(bytes as f64)),
        ),
        format!("{:.0} %", cost.cores * 100.0),
        or_unknown(
            cost.run_queue_wait_share
                .map(|share| format!("{:.1} %", share * 100.0)),
        ),
    ]
}

/// Payload of one direction, in millions of bytes per second.
pub(super) fn megabytes_per_second(outcome: &Outcome) -> String {
    let bytes_per_s = per_second(outcome.counts.echoed_bytes, outcome.elapsed);
    format!("{:.1}", bytes_per_s / 1e6)
}

/// The counts of messages.
pub(crate) fn messages(counts: &Counts) -> String {
    let always = [
        (counts.due, "due"),
        (counts.answered, "answered"),
        (counts.unanswered, "unanswered"),
        (counts.timed_out, "timed out"),
    ];
    // Exceptions are listed only where they occurred.
    let exceptions = [
        (counts.due.saturating_sub(counts.sent), "never sent"),
        (counts.blocked, "blocked by full sockets"),
        (counts.fragmented, "answered in fragments"),
        (counts.replaced, "connections replaced"),
        (counts.slow_readers_cut, "slow readers cut off"),
        (counts.skipped, "greetings skipped"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0);
    let parts = always.into_iter().chain(exceptions);
    let parts: Vec<_> = parts
        .map(|(count, what)| format!("{} {what}", format_count(count)))
        .collect();
    parts.join(", ")
}

/// The mean number of messages per system call.
pub(super) fn batching(counts: &Counts) -> String {
    let per_call = |messages: u64, calls: u64| match calls {
        0 => UNKNOWN.to_owned(),
        _ => format!("{:.1}", messages as f64 / calls as f64),
    };
    format!(
        "{} messages per read, {} per write",
        per_call(counts.echoed, counts.reads),
        per_call(counts.sent, counts.writes)
    )
}

/// Nanoseconds with their unit, so that values can be subtracted easily.
pub(crate) fn nanoseconds(ns: Option<f64>) -> String {
    ns.map_or_else(|| UNKNOWN.to_owned(), |ns| format!("{ns:.0} ns"))
}

/// The time at a percentile; the `censored` highest samples are lower bounds.
pub(crate) fn at(percentile: Percentile, times_ns: &Histogram, censored: u64) -> String {
    match percentile.of(times_ns) {
        None => UNKNOWN.to_owned(),
        Some(ns) => bounded(ns, percentile.is_censored(times_ns.len(), censored)),
    }
}

/// The longest time, a lower bound where any is.
pub(crate) fn max(times_ns: &Histogram, censored: u64) -> String {
    // Without messages the value is unknown, not 0.
    if times_ns.is_empty() {
        UNKNOWN.to_owned()
    } else {
        bounded(times_ns.max(), censored > 0)
    }
}

fn bounded(ns: u64, is_lower_bound: bool) -> String {
    let bound = if is_lower_bound { "≥" } else { "" };
    format!("{bound}{}", format_ns(ns))
}
