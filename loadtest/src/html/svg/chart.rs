//! Charts with two axes: lines, bands around them, bars, and marks with their values as
//! tooltips.

use maud::{Markup, html};

use super::labels::{BOLD_LETTER, LETTER, LINE, above, beside, shorten, spread};
use super::{Axis, Caption, STYLES, Size, drawing, px};

/// The most letters of a name beside its line.
const NAME_LETTERS_MAX: usize = 20;

/// The content of a chart, from back to front.
#[derive(Debug, Clone)]
pub(in super::super) struct Chart {
    pub(in super::super) x: Axis,
    pub(in super::super) y: Axis,
    pub(in super::super) bars: Vec<Bar>,
    pub(in super::super) rules: Vec<Rule>,
    pub(in super::super) series: Vec<Series>,
}

/// A line with its name.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Series {
    pub(in super::super) name: String,
    /// The index of color, dash and mark; they repeat after [`STYLES`].
    pub(in super::super) style: usize,
    /// Points; `None` interrupts the line.
    pub(in super::super) points: Vec<Option<(f64, f64)>>,
    /// The rest of the line, of less certain values.
    pub(in super::super) tail: Vec<(f64, f64)>,
    /// The band around it.
    pub(in super::super) band: Vec<Band>,
    /// Points with tooltips.
    pub(in super::super) marks: Vec<Mark>,
}

/// The range at one x value.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Band {
    pub(in super::super) x: f64,
    pub(in super::super) low: f64,
    pub(in super::super) high: f64,
}

/// A point and its tooltip.
#[derive(Debug, Clone)]
pub(in super::super) struct Mark {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
    pub(in super::super) tooltip: String,
    /// Whether it is drawn as a cross: its run is INVALID.
    pub(in super::super) is_doubtful: bool,
}

/// A bar from the bottom.
#[derive(Debug, Clone)]
pub(in super::super) struct Bar {
    pub(in super::super) from: f64,
    pub(in super::super) to: f64,
    pub(in super::super) value: f64,
    pub(in super::super) tooltip: String,
}

/// A line across, with its name.
#[derive(Debug, Clone)]
pub(in super::super) struct Rule {
    pub(in super::super) at: RulePosition,
    pub(in super::super) name: String,
}

/// The position of a [`Rule`].
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum RulePosition {
    /// From left to right.
    Y(f64),
    /// From bottom to top.
    X(f64),
}

impl Chart {
    /// A chart with nothing in it.
    pub(in super::super) fn new(x: Axis, y: Axis) -> Self {
        Self {
            x,
            y,
            bars: Vec::new(),
            rules: Vec::new(),
            series: Vec::new(),
        }
    }

    pub(in super::super) fn draw(&self, id: &str, size: Size, caption: &Caption<'_>) -> Markup {
        let area = self.area(size);
        let content = html! {
            (self.draw_axes(&area))
            @for bar in &self.bars { (area.bar(self, bar)) }
            @for series in &self.series { (area.band(self, series)) }
            @for rule in &self.rules { (area.rule(self, rule)) }
            @for series in &self.series { (area.series(self, series)) }
            @if area.has_names { (self.draw_names(&area)) }
        };
        drawing(id, size, size.height(), caption, &content)
    }

    /// Names are beside their lines if there is room.
    fn area(&self, size: Size) -> PlotArea {
        let has_names = size.is_wide() && self.series.len() > 1;
        let letters = self.series.iter().map(|series| series.name.chars().count());
        let letters = letters.max().unwrap_or(0).min(NAME_LETTERS_MAX);
        let labels = self.y.ticks.iter().map(|tick| tick.label.chars().count());
        let left = (labels.max().unwrap_or(0) as f64 * LETTER + 14.0).max(44.0);
        // The label of the last tick reaches beyond the axis.
        let last = self
            .x
            .ticks
            .last()
            .map_or(0, |tick| tick.label.chars().count());
        let right = if has_names {
            letters as f64 * BOLD_LETTER + 30.0
        } else {
            (last as f64 * LETTER / 2.0 + 4.0).max(18.0)
        };
        PlotArea {
            left,
            top: 30.0,
            width: size.width() - left - right,
            height: size.height() - 30.0 - 46.0,
            has_names,
        }
    }

