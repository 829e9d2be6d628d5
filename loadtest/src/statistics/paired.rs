//! Two servers measured in pairs of runs.

use super::interval::ConfidenceInterval;
use super::median::{is_share, logarithms, median, median_interval};
use super::signed_rank;

/// The most pairs a comparison may have, as the work grows with their cube.
pub const PAIRS_MAX: usize = 1_000;

/// The estimate of the ratio between two servers, b over a, from pairs of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// The median of the ratios: the geometric mean of the two middle ones where
    /// there is no middle one, so that it is inverted when a and b are exchanged.
    pub median_ratio: f64,
    /// The interval of that median.
    pub interval: ConfidenceInterval,
    /// The probability of ratios as far from 1 between servers that do not differ. It also
    /// depends on the distance of each, which the interval does not, so it can be low while the
    /// interval contains 1.
    pub p_value: f64,
    /// The number of pairs.
    pub pairs: usize,
}

impl Paired {
    /// Evaluates the ratios, one per pair.
    ///
    /// `None` with fewer than two or more than [`PAIRS_MAX`], with one that is not
    /// finite and above 0, or a confidence that is not between 0 and 1.
    pub fn of(ratios: &[f64], confidence: f64, seed: u64) -> Option<Self> {
        if !(2..=PAIRS_MAX).contains(&ratios.len()) || !is_share(confidence) {
            return None;
        }
        let logs = logarithms(ratios)?;
        Some(Self {
            median_ratio: median(&logs)?.exp(),
            interval: median_interval(&logs, confidence, seed)?.exp(),
            p_value: signed_rank::p_value(&logs),
            pairs: ratios.len(),
        })
    }
}
