//! The median of a group, and its interval.

use super::bootstrap;
use super::interval::ConfidenceInterval;
use super::student;

/// The median: the mean of the two middle values where there is no middle one.
/// `None` where there is no value, or one that is not finite.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = ascending(values)?;
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

/// The bootstrap interval of one group's median.
///
/// `None` with fewer than two values, or one that is not finite, or a confidence
/// that is not between 0 and 1. With so few values that all of them are likelier
/// on one side of the median than the confidence allows (fewer than six at 95 %)
/// it is no narrower than Student's interval of the mean.
pub fn median_interval(values: &[f64], confidence: f64, seed: u64) -> Option<ConfidenceInterval> {
    let sorted = ascending(values)?;
    if sorted.len() < 2 || !is_share(confidence) {
        return None;
    }
    let interval = bootstrap::median(&sorted, confidence, seed);
    if reaches(sorted.len(), confidence) {
        return Some(interval);
    }
    Some(interval.hull(student::mean(&sorted, confidence)))
}

/// The values in ascending order; `None` where one is not finite.
pub(super) fn ascending(values: &[f64]) -> Option<Vec<f64>> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(sorted)
}

/// Their logarithms; `None` where one is not finite and above 0.
pub(super) fn logarithms(values: &[f64]) -> Option<Vec<f64>> {
    values
        .iter()
        .map(|&value| (value.is_finite() && value > 0.0).then(|| value.ln()))
        .collect()
}

/// Whether a number lies between 0 and 1, both excluded.
pub(super) fn is_share(number: f64) -> bool {
    number > 0.0 && number < 1.0
}

/// Whether the median lies between the least and the greatest of `count` values with that
/// confidence.
pub(super) fn reaches(count: usize, confidence: f64) -> bool {
    let all_on_one_side = 2.0 * 0.5_f64.powf(count as f64);
    all_on_one_side <= 1.0 - confidence
}
