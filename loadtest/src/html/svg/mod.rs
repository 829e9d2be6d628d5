//! Plots as inline SVG. Colors, dashes and letters are classes of the page's style
//! sheet, so that one drawing serves light and dark windows and paper.

mod axis;
mod chart;
mod dots;
mod forest;
mod labels;

pub(super) use axis::{Axis, compact_ns};
pub(super) use chart::{Band, Bar, Chart, Mark, Rule, RulePosition, Series, swatch};
pub(super) use dots::{DotRow, Dots};
pub(super) use forest::{Forest, ForestRow};

use maud::{Markup, html};

/// A drawing is made for the width of the window: letters keep their size, and the space between
/// them varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// A wide window, or paper.
    Wide,
    /// A phone.
    Narrow,
    /// One of several side by side, in any window.
    Small,
}

impl Size {
    /// Its width, of which a unit is about a pixel.
    const fn width(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 350.0,
            Self::Small => 320.0,
        }
    }

    /// The height of a chart.
    const fn height(self) -> f64 {
        match self {
            Self::Wide => 360.0,
            Self::Narrow => 290.0,
            Self::Small => 230.0,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
            Self::Small => "small",
        }
    }

    /// Whether there is room for labels beside the drawing.
    const fn is_wide(self) -> bool {
        matches!(self, Self::Wide)
    }
}

/// The number of styles: combinations of color, dash and mark.
pub(super) const STYLES: usize = 8;

/// A coordinate, to a tenth of a pixel.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A drawing with its title and its description, for readers who do not see it.
fn drawing(id: &str, size: Size, height: f64, caption: &Caption<'_>, content: &Markup) -> Markup {
    let (title_id, desc_id) = (format!("{id}-title"), format!("{id}-desc"));
    let view = format!("0 0 {} {}", px(size.width()), px(height));
    html! {
        svg class={ "plot " (size.class()) } viewBox=(view) role="img"
            aria-labelledby={ (title_id) " " (desc_id) } {
            title id=(title_id) { (caption.title) }
            desc id=(desc_id) { (caption.finding) }
            (content)
        }
    }
}

/// The title and the description of a drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caption<'a> {
    pub(super) title: &'a str,
    pub(super) finding: &'a str,
}
