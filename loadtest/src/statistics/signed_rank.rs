//! The signed-rank test of Wilcoxon (1945, Biometrics Bulletin 1:80), exact.
//!
//! If the sides of a pair are exchangeable, every difference is as likely to have the other
//! sign. So all `2ⁿ` ways to sign them are equally likely, and the p-value is the share of
//! those whose sum of ranks is as far from the middle as the observed one. They are counted,
//! not approximated: the distribution of the sum is built up one rank at a time.

use super::ranks::{ALIKE, ranks};

/// The two-sided p-value of the differences.
///
/// Zeros have no sign to flip. They are ranked with the others, and then left out (Pratt 1959,
/// Journal of the American Statistical Association 54:655): dropped before, their presence could
/// increase the significance.
pub(super) fn p_value(differences: &[f64]) -> f64 {
    let sizes: Vec<_> = differences
        .iter()
        .map(|difference| difference.abs())
        .collect();
    let ranks = ranks(&sizes);
    let signed: Vec<_> = ranks
        .iter()
        .zip(differences)
        .filter(|(_, difference)| difference.abs() > ALIKE)
        .collect();
    let total: usize = signed.iter().map(|(rank, _)| **rank).sum();
    let positive: usize = signed
        .iter()
        .filter(|(_, difference)| **difference > 0.0)
        .map(|(rank, _)| **rank)
        .sum();
    let lesser = positive.min(total - positive);
    if 2 * lesser == total {
        return 1.0;
    }
    let ranks: Vec<_> = signed.iter().map(|(rank, _)| **rank).collect();
    2.0 * probability_up_to(lesser, &ranks)
}

/// The probability that randomly selected ranks add up to no more than the limit.
fn probability_up_to(limit: usize, ranks: &[usize]) -> f64 {
    let mut probabilities = vec![0.0; limit + 1];
    probabilities[0] = 1.0;
    for &rank in ranks {
        for sum in (0..=limit).rev() {
            let without_it = sum
                .checked_sub(rank)
                .map_or(0.0, |rest| probabilities[rest]);
            probabilities[sum] = 0.5 * (probabilities[sum] + without_it);
        }
    }
    probabilities.iter().sum()
}
