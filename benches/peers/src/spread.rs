//! The middle of some numbers, and how far they reach.

use serde::Serialize;

/// A median with its range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// That of some numbers, if there are any.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = numbers.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(numbers: &[f64]) -> Option<(f64, f64, f64)> {
        let spread = Spread::of(numbers.iter().copied())?;
        Some((spread.median, spread.min, spread.max))
    }

    #[test]
    fn the_median_is_the_middle_one_in_whatever_order() {
        assert_eq!(spread(&[5.0, 1.0, 100.0]), Some((5.0, 1.0, 100.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]), Some((3.0, 1.0, 100.0)));
        assert_eq!(spread(&[2.0]), Some((2.0, 2.0, 2.0)));
    }

    #[test]
    fn nothing_has_no_middle() {
        assert_eq!(spread(&[]), None);
    }
}
