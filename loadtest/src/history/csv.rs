//! A history for spreadsheets: a line for each point, plain numbers in the
//! metric's unit (per second, nanoseconds, bytes).

use super::Chapter;
use super::change::{Mark, Step};
use crate::metric::Metric;
use crate::report::quoted;

const TITLES: &str =
    "workload,metric,point,day,runs,median,low,high,fence_low,fence_high,mark,ratio";

pub(super) fn csv(chapters: &[Chapter], metric: Metric) -> String {
    let mut lines = vec![TITLES.to_owned()];
    for chapter in chapters {
        let steps = chapter.steps.iter();
        lines.extend(steps.map(|step| line(&chapter.workload, metric, step)));
    }
    lines.join("\n") + "\n"
}

fn line(workload: &str, metric: Metric, step: &Step) -> String {
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
        quoted(workload),
        metric.to_string(),
        quoted(&point.name),
        point.day.clone(),
        point.values.len().to_string(),
        point.median().to_string(),
        point.low().to_string(),
        point.high().to_string(),
        fence(|it| it.low),
        fence(|it| it.high),
        mark.to_owned(),
        ratio,
    ]
    .join(",")
}
