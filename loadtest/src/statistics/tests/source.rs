//! Runs drawn from distributions that are known.

use fastrand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

/// The distribution of a run's logarithm around its median, 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Distribution {
    Normal,
    /// Heavy tails on both sides.
    Laplace,
    /// A long tail to one side.
    Skewed,
    /// Normal, but for one run of ten that is far slower.
    Outliers,
}

/// The runs of ten that are not disturbed.
const UNDISTURBED: f64 = 0.9;

/// The distance of the others, in standard deviations.
const DISTURBANCE: f64 = 10.0;

impl Distribution {
    pub(crate) const ALL: [Self; 4] = [Self::Normal, Self::Laplace, Self::Skewed, Self::Outliers];

    pub(crate) fn draw(self, random: &mut Rng) -> f64 {
        match self {
            Self::Normal => normal(random),
            Self::Laplace => {
                let side = if random.bool() { 1.0 } else { -1.0 };
                -(1.0 - random.f64()).ln() * side
            }
            Self::Skewed => normal(random).exp() - 1.0,
            Self::Outliers => {
                let disturbed = random.f64() >= UNDISTURBED;
                let median = Normal::standard().inverse_cdf(0.5 / UNDISTURBED);
                normal(random) - median + if disturbed { DISTURBANCE } else { 0.0 }
            }
        }
    }

    /// Logarithms with that median.
    pub(crate) fn logs(self, count: usize, median: f64, random: &mut Rng) -> Vec<f64> {
        (0..count).map(|_| median + self.draw(random)).collect()
    }

    /// Values with that median, and logarithms of that spread.
    pub(crate) fn runs(self, count: usize, median: f64, spread: f64, random: &mut Rng) -> Vec<f64> {
        (0..count)
            .map(|_| median * (spread * self.draw(random)).exp())
            .collect()
    }
}

/// A standard normal number (Box and Muller 1958).
pub(crate) fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// The number of trials, unless the environment sets it.
pub(crate) fn trials(few: u64) -> u64 {
    let requested = std::env::var("LOADTEST_TRIALS").ok();
    requested.map_or(few, |count| count.parse().expect("a number of trials"))
}

/// Three standard errors of a share found in `trials` trials.
pub(crate) fn error_of(share: f64, trials: u64) -> f64 {
    3.0 * (share * (1.0 - share) / trials as f64).sqrt()
}
