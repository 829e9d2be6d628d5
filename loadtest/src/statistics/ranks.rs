//! Ranks of values, as whole numbers also where values are alike.

/// Values that differ by no more than this are ties. They are logarithms, so it is a share of the
/// original values: far above the rounding of their arithmetic, far below the resolution of a
/// clock.
pub(super) const ALIKE: f64 = 1e-12;

/// The ranks of the values, in their order. Those alike share the mean of their
/// ranks, and where that makes any a half, all are doubled.
pub(super) fn ranks(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<_> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    let mut doubled = vec![0; values.len()];
    let mut first = 0;
    for alike in order.chunk_by(|&one, &next| values[next] - values[one] <= ALIKE) {
        for &index in alike {
            doubled[index] = 2 * first + alike.len() + 1;
        }
        first += alike.len();
    }
    if doubled.iter().all(|rank| rank % 2 == 0) {
        return doubled.iter().map(|rank| rank / 2).collect();
    }
    doubled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_have_their_place_as_rank() {
        assert_eq!(ranks(&[0.3, -1.0, 7.0]), [2, 1, 3]);
        assert_eq!(ranks(&[]), [0_usize; 0]);
    }

    #[test]
    fn values_alike_share_a_rank() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 2.0]), [7, 2, 7, 4]);
        assert_eq!(ranks(&[5.0, 5.0, 5.0]), [2, 2, 2]);
        assert_eq!(ranks(&[0.1 + 0.2, 0.3, 1.0]), [3, 3, 6]);
    }
}
