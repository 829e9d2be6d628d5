//! The area of a plot: cells, each with a character of one of the series.

/// The character between two marks.
const DOT: char = '·';

/// The ANSI colors of the series, in turn.
const COLORS: [&str; 4] = ["36", "33", "35", "32"];

/// Cells, row by row from the top.
pub(super) struct Canvas {
    columns: usize,
    cells: Vec<Option<(char, usize)>>,
}

/// A cell: its column and its row, both from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    column: usize,
    row: usize,
}

impl Canvas {
    /// An empty canvas; neither side may be 0.
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            cells: vec![None; columns * rows],
        }
    }

    /// The cell at a share of the width and one of the height, from the bottom.
    pub(super) fn place(&self, x: f64, y: f64) -> Cell {
        Cell {
            column: cell(x, self.columns),
            row: cell(1.0 - y, self.cells.len() / self.columns),
        }
    }

    /// Draws the marks of a series, and dots from each to the next.
    pub(super) fn draw(&mut self, series: usize, mark: char, places: &[Cell]) {
        for pair in places.windows(2) {
            self.join(series, pair[0], pair[1]);
        }
        for &place in places {
            self.set(place, mark, series);
        }
    }

    /// One row, with the colors of its series if they are wanted.
    pub(super) fn row(&self, row: usize, color: bool) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        cells
            .iter()
            .map(|cell| match *cell {
                None => " ".to_owned(),
                Some((c, series)) => painted(c, series, color),
            })
            .collect()
    }

    fn join(&mut self, series: usize, from: Cell, to: Cell) {
        let (width, height) = (from.column.abs_diff(to.column), from.row.abs_diff(to.row));
        let steps = width.max(height);
        for step in 1..steps {
            let share = step as f64 / steps as f64;
            let place = Cell {
                column: between(from.column, to.column, share),
                row: between(from.row, to.row, share),
            };
            // A cell that is set belongs to an earlier series.
            if self.cells[place.row * self.columns + place.column].is_none() {
                self.set(place, DOT, series);
            }
        }
    }

    fn set(&mut self, place: Cell, c: char, series: usize) {
        self.cells[place.row * self.columns + place.column] = Some((c, series));
    }
}

/// The index of the cell for a share from 0 to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the last cell"
)]
pub(super) fn cell(share: f64, cells: usize) -> usize {
    let last = cells.saturating_sub(1) as f64;
    (share.clamp(0.0, 1.0) * last).round() as usize
}

/// A character in the color of a series, if that is wanted.
pub(super) fn painted(c: char, series: usize, color: bool) -> String {
    if color {
        format!("\x1b[{}m{c}\x1b[0m", COLORS[series % COLORS.len()])
    } else {
        c.to_string()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between two cells"
)]
fn between(from: usize, to: usize, share: f64) -> usize {
    (from as f64 + (to as f64 - from as f64) * share).round() as usize
}
