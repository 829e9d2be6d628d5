//! Intervals of means, for groups too small to have one of their median.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::interval::ConfidenceInterval;

/// Student's interval of the mean of at least two values.
pub(super) fn mean(values: &[f64], confidence: f64) -> ConfidenceInterval {
    let moments = Moments::of(values);
    let freedom = values.len() as f64 - 1.0;
    around(moments.mean, moments.variance_of_mean, freedom, confidence)
}

/// Welch's interval (1947, Biometrika 34:28) of the mean of `b` less that of `a`,
/// each of at least two values.
pub(super) fn difference(a: &[f64], b: &[f64], confidence: f64) -> ConfidenceInterval {
    let (of_a, of_b) = (Moments::of(a), Moments::of(b));
    let variance = of_a.variance_of_mean + of_b.variance_of_mean;
    let spent = |of: &Moments, count: usize| of.variance_of_mean.powi(2) / (count as f64 - 1.0);
    let freedom = variance.powi(2) / (spent(&of_a, a.len()) + spent(&of_b, b.len()));
    around(of_b.mean - of_a.mean, variance, freedom, confidence)
}

/// The quantile of Student's distribution. Groups whose values do not differ have no degrees of
/// freedom, and no width.
pub(super) fn quantile(probability: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(0.0, |student| student.inverse_cdf(probability))
}

fn around(centre: f64, variance: f64, freedom: f64, confidence: f64) -> ConfidenceInterval {
    let half = quantile(f64::midpoint(1.0, confidence), freedom) * variance.sqrt();
    ConfidenceInterval {
        low: centre - half,
        high: centre + half,
    }
}

struct Moments {
    mean: f64,
    variance_of_mean: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            variance_of_mean: squares / (count - 1.0) / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles as printed in any table of the distribution.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, tabulated) in [(1.0, 12.706), (2.0, 4.303), (5.0, 2.571), (30.0, 2.042)] {
            assert!(
                (quantile(0.975, freedom) - tabulated).abs() < 0.000_6,
                "{freedom}"
            );
        }
    }

    #[test]
    fn welch_is_student_for_groups_alike() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]);
        let interval = difference(&a, &b, 0.95);
        let half = 2.446_912 * (2.0 * 5.0 / 3.0 / 4.0_f64).sqrt();
        assert!((interval.low - (1.0 - half)).abs() < 1e-5);
        assert!((interval.high - (1.0 + half)).abs() < 1e-5);
    }

    #[test]
    fn equal_values_have_no_width() {
        let still = ConfidenceInterval {
            low: 2.0,
            high: 2.0,
        };
        assert_eq!(mean(&[2.0; 3], 0.95), still);
        assert_eq!(difference(&[1.0; 4], &[3.0; 4], 0.95), still);
    }
}