    fn draw_axes(&self, area: &PlotArea) -> Markup {
        let (right, bottom) = (area.left + area.width, area.top + area.height);
        let middle = area.left + area.width / 2.0;
        html! {
            text class="axis" x="4" y="14" { (self.y.title) }
            @for tick in above(&self.y, area.height) {
                @let y = area.y(self.y.place(tick.value));
                line class="grid" x1=(px(area.left)) x2=(px(right)) y1=(px(y)) y2=(px(y)) {}
                text class="tick end" x=(px(area.left - 7.0)) y=(px(y + 4.0)) { (tick.label) }
            }
            @for tick in beside(&self.x, area.width) {
                @let x = area.x(self.x.place(tick.value));
                line class="grid" x1=(px(x)) x2=(px(x)) y1=(px(area.top)) y2=(px(bottom)) {}
                text class="tick middle" x=(px(x)) y=(px(bottom + 17.0)) { (tick.label) }
            }
            line class="base" x1=(px(area.left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
            text class="axis middle" x=(px(middle)) y=(px(bottom + 38.0)) { (self.x.title) }
        }
    }

    fn draw_names(&self, area: &PlotArea) -> Markup {
        let ends = self.series.iter().filter_map(|series| {
            let (x, y) = series.end()?;
            Some((series, area.x(self.x.place(x)), area.y(self.y.place(y))))
        });
        let ends: Vec<_> = ends.collect();
        let heights: Vec<_> = ends.iter().map(|&(_, _, y)| y).collect();
        let heights = spread(&heights, area.top, area.top + area.height);
        let x = area.left + area.width + 16.0;
        html! {
            @for ((series, end_x, end_y), y) in ends.iter().zip(heights) {
                line class="leader" x1=(px(end_x + 4.0)) y1=(px(*end_y)) x2=(px(x - 4.0)) y2=(px(y)) {}
                text class={ "name f" (series.style % STYLES) } x=(px(x)) y=(px(y + 4.0)) {
                    (shorten(&series.name, NAME_LETTERS_MAX))
                    title { (series.name) }
                }
            }
        }
    }
}

impl Series {
    fn end(&self) -> Option<(f64, f64)> {
        let last = self.points.iter().rev().flatten().next();
        self.tail.last().or(last).copied()
    }
}

/// The area between the axes.
struct PlotArea {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    has_names: bool,
}

impl PlotArea {
    fn x(&self, share: f64) -> f64 {
        self.left + share * self.width
    }

    fn y(&self, share: f64) -> f64 {
        self.top + (1.0 - share) * self.height
    }

    fn at(&self, chart: &Chart, (x, y): (f64, f64)) -> String {
        let (x, y) = (self.x(chart.x.place(x)), self.y(chart.y.place(y)));
        format!("{},{}", px(x), px(y))
    }

    fn series(&self, chart: &Chart, series: &Series) -> Markup {
        let style = series.style % STYLES;
        let parts = series.points.split(Option::is_none).map(|part| {
            let points = part.iter().flatten();
            points
                .map(|&point| self.at(chart, point))
                .collect::<Vec<_>>()
        });
        let tail: Vec<_> = series
            .tail
            .iter()
            .map(|&point| self.at(chart, point))
            .collect();
        html! {
            @for part in parts.filter(|part| part.len() > 1) {
                polyline class={ "line s" (style) } points=(part.join(" ")) {}
            }
            @if tail.len() > 1 { polyline class={ "line tail t" (style) } points=(tail.join(" ")) {} }
            @for mark in &series.marks {
                @let (x, y) = (self.x(chart.x.place(mark.x)), self.y(chart.y.place(mark.y)));
                path class={ "mark f" (style) @if mark.is_doubtful { " doubtful" } }
                    d=(shape(style, mark.is_doubtful, x, y)) {
                    title { (mark.tooltip) }
                }
            }
        }
    }

    fn band(&self, chart: &Chart, series: &Series) -> Markup {
        let style = series.style % STYLES;
        let there = series.band.iter().map(|at| self.at(chart, (at.x, at.high)));
        let back = series
            .band
            .iter()
            .rev()
            .map(|at| self.at(chart, (at.x, at.low)));
        let points: Vec<_> = there.chain(back).collect();
        html! {
            @if series.band.len() > 1 {
                polygon class={ "band f" (style) } points=(points.join(" ")) {}
            }
        }
    }

    fn bar(&self, chart: &Chart, bar: &Bar) -> Markup {
        let (from, to) = (
            self.x(chart.x.place(bar.from)),
            self.x(chart.x.place(bar.to)),
        );
        let (top, bottom) = (self.y(chart.y.place(bar.value)), self.y(0.0));
        html! {
            rect class="bar f0" x=(px(from)) width=(px((to - from - 0.6).max(0.4)))
                y=(px(top)) height=(px(bottom - top)) {
                title { (bar.tooltip) }
            }
        }
    }

    fn rule(&self, chart: &Chart, rule: &Rule) -> Markup {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        let name_width = rule.name.chars().count() as f64 * LETTER;
        html! {
            @match rule.at {
                RulePosition::Y(value) => {
                    @let y = self.y(chart.y.place(value));
                    line class="rule" x1=(px(self.left)) x2=(px(right)) y1=(px(y)) y2=(px(y)) {}
                    text class="rule-name end" x=(px(right - 4.0)) y=(px(self.clear_of(y))) { (rule.name) }
                }
                RulePosition::X(value) => {
                    @let x = self.x(chart.x.place(value));
                    @let is_left = x + name_width + 8.0 > right;
                    line class="rule" x1=(px(x)) x2=(px(x)) y1=(px(self.top)) y2=(px(bottom)) {}
                    text class=(if is_left { "rule-name end" } else { "rule-name" })
                        x=(px(if is_left { x - 5.0 } else { x + 5.0 })) y=(px(self.top + 11.0)) {
                        (rule.name)
                    }
                }
            }
        }
    }

    /// Above a line, or below one at the top.
    fn clear_of(&self, y: f64) -> f64 {
        if y - LINE < self.top {
            y + 14.0
        } else {
            y - 5.0
        }
    }
}

/// The outline of a mark: circle, square, diamond, triangle, in turn; a cross if doubtful.
fn shape(style: usize, is_doubtful: bool, x: f64, y: f64) -> String {
    let (x, y) = (px(x), px(y));
    if is_doubtful {
        return format!("M{x},{y}m-4,-4l8,8m0,-8l-8,8");
    }
    match style % 4 {
        0 => format!("M{x},{y}m-3.5,0a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0z"),
        1 => format!("M{x},{y}m-3.2,-3.2h6.4v6.4h-6.4z"),
        2 => format!("M{x},{y}m0,-4.6l4.6,4.6l-4.6,4.6l-4.6,-4.6z"),
        _ => format!("M{x},{y}m0,-4.4l4.4,7.6h-8.8z"),
    }
}

/// The sample of a style in a legend.
pub(in super::super) fn swatch(style: usize) -> Markup {
    let style = style % STYLES;
    html! {
        svg class="swatch" viewBox="0 0 28 12" aria-hidden="true" {
            line class={ "line s" (style) } x1="1" x2="27" y1="6" y2="6" {}
            path class={ "mark f" (style) } d=(shape(style, false, 14.0, 6.0)) {}
        }
    }
}
