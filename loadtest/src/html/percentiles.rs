//! Latency by percentile.

use maud::Markup;

use crate::outcome::Histogram;
use crate::percentile::Percentile;
use crate::report::cells;
use crate::units::{format_count, format_ns};

use super::figure::Figure;
use super::group::{RunGroup, RunGroups};
use super::run::ReportedRun;
use super::svg::{Axis, Band, Chart, Mark, Series};
use super::table::HtmlTable;

/// Points of a curve.
const POINTS: u32 = 160;

/// The percentiles of the table, which have marks in the chart.
const MARKED: [&str; 7] = ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99"];

/// The response times of all runs, and the service times of a single one.
pub(super) fn figure(runs: &[ReportedRun]) -> Option<Markup> {
    let groups = RunGroups::of(runs);
    let with_times = groups.all.iter().enumerate();
    let with_times: Vec<_> = with_times
        .filter(|(_, group)| !group.response_ns.is_empty())
        .collect();
    let messages = with_times
        .iter()
        .map(|(_, group)| group.response_ns.len())
        .max()?;
    let mut series: Vec<_> = with_times
        .iter()
        .map(|&(style, group)| curve(&group.name, style, &group.response_ns, &group.runs))
        .collect();
    if let [run] = runs {
        "response time".clone_into(&mut series[0].name);
        if !run.latencies.service_ns.is_empty() {
            series.push(curve("service time", 1, &run.latencies.service_ns, &[]));
        }
    }
    let times = series.iter().flat_map(|it| {
        let points = it.points.iter().flatten().chain(&it.tail);
        points.map(|&(_, ns)| ns).collect::<Vec<_>>()
    });
    let times: Vec<_> = times.collect();
    let mut chart = Chart::new(
        Axis::percentiles("percentile of the messages", messages),
        Axis::times("latency", times),
    );
    chart.series = series;
    let shown: Vec<_> = with_times.iter().map(|&(_, group)| group).collect();
    let figure = Figure {
        id: "latency-by-percentile",
        title: "Latency by percentile",
        finding: finding(&shown),
        notes: notes(&shown, groups.notes),
        legend: Vec::new(),
        data: table(runs, &shown),
    };
    Some(figure.draw_chart(&chart))
}

/// Points of the dotted tail have too few messages beyond them for a percentile.
fn curve(name: &str, style: usize, times_ns: &Histogram, runs: &[&ReportedRun]) -> Series {
    let messages = times_ns.len() as f64;
    let supported = shares(messages / 3.7)
        .into_iter()
        .filter(|beyond| beyond * messages >= 3.7);
    let points: Vec<_> = supported
        .map(|beyond| (beyond, value(times_ns, beyond)))
        .collect();
    let last = points.last().copied();
    let tail_shares = shares(messages).into_iter();
    let tail = tail_shares.filter(|&beyond| last.is_none_or(|(known, _)| beyond < known));
    let tail = tail.map(|beyond| (beyond, value(times_ns, beyond)));
    let end = (messages.recip(), times_ns.max() as f64);
    let marks = MARKED.iter().filter_map(|text| {
        let percentile: Percentile = text.parse().ok()?;
        let ns = percentile.of(times_ns)?;
        Some(Mark {
            x: 1.0 - percentile.quantile(),
            y: ns as f64,
            tooltip: format!("{name}: {text} {}", format_ns(ns)),
            is_doubtful: false,
        })
    });
    let max = Mark {
        x: end.0,
        y: end.1,
        tooltip: format!("{name}: max {}", format_ns(times_ns.max())),
        is_doubtful: false,
    };
    Series {
        name: name.to_owned(),
        style,
        tail: last.into_iter().chain(tail).chain([end]).collect(),
        marks: marks.chain([max]).collect(),
        band: if runs.len() > 1 {
            band(runs)
        } else {
            Vec::new()
        },
        points: points.into_iter().map(Some).collect(),
    }
}

/// Shares from all messages down to one, in even steps on a logarithmic scale.
fn shares(messages: f64) -> Vec<f64> {
    let steps = (0..=POINTS).map(|step| f64::from(step) / f64::from(POINTS));
    steps.map(|share| messages.max(1.0).powf(-share)).collect()
}

fn value(times_ns: &Histogram, beyond: f64) -> f64 {
    times_ns.value_at_quantile(1.0 - beyond) as f64
}

