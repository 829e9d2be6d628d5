//! Plots as inline SVG. Colors, dashes and letters are classes of the page's style
//! sheet, so that one drawing serves light and dark windows and paper.

mod axis;
mod chart;
mod dots;
mod forest;
mod labels;
mod size;

pub(super) use axis::{Axis, compact_ns};
pub(super) use chart::{Across, Band, Bar, Chart, Mark, Rule, Series, swatch};
pub(super) use dots::{Dots, Row as DotRow};
pub(super) use forest::{Forest, Row as ForestRow};
pub(super) use size::Size;

use maud::{Markup, html};

/// How many series are told apart by color, dash and mark.
pub(super) const STYLES: usize = 8;

/// A coordinate, to a tenth of a pixel.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A drawing with its name and its description, which say the same as the sight
/// of it.
fn drawing(id: &str, size: Size, height: f64, words: &Words<'_>, content: &Markup) -> Markup {
    let (title_id, desc_id) = (format!("{id}-title"), format!("{id}-desc"));
    let view = format!("0 0 {} {}", px(size.width()), px(height));
    html! {
        svg class={ "plot " (size.class()) } viewBox=(view) role="img"
            aria-labelledby={ (title_id) " " (desc_id) } {
            title id=(title_id) { (words.title) }
            desc id=(desc_id) { (words.finding) }
            (content)
        }
    }
}

/// What a drawing is called, and what is to be seen in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) title: &'a str,
    pub(super) finding: &'a str,
}
