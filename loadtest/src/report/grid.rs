//! Cells in columns, for any table of servers and numbers.

use crate::terminal::harmless;

/// Lines of cells. The first column holds names and is aligned to the left, the
/// others hold numbers and are aligned to the right.
#[derive(Debug, Default)]
pub struct Grid {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    cells: Vec<String>,
    /// Behind the cells, and of no column.
    remark: String,
}

impl Grid {
    /// Adds a line: a name, its cells, and what stands behind them.
    pub fn add(&mut self, name: &str, cells: Vec<String>, remark: &str) {
        let mut all = vec![harmless(name)];
        all.extend(cells);
        self.lines.push(Line {
            cells: all,
            remark: harmless(remark),
        });
    }

    /// The lines, each ended by a line break, without blanks at their ends.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for line in &self.lines {
            let cells = line.cells.iter().zip(&widths).enumerate();
            let mut shown: Vec<_> = cells
                .map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            shown.push(line.remark.clone());
            text += shown.join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// The same as a table of GitHub-flavored Markdown, the first line its
    /// header. A remark becomes the cell behind the name.
    pub fn markdown(&self) -> String {
        let columns = self.lines.iter().map(|line| line.cells.len()).max();
        let columns = columns.unwrap_or(0);
        let mut lines = Vec::new();
        for line in &self.lines {
            let mut cells = line.cells.clone();
            if !line.remark.is_empty() {
                cells.push(line.remark.clone());
            }
            cells.resize(columns.max(cells.len()), String::new());
            let cells: Vec<_> = cells.iter().map(|cell| escape(cell)).collect();
            lines.push(format!("| {} |\n", cells.join(" | ")));
        }
        let rule = format!("|:---|{}\n", "---:|".repeat(columns.saturating_sub(1)));
        lines.insert(lines.len().min(1), rule);
        lines.concat()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for line in &self.lines {
            widths.resize(widths.len().max(line.cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(&line.cells) {
                // Every character that occurs is one column wide.
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// Text that Markdown takes as text, on one line.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in harmless(text).chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '_' | '<' | '[') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::default();
        let cells = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        grid.add("", cells(["p50", "max"]), "");
        grid.add("a", cells(["50.0 µs", "–"]), "");
        grid.add("b|c", Vec::new(), "not\nhere");
        grid
    }

    #[test]
    fn columns_line_up() {
        let expected = "         p50  max\na    50.0 µs    –\nb|c  not here\n";
        assert_eq!(grid().text(), expected);
    }

    #[test]
    fn markdown_has_as_many_cells_on_every_line() {
        let expected = "\
|  | p50 | max |
|:---|---:|---:|
| a | 50.0 µs | – |
| b\\|c | not here |  |
";
        assert_eq!(grid().markdown(), expected);
    }

    #[test]
    fn markup_is_shown_as_it_is() {
        assert_eq!(escape("a*b_c<d>`e`"), "a\\*b\\_c\\<d>\\`e\\`");
    }
}
