//! The document: one file that asks for nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::commands::{self, RepeatCommand};
use super::machine::{self, NamedEnvironment};
use super::run::ReportedRun;
use super::sweep::RateSweep;
use super::{comparison, distribution, overview, percentiles, seconds, sweep};
use crate::comparison::Comparison;

/// Nothing is fetched and nothing is run, whatever the files contain.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

const STYLE: &str = include_str!("style.css");

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) runs: &'a [ReportedRun],
    pub(super) comparisons: &'a [Comparison],
    pub(super) sweeps: &'a [RateSweep],
    pub(super) places: &'a [NamedEnvironment],
    pub(super) repeats: &'a [RepeatCommand],
}

impl Page<'_> {
    pub(super) fn draw(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a class="skip" href="#main" { "Skip to the results" }
                    header {
                        h1 { (self.title) }
                        p class="note" { (self.scope()) }
                        (self.contents())
                    }
                    main id="main" tabindex="-1" { (self.content()) }
                    footer {
                        p {
                            "Written by loadtest " (env!("CARGO_PKG_VERSION"))
                            ". Response time runs from the intended send to the reply, service time from \
                             the actual send. A percentile is shown where enough messages lie beyond it; \
                             ≥ marks lower bounds, – what is not known."
                        }
                    }
                }
            }
        }
        .into_string()
    }

    fn content(&self) -> Markup {
        html! {
            @if !self.comparisons.is_empty() { (self.findings()) }
            @if !self.runs.is_empty() {
                section id="runs" aria-labelledby="runs-title" {
                    h2 id="runs-title" { "Runs" }
                    (overview::table(self.runs))
                }
                (overview::verdicts(self.runs))
            }
            @for (index, comparison) in self.comparisons.iter().enumerate() {
                (comparison::section(index, comparison))
            }
            @for (index, sweep) in self.sweeps.iter().enumerate() { (sweep::section(index, sweep)) }
            @if !self.runs.is_empty() {
                section id="latency" aria-labelledby="latency-title" {
                    h2 id="latency-title" { "Latency" }
                    @if let Some(figure) = percentiles::figure(self.runs) { (figure) }
                    @if let Some(figure) = distribution::figure(self.runs) { (figure) }
                }
                section id="time" aria-labelledby="time-title" {
                    h2 id="time-title" { "Over time" }
                    (seconds::figures(self.runs))
                }
                (overview::costs(self.runs))
            }
            (machine::section(self.places))
            (commands::section(self.repeats))
        }
    }

    /// The verdicts of the comparisons, before all details.
    fn findings(&self) -> Markup {
        let contrasts = self
            .comparisons
            .iter()
            .flat_map(|comparison| &comparison.contrasts);
        html! {
            section id="findings" aria-labelledby="findings-title" {
                h2 id="findings-title" { "Findings" }
                ul class="findings" {
                    @for contrast in contrasts {
                        li {
                            span class={ "badge " (comparison::class(contrast.verdict)) } {
                                (comparison::signed(contrast.verdict))
                            }
                            " " (comparison::sentence(contrast))
                        }
                    }
                }
            }
        }
    }

    fn scope(&self) -> String {
        let counted = [
            (self.runs.len(), "run", "runs"),
            (self.comparisons.len(), "comparison", "comparisons"),
            (self.sweeps.len(), "sweep", "sweeps"),
        ];
        let parts = counted.into_iter().filter(|(count, _, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect();
        format!("WebSocket echo, every reply checked: {}.", parts.join(", "))
    }

    fn contents(&self) -> Markup {
        let mut links: Vec<(String, String)> = Vec::new();
        let mut add = |id: &str, name: &str| links.push((id.to_owned(), name.to_owned()));
        if !self.comparisons.is_empty() {
            add("findings", "Findings");
        }
        if !self.runs.is_empty() {
            add("runs", "Runs");
            add("verdicts", "Verdicts");
        }
        for (index, comparison) in self.comparisons.iter().enumerate() {
            add(
                &format!("comparison-{}", index + 1),
                &comparison::title(comparison),
            );
        }
        for (index, sweep) in self.sweeps.iter().enumerate() {
            add(
                &format!("sweep-{}", index + 1),
                &format!("Sweep of {}", sweep.label),
            );
        }
        if !self.runs.is_empty() {
            add("latency", "Latency");
            add("time", "Over time");
            add("costs", "CPU and memory");
        }
        add("environment", "Environment");
        add("repeat", "To repeat it");
        html! {
            nav aria-label="Contents" {
                ul { @for (id, name) in &links { li { a href={ "#" (id) } { (name) } } } }
            }
        }
    }
}
