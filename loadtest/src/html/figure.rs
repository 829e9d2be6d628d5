//! A plot with its description, legend and data.

use maud::{Markup, html};

use super::svg::{Caption, Chart, Size, swatch};
use super::table::HtmlTable;

/// A plot with its texts and data.
#[derive(Debug)]
pub(super) struct Figure<'a> {
    /// An id that is unique on the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// A description of the plot, in a sentence.
    pub(super) finding: String,
    /// Notes on how to read it.
    pub(super) notes: Vec<String>,
    /// Names and styles of its series.
    pub(super) legend: Vec<(String, usize)>,
    pub(super) data: HtmlTable,
}

impl Figure<'_> {
    /// With drawings for wide and for narrow windows.
    pub(super) fn draw(&self, plot: impl Fn(&str, Size, &Caption<'_>) -> Markup) -> Markup {
        let caption = self.caption();
        let wide = plot(&format!("{}-wide", self.id), Size::Wide, &caption);
        let narrow = plot(&format!("{}-narrow", self.id), Size::Narrow, &caption);
        self.around(&html! { (wide) (narrow) })
    }

    /// With a chart.
    pub(super) fn draw_chart(mut self, chart: &Chart) -> Markup {
        if chart.series.len() > 1 {
            let names = chart.series.iter().map(|it| (it.name.clone(), it.style));
            self.legend = names.collect();
        }
        self.draw(|id, size, caption| chart.draw(id, size, caption))
    }

    /// With several drawings side by side.
    pub(super) fn draw_small(&self, plots: &[Markup]) -> Markup {
        self.around(&html! {
            div class="side-by-side" { @for plot in plots { (plot) } }
        })
    }

    pub(super) fn caption(&self) -> Caption<'_> {
        Caption {
            title: self.title,
            finding: &self.finding,
        }
    }

    fn around(&self, plots: &Markup) -> Markup {
        html! {
            figure id=(self.id) {
                figcaption {
                    h3 { (self.title) }
                    p { (self.finding) }
                }
                (plots)
                @if !self.legend.is_empty() {
                    ul class="legend" {
                        @for (name, style) in &self.legend {
                            li { (swatch(*style)) span { (name) } }
                        }
                    }
                }
                @for note in &self.notes { p class="note" { (note) } }
                @if !self.data.rows.is_empty() {
                    details class="data" {
                        summary { "Data: " (self.title) }
                        (self.data.draw())
                    }
                }
            }
        }
    }
}
