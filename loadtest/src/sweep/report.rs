//! A sweep for people and for spreadsheets.

mod band;
mod csv;

use super::bisection::{Answer, Purpose};
use super::file::{Search, SweepFile, SweepPoint};
use crate::paint::paint;
use crate::percentile::Percentile;
use crate::plot::{Axis, Chart, Scale, Series, short_count, short_ns};
use crate::report::cells::UNKNOWN;
use crate::report::{Grid, escape};

use crate::units::format_rate;
use crate::verdict::{Reason, Verdict};

use band::Band;

/// The plot's width, whatever the terminal's is.
const PLOT_COLUMNS: std::ops::RangeInclusive<usize> = 60..=76;

const PLOT_ROWS: usize = 14;

const TITLES: [&str; 8] = [
    "reached",
    "runs",
    "p50",
    "p99",
    "p99.9",
    "max",
    "server CPU/msg",
    "verdict",
];

/// The percentiles of the table.
const PERCENTILES: [Percentile; 3] = [Percentile::P50, Percentile::P99, Percentile::P99_9];

/// The report of a sweep.
pub(super) struct SweepReport<'a> {
    pub(super) file: &'a SweepFile,
    /// Characters in a line of the terminal.
    pub(super) columns: usize,
}

impl SweepReport<'_> {
    /// Tables, a plot, and the reasons against the numbers.
    pub(super) fn text(&self, color: bool) -> String {
        let mut blocks = vec![format!("{}\n", self.title())];
        match &self.file.search {
            None => blocks.push(self.rates(true).text()),
            Some(search) => blocks.push(self.probes(search).text()),
        }
        blocks.push(self.plot(color));
        let reasons = self.reasons();
        let lines = reasons.iter().map(|(verdict, line)| {
            let line = crate::terminal::sanitized(line);
            format!("{} {line}\n", paint(&verdict.to_string(), *verdict, color))
        });
        blocks.push(lines.collect());
        blocks.push(self.answer().map_or_else(String::new, |line| line + "\n"));
        apart(blocks)
    }

    /// The same as Markdown; the plot as code, which has no colors.
    pub(super) fn markdown(&self) -> String {
        let mut blocks = vec![format!("{}\n", escape(&self.title()))];
        match &self.file.search {
            None => blocks.push(self.rates(false).markdown()),
            Some(search) => blocks.push(self.probes(search).markdown()),
        }
        let plot = self.plot(false);
        if !plot.is_empty() {
            blocks.push(format!("```text\n{plot}```\n"));
        }
        let reasons = self.reasons();
        let lines = reasons
            .iter()
            .map(|(verdict, line)| format!("- **{verdict}** {}\n", escape(line)));
        blocks.push(lines.collect());
        let answer = self.answer().map(|line| format!("**{}**\n", escape(&line)));
        blocks.push(answer.unwrap_or_default());
        apart(blocks)
    }

    /// A header and a line for each run.
    pub(super) fn csv(&self) -> String {
        csv::csv(self.file)
    }

    fn title(&self) -> String {
        let Some(run) = self.file.runs().next() else {
            return self.file.label.clone();
        };
        // The plan of a run is that of all of them but for the rate.
        let plan = run.plan.to_string();
        let common = plan
            .split_once("/s ")
            .map_or(plan.as_str(), |parts| parts.1);
        format!("{}: open loop, {common}", self.file.label)
    }

    /// A line per rate, and one below it with the band of its runs if `is_apart`.
    fn rates(&self, is_apart: bool) -> Grid {
        let mut grid = Grid::default();
        grid.add("rate", TITLES.map(str::to_owned).to_vec(), "");
        for point in &self.file.points {
            let name = format!("{}/s", format_rate(point.rate_per_s));
            if point.runs.is_empty() {
                let why = match point.skipped {
                    0 => "not run",
                    _ => "left out: a lower rate was not reached",
                };
                grid.add(&name, Vec::new(), why);
                continue;
            }
            let bands = bands(point);
            let cells = |text: &dyn Fn(&Band) -> String| -> Vec<String> {
                let mut cells: Vec<_> = bands.iter().map(text).collect();
                cells.insert(1, point.runs.len().to_string());
                cells
            };
            let many = point.runs.len() > 1;
            let mut line = cells(&|band| match (is_apart, many) {
                (false, true) => format!("{} ({})", band.median(), band.range()),
                _ => band.median(),
            });
            line.push(verdict(point));
            grid.add(&name, line, "");
            if is_apart && many {
                let mut line = cells(&Band::range);
                line[1].clear();
                grid.add("", line, "");
            }
        }
        grid
    }

    /// A line per run of a search, in the order they were made.
    fn probes(&self, search: &Search) -> Grid {
        let mut grid = Grid::default();
        let results = search
            .probes
            .iter()
            .filter_map(|probe| self.file.run_of(probe));
        let objectives = results.clone().next().map(|run| run.objectives.as_slice());
        let mut titles = vec!["rate".to_owned(), "reached".to_owned()];
        let names = objectives.unwrap_or_default().iter();
        titles.extend(names.map(|objective| objective.objective.clone()));
        titles.extend(["verdict", "result", "to"].map(str::to_owned));
        grid.add("run", titles, "");
        for (index, (probe, run)) in search.probes.iter().zip(results).enumerate() {
            let mut cells = vec![
                format!("{}/s", format_rate(probe.rate_per_s)),
                format!("{}/s", format_rate(run.summary.rate_per_s)),
            ];
            cells.extend(run.objectives.iter().map(|one| one.observed.clone()));
            cells.push(run.judgement.verdict.to_string());
            cells.push(outcome(probe.held).to_owned());
            cells.push(probe.purpose.to_string());
            grid.add(&(index + 1).to_string(), cells, "");
        }
        grid
    }

    fn plot(&self, color: bool) -> String {
        let series = [(Percentile::P50, "p50", 'o'), (Percentile::P99, "p99", 'x')];
        let chart = Chart {
            x: Axis {
                title: "messages/s (target)",
                scale: Scale::Log,
                label: &short_count,
            },
            y: Axis {
                title: "response time",
                scale: Scale::Log,
                label: &short_ns,
            },
            series: series
                .into_iter()
                .map(|(percentile, name, mark)| Series {
                    name,
                    mark,
                    points: self.medians(percentile),
                })
                .collect(),
            columns: self
                .columns
                .clamp(*PLOT_COLUMNS.start(), *PLOT_COLUMNS.end()),
            rows: PLOT_ROWS,
        };
        chart.text(color)
    }

    fn medians(&self, percentile: Percentile) -> Vec<(f64, f64)> {
        let points = self.file.points.iter().filter_map(|point| {
            let median = Band::of_percentile(&point.runs, percentile).middle()?;
            Some((point.rate_per_s, median))
        });
        points.collect()
    }

    /// The reasons against runs: each kind once, with the rates where it occurred, and the first
    /// text.
    fn reasons(&self) -> Vec<(Verdict, String)> {
        let mut kinds: Vec<(&Reason, Vec<f64>)> = Vec::new();
        for point in &self.file.points {
            for reason in point.runs.iter().flat_map(|run| &run.judgement.reasons) {
                let is_known = |(one, _): &&mut (&Reason, Vec<f64>)| {
                    (one.verdict, &one.advice) == (reason.verdict, &reason.advice)
                };
                match kinds.iter_mut().find(is_known) {
                    Some((_, rates)) => rates.push(point.rate_per_s),
                    None => kinds.push((reason, vec![point.rate_per_s])),
                }
            }
        }
        let lines = kinds.into_iter().map(|(reason, mut rates)| {
            rates.dedup();
            let rates: Vec<_> = rates.into_iter().map(short_count).collect();
            let line = format!(
                "at {}/s: {}: {}",
                rates.join(", "),
                reason.what,
                reason.advice
            );
            (reason.verdict, line)
        });
        lines.collect()
    }

    /// The result of a search, in a line.
    fn answer(&self) -> Option<String> {
        let search = self.file.search.as_ref()?;
        let objective = &search.objective;
        let per_s = |rate: f64| format!("{}/s", format_rate(rate));
        Some(match search.answer {
            Answer::Found {
                rate_per_s,
                fails_at_per_s,
                confirmed,
            } => {
                let beyond = fails_at_per_s.map_or_else(
                    || "the highest that was tried".to_owned(),
                    |rate| format!("fails at {}", per_s(rate)),
                );
                format!(
                    "highest rate that holds {objective}: {} ({beyond}), confirmed {confirmed} of \
                     {confirmed}{}",
                    per_s(rate_per_s),
                    self.confirmation_remark(search)
                )
            }
            Answer::NothingHolds { lowest_per_s } => {
                format!("not even {} holds {objective}", per_s(lowest_per_s))
            }
            Answer::Unconfirmed {
                held_per_s,
                fails_at_per_s,
            } => {
                let known = [(held_per_s, "held"), (fails_at_per_s, "failed")];
                let known = known.iter().filter_map(|(rate, what)| {
                    rate.map(|rate| format!("; {} {what}", per_s(rate)))
                });
                let known: String = known.collect();
                let why = undecided(search).map_or_else(String::new, |rate| {
                    format!("; runs at {} are unknown, see above", per_s(rate))
                });
                format!("no rate was confirmed to hold {objective}{known}{why}")
            }
        })
    }

    /// A remark on a confirmation whose runs are not VALID.
    fn confirmation_remark(&self, search: &Search) -> &'static str {
        let confirming = search
            .probes
            .iter()
            .filter(|probe| probe.purpose == Purpose::Confirm);
        let mut held = confirming.filter(|probe| probe.held == Some(true));
        let is_suspect = held.any(|probe| {
            let run = self.file.run_of(probe);
            run.is_some_and(|run| run.judgement.verdict != Verdict::Valid)
        });
        if is_suspect {
            "; its runs are SUSPECT, see above"
        } else {
            ""
        }
    }
}

