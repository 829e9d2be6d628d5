//! The tables of a comparison, before they are text or Markdown.

use super::cells;
use super::finding::{ComparisonVerdict, Contrast, MetricFinding};
use super::forest::ForestScale;
use super::ranking::{RankedSide, ranking};
use super::{Comparison, Settings};
use crate::metric::Metric;
use crate::report::cells::UNKNOWN;
use crate::units::format_percent;

/// Lines with a verdict each, and intervals on one scale.
#[derive(Debug)]
pub(super) struct ComparisonTable {
    /// Above the names.
    pub(super) title: String,
    /// Above the cells.
    pub(super) titles: Vec<String>,
    pub(super) rows: Vec<ComparisonRow>,
    pub(super) scale: ForestScale,
}

/// A metric or a side.
#[derive(Debug)]
pub(super) struct ComparisonRow {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
    /// The interval, drawn.
    pub(super) forest: String,
    pub(super) verdict: Option<ComparisonVerdict>,
    /// The verdict, and the runs still needed.
    pub(super) remark: String,
}

/// All tables of a comparison: that of the one contrast or of the noise alone, and
/// of more sides a ranking in each of these metrics.
pub(super) fn all(comparison: &Comparison, rankings: &[Metric]) -> Vec<ComparisonTable> {
    let noise = comparison.noise.as_ref();
    match comparison.contrasts.as_slice() {
        [] => noise
            .map(|noise| contrast(comparison, noise, None))
            .into_iter()
            .collect(),
        [only] => vec![contrast(comparison, only, noise)],
        _ => rankings
            .iter()
            .map(|&metric| places(comparison, metric))
            .collect(),
    }
}

/// One side against the baseline, a line for each metric; with the baseline's difference from
/// itself, if the noise was measured.
fn contrast(
    comparison: &Comparison,
    contrast: &Contrast,
    noise: Option<&Contrast>,
) -> ComparisonTable {
    // Tails would make the scale too wide for the other intervals.
    let deciding = comparison.settings.deciding(&contrast.findings);
    let scale = ForestScale::of(deciding.iter().map(|finding| finding.interval));
    let mut titles = vec![
        contrast.baseline.clone(),
        contrast.side.clone(),
        format!("{}/{}", contrast.side, contrast.baseline),
        interval_title(&comparison.settings),
    ];
    titles.extend(noise.map(|_| "noise".to_owned()));
    titles.push("p".to_owned());
    let rows = contrast.findings.iter().map(|finding| {
        let metric = finding.metric;
        let mut cells = vec![
            metric.format(finding.baseline),
            metric.format(finding.value),
            cells::ratio(finding.ratio),
            cells::ratios(finding.interval),
        ];
        cells.extend(noise.map(|noise| {
            let noise = noise.finding(metric);
            noise.map_or_else(|| UNKNOWN.to_owned(), cells::reach)
        }));
        cells.push(cells::p_value(finding.adjusted_p_value));
        ComparisonRow {
            name: metric.title().to_owned(),
            cells,
            ..ComparisonRow::of(comparison, finding, scale)
        }
    });
    ComparisonTable {
        title: String::new(),
        titles,
        rows: rows.collect(),
        scale,
    }
}

/// All sides in one metric, the best first.
fn places(comparison: &Comparison, metric: Metric) -> ComparisonTable {
    let places = ranking(comparison, metric);
    let intervals = places.iter().filter_map(|place| place.finding);
    let scale = ForestScale::of(intervals.map(|finding| finding.interval));
    let baseline = comparison.sides.first().map(|side| side.label.as_str());
    let interval = interval_title(&comparison.settings);
    let ratio = format!("to {}", baseline.unwrap_or_default());
    let titles = ["rank", "median", &interval, &ratio, &interval, "p"];
    let row = |place: &RankedSide<'_>| {
        let values = place.side.values.get(&metric);
        let mut cells = vec![
            place
                .rank
                .map_or_else(|| UNKNOWN.to_owned(), |rank| rank.to_string()),
            cells::value(metric, values.and_then(|it| it.median)),
            cells::values(metric, values.and_then(|it| it.interval)),
        ];
        let row = match place.finding {
            None => {
                cells.extend([UNKNOWN; 3].map(str::to_owned));
                ComparisonRow::without_finding(place.rank.is_some())
            }
            Some(finding) => {
                cells.extend([
                    cells::ratio(finding.ratio),
                    cells::ratios(finding.interval),
                    cells::p_value(finding.adjusted_p_value),
                ]);
                ComparisonRow::of(comparison, finding, scale)
            }
        };
        ComparisonRow {
            name: place.side.label.clone(),
            cells,
            ..row
        }
    };
    ComparisonTable {
        title: metric.title().to_owned(),
        titles: titles.map(str::to_owned).to_vec(),
        rows: places.iter().map(row).collect(),
        scale,
    }
}

impl ComparisonRow {
    fn of(comparison: &Comparison, finding: &MetricFinding, scale: ForestScale) -> Self {
        Self {
            name: String::new(),
            cells: Vec::new(),
            forest: scale.draw(finding.ratio, finding.interval),
            verdict: Some(finding.verdict),
            remark: cells::verdict(finding, cells::unit(comparison)),
        }
    }

    /// The baseline, or a side that was not measured.
    fn without_finding(is_baseline: bool) -> Self {
        let remark = if is_baseline {
            "baseline"
        } else {
            "not measured"
        };
        Self {
            name: String::new(),
            cells: Vec::new(),
            forest: String::new(),
            verdict: None,
            remark: remark.to_owned(),
        }
    }
}

fn interval_title(settings: &Settings) -> String {
    format!("{} interval", format_percent(settings.confidence()))
}
