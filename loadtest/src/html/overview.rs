//! The overview: all runs in a table, their verdicts and the reasons.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::percentile::Percentile;
use crate::report::cells::{self, UNKNOWN};
use crate::report::parts;
use crate::result::{ResultFile, Status};
use crate::slo::SloResult;
use crate::terminal::sanitized;
use crate::units::format_rate;
use crate::verdict::Verdict;

use super::run::ReportedRun;
use super::table::HtmlTable;

/// A line for each run; the load once, where all have the same.
pub(super) fn table(runs: &[ReportedRun]) -> Markup {
    let load = |run: &ReportedRun| sanitized(&run.file.plan.to_string());
    let loads: BTreeSet<_> = runs.iter().map(load).collect();
    let in_common = loads.first().filter(|_| loads.len() == 1 && runs.len() > 1);
    let text_columns: &[_] = match in_common {
        Some(_) => &["run"],
        None => &["run", "load"],
    };
    // The verdict comes first, to be visible at any width of the page.
    let numbers = [
        "verdict",
        "messages/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "server CPU/msg",
    ];
    let mut table = HtmlTable::new("All runs", text_columns.iter().copied().chain(numbers));
    table.text_columns = text_columns.len();
    table.class = "runs";
    for run in runs {
        let (times, censored) = (&run.latencies.response_ns, run.file.counts.unanswered);
        let percentiles = [Percentile::P50, Percentile::P99, Percentile::P99_9];
        let server = run.file.summary.server.as_ref();
        let cpu_ns = server.and_then(|cost| cost.cpu_ns_per_message);
        let mut cells = vec![html! { (name(run)) }];
        if in_common.is_none() {
            cells.push(html! { (load(run)) });
        }
        cells.push(badge(run.file.judgement.verdict));
        cells.push(html! { (format_rate(run.file.summary.rate_per_s)) });
        for percentile in percentiles {
            cells.push(html! { (cells::at(percentile, times, censored)) });
        }
        cells.push(html! { (cells::max(times, censored)) });
        cells.push(html! { (cells::nanoseconds(cpu_ns)) });
        table.rows.push(cells);
    }
    html! {
        @if let Some(load) = in_common { p { "Load of every run: " (load) "." } }
        (table.draw())
    }
}

fn name(run: &ReportedRun) -> Markup {
    html! {
        span class="run-name" { (run.name) }
        @if run.name != run.path { " " span class="file" { (run.path) } }
    }
}

/// A verdict: a word, a sign and a color.
pub(super) fn badge(verdict: Verdict) -> Markup {
    let (class, sign) = match verdict {
        Verdict::Valid => ("valid", "✓"),
        Verdict::Suspect => ("suspect", "!"),
        Verdict::Invalid => ("invalid", "✕"),
    };
    html! {
        span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (verdict) }
    }
}

/// The reasons against each run, and the results of its objectives.
pub(super) fn verdicts(runs: &[ReportedRun]) -> Markup {
    html! {
        section id="verdicts" aria-labelledby="verdicts-title" {
            h2 id="verdicts-title" { "Verdicts" }
            @for run in runs {
                article class="verdict" {
                    h3 { (run.name) " " (badge(run.file.judgement.verdict)) }
                    (messages(run))
                    (reasons(&run.file))
                    @if !run.file.objectives.is_empty() { (objectives(run)) }
                }
            }
        }
    }
}

fn messages(run: &ReportedRun) -> Markup {
    let status = match run.file.status {
        Status::Complete => "complete",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
    };
    html! {
        p class="note" {
            "Begun " (sanitized(&run.file.started_at)) ", " (status) ". "
            (cells::messages(&run.file.counts)) "."
        }
        @for line in parts::annotations(&run.file.environment) { p class="note" { (line) } }
    }
}

fn reasons(file: &ResultFile) -> Markup {
    let judgement = &file.judgement;
    html! {
        @if judgement.reasons.is_empty() && judgement.notes.is_empty() {
            p { "There is no reason against it." }
        }
        @if !judgement.reasons.is_empty() {
            ul class="reasons" {
                @for reason in &judgement.reasons {
                    li {
                        (badge(reason.verdict)) " " (sanitized(&reason.what))
                        span class="advice" { ". Advice: " (sanitized(&reason.advice)) "." }
                    }
                }
            }
        }
        @if !judgement.notes.is_empty() {
            ul class="reasons" {
                @for note in &judgement.notes { li { "Note: " (sanitized(note)) "." } }
            }
        }
    }
}

fn objectives(run: &ReportedRun) -> Markup {
    let name = format!("Objectives of {}", run.name);
    let mut table = HtmlTable::new(&name, ["objective", "observed", "result"]);
    table.text_columns = 3;
    for result in &run.file.objectives {
        table.rows.push(vec![
            html! { (sanitized(&result.objective)) },
            html! { (sanitized(&result.observed)) },
            objective(result),
        ]);
    }
    table.draw()
}

fn objective(result: &SloResult) -> Markup {
    let (class, sign, word) = match (result.met, result.supported) {
        (true, _) => ("valid", "✓", "met"),
        (false, true) => ("invalid", "✕", "MISSED"),
        (false, false) => ("suspect", "!", parts::objective_status(result)),
    };
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (word) } }
}

/// CPU and memory of both sides.
pub(super) fn costs(runs: &[ReportedRun]) -> Markup {
    let titles = ["run", "process"].into_iter().chain(cells::COST_TITLES);
    let mut table = HtmlTable::new(
        "CPU and memory",
        titles.chain(["spinning", "busiest thread"]),
    );
    table.text_columns = 2;
    for run in runs {
        let summary = &run.file.summary;
        let mut server = vec![run.name.clone(), "server".to_owned()];
        match &summary.server {
            Some(cost) => server.extend(cells::cost(cost)),
            None => server.extend(cells::COST_TITLES.map(|_| UNKNOWN.to_owned())),
        }
        server.push(UNKNOWN.to_owned());
        let busy_max = run.file.server.as_ref().and_then(|it| it.busy_max);
        server.push(busy_max.map_or_else(
            || UNKNOWN.to_owned(),
            |share| format!("{:.0} %", share * 100.0),
        ));
        table.add(server);

        let generator = &run.file.generator;
        let echoed = run.file.counts.echoed;
        let spin_ns = (echoed > 0).then(|| generator.spin_ns as f64 / echoed as f64);
        let mut cost = vec![run.name.clone(), "generator".to_owned()];
        cost.extend(cells::cost(&summary.generator));
        cost.push(cells::nanoseconds(spin_ns));
        cost.push(format!("{:.0} %", generator.busy_max * 100.0));
        table.add(cost);
    }
    html! {
        section id="costs" aria-labelledby="costs-title" {
            h2 id="costs-title" { "CPU and memory" }
            p class="note" {
                "CPU time of the measurement over the replies that came in it; 100 % CPU is one core. "
                "Spinning is part of the generator's CPU/message."
            }
            (table.draw())
        }
    }
}
