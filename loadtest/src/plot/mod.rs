//! Plots of characters, for terminals and log files.
//!
//! ```text
//!   1 ms ┤                                              ·x
//!        │                                    x·········
//! 100 µs ┤  x··········x···········x··········
//!        │  o··········o···········o··········o··········o
//!        └──┬────────┬──────────┬─────────┬────────┬─────┬
//!          10k      20k        50k      100k     200k   400k
//!        o p50  x p99
//! ```
//!
//! Pure: values in, text out. The caller checks whether colors are allowed
//! ([`color_allowed`](crate::terminal::color_allowed)).

mod canvas;
mod labels;

pub use labels::{short_count, short_ns};

pub use crate::scale::Scale;

use crate::scale::AxisRange;
use canvas::Canvas;

/// The most ticks of a horizontal axis; each has its label below it.
const X_TICKS_MAX: usize = 8;

/// Rows from one tick of a vertical axis to the next, at least.
const ROWS_PER_TICK: usize = 2;

/// The smallest plot: columns and rows beside the axes.
const SIDE_MIN: usize = 4;

/// A chart of series of points.
pub struct Chart<'a> {
    /// To the right.
    pub x: Axis<'a>,
    /// Upwards.
    pub y: Axis<'a>,
    /// The series, drawn in this order.
    pub series: Vec<Series<'a>>,
    /// Characters in a line, labels included.
    pub columns: usize,
    /// Lines between the top and the horizontal axis.
    pub rows: usize,
}

/// The layout of values along a side.
#[derive(Clone, Copy)]
pub struct Axis<'a> {
    /// The title; may be empty.
    pub title: &'a str,
    /// The scale.
    pub scale: Scale,
    /// The format of a label.
    pub label: &'a dyn Fn(f64) -> String,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The mark of its points.
    pub mark: char,
    /// The points. Those that their axis cannot show, such as 0 on a logarithmic scale, are left
    /// out.
    pub points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// The plot, a line break at the end of each line; empty where no point can
    /// be shown.
    pub fn text(&self, color: bool) -> String {
        let shown: Vec<Vec<(f64, f64)>> = self.series.iter().map(|one| self.shown(one)).collect();
        let points = || shown.iter().flatten();
        let rows = self.rows.max(SIDE_MIN);
        let spans = AxisRange::of(self.x.scale, points().map(|point| point.0))
            .zip(AxisRange::of(self.y.scale, points().map(|point| point.1)));
        let Some((x, y)) = spans else {
            return String::new();
        };
        let y = y.widened(rows / ROWS_PER_TICK);
        let y_labels = self.y_labels(y, rows);
        let margin = y_labels.iter().map(|label| width(label)).max().unwrap_or(0);
        // The axis itself takes two characters.
        let columns = self.columns.saturating_sub(margin + 2).max(SIDE_MIN);

        let mut canvas = Canvas::new(columns, rows);
        for (index, points) in shown.iter().enumerate() {
            let places: Vec<_> = points
                .iter()
                .map(|point| canvas.place(x.position(point.0), y.position(point.1)))
                .collect();
            canvas.draw(index, self.series[index].mark, &places);
        }
        let mut text = self.heading(margin);
        for (row, label) in y_labels.iter().enumerate() {
            let edge = if label.is_empty() { '│' } else { '┤' };
            let line = canvas.row(row, color);
            text += &ended(&format!("{label:>margin$} {edge}{line}"));
        }
        let drawn: Vec<_> = shown.iter().map(|points| !points.is_empty()).collect();
        text + &self.x_axis(x, margin, columns) + &self.legend(&drawn, margin, color)
    }

    fn shown(&self, series: &Series<'_>) -> Vec<(f64, f64)> {
        let can_be =
            |point: &&(f64, f64)| self.x.scale.shows(point.0) && self.y.scale.shows(point.1);
        let mut points: Vec<_> = series.points.iter().filter(can_be).copied().collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    fn heading(&self, margin: usize) -> String {
        match self.y.title {
            "" => String::new(),
            title => format!("{:margin$}  {title}\n", ""),
        }
    }

    /// The labels to the left of each row.
    fn y_labels(&self, y: AxisRange, rows: usize) -> Vec<String> {
        let mut labels = vec![String::new(); rows];
        for tick in y.ticks((rows / ROWS_PER_TICK).max(2)) {
            labels[canvas::cell(1.0 - y.position(tick), rows)] = (self.y.label)(tick);
        }
        labels
    }

    /// The horizontal axis and its labels.
    fn x_axis(&self, x: AxisRange, margin: usize, columns: usize) -> String {
        let mut edge = vec!['─'; columns];
        let mut below = String::new();
        for tick in x.ticks(X_TICKS_MAX) {
            let at = canvas::cell(x.position(tick), columns);
            let label = (self.x.label)(tick);
            // The middle of the label below its tick, but for the ends.
            let from = (margin + 2 + at).saturating_sub(width(&label) / 2);
            let used = width(&below);
            if used > 0 && from <= used {
                continue;
            }
            edge[at] = '┬';
            below += &" ".repeat(from - used);
            below += &label;
        }
        let edge: String = edge.into_iter().collect();
        ended(&format!("{:margin$} └{edge}", "")) + &ended(&below)
    }

    /// The names of the series that were drawn.
    fn legend(&self, drawn: &[bool], margin: usize, color: bool) -> String {
        let series = self.series.iter().enumerate();
        let series = series.filter(|(index, _)| drawn[*index]);
        let names = series.map(|(index, series)| {
            let mark = canvas::painted(series.mark, index, color);
            format!("{mark} {}", series.name)
        });
        let names: Vec<_> = names.collect();
        let title = match self.x.title {
            "" => String::new(),
            title => format!("   against {title}"),
        };
        ended(&format!("{:margin$}  {}{title}", "", names.join("  ")))
    }
}

/// Every character that occurs is one column wide.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn ended(line: &str) -> String {
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests;
