//! Intervals drawn as text, one below the other on one scale: a forest plot.

use crate::statistics::ConfidenceInterval;

/// The columns on either side of the middle, which is a ratio of 1.
const HALF: usize = 12;

/// The largest ratio of a scale. An interval that exceeds it ends in an arrow.
const REACHES: [(f64, [&str; 2]); 5] = [
    (1.05, ["0.952", "1.05"]),
    (1.1, ["0.909", "1.1"]),
    (1.25, ["0.8", "1.25"]),
    (1.5, ["0.667", "1.5"]),
    (2.0, ["0.5", "2"]),
];

/// A logarithmic scale, on which a ratio is as far from the middle as its
/// inverse.
#[derive(Debug, Clone, Copy)]
pub(super) struct ForestScale {
    reach: f64,
    ends: [&'static str; 2],
}

impl ForestScale {
    /// The narrowest scale that fits all of the intervals, or the widest.
    pub(super) fn of(intervals: impl IntoIterator<Item = ConfidenceInterval>) -> Self {
        let far = |interval: ConfidenceInterval| interval.high.max(interval.low.recip());
        let farthest = intervals.into_iter().map(far).fold(1.0, f64::max);
        let fitting = REACHES.into_iter().find(|(reach, _)| farthest <= *reach);
        let (reach, ends) = fitting.unwrap_or(REACHES[REACHES.len() - 1]);
        Self { reach, ends }
    }

    /// The labels above the column.
    pub(super) fn title(self) -> String {
        let [low, high] = self.ends;
        format!("{low:<HALF$}1{high:>HALF$}")
    }

    /// An interval and the ratio in it.
    pub(super) fn draw(self, ratio: f64, interval: ConfidenceInterval) -> String {
        let mut columns = ['·'; 2 * HALF + 1];
        let (low, high) = (self.column(interval.low), self.column(interval.high));
        columns[low..=high].fill('─');
        columns[HALF] = if (low..=high).contains(&HALF) {
            '┼'
        } else {
            '│'
        };
        columns[low] = '├';
        columns[high] = '┤';
        columns[self.column(ratio)] = '●';
        if interval.low * self.reach < 1.0 {
            columns[0] = '◀';
        }
        if interval.high > self.reach {
            columns[2 * HALF] = '▶';
        }
        columns.iter().collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and twice the half"
    )]
    fn column(self, ratio: f64) -> usize {
        let share = (ratio.ln() / self.reach.ln()).clamp(-1.0, 1.0);
        ((1.0 + share) * HALF as f64).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(reach: f64, low: f64, ratio: f64, high: f64) -> String {
        let whole = ConfidenceInterval {
            low: reach.recip(),
            high: reach,
        };
        ForestScale::of([whole]).draw(ratio, ConfidenceInterval { low, high })
    }

    #[test]
    fn intervals_are_drawn_relative_to_one() {
        for (reach, low, ratio, high, expected) in [
            (1.25, 1.05, 1.1, 1.15, "············│··├─●──┤····"),
            (1.25, 0.9, 0.95, 1.1, "······├──●──┼────┤·······"),
            (1.25, 1.0, 1.0, 1.0, "············●············"),
            (1.05, 0.952_381, 1.0, 1.05, "├───────────●───────────┤"),
            (2.0, 0.2, 0.7, 3.0, "◀─────●─────┼───────────▶"),
            (2.0, 3.0, 4.0, 5.0, "············│···········▶"),
            (2.0, 0.1, 0.2, 0.3, "◀···········│············"),
        ] {
            let line = drawn(reach, low, ratio, high);
            assert_eq!(line.chars().count(), 25, "{line}");
            assert_eq!(line, expected, "{low} {ratio} {high}");
        }
    }

    #[test]
    fn the_scale_fits_all_and_is_as_wide_as_the_lines() {
        let scale = |low, high| {
            ForestScale::of([
                ConfidenceInterval {
                    low: 1.0,
                    high: 1.0,
                },
                ConfidenceInterval { low, high },
            ])
        };
        for (low, high, title) in [
            (0.99, 1.01, "0.952       1        1.05"),
            (0.92, 1.01, "0.909       1         1.1"),
            (0.9, 1.01, "0.8         1        1.25"),
            (0.99, 1.4, "0.667       1         1.5"),
            (0.1, 1.4, "0.5         1           2"),
        ] {
            assert_eq!(scale(low, high).title(), title);
        }
        assert_eq!(ForestScale::of([]).title().chars().count(), 25);
    }
}