/// From the lowest run to the highest, as far as all have a percentile.
fn band(runs: &[&ReportedRun]) -> Vec<Band> {
    let histograms: Vec<_> = runs.iter().map(|run| &run.latencies.response_ns).collect();
    let least = histograms
        .iter()
        .map(|times_ns| times_ns.len())
        .min()
        .unwrap_or(0);
    let at = |beyond| {
        let values = histograms.iter().map(|times_ns| value(times_ns, beyond));
        let (low, high) = values.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        Band {
            x: beyond,
            low,
            high,
        }
    };
    let known = least as f64 / 3.7;
    if known < 1.0 {
        return Vec::new();
    }
    shares(known).into_iter().map(at).collect()
}

fn finding(groups: &[&RunGroup<'_>]) -> String {
    if let [group] = groups {
        let parts = [Percentile::P50, Percentile::P99, Percentile::P99_9];
        let parts = parts.into_iter().filter_map(|percentile| {
            let ns = percentile.of(&group.response_ns)?;
            Some(format!("{percentile} {}", format_ns(ns)))
        });
        let parts: Vec<_> = parts.collect();
        return format!(
            "Of {} messages the response time is {}; the slowest took {}.",
            format_count(group.response_ns.len()),
            parts.join(", "),
            format_ns(group.response_ns.max())
        );
    }
    let p99 = Percentile::P99;
    let known = groups
        .iter()
        .filter(|group| group.are_all_valid())
        .filter_map(|group| Some((p99.of(&group.response_ns)?, group)));
    let known: Vec<_> = known.collect();
    let least = known.iter().min_by_key(|(ns, _)| ns);
    let most = known.iter().max_by_key(|(ns, _)| ns);
    match (least, most) {
        (Some((low, fast)), Some((high, slow))) if low < high => format!(
            "At p99, from {} of {} to {} of {}. What of that is chance, a comparison tells, not \
             this curve.",
            format_ns(*low),
            fast.name,
            format_ns(*high),
            slow.name
        ),
        _ => "The response times of all runs, laid over each other.".to_owned(),
    }
}

fn notes(groups: &[&RunGroup<'_>], mut notes: Vec<String>) -> Vec<String> {
    notes.push(
        "Every nine is as wide as the last. Dotted: fewer than four messages lie beyond, too few to tell a percentile; the line ends \
         at the slowest message."
            .to_owned(),
    );
    if groups.iter().any(|group| group.runs.len() > 1) {
        notes.push("A band is from the lowest to the highest of its runs.".to_owned());
    }
    for group in groups {
        let censored = group.censored();
        if censored > 0 {
            let share = censored as f64 / group.response_ns.len() as f64;
            notes.push(format!(
                "{}: {} messages were given up. The slowest {:.3} % of its curve are lower bounds.",
                group.name,
                format_count(censored),
                share * 100.0
            ));
        }
    }
    notes
}

fn table(runs: &[ReportedRun], groups: &[&RunGroup<'_>]) -> HtmlTable {
    let mut titles = vec!["percentile".to_owned()];
    let mut columns: Vec<(&Histogram, u64)> = Vec::new();
    if let [run] = runs {
        titles.extend(["response time", "service time", "generator lag"].map(str::to_owned));
        let (latencies, censored) = (&run.latencies, run.file.counts.unanswered);
        columns.push((&latencies.response_ns, censored));
        columns.push((&latencies.service_ns, censored));
        columns.push((&latencies.lag_ns, 0));
    } else {
        for group in groups {
            titles.push(group.name.clone());
            columns.push((&group.response_ns, group.censored()));
        }
    }
    let mut table = HtmlTable::new("Latency by percentile", titles);
    for text in MARKED {
        let percentile: Percentile = text.parse().expect("one that can be read");
        let cells = columns
            .iter()
            .map(|(times_ns, censored)| cells::at(percentile, times_ns, *censored));
        table.add([text.to_owned()].into_iter().chain(cells));
    }
    // The chart shows the percentiles, and more of them.
    let spreads: Vec<_> = columns
        .iter()
        .map(|(times_ns, censored)| cells::spread(times_ns, *censored))
        .collect();
    for (line, title) in cells::spread_titles().into_iter().enumerate() {
        if title.parse::<Percentile>().is_err() {
            let cells = spreads.iter().map(|spread| spread[line].clone());
            table.add([title].into_iter().chain(cells));
        }
    }
    table
}
