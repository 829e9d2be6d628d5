//! Latency and rate over the time of a run.

use maud::{Markup, html};

use crate::units::{format_ns, format_rate};

use super::figure::Figure;
use super::run::{LatencySummary, ReportedRun, TimeStep};
use super::svg::{Axis, Chart, Mark, Rule, RulePosition, STYLES, Series, Size, compact_ns};
use super::table::HtmlTable;

/// Lines with up to this number of points have marks with values.
const MARKS_MAX: usize = 40;

/// A statistic of the response times of a second.
struct LatencyStatistic {
    name: &'static str,
    of: fn(&LatencySummary) -> f64,
}

const STATISTICS: [LatencyStatistic; 3] = [
    LatencyStatistic {
        name: "p50",
        of: |times| times.p50,
    },
    LatencyStatistic {
        name: "p99",
        of: |times| times.p99,
    },
    LatencyStatistic {
        name: "max",
        of: |times| times.max,
    },
];

/// p50, p99 and the maximum of every second: as lines of one chart for a single
/// run, as charts of their own for several.
pub(super) fn latency(runs: &[ReportedRun]) -> Option<Markup> {
    let shown = &runs[..runs.len().min(STYLES)];
    if !shown
        .iter()
        .flat_map(|run| &run.steps)
        .any(|step| step.response_ns.is_some())
    {
        return None;
    }
    let figure = Figure {
        id: "latency-over-time",
        title: "Response time over time",
        finding: latency_finding(shown),
        notes: notes(runs, true),
        legend: Vec::new(),
        data: latency_table(shown),
    };
    let x = || time_axis(shown);
    if let [run] = shown {
        let lines = STATISTICS.iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(style, it)| latency_line(run, it.name, style, it))
            .collect();
        let mut chart = Chart::new(x(), latency_axis("response time", &lines));
        chart.rules = drain_rule(run).into_iter().collect();
        chart.series = lines;
        return Some(figure.draw_chart(&chart));
    }
    let plots = STATISTICS.iter().map(|statistic| {
        let lines = shown.iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(style, run)| latency_line(run, &run.name, style, statistic))
            .collect();
        let mut chart = Chart::new(x(), latency_axis(statistic.name, &lines));
        chart.series = lines;
        let title = format!("{} of the response time over time", statistic.name);
        let caption = super::svg::Caption {
            title: &title,
            finding: &figure.finding,
        };
        chart.draw(
            &format!("latency-over-time-{}", statistic.name),
            Size::Small,
            &caption,
        )
    });
    let plots: Vec<_> = plots.collect();
    let figure = Figure {
        legend: legend(shown),
        ..figure
    };
    Some(figure.draw_small(&plots))
}

/// Replies per second.
pub(super) fn rate(runs: &[ReportedRun]) -> Option<Markup> {
    let shown = &runs[..runs.len().min(STYLES)];
    let lines: Vec<_> = shown
        .iter()
        .enumerate()
        .map(|(style, run)| rate_line(run, style))
        .collect();
    let rates = lines
        .iter()
        .flat_map(|line| line.points.iter().flatten().map(|&(_, rate)| rate));
    let rates: Vec<_> = rates.collect();
    if rates.is_empty() {
        return None;
    }
    let mut targets: Vec<_> = shown
        .iter()
        .filter_map(|run| run.file.plan.rate())
        .collect();
    targets.sort_by(f64::total_cmp);
    targets.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let y = Axis::from_zero(
        "replies/s",
        rates.into_iter().chain(targets.clone()),
        format_rate,
    );
    let mut chart = Chart::new(time_axis(shown), y);
    chart.rules = targets
        .into_iter()
        .map(|target| Rule {
            at: RulePosition::Y(target),
            name: format!("target {}/s", format_rate(target)),
        })
        .collect();
    chart.series = lines;
    let figure = Figure {
        id: "rate-over-time",
        title: "Rate over time",
        finding: rate_finding(shown),
        notes: notes(runs, false),
        legend: Vec::new(),
        data: rate_table(shown),
    };
    Some(figure.draw_chart(&chart))
}

fn time_axis(runs: &[ReportedRun]) -> Axis {
    let ends = runs.iter().flat_map(|run| {
        let ends = run.steps.iter().map(|step| step.start_s + step.length_s);
        ends.chain([run.elapsed_s()])
    });
    Axis::up_to(
        "seconds of the measurement",
        ends.fold(0.0, f64::max),
        |s| format!("{s} s"),
    )
}

fn latency_axis(title: &str, lines: &[Series]) -> Axis {
    let points = lines.iter().flat_map(|line| line.points.iter().flatten());
    Axis::times(title, points.map(|&(_, ns)| ns))
}

fn latency_line(
    run: &ReportedRun,
    name: &str,
    style: usize,
    statistic: &LatencyStatistic,
) -> Series {
    line(
        run.steps.iter(),
        name,
        style,
        |step| step.response_ns.as_ref().map(statistic.of),
        compact_ns,
    )
}

fn rate_line(run: &ReportedRun, style: usize) -> Series {
    let measured = run.steps.iter().filter(|step| !step.is_drain);
    line(
        measured,
        &run.name,
        style,
        |step| Some(step.rate_per_s),
        |rate| format!("{}/s", format_rate(rate)),
    )
}

