//! A forest plot: ratios with their intervals, one row each, around 1.

use maud::{Markup, html};

use super::labels::beside;
use super::{Axis, Caption, Size, drawing, px};

/// The height of a row.
const WIDE_ROW: f64 = 34.0;

/// The same with the labels above it.
const NARROW_ROW: f64 = 62.0;

const TOP: f64 = 30.0;
const BOTTOM: f64 = 48.0;

/// Ratios on one axis.
#[derive(Debug, Clone)]
pub(in super::super) struct Forest {
    pub(in super::super) axis: Axis,
    pub(in super::super) rows: Vec<ForestRow>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(in super::super) struct ForestRow {
    pub(in super::super) name: String,
    pub(in super::super) ratio: f64,
    pub(in super::super) low: f64,
    pub(in super::super) high: f64,
    /// The margin, as a share.
    pub(in super::super) margin: f64,
    /// The ratio and its interval as text.
    pub(in super::super) numbers: String,
    /// The verdict.
    pub(in super::super) verdict: String,
    /// The class that colors it: `better`, `worse` or none.
    pub(in super::super) class: &'static str,
}

impl Forest {
    pub(in super::super) fn draw(&self, id: &str, size: Size, caption: &Caption<'_>) -> Markup {
        let row_height = if size.is_wide() { WIDE_ROW } else { NARROW_ROW };
        let height = TOP + BOTTOM + self.rows.len() as f64 * row_height;
        let (left, right) = if size.is_wide() {
            (130.0, 340.0)
        } else {
            (24.0, 24.0)
        };
        let area = PlotArea {
            left,
            width: size.width() - left - right,
            is_wide: size.is_wide(),
        };
        let content = html! {
            (self.draw_axis(&area, height))
            @for (index, row) in self.rows.iter().enumerate() {
                (self.draw_row(&area, TOP + index as f64 * row_height, row))
            }
        };
        drawing(id, size, height, caption, &content)
    }

    fn draw_axis(&self, area: &PlotArea, height: f64) -> Markup {
        let bottom = height - BOTTOM;
        let middle = area.x(self.axis.place(1.0));
        let column = area.left + area.width + 18.0;
        html! {
            @if area.is_wide {
                text class="axis" x="0" y="16" { "metric" }
                text class="axis" x=(px(column)) y="16" { "ratio [interval]" }
                text class="axis" x=(px(column + 170.0)) y="16" { "verdict" }
            }
            @for tick in beside(&self.axis, area.width) {
                @let x = area.x(self.axis.place(tick.value));
                line class="grid" x1=(px(x)) x2=(px(x)) y1=(px(TOP)) y2=(px(bottom)) {}
                text class="tick middle" x=(px(x)) y=(px(bottom + 17.0)) { (tick.label) }
            }
            line class="one" x1=(px(middle)) x2=(px(middle)) y1=(px(TOP - 6.0)) y2=(px(bottom)) {}
            line class="base" x1=(px(area.left)) x2=(px(area.left + area.width))
                y1=(px(bottom)) y2=(px(bottom)) {}
            text class="axis middle" x=(px(area.left + area.width / 2.0)) y=(px(bottom + 38.0)) {
                (self.axis.title)
            }
        }
    }

    fn draw_row(&self, area: &PlotArea, top: f64, row: &ForestRow) -> Markup {
        let (y, height) = if area.is_wide {
            (top + WIDE_ROW / 2.0, WIDE_ROW - 8.0)
        } else {
            (top + NARROW_ROW - 14.0, 22.0)
        };
        let at = |ratio| area.x(self.axis.place(ratio));
        let (from, to) = (at((1.0 + row.margin).recip()), at(1.0 + row.margin));
        let (low, high, ratio) = (at(row.low), at(row.high), at(row.ratio));
        html! {
            rect class="margin" x=(px(from)) width=(px(to - from)) y=(px(y - height / 2.0))
                height=(px(height)) {}
            (area.draw_labels(top, y, row))
            g class={ "whisker " (row.class) } {
                title { (row.name) ": " (row.numbers) ", " (row.verdict) }
                line x1=(px(low)) x2=(px(high)) y1=(px(y)) y2=(px(y)) {}
                line x1=(px(low)) x2=(px(low)) y1=(px(y - 5.0)) y2=(px(y + 5.0)) {}
                line x1=(px(high)) x2=(px(high)) y1=(px(y - 5.0)) y2=(px(y + 5.0)) {}
                rect x=(px(ratio - 4.5)) y=(px(y - 4.5)) width="9" height="9" {}
            }
        }
    }
}

struct PlotArea {
    left: f64,
    width: f64,
    is_wide: bool,
}

impl PlotArea {
    fn x(&self, share: f64) -> f64 {
        self.left + share * self.width
    }

    fn draw_labels(&self, top: f64, y: f64, row: &ForestRow) -> Markup {
        let column = self.left + self.width + 18.0;
        html! {
            @if self.is_wide {
                text class="label" x="0" y=(px(y + 4.0)) { (row.name) }
                text class="label number" x=(px(column)) y=(px(y + 4.0)) { (row.numbers) }
                text class={ "label verdict " (row.class) } x=(px(column + 170.0)) y=(px(y + 4.0)) {
                    (row.verdict)
                }
            } @else {
                text class="label" x=(px(self.left)) y=(px(top + 14.0)) { (row.name) }
                text class={ "label verdict end " (row.class) } x=(px(self.left + self.width))
                    y=(px(top + 14.0)) { (row.verdict) }
                text class="label number" x=(px(self.left)) y=(px(top + 30.0)) { (row.numbers) }
            }
        }
    }
}
