//! A history for a terminal: a line for each point, with a plot.

use super::WorkloadHistory;
use super::change::{MarkedPoint, PointKind};
use crate::metric::Metric;
use crate::report::Grid;
use crate::units::format_percent;

/// The width of the plot, in characters.
const PLOT_WIDTH: usize = 40;

/// The margin on either side, as a share of the values' range.
const PLOT_MARGIN: f64 = 0.05;

const LEGEND: &str = "● median  ━ runs  [ ] fences of the runs before";

pub(super) fn text(histories: &[WorkloadHistory], metric: Metric) -> String {
    let histories = histories.iter().map(|history| {
        let title = format!("{}, {}\n", metric.title(), history.workload);
        title + &table(&history.steps, metric)
    });
    histories.collect::<Vec<_>>().join("\n") + LEGEND + "\n"
}

fn table(steps: &[MarkedPoint], metric: Metric) -> String {
    let scale = PlotScale::of(steps);
    let mut grid = Grid::default();
    let titles = ["measured", "runs", "median", "range"].map(str::to_owned);
    let mut titles = titles.to_vec();
    let ends = format!(
        "{:<width$}{:>width$}",
        metric.format(scale.low),
        metric.format(scale.high),
        width = PLOT_WIDTH / 2
    );
    titles.push(ends);
    grid.add("", titles, "");
    for step in steps {
        let point = &step.point;
        let range = format!(
            "{} to {}",
            metric.format(point.low()),
            metric.format(point.high())
        );
        let cells = vec![
            point.day.clone(),
            point.values.len().to_string(),
            metric.format(point.median()),
            range,
            scale.plot(step),
        ];
        grid.add(&point.name, cells, &remark(step));
        for line in &point.annotations {
            grid.add("", Vec::new(), line);
        }
    }
    grid.text()
}

fn remark(step: &MarkedPoint) -> String {
    match step.mark {
        PointKind::Level => String::new(),
        PointKind::Outlier => "beyond the fences".to_owned(),
        PointKind::Change { ratio, is_better } => {
            let sign = if ratio > 1.0 { '+' } else { '−' };
            let by = format_percent((ratio - 1.0).abs());
            let verdict = if is_better { "better" } else { "worse" };
            format!("◀ {verdict}, {sign}{by}")
        }
    }
}

/// Maps values to the columns of a plot.
struct PlotScale {
    low: f64,
    high: f64,
}

impl PlotScale {
    fn of(steps: &[MarkedPoint]) -> Self {
        let lows = steps.iter().map(|step| step.point.low());
        let highs = steps.iter().map(|step| step.point.high());
        let (low, high) = (
            lows.fold(f64::INFINITY, f64::min),
            highs.fold(0.0, f64::max),
        );
        let margin = (high - low).max(high * 0.01) * PLOT_MARGIN;
        Self {
            low: (low - margin).max(0.0),
            high: high + margin,
        }
    }

    /// The column of a value; values beyond are clamped.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is clamped to the columns"
    )]
    fn column(&self, value: f64) -> usize {
        let share = (value - self.low) / (self.high - self.low);
        let last = (PLOT_WIDTH - 1) as f64;
        (share * last).round().clamp(0.0, last) as usize
    }

    fn plot(&self, step: &MarkedPoint) -> String {
        let mut line = vec!['·'; PLOT_WIDTH];
        let point = &step.point;
        if let Some(fences) = step.fences {
            line[self.column(fences.low)] = '[';
            line[self.column(fences.high)] = ']';
        }
        for cell in &mut line[self.column(point.low())..=self.column(point.high())] {
            *cell = '━';
        }
        line[self.column(point.median())] = '●';
        line.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::mark;
    use super::super::point::Point;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_change_is_marked_with_its_verdict() {
        let point = |name: &str, values: &[f64]| Point {
            name: name.to_owned(),
            day: "2026-11-28".to_owned(),
            values: values.to_vec(),
            annotations: BTreeSet::new(),
        };
        let points = [
            point("aaaaaaaaa", &[5_000.0, 5_100.0, 4_900.0, 5_050.0]),
            point("bbbbbbbbb", &[5_020.0]),
            point("ccccccccc", &[5_500.0, 5_550.0, 5_600.0, 5_520.0]),
        ];
        let metric = Metric::CpuPerMessage;
        let histories = [WorkloadHistory {
            workload: "closed loop".to_owned(),
            steps: mark(&points, metric, 0.02),
        }];
        assert_eq!(
            text(&histories, metric),
            "\
CPU/message, closed loop
             measured  runs   median               range
aaaaaaaaa  2026-11-28     4  5025 ns  4900 ns to 5100 ns
bbbbbbbbb  2026-11-28     1  5020 ns  5020 ns to 5020 ns
ccccccccc  2026-11-28     4  5535 ns  5500 ns to 5600 ns

           4865 ns                          5635 ns
aaaaaaaaa  ··━━━━━━●━━━━···························
bbbbbbbbb  [·······●···········]···················
ccccccccc  ···[·········]··················━━●━━━··  ◀ worse, +10 %
● median  ━ runs  [ ] fences of the runs before
"
        );
    }
}
