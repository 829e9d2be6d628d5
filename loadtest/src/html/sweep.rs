//! Sweeps: latency and cost against load.

use maud::{Markup, html};

use crate::metric::Metric;
use crate::result::ResultFile;
use crate::statistics::median;
use crate::sweep::{Answer, Search, SweepFile};
use crate::terminal::sanitized;
use crate::units::{format_ns, format_rate};
use crate::verdict::Verdict;

use super::figure::Figure;
use super::svg::{Axis, Band, Chart, Mark, Series};
use super::table::HtmlTable;

/// The data of a sweep's section.
#[derive(Debug, Clone, Default)]
pub(super) struct RateSweep {
    pub(super) label: String,
    pub(super) points: Vec<RatePoint>,
    /// The result of a search for the highest rate.
    pub(super) answer: Option<String>,
}

/// A rate and the results of its runs.
#[derive(Debug, Clone, Default)]
pub(super) struct RatePoint {
    pub(super) rate_per_s: f64,
    pub(super) runs: Vec<RateRun>,
    /// Runs that were left out.
    pub(super) skipped: u32,
}

/// One run of a rate; times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct RateRun {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) p99_9: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) reached_per_s: f64,
    pub(super) cpu_ns_per_message: Option<f64>,
    pub(super) verdict: Verdict,
}

impl RateSweep {
    pub(super) fn of(file: &SweepFile) -> Self {
        let points = file.points.iter().map(|point| RatePoint {
            rate_per_s: point.rate_per_s,
            runs: point.runs.iter().map(RateRun::of).collect(),
            skipped: point.skipped,
        });
        Self {
            label: sanitized(&file.label),
            points: points.collect(),
            answer: file.search.as_ref().map(answer),
        }
    }
}

impl RateRun {
    fn of(run: &ResultFile) -> Self {
        let times = &run.summary.response_ns;
        Self {
            p50: Metric::P50.of(run),
            p99: Metric::P99.of(run),
            p99_9: Metric::P99_9.of(run),
            max: times.max.map(|ns| ns as f64),
            reached_per_s: run.summary.rate_per_s,
            cpu_ns_per_message: Metric::CpuPerMessage.of(run),
            verdict: run.judgement.verdict,
        }
    }
}

/// The result of a search.
fn answer(search: &Search) -> String {
    let objective = &search.objective;
    match search.answer {
        Answer::Found {
            rate_per_s,
            fails_at_per_s,
            confirmed,
        } => {
            let beyond = fails_at_per_s.map_or_else(
                || "the highest that was tried".to_owned(),
                |rate| format!("{}/s does not", format_rate(rate)),
            );
            let rate = format_rate(rate_per_s);
            format!("{rate}/s holds {objective}, in all of {confirmed} more runs; {beyond}.")
        }
        Answer::NothingHolds { lowest_per_s } => {
            format!(
                "Not even {}/s holds {objective}.",
                format_rate(lowest_per_s)
            )
        }
        Answer::Unconfirmed { .. } => format!("No rate was confirmed to hold {objective}."),
    }
}

/// A quantity of a run that is drawn against the load.
struct Quantity {
    name: &'static str,
    of: fn(&RateRun) -> Option<f64>,
}

const LATENCIES: [Quantity; 4] = [
    Quantity {
        name: "p50",
        of: |run| run.p50,
    },
    Quantity {
        name: "p99",
        of: |run| run.p99,
    },
    Quantity {
        name: "p99.9",
        of: |run| run.p99_9,
    },
    Quantity {
        name: "max",
        of: |run| run.max,
    },
];

const COST: Quantity = Quantity {
    name: "CPU/message",
    of: |run| run.cpu_ns_per_message,
};

/// A section about one sweep.
pub(super) fn section(index: usize, sweep: &RateSweep) -> Markup {
    let id = format!("sweep-{}", index + 1);
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { "Latency against load: " (sanitized(&sweep.label)) }
            @if let Some(answer) = &sweep.answer { p { (sanitized(answer)) } }
            @if sweep.points.iter().all(|point| point.runs.is_empty()) {
                p { "There is no run in it." }
            } @else {
                (latency(&format!("{id}-latency"), sweep))
                @if let Some(figure) = cost(&format!("{id}-cost"), sweep) { (figure) }
            }
        }
    }
}

