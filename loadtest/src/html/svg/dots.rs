//! Values as dots on a line, a row for each group, with the group's median and
//! interval.

use maud::{Markup, html};

use super::labels::{beside, shorten};
use super::{Axis, Caption, STYLES, Size, drawing, px};

const ROW: f64 = 46.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 46.0;
const SIDE: f64 = 26.0;

/// The most letters of a group's name.
const NAME_LETTERS_MAX: usize = 34;

/// Groups of values of one metric.
#[derive(Debug, Clone)]
pub(in super::super) struct Dots {
    pub(in super::super) axis: Axis,
    pub(in super::super) rows: Vec<DotRow>,
}

/// One group.
#[derive(Debug, Clone)]
pub(in super::super) struct DotRow {
    pub(in super::super) name: String,
    pub(in super::super) style: usize,
    /// Values with their tooltips.
    pub(in super::super) dots: Vec<(f64, String)>,
    pub(in super::super) median: Option<f64>,
    pub(in super::super) interval: Option<(f64, f64)>,
}

impl Dots {
    pub(in super::super) fn draw(&self, id: &str, caption: &Caption<'_>) -> Markup {
        let size = Size::Small;
        let width = size.width() - 2.0 * SIDE;
        let height = TOP + BOTTOM + self.rows.len() as f64 * ROW;
        let bottom = height - BOTTOM;
        let content = html! {
            @for tick in beside(&self.axis, width) {
                @let x = SIDE + self.axis.place(tick.value) * width;
                line class="grid" x1=(px(x)) x2=(px(x)) y1=(px(TOP)) y2=(px(bottom)) {}
                text class="tick middle" x=(px(x)) y=(px(bottom + 17.0)) { (tick.label) }
            }
            line class="base" x1=(px(SIDE)) x2=(px(SIDE + width)) y1=(px(bottom)) y2=(px(bottom)) {}
            text class="axis middle" x=(px(SIDE + width / 2.0)) y=(px(bottom + 38.0)) {
                (self.axis.title)
            }
            @for (index, row) in self.rows.iter().enumerate() {
                (self.draw_row(TOP + index as f64 * ROW, width, row))
            }
        };
        drawing(id, size, height, caption, &content)
    }

    fn draw_row(&self, top: f64, width: f64, row: &DotRow) -> Markup {
        let at = |value| SIDE + self.axis.place(value) * width;
        let (style, y) = (row.style % STYLES, top + ROW - 12.0);
        html! {
            text class={ "name f" (style) } x=(px(SIDE)) y=(px(top + 16.0)) {
                (shorten(&row.name, NAME_LETTERS_MAX))
                title { (row.name) }
            }
            @if let Some((low, high)) = row.interval {
                rect class={ "band f" (style) } x=(px(at(low))) width=(px(at(high) - at(low)))
                    y=(px(y - 9.0)) height="18" {}
            }
            @for (value, tooltip) in &row.dots {
                circle class={ "dot f" (style) } cx=(px(at(*value))) cy=(px(y)) r="4" {
                    title { (tooltip) }
                }
            }
            @if let Some(median) = row.median {
                line class={ "median t" (style) } x1=(px(at(median))) x2=(px(at(median)))
                    y1=(px(y - 11.0)) y2=(px(y + 11.0)) {}
            }
        }
    }
}
