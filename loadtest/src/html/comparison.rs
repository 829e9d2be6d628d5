//! The section of a comparison: verdicts, intervals, and every run's values.

use maud::{Markup, html};

use crate::comparison::{
    Comparison, ComparisonVerdict, Contrast, Design, MetricFinding, Outlook, Side,
};
use crate::metric::Metric;
use crate::terminal::sanitized;
use crate::units::format_percent;

use super::figure::Figure;
use super::svg::{Axis, DotRow, Dots, Forest, ForestRow, compact_ns};
use super::table::HtmlTable;

/// A section about one comparison.
pub(super) fn section(index: usize, comparison: &Comparison) -> Markup {
    let id = format!("comparison-{}", index + 1);
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title(comparison)) }
            p { (sanitized(&comparison.workload)) }
            p class="note" { (design(comparison)) }
            @if !comparison.warnings.is_empty() {
                ul class="warnings" {
                    @for warning in &comparison.warnings { li { (sanitized(warning)) } }
                }
            }
            @for (number, contrast) in comparison.contrasts.iter().enumerate() {
                (forest(&format!("{id}-forest-{}", number + 1), contrast, comparison))
            }
            @if let Some(noise) = &comparison.noise {
                (forest(&format!("{id}-noise"), noise, comparison))
            }
            (dots(&format!("{id}-runs"), comparison))
        }
    }
}

/// The labels of the sides, against the baseline.
pub(super) fn title(comparison: &Comparison) -> String {
    let labels = comparison.sides.iter().map(|side| sanitized(&side.label));
    let mut labels: Vec<_> = labels.collect();
    let baseline = labels.remove(0);
    if labels.is_empty() {
        return format!("{baseline} by itself");
    }
    format!("{} against {baseline}", labels.join(", "))
}

/// The verdict in a sentence, with the metrics that decided it.
pub(super) fn sentence(contrast: &Contrast) -> String {
    let parts = contrast.findings.iter().filter(|finding| {
        contrast.verdict == ComparisonVerdict::NoDifference
            || matches!(
                finding.verdict,
                ComparisonVerdict::Better | ComparisonVerdict::Worse
            )
    });
    let parts: Vec<_> = parts
        .map(|finding| {
            format!(
                "{} {}, {}",
                finding.metric.title(),
                numbers(finding),
                finding.verdict
            )
        })
        .collect();
    let why = if parts.is_empty() {
        "no metric decides".to_owned()
    } else {
        parts.join("; ")
    };
    format!(
        "{} against {} is {}: {why}.",
        sanitized(&contrast.side),
        sanitized(&contrast.baseline),
        word(contrast.verdict)
    )
}

/// The text of a verdict after "is".
fn word(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Better => "better",
        ComparisonVerdict::Worse => "worse",
        ComparisonVerdict::Mixed => "better in some and worse in other metrics",
        ComparisonVerdict::NoDifference => "no different",
        ComparisonVerdict::Inconclusive => "inconclusive",
    }
}

/// A verdict with a sign, as color must not be the only mark.
pub(super) fn signed(verdict: ComparisonVerdict) -> String {
    let sign = match verdict {
        ComparisonVerdict::Better => "▲",
        ComparisonVerdict::Worse => "▼",
        ComparisonVerdict::Mixed => "◆",
        ComparisonVerdict::NoDifference => "=",
        ComparisonVerdict::Inconclusive => "?",
    };
    format!("{sign} {verdict}")
}

/// The style class of a verdict.
pub(super) const fn class(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Better => "better",
        ComparisonVerdict::Worse => "worse",
        ComparisonVerdict::Mixed
        | ComparisonVerdict::NoDifference
        | ComparisonVerdict::Inconclusive => "open",
    }
}

fn design(comparison: &Comparison) -> String {
    let design = match comparison.design {
        Design::Paired => "In pairs, one run after the other",
        Design::Unpaired => "Two groups of runs",
    };
    let settings = &comparison.settings;
    format!(
        "{design}. Intervals hold with {} confidence; a difference below {} is of no interest.",
        format_percent(settings.confidence()),
        format_percent(settings.min_effect)
    )
}

fn numbers(finding: &MetricFinding) -> String {
    format!(
        "{:.3}× [{:.3}, {:.3}]",
        finding.ratio, finding.interval.low, finding.interval.high
    )
}

fn forest(id: &str, contrast: &Contrast, comparison: &Comparison) -> Markup {
    let is_noise = contrast.side == contrast.baseline;
    let title = if is_noise {
        format!("Noise: {} against itself", sanitized(&contrast.baseline))
    } else {
        format!(
            "{} against {}",
            sanitized(&contrast.side),
            sanitized(&contrast.baseline)
        )
    };
    // One scale for all plots of a comparison, so that they can be compared.
    let all = comparison.contrasts.iter().chain(&comparison.noise);
    let reach = all
        .flat_map(|contrast| &contrast.findings)
        .flat_map(|finding| {
            let intervals = [finding.interval.low, finding.interval.high, finding.ratio];
            intervals.into_iter().chain([1.0 + finding.margin.min(0.5)])
        });
    let forest = Forest {
        axis: Axis::ratios("ratio to the baseline, logarithmic", reach),
        rows: contrast.findings.iter().map(row).collect(),
    };
    let figure = Figure {
        id,
        title: &title,
        finding: sentence(contrast),
        notes: vec![
            "A square is the ratio, its whiskers the confidence interval. Where no difference is \
             found, an interval inside the gray band shows that there is none, and one that leaves \
             it is inconclusive. Less is better, but for messages/s."
                .to_owned(),
        ],
        legend: Vec::new(),
        data: table(&title, contrast),
    };
    figure.draw(|id, size, caption| forest.draw(id, size, caption))
}

