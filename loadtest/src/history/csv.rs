//! A history for spreadsheets: a line for each point, plain numbers in the
//! metric's unit (per second, nanoseconds, bytes).

use super::WorkloadHistory;
use super::change::{MarkedPoint, PointKind};
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

pub(super) fn csv(histories: &[WorkloadHistory], metric: Metric) -> String {
    let mut csv = csv_line(&TITLES.map(str::to_owned));
    for history in histories {
        for step in &history.steps {
            csv += &csv_line(&fields(&history.workload, metric, step));
        }
    }
    csv
}

fn annotations(point: &Point) -> String {
    let annotations: Vec<_> = point.annotations.iter().map(String::as_str).collect();
    annotations.join("; ")
}

fn fields(workload: &str, metric: Metric, step: &MarkedPoint) -> [String; TITLES.len()] {
    let point = &step.point;
    let fence = |value: fn(crate::statistics::ConfidenceInterval) -> f64| {
        step.fences
            .map_or_else(String::new, |it| value(it).to_string())
    };
    let (mark, ratio) = match step.mark {
        PointKind::Level => ("", String::new()),
        PointKind::Outlier => ("outlier", String::new()),
        PointKind::Change { ratio, is_better } => (
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
