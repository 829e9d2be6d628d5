//! Two servers measured independently.

use super::bootstrap;
use super::interval::ConfidenceInterval;
use super::median::{ascending, is_share, logarithms, median, median_interval, reaches};
use super::rank_sum;
use super::student;

/// The fewest runs a group may have: with one less in each, even groups wholly
/// apart have a p-value of 0.1.
pub const SAMPLES_MIN: usize = 4;

/// The most runs a group may have, as the work grows with their fourth power.
pub const SAMPLES_MAX: usize = 200;

/// The comparison of two servers from two independent groups of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unpaired {
    /// The median of a.
    pub median_a: f64,
    /// The median of b.
    pub median_b: f64,
    /// The interval of the median of a.
    pub interval_a: ConfidenceInterval,
    /// The interval of the median of b.
    pub interval_b: ConfidenceInterval,
    /// The ratio of the medians, b over a.
    pub ratio: f64,
    /// The interval of that ratio.
    pub interval: ConfidenceInterval,
    /// The probability of groups as far apart from servers that do not differ.
    pub p_value: f64,
}

impl Unpaired {
    /// Evaluates the two groups.
    ///
    /// `None` where one has fewer than [`SAMPLES_MIN`] or more than [`SAMPLES_MAX`]
    /// runs, or one that is not finite and above 0, or with a confidence that is
    /// not between 0 and 1.
    pub fn of(a: &[f64], b: &[f64], confidence: f64, seed: u64) -> Option<Self> {
        let counts = SAMPLES_MIN..=SAMPLES_MAX;
        if !counts.contains(&a.len()) || !counts.contains(&b.len()) || !is_share(confidence) {
            return None;
        }
        let logs_a = ascending(&logarithms(a)?)?;
        let logs_b = ascending(&logarithms(b)?)?;
        let (median_a, median_b) = (median(a)?, median(b)?);
        Some(Self {
            median_a,
            median_b,
            interval_a: median_interval(&logs_a, confidence, seed)?.exp(),
            interval_b: median_interval(&logs_b, confidence, seed)?.exp(),
            ratio: median_b / median_a,
            interval: difference(&logs_a, &logs_b, confidence, seed).exp(),
            p_value: rank_sum::p_value(&logs_a, &logs_b),
        })
    }
}

/// The interval of the difference of the medians. Where one group is too small to
/// have one of its own, it is no narrower than Welch's of the means.
pub(super) fn difference(a: &[f64], b: &[f64], confidence: f64, seed: u64) -> ConfidenceInterval {
    let interval = bootstrap::difference(a, b, confidence, seed);
    if reaches(a.len().min(b.len()), confidence) {
        return interval;
    }
    interval.hull(student::difference(a, b, confidence))
}
