//! A history for spreadsheets: a line for each point, plain numbers in the
//! metric's unit (per second, nanoseconds, bytes).

use super::Chapter;
use super::change::{Mark, Step};
use super::point::Point;
use crate::metric::Metric;
use crate::report::csv_line;

const TITLES: [&str; 13] = [
    "workload",
    "metric",
    "point",
    "day",
    "runs",
    "median",
    "low",
    "high",
    "fence_low",
    "fence_high",
    "mark",
    "ratio",
    "annotations",
];

pub(super) fn csv(chapters: &[Chapter], metric: Metric) -> String {
    let mut csv = csv_line(&TITLES.map(str::to_owned));
    for chapter in chapters {
        for step in &chapter.steps {
            csv += &csv_line(&fields(&chapter.workload, metric, step));
        }
    }
    csv
}

fn annotations(point: &Point) -> String {
    let told: Vec<_> = point.annotations.iter().map(String::as_str).collect();
    told.join("; ")
}

fn fields(workload: &str, metric: Metric, step: &Step) -> [String; TITLES.len()] {
    let point = &step.point;
    let fence = |value: fn(crate::statistics::Interval) -> f64| {
        step.fences
            .map_or_else(String::new, |it| value(it).to_string())
    };
    let (mark, ratio) = match step.mark {
        Mark::Level => ("", String::new()),
        Mark::Outlier => ("outlier", String::new()),
        Mark::Change { ratio, is_better } => (
            if is_better { "better" } else { "worse" },
            ratio.to_string(),
        ),
    };
    [
        workload.to_owned(),
        metric.to_string(),
        point.name.clone(),
        point.day.clone(),
        point.values.len().to_string(),
        point.median().to_string(),
        point.low().to_string(),
        point.high().to_string(),
        fence(|it| it.low),
        fence(|it| it.high),
        mark.to_owned(),
        ratio,
        annotations(point),
    ]
}