fn row(finding: &MetricFinding) -> ForestRow {
    ForestRow {
        name: finding.metric.title().to_owned(),
        ratio: finding.ratio,
        low: finding.interval.low,
        high: finding.interval.high,
        margin: finding.margin.max(0.0),
        numbers: numbers(finding),
        verdict: signed(finding.verdict),
        class: class(finding.verdict),
    }
}

fn table(title: &str, contrast: &Contrast) -> HtmlTable {
    let titles = [
        "metric",
        "baseline",
        "side",
        "ratio",
        "interval",
        "p",
        "p, corrected",
        "margin",
        "runs",
        "verdict",
    ];
    let mut table = HtmlTable::new(title, titles);
    for finding in &contrast.findings {
        let metric = finding.metric;
        table.add([
            metric.title().to_owned(),
            metric.format(finding.baseline),
            metric.format(finding.value),
            format!("{:.4}×", finding.ratio),
            format!(
                "{:.4} to {:.4}",
                finding.interval.low, finding.interval.high
            ),
            format!("{:.4}", finding.p_value),
            format!("{:.4}", finding.adjusted_p_value),
            format!("±{}", format_percent(finding.margin)),
            finding.runs.to_string(),
            verdict(finding),
        ]);
    }
    table
}

fn verdict(finding: &MetricFinding) -> String {
    let verdict = signed(finding.verdict);
    match finding.outlook {
        None => verdict,
        Some(Outlook::More(runs)) => format!("{verdict}, about {runs} more needed"),
        Some(Outlook::AtLeast(runs)) => format!("{verdict}, at least {runs} more needed"),
        Some(Outlook::TooNoisy) => format!("{verdict}, too noisy"),
        Some(Outlook::Invalid) => format!("{verdict}, of INVALID runs"),
    }
}

fn dots(id: &str, comparison: &Comparison) -> Markup {
    let metrics = comparison.settings.metrics.iter().copied();
    let known = metrics.filter(|&metric| {
        let values = comparison.sides.iter().flat_map(|side| side.by_run(metric));
        values.flatten().next().is_some()
    });
    let known: Vec<_> = known.collect();
    let figure = Figure {
        id,
        title: "Every run's values",
        finding: "Each dot is a run, the line across their median, the band its interval."
            .to_owned(),
        notes: Vec::new(),
        legend: Vec::new(),
        data: values_table(comparison, &known),
    };
    let plots = known.iter().map(|&metric| {
        let title = format!("{} of every run", metric.title());
        let finding = medians(comparison, metric);
        let caption = super::svg::Caption {
            title: &title,
            finding: &finding,
        };
        let dots = Dots {
            axis: axis(comparison, metric),
            rows: rows(comparison, metric),
        };
        dots.draw(
            &format!("{id}-{}", metric.name().replace('.', "-")),
            &caption,
        )
    });
    figure.draw_small(&plots.collect::<Vec<_>>())
}

fn axis(comparison: &Comparison, metric: Metric) -> Axis {
    let values = comparison.sides.iter().flat_map(|side| {
        let values = side.by_run(metric).iter().flatten().copied();
        let interval = side.values.get(&metric).and_then(|values| values.interval);
        values
            .chain(interval.into_iter().flat_map(|it| [it.low, it.high]))
            .collect::<Vec<_>>()
    });
    let format = move |value| match metric {
        Metric::P50 | Metric::P99 | Metric::P99_9 => compact_ns(value),
        _ => metric.format(value),
    };
    Axis::around(metric.title(), values, format)
}

fn rows(comparison: &Comparison, metric: Metric) -> Vec<DotRow> {
    let sides = comparison.sides.iter().enumerate();
    let row = |(style, side): (usize, &Side)| {
        let values = side.values.get(&metric);
        let dots = side
            .by_run(metric)
            .iter()
            .enumerate()
            .filter_map(|(run, value)| {
                let value = (*value)?;
                Some((value, format!("run {}: {}", run + 1, metric.format(value))))
            });
        DotRow {
            name: sanitized(&side.label),
            style,
            dots: dots.collect(),
            median: values.and_then(|values| values.median),
            interval: values
                .and_then(|values| values.interval)
                .map(|it| (it.low, it.high)),
        }
    };
    sides.map(row).collect()
}

fn medians(comparison: &Comparison, metric: Metric) -> String {
    let medians = comparison.sides.iter().filter_map(|side| {
        let median = side.values.get(&metric)?.median?;
        Some(format!(
            "{} {}",
            sanitized(&side.label),
            metric.format(median)
        ))
    });
    format!("Medians: {}.", medians.collect::<Vec<_>>().join(", "))
}

fn values_table(comparison: &Comparison, metrics: &[Metric]) -> HtmlTable {
    let titles = ["side", "run"]
        .into_iter()
        .chain(metrics.iter().map(|metric| metric.title()));
    let mut table = HtmlTable::new(
        &format!("Every run's values: {}", title(comparison)),
        titles,
    );
    for side in &comparison.sides {
        for run in 0..side.runs {
            let cells = metrics.iter().map(|&metric| {
                let value = side.by_run(metric).get(run).copied().flatten();
                value.map_or_else(|| "–".to_owned(), |value| metric.format(value))
            });
            let head = [sanitized(&side.label), (run + 1).to_string()];
            table.add(head.into_iter().chain(cells));
        }
    }
    table
}