/// The result of a search's run for its rate.
fn outcome(held: Option<bool>) -> &'static str {
    match held {
        Some(true) => "holds",
        Some(false) => "fails",
        None => "unknown",
    }
}

/// The rate at which a search ended after unknown runs.
fn undecided(search: &Search) -> Option<f64> {
    let last = search.probes.last()?;
    last.held.is_none().then_some(last.rate_per_s)
}

/// The bands of a rate's runs, in the order of [`TITLES`], without those that are
/// none.
fn bands(point: &SweepPoint) -> Vec<Band> {
    let runs = &point.runs;
    let mut bands = vec![Band::of_rate(runs)];
    bands.extend(PERCENTILES.map(|percentile| Band::of_percentile(runs, percentile)));
    bands.push(Band::of_max(runs));
    bands.push(Band::of_cpu(runs));
    bands
}

/// The worst verdict of a rate's runs, and its number of runs.
fn verdict(point: &SweepPoint) -> String {
    let verdicts = || point.runs.iter().map(|run| run.judgement.verdict);
    let Some(worst) = verdicts().max() else {
        return UNKNOWN.to_owned();
    };
    let count = verdicts().filter(|verdict| *verdict == worst).count();
    let mut parts = vec![worst.to_string()];
    if count < point.runs.len() {
        parts.push(format!("{count} of {}", point.runs.len()));
    }
    if point.skipped > 0 {
        parts.push(format!("{} left out", point.skipped));
    }
    parts.join(", ")
}

/// Blocks with an empty line between them; those that are empty left out.
fn apart(mut blocks: Vec<String>) -> String {
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n")
}

#[cfg(test)]
mod tests;