fn line<'a>(
    steps: impl Iterator<Item = &'a TimeStep>,
    name: &str,
    style: usize,
    value: impl Fn(&TimeStep) -> Option<f64>,
    format: impl Fn(f64) -> String,
) -> Series {
    let points: Vec<_> = steps
        .map(|step| value(step).map(|value| (step.middle_s(), value)))
        .collect();
    let mark = |&(x, y): &(f64, f64)| Mark {
        x,
        y,
        tooltip: format!("{name} at {x:.1} s: {}", format(y)),
        is_doubtful: false,
    };
    let marks = if points.len() > MARKS_MAX {
        Vec::new()
    } else {
        points.iter().flatten().map(mark).collect()
    };
    Series {
        name: name.to_owned(),
        style,
        points,
        marks,
        ..Series::default()
    }
}

/// A rule between the measurement and the drain.
fn drain_rule(run: &ReportedRun) -> Option<Rule> {
    let drain = run
        .steps
        .iter()
        .find(|step| step.is_drain && step.response_ns.is_some())?;
    Some(Rule {
        at: RulePosition::X(drain.start_s),
        name: "drain".to_owned(),
    })
}

fn legend(runs: &[ReportedRun]) -> Vec<(String, usize)> {
    let names = runs.iter().enumerate();
    names
        .map(|(style, run)| (run.name.clone(), style))
        .collect()
}

fn notes(runs: &[ReportedRun], has_drain: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if runs.len() > STYLES {
        notes.push(format!(
            "The first {STYLES} of {} runs are shown.",
            runs.len()
        ));
    }
    let longest = runs
        .iter()
        .flat_map(|run| &run.steps)
        .filter(|step| !step.is_drain);
    let longest_s = longest.map(|step| step.length_s).fold(0.0, f64::max);
    let what = if longest_s > 1.5 {
        format!("A point is {longest_s:.0} seconds.")
    } else {
        "A point is a second.".to_owned()
    };
    let behind = if has_drain {
        " Replies count when they come, those of the drain behind the measurement as its last point."
    } else {
        " The drain behind the measurement is left out."
    };
    notes.push(what + behind);
    notes
}

fn latency_finding(runs: &[ReportedRun]) -> String {
    let worst = |run: &ReportedRun| {
        let steps = run
            .steps
            .iter()
            .filter_map(|step| Some((step, step.response_ns?)));
        let (step, times) = steps.max_by(|a, b| a.1.max.total_cmp(&b.1.max))?;
        Some((step.start_s, times.max))
    };
    let parts = runs.iter().filter_map(|run| {
        let (at_s, max_ns) = worst(run)?;
        let prefix = if runs.len() > 1 {
            format!(" in {}", run.name)
        } else {
            String::new()
        };
        let max = nanoseconds(max_ns);
        Some(format!("{max}{prefix} ({at_s:.0} s after the start)"))
    });
    let parts: Vec<_> = parts.collect();
    format!("The slowest reply took {}.", parts.join(", "))
}

fn rate_finding(runs: &[ReportedRun]) -> String {
    let parts = runs.iter().map(|run| {
        let rates = run
            .steps
            .iter()
            .filter(|step| !step.is_drain)
            .map(|step| step.rate_per_s);
        let (low, high) = rates.fold((f64::MAX, 0.0), |(low, high): (f64, f64), rate| {
            (low.min(rate), high.max(rate))
        });
        let prefix = if runs.len() > 1 {
            format!("{}: ", run.name)
        } else {
            String::new()
        };
        format!(
            "{prefix}{}/s on average, {} to {} from second to second",
            format_rate(run.file.summary.rate_per_s),
            format_rate(low.min(high)),
            format_rate(high)
        )
    });
    format!("{}.", parts.collect::<Vec<_>>().join("; "))
}

fn latency_table(runs: &[ReportedRun]) -> HtmlTable {
    let titles = ["run", "from", "p50", "p99", "max"];
    let mut table = HtmlTable::new("Response time over time", titles);
    table.text_columns = 1;
    for run in runs {
        for step in &run.steps {
            let Some(times) = &step.response_ns else {
                continue;
            };
            let values = STATISTICS.iter().map(|it| nanoseconds((it.of)(times)));
            table.add([run.name.clone(), from(step)].into_iter().chain(values));
        }
    }
    table
}

fn rate_table(runs: &[ReportedRun]) -> HtmlTable {
    let mut table = HtmlTable::new("Rate over time", ["run", "from", "replies/s"]);
    for run in runs {
        for step in run.steps.iter().filter(|step| !step.is_drain) {
            table.add([run.name.clone(), from(step), format_rate(step.rate_per_s)]);
        }
    }
    table
}

fn from(step: &TimeStep) -> String {
    let drain = if step.is_drain { " (drain)" } else { "" };
    format!("{:.1} s{drain}", step.start_s)
}

fn nanoseconds(ns: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    format_ns(ns.round() as u64)
}

/// Both charts, the more important one first.
pub(super) fn figures(runs: &[ReportedRun]) -> Markup {
    html! {
        @if let Some(figure) = latency(runs) { (figure) }
        @if let Some(figure) = rate(runs) { (figure) }
    }
}
