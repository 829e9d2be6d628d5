//! Tables in a container that scrolls by itself and can be focused by keyboard.

use maud::{Markup, html};

/// A table: its name, a header, and rows whose first cell is a header.
#[derive(Debug, Clone, Default)]
pub(super) struct HtmlTable {
    pub(super) name: String,
    pub(super) titles: Vec<String>,
    pub(super) rows: Vec<Vec<Markup>>,
    /// The number of columns, from the left, that hold text and not numbers.
    pub(super) text_columns: usize,
    /// The class in the style sheet.
    pub(super) class: &'static str,
}

impl HtmlTable {
    pub(super) fn new(name: &str, titles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.to_owned(),
            titles: titles.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            text_columns: 1,
            class: "",
        }
    }

    /// Adds a line of plain text.
    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells = cells.into_iter().map(|cell| html! { (cell.as_ref()) });
        self.rows.push(cells.collect());
    }

    pub(super) fn draw(&self) -> Markup {
        let class = |column: usize| {
            if column < self.text_columns {
                "words"
            } else {
                "number"
            }
        };
        html! {
            div class="scroll" tabindex="0" role="region" aria-label={ "Table: " (self.name) } {
                table class=(self.class) {
                    caption { (self.name) }
                    thead {
                        tr {
                            @for (column, title) in self.titles.iter().enumerate() {
                                th scope="col" class=(class(column)) { (title) }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (column, cell) in row.iter().enumerate() {
                                    @if column == 0 {
                                        th scope="row" class=(class(column)) { (cell) }
                                    } @else {
                                        td class=(class(column)) { (cell) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