fn latency(id: &str, sweep: &RateSweep) -> Markup {
    let lines = LATENCIES.iter().enumerate();
    let lines: Vec<_> = lines
        .map(|(style, quantity)| line(sweep, style, quantity, nanoseconds))
        .filter(|line| !line.marks.is_empty())
        .collect();
    let mut chart = Chart::new(
        load_axis(sweep),
        Axis::times("response time", extremes(&lines)),
    );
    chart.series = lines;
    let figure = Figure {
        id,
        title: "Response time against load",
        finding: finding(sweep),
        notes: notes(sweep),
        legend: Vec::new(),
        data: table(sweep),
    };
    figure.draw_chart(&chart)
}

fn cost(id: &str, sweep: &RateSweep) -> Option<Markup> {
    let line = line(sweep, 0, &COST, cpu);
    let costs: Vec<_> = extremes(std::slice::from_ref(&line)).collect();
    let (first, last) = (line.marks.first()?, line.marks.last()?);
    let finding = format!(
        "{} per message at {}/s, {} at {}/s.",
        cpu(first.y),
        format_rate(first.x),
        cpu(last.y),
        format_rate(last.x)
    );
    let mut chart = Chart::new(
        load_axis(sweep),
        Axis::from_zero("server CPU per message", costs, cpu),
    );
    chart.series = vec![line];
    let figure = Figure {
        id,
        title: "Server CPU per message against load",
        finding,
        notes: Vec::new(),
        legend: Vec::new(),
        data: HtmlTable::default(),
    };
    Some(figure.draw_chart(&chart))
}

fn load_axis(sweep: &RateSweep) -> Axis {
    let rates = sweep.points.iter().filter(|point| !point.runs.is_empty());
    let rates: Vec<_> = rates.map(|point| point.rate_per_s).collect();
    let (low, high) = rates
        .iter()
        .fold((f64::MAX, 0.0), |(low, high): (f64, f64), &rate| {
            (low.min(rate), high.max(rate))
        });
    let title = "load, messages/s";
    // Rates that double each time would crowd at the start of a linear axis.
    if high / low > 10.0 {
        Axis::log(title, rates, format_rate)
    } else {
        Axis::from_zero(title, rates, format_rate)
    }
}

fn extremes(lines: &[Series]) -> impl Iterator<Item = f64> {
    let bands = lines.iter().flat_map(|line| &line.band);
    bands.flat_map(|band| [band.low, band.high])
}

/// The medians of all runs of a rate, in a band from the least to the most.
fn line(
    sweep: &RateSweep,
    style: usize,
    quantity: &Quantity,
    format: impl Fn(f64) -> String,
) -> Series {
    let mut line = Series {
        name: quantity.name.to_owned(),
        style,
        ..Series::default()
    };
    for point in &sweep.points {
        let mut values: Vec<_> = point.runs.iter().filter_map(quantity.of).collect();
        values.sort_by(f64::total_cmp);
        let (Some(&low), Some(y), Some(&high)) = (values.first(), median(&values), values.last())
        else {
            line.points.push(None);
            continue;
        };
        let x = point.rate_per_s;
        line.points.push(Some((x, y)));
        line.band.push(Band { x, low, high });
        line.marks.push(Mark {
            x,
            y,
            tooltip: format!(
                "{} at {}/s: {} ({} to {} in {} runs)",
                quantity.name,
                format_rate(x),
                format(y),
                format(low),
                format(high),
                values.len()
            ),
            is_doubtful: point.is_doubtful(),
        });
    }
    line
}

impl RatePoint {
    /// Whether at least half of its runs are INVALID.
    fn is_doubtful(&self) -> bool {
        let invalid = self
            .runs
            .iter()
            .filter(|run| run.verdict == Verdict::Invalid);
        2 * invalid.count() >= self.runs.len()
    }
}

fn finding(sweep: &RateSweep) -> String {
    let kept = sweep.points.iter().filter(|point| !point.runs.is_empty());
    let (kept, lost): (Vec<_>, Vec<_>) = kept.partition(|point| !point.is_doubtful());
    let highest = kept.last().map(|point| {
        let p99: Vec<_> = point.runs.iter().filter_map(|run| run.p99).collect();
        let p99 = median(&p99).map_or_else(String::new, |ns| {
            format!(", with a p99 of {}", nanoseconds(ns))
        });
        format!(
            "The highest rate that was kept is {}/s{p99}",
            format_rate(point.rate_per_s)
        )
    });
    let first_lost = lost
        .first()
        .map(|point| format!("{}/s was not", format_rate(point.rate_per_s)));
    let parts: Vec<_> = highest.into_iter().chain(first_lost).collect();
    format!("{}.", parts.join("; "))
}

