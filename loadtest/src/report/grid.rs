//! Cells in columns, for any table of servers and numbers.

use std::ops::Range;

use crate::paint::paint;
use crate::terminal::{COLUMNS_DEFAULT, sanitized, wrapped};
use crate::verdict::Verdict;

/// The longest name that is shown whole in text, in characters.
const NAME_LEN_MAX: usize = 40;

/// With less room than this after the cells, a remark goes on a line below them.
const REMARK_LEN_MIN: usize = 24;

/// Between two columns.
const GAP: &str = "  ";

/// Lines of cells. The first column holds names and is aligned to the left, the others hold
/// numbers and are aligned to the right.
#[derive(Debug, Default)]
pub struct Grid {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    cells: Vec<String>,
    /// The text after the cells, in no column.
    remark: String,
    /// The color of the remark.
    color: Option<Verdict>,
}

impl Grid {
    /// Adds a line: a name, its cells, and a remark after them.
    pub fn add(&mut self, name: &str, cells: Vec<String>, remark: &str) {
        self.add_colored(name, cells, remark, None);
    }

    /// The same, with a color for the remark.
    pub fn add_colored(
        &mut self,
        name: &str,
        cells: Vec<String>,
        remark: &str,
        color: Option<Verdict>,
    ) {
        let mut all = vec![sanitized(name)];
        all.extend(cells);
        self.lines.push(Line {
            cells: all,
            remark: sanitized(remark),
            color,
        });
    }

    /// The lines, each ended by a line break, without trailing blanks. Columns that do not fit on
    /// a terminal of [`COLUMNS_DEFAULT`] follow below, after the names again.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (index, block) in blocks(&widths).into_iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            for line in &self.lines {
                text += &line.text(&widths, &block);
            }
        }
        text
    }

    /// The same as a table of GitHub-flavored Markdown, the first line its header. A remark
    /// becomes the cell after the name.
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
                *width = (*width).max(len(cell));
            }
        }
        if let Some(name) = widths.first_mut() {
            *name = (*name).min(NAME_LEN_MAX);
        }
        widths
    }
}

impl Line {
    /// The part of the line in a block, the name first; empty without cells.
    fn text(&self, widths: &[usize], block: &Range<usize>) -> String {
        let is_last = block.contains(&(self.cells.len() - 1)) || self.cells.len() == 1;
        let is_first = block.start <= 1;
        let own = block.start..block.end.min(self.cells.len()).max(block.start);
        if own.is_empty() && !is_first {
            return String::new();
        }
        let mut shown = format!("{:<width$}", shortened(&self.cells[0]), width = widths[0]);
        for (cell, &width) in self.cells[own.clone()].iter().zip(&widths[own]) {
            shown.push_str(GAP);
            shown.extend([format!("{cell:>width$}")]);
        }
        let remark = if is_last {
            self.remark(&shown, widths[0])
        } else {
            String::new()
        };
        format!("{}\n", (shown + &remark).trim_end())
    }

    /// The remark: after the cells if there is room, else below them.
    fn remark(&self, shown: &str, name_width: usize) -> String {
        if self.remark.is_empty() {
            return String::new();
        }
        let beside = len(shown) + GAP.len();
        let room = COLUMNS_DEFAULT.saturating_sub(beside);
        let (indent, first) = if len(&self.remark) <= room || room >= REMARK_LEN_MIN {
            (beside, GAP.to_owned())
        } else {
            let indent = name_width + GAP.len();
            (indent, format!("\n{}", " ".repeat(indent)))
        };
        let pieces = wrapped(&self.remark, COLUMNS_DEFAULT.saturating_sub(indent));
        let painted = pieces.iter().map(|piece| match self.color {
            Some(verdict) => paint(piece, verdict, true),
            None => piece.clone(),
        });
        let painted: Vec<_> = painted.collect();
        first + &painted.join(&format!("\n{}", " ".repeat(indent)))
    }
}

/// The blocks of columns that each fit after the names; one empty block without columns.
fn blocks(widths: &[usize]) -> Vec<Range<usize>> {
    let name = widths.first().copied().unwrap_or(0);
    let mut blocks = Vec::new();
    let (mut start, mut used) = (1, name);
    for (column, &width) in widths.iter().enumerate().skip(1) {
        let width = GAP.len() + width;
        if used + width > COLUMNS_DEFAULT && column > start {
            blocks.push(start..column);
            (start, used) = (column, name);
        }
        used += width;
    }
    blocks.push(start..widths.len().max(start));
    blocks
}

fn shortened(name: &str) -> String {
    if len(name) <= NAME_LEN_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_LEN_MAX - 1).chain(['…']).collect()
}

/// Every character that occurs is one column wide.
fn len(text: &str) -> usize {
    text.chars().count()
}

/// Text escaped for Markdown, on one line.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in sanitized(text).chars() {
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
    fn columns_that_do_not_fit_follow_below() {
        let mut grid = Grid::default();
        let cells = |text: &str| vec![text.to_owned(); 9];
        grid.add("name", cells("a title"), "");
        grid.add(
            "a",
            cells("999,999 ms"),
            "and a remark that is longer than a line would be beside so many cells",
        );
        grid.add("b", Vec::new(), "not measured");
        let text = grid.text();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS_DEFAULT, "{line}");
        }
        assert_eq!(text.matches("999,999 ms").count(), 9, "{text}");
        assert_eq!(
            text.matches("\nname").count() + 1,
            2,
            "the titles of both: {text}"
        );
        assert_eq!(text.matches("not measured").count(), 1, "{text}");
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(
            words
                .join(" ")
                .contains("and a remark that is longer than a line"),
            "{text}"
        );
    }

    #[test]
    fn a_long_name_is_cut_in_text_only() {
        let mut grid = Grid::default();
        let name = "n".repeat(90);
        grid.add(&name, vec!["1".to_owned()], "");
        assert!(
            grid.text()
                .starts_with(&format!("{}…  1\n", "n".repeat(39)))
        );
        assert!(grid.markdown().contains(&name));
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
