//! The number of runs that a comparison needs.
//!
//! It is an estimate: the spread of few runs is itself random. Planned by 20 pairs for a power
//! of 80 %, the power found is between 73 % and 81 %, but about two thirds where some runs are
//! far from the others (`tests/needed.rs`).

use statrs::distribution::{ContinuousCDF, Normal};

use super::median::{is_share, logarithms, reaches};
use super::paired::PAIRS_MAX;
use super::spread;
use super::student::quantile;
use super::unpaired::{SAMPLES_MAX, SAMPLES_MIN};

/// The least number of runs for an estimate of their spread.
pub const SPREAD_RUNS_MIN: usize = 4;

/// By how many places the bounds of a median are further out than they would be if
/// they did not have to be one of the values: between none and one, on average.
const ROUNDING_PLACES: f64 = 0.5;

/// About how many pairs in all are needed until a true ratio of `effect` is found
/// at `level` with `power`, judged by the spread of the pairs there are.
///
/// `None` without an estimate of the spread (fewer than four pairs, or one that is not finite and
/// above 0), beyond [`PAIRS_MAX`], or for invalid arguments: an effect of 1, or a probability
/// that is none.
pub fn pairs_needed(ratios: &[f64], effect: f64, level: f64, power: f64) -> Option<usize> {
    let shift = shift(effect)?;
    let logs = enough_logarithms(ratios)?;
    let spread = spread::of_pairs(&logs);
    least(2, PAIRS_MAX, |pairs| {
        let error = spread / (pairs as f64).sqrt();
        let freedom = pairs.min(logs.len()) - 1;
        reaches(pairs, 1.0 - level) && is_found(shift, error, freedom, level, power)
    })
}

/// About how many pairs in all are needed until the interval of the median ratio
/// is within `margin` of it on both sides.
///
/// `None` as with [`pairs_needed`].
pub fn pairs_for_margin(ratios: &[f64], margin: f64, confidence: f64) -> Option<usize> {
    let shift = shift(1.0 + margin)?;
    let logs = enough_logarithms(ratios)?;
    if !is_share(confidence) {
        return None;
    }
    let errors = Normal::standard().inverse_cdf(f64::midpoint(1.0, confidence));
    let spread = spread::of_median(&logs, errors);
    least(2, PAIRS_MAX, |pairs| {
        let root = (pairs as f64).sqrt();
        let rounding = 2.0 * ROUNDING_PLACES / root;
        reaches(pairs, confidence) && (errors + rounding) * spread / root <= shift
    })
}

/// About how many runs each of two independent groups needs until a true ratio of
/// `effect` is found at `level` with `power`.
///
/// `None` as with [`pairs_needed`], of which it takes four runs in each group, and
/// beyond [`SAMPLES_MAX`].
pub fn runs_needed(a: &[f64], b: &[f64], effect: f64, level: f64, power: f64) -> Option<usize> {
    let shift = shift(effect)?;
    let (logs_a, logs_b) = (enough_logarithms(a)?, enough_logarithms(b)?);
    let spread = spread::of_groups(&logs_a, &logs_b);
    let freedom_seen = logs_a.len() + logs_b.len() - 2;
    least(SAMPLES_MIN, SAMPLES_MAX, |runs| {
        let error = spread * (2.0 / runs as f64).sqrt();
        let freedom = freedom_seen.min(2 * (runs - 1));
        least_p_value(runs, runs) <= level && is_found(shift, error, freedom, level, power)
    })
}

/// The fewest pairs that can find anything at a level: all of them point one way, and
/// of the `2ⁿ` ways to sign them two are as extreme.
pub fn pairs_min(level: f64) -> usize {
    (2..PAIRS_MAX)
        .find(|&pairs| reaches(pairs, 1.0 - level))
        .unwrap_or(PAIRS_MAX)
}

/// The fewest runs of each of two groups that can find anything at a level: the groups
/// are wholly apart.
pub fn runs_min(level: f64) -> usize {
    (SAMPLES_MIN..SAMPLES_MAX)
        .find(|&runs| least_p_value(runs, runs) <= level)
        .unwrap_or(SAMPLES_MAX)
}

/// The least number that is enough, where any above it is enough as well.
fn least(from: usize, to: usize, is_enough: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    is_enough(low).then_some(low)
}

/// The distance of a ratio from 1 on a logarithmic scale.
fn shift(ratio: f64) -> Option<f64> {
    let shift = ratio.ln().abs();
    (shift.is_finite() && shift > 0.0).then_some(shift)
}

/// The logarithms of the runs, if there are enough.
fn enough_logarithms(runs: &[f64]) -> Option<Vec<f64>> {
    logarithms(runs).filter(|logs| logs.len() >= SPREAD_RUNS_MIN)
}

/// Whether a shift of this number of standard errors is significant. Student's quantiles allow
/// for few runs: those to come, and those that the spread is estimated from (Julious and Owen
/// 2006, Statistics in Medicine 25:1).
fn is_found(shift: f64, error: f64, freedom: usize, level: f64, power: f64) -> bool {
    if !is_share(level) || !is_share(power) {
        return false;
    }
    let freedom = freedom as f64;
    let errors = quantile(1.0 - level / 2.0, freedom) + quantile(power, freedom);
    errors * error <= shift
}

/// The p-value of two groups that are wholly apart: the least possible with these numbers of
/// runs.
pub fn least_p_value(runs_a: usize, runs_b: usize) -> f64 {
    (1..=runs_a).fold(2.0, |p_value, nth| {
        p_value * nth as f64 / (runs_b + nth) as f64
    })
}