fn notes(sweep: &RateSweep) -> Vec<String> {
    let repeats = sweep
        .points
        .iter()
        .map(|point| point.runs.len())
        .max()
        .unwrap_or(0);
    let mut notes = Vec::new();
    if repeats > 1 {
        notes.push(format!(
            "A point is the median of up to {repeats} runs, the band from the lowest to the \
             highest of them."
        ));
    }
    if sweep
        .points
        .iter()
        .any(|point| !point.runs.is_empty() && point.is_doubtful())
    {
        notes.push("Crosses are INVALID: the rate was not reached there.".to_owned());
    }
    let skipped: u32 = sweep.points.iter().map(|point| point.skipped).sum();
    if skipped > 0 {
        notes.push(format!(
            "{skipped} runs were left out, as a lower rate was not reached."
        ));
    }
    notes
}

fn table(sweep: &RateSweep) -> HtmlTable {
    let titles = [
        "load",
        "run",
        "replies/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "server CPU/msg",
        "verdict",
    ];
    let mut table = HtmlTable::new(
        &format!("Response time against load: {}", sanitized(&sweep.label)),
        titles,
    );
    for point in &sweep.points {
        for (index, run) in point.runs.iter().enumerate() {
            let time = |ns: Option<f64>| ns.map_or_else(|| "–".to_owned(), nanoseconds);
            table.add([
                format!("{}/s", format_rate(point.rate_per_s)),
                (index + 1).to_string(),
                format_rate(run.reached_per_s),
                time(run.p50),
                time(run.p99),
                time(run.p99_9),
                time(run.max),
                run.cpu_ns_per_message.map_or_else(|| "–".to_owned(), cpu),
                run.verdict.to_string(),
            ]);
        }
    }
    table
}

/// CPU time, to the nanosecond.
fn cpu(ns: f64) -> String {
    format!("{} ns", format_rate(ns.round()))
}

fn nanoseconds(ns: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    format_ns(ns.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeat(p99: f64, verdict: Verdict) -> RateRun {
        RateRun {
            p50: Some(50_000.0),
            p99: Some(p99),
            p99_9: None,
            max: Some(5e6),
            reached_per_s: 1_000.0,
            cpu_ns_per_message: Some(12_345.0),
            verdict,
        }
    }

    fn sweep() -> RateSweep {
        let point = |rate_per_s, runs, skipped| RatePoint {
            rate_per_s,
            runs,
            skipped,
        };
        let kept = vec![repeat(1e6, Verdict::Valid), repeat(3e6, Verdict::Suspect)];
        let lost = vec![repeat(9e6, Verdict::Valid), repeat(9e6, Verdict::Invalid)];
        RateSweep {
            label: "<a server>".to_owned(),
            points: vec![
                point(1_000.0, kept, 0),
                point(2_000.0, lost, 0),
                point(4_000.0, Vec::new(), 2),
            ],
            answer: None,
        }
    }

    #[test]
    fn the_description_names_the_highest_rate_reached() {
        let sweep = sweep();
        assert_eq!(
            finding(&sweep),
            "The highest rate that was kept is 1,000/s, with a p99 of 2.00 ms; 2,000/s was not."
        );
        assert_eq!(notes(&sweep).len(), 3, "{:?}", notes(&sweep));
        let line = line(&sweep, 0, &LATENCIES[1], nanoseconds);
        assert_eq!(line.points.len(), 3);
        assert_eq!(line.points[2], None);
        assert_eq!(
            line.marks[0].tooltip,
            "p99 at 1,000/s: 2.00 ms (1.00 ms to 3.00 ms in 2 runs)"
        );
        let doubtful: Vec<_> = line.marks.iter().map(|mark| mark.is_doubtful).collect();
        assert_eq!(doubtful, [false, true]);
    }

    #[test]
    fn a_section_has_both_charts_and_every_run() {
        let page = section(0, &sweep()).into_string();
        assert!(page.contains("12,345 ns per message at 1,000/s"), "{page}");
        assert!(page.contains("&lt;a server&gt;") && !page.contains("<a server>"));
        assert_eq!(page.matches("<th scope=\"row\"").count(), 4);
        let empty = section(1, &RateSweep::default()).into_string();
        assert!(empty.contains("There is no run in it."), "{empty}");
    }
}
