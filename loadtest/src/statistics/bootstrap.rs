//! The bootstrap of medians.
//!
//! It is the smoothed Bayesian bootstrap (Banks 1988, Biometrika 75:673), which
//! gives the stretches between neighbouring values random weights, uniform among
//! all that add up to one. The median of a resample then lies above `k` of the `n`
//! values with the probability of `k` heads in `n` tosses of a coin, so that is
//! what is drawn.
//!
//! Where it lies between the two values around it depends on what was not measured.
//! For one group it is not made up: the lower one counts for the lower bound, the
//! higher one for the upper bound. The bounds are thus those of the sign test
//! (Thompson 1936, Annals of Mathematical Statistics 7:122), whose coverage is at
//! least what is asked for whatever the distribution. The plain percentile bootstrap
//! has no such lower limit. For two groups the same would be far wider than it needs
//! to be, so each median is anywhere between the two.
//!
//! Draws are used mirrored, and for two groups exchanged as well. So whoever
//! exchanges the groups finds the interval mirrored, and no different otherwise.

use fastrand::Rng;

use super::interval::Interval;

/// Resamples that an interval is made of.
const RESAMPLES: usize = 4_000;

/// Resamples of two groups that one draw makes: mirrored, exchanged, and both.
const PER_DRAW: usize = 4;

/// The interval of the median of ascending values.
pub(super) fn median(sorted: &[f64], confidence: f64, seed: u64) -> Interval {
    let mut random = Rng::with_seed(seed);
    let (mut lows, mut highs) = (Vec::new(), Vec::new());
    for _ in 0..RESAMPLES / 2 {
        let below = Draw::new(sorted.len(), &mut random).heads(sorted.len());
        for below in [below, sorted.len() - below] {
            let around = around(sorted, below);
            lows.push(around.low);
            highs.push(around.high);
        }
    }
    Interval {
        low: low_end(lows, confidence),
        high: high_end(highs, confidence),
    }
}

/// The interval of the median of `b` less that of `a`, both ascending.
pub(super) fn difference(a: &[f64], b: &[f64], confidence: f64, seed: u64) -> Interval {
    let mut random = Rng::with_seed(seed);
    let length = a.len().max(b.len());
    let mut differences = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES / PER_DRAW {
        let one = Draw::new(length, &mut random);
        let other = Draw::new(length, &mut random);
        for (for_a, for_b) in [(&one, &other), (&other, &one)] {
            let (of_a, of_b) = (for_a.medians(a), for_b.medians(b));
            differences.extend(of_b.iter().zip(of_a).map(|(of_b, of_a)| of_b - of_a));
        }
    }
    Interval {
        low: low_end(differences.clone(), confidence),
        high: high_end(differences, confidence),
    }
}

/// The values around a median that so many lie below. Nothing is known beyond the
/// outermost.
fn around(sorted: &[f64], below: usize) -> Interval {
    Interval {
        low: sorted[below.saturating_sub(1)],
        high: sorted[below.min(sorted.len() - 1)],
    }
}

/// What a resample is made by.
struct Draw {
    /// Tosses of a fair coin, as bits.
    tosses: Vec<u64>,
    /// How far the median is on its way between the two values around it.
    way: f64,
}

impl Draw {
    fn new(tosses: usize, random: &mut Rng) -> Self {
        let words = tosses.div_ceil(u64::BITS as usize);
        Self {
            tosses: (0..words).map(|_| random.u64(..)).collect(),
            way: random.f64(),
        }
    }

    /// The heads among the first so many tosses.
    fn heads(&self, count: usize) -> usize {
        let bits = u64::BITS as usize;
        let (whole, rest) = (count / bits, count % bits);
        let in_whole: u32 = self.tosses[..whole]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        let in_rest = match rest {
            0 => 0,
            _ => (self.tosses[whole] << (bits - rest)).count_ones(),
        };
        (in_whole + in_rest) as usize
    }

    /// The median of the resample of ascending values, and that of its mirror image.
    fn medians(&self, sorted: &[f64]) -> [f64; 2] {
        let below = self.heads(sorted.len());
        let one = around(sorted, below);
        let mirrored = around(sorted, sorted.len() - below);
        [
            one.low + self.way * (one.high - one.low),
            mirrored.high - self.way * (mirrored.high - mirrored.low),
        ]
    }
}

/// The bound that leaves half of what is missing to the confidence below it.
fn low_end(mut resamples: Vec<f64>, confidence: f64) -> f64 {
    let outside = outside(confidence, resamples.len());
    *resamples.select_nth_unstable_by(outside, f64::total_cmp).1
}

/// The bound that leaves as much above it.
fn high_end(mut resamples: Vec<f64>, confidence: f64) -> f64 {
    let outside = resamples.len() - 1 - outside(confidence, resamples.len());
    *resamples.select_nth_unstable_by(outside, f64::total_cmp).1
}

/// How many of the resamples may lie beyond each bound.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of the number of resamples"
)]
fn outside(confidence: f64, resamples: usize) -> usize {
    ((1.0 - confidence) / 2.0 * resamples as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_among_the_first_tosses_only() {
        let draw = Draw {
            tosses: vec![u64::MAX, 0b1011],
            way: 0.5,
        };
        for (count, heads) in [
            (0, 0),
            (1, 1),
            (64, 64),
            (65, 65),
            (66, 66),
            (67, 66),
            (68, 67),
        ] {
            assert_eq!(draw.heads(count), heads, "{count}");
        }
        assert_eq!(draw.heads(128), 67);
    }

    /// The bounds of the sign test, from tables of the binomial distribution.
    #[test]
    fn one_group_has_the_bounds_of_the_sign_test() {
        for (count, low, high) in [(6, 1, 6), (8, 1, 8), (10, 2, 9), (15, 4, 12), (40, 14, 27)] {
            let sorted: Vec<f64> = (1..=count).map(f64::from).collect();
            for seed in 0..20 {
                let interval = median(&sorted, 0.95, seed);
                let expected = Interval {
                    low: f64::from(low),
                    high: f64::from(high),
                };
                assert_eq!(interval, expected, "{count} values, seed {seed}");
            }
        }
    }
}
