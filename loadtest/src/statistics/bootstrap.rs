//! The bootstrap of medians.
//!
//! It is the smoothed Bayesian bootstrap (Banks 1988, Biometrika 75:673), which gives the
//! stretches between neighbouring values random weights, uniform among all that add up to one.
//! The median of a resample then lies above `k` of the `n` values with the probability of `k`
//! heads in `n` coin tosses, so that is drawn.
//!
//! Its position between the two values around it depends on what was not measured. For one
//! group it is not estimated: the lower one counts for the lower bound, the higher one for the
//! upper bound. The bounds are thus those of the sign test (Thompson 1936, Annals of
//! Mathematical Statistics 7:122), whose coverage is at least the requested one for any
//! distribution. The plain percentile bootstrap has no such lower limit. For two groups the
//! same would be far too wide, so each median is anywhere between the two.
//!
//! Draws are used mirrored, and for two groups exchanged as well: exchanging the groups mirrors
//! the interval, and changes nothing else.

use fastrand::Rng;

use super::interval::ConfidenceInterval;

/// Resamples that an interval is made of.
const RESAMPLES: usize = 4_000;

/// Resamples of two groups that one draw makes: mirrored, exchanged, and both.
const PER_DRAW: usize = 4;

/// The number of coin tosses in the bits of a word.
const TOSSES: usize = u64::BITS as usize;

/// The interval of the median of ascending values.
pub(super) fn median(sorted: &[f64], confidence: f64, seed: u64) -> ConfidenceInterval {
    let mut random = Rng::with_seed(seed);
    let count = sorted.len();
    // The number of resamples by the number of values below their median.
    let mut resamples = vec![0; count + 1];
    for _ in 0..RESAMPLES / 2 {
        let [below, _] = Draw::new([count, 0], &mut random).heads;
        resamples[below] += 1;
        resamples[count - below] += 1;
    }
    let lowest = below_nth(&resamples, outside(confidence));
    ConfidenceInterval {
        low: around(sorted, lowest).low,
        high: around(sorted, count - lowest).high,
    }
}

/// The number of values below the median of the nth of the counted resamples.
fn below_nth(resamples: &[usize], nth: usize) -> usize {
    let mut before = 0;
    let is_reached = |count: &usize| {
        before += count;
        before > nth
    };
    let reached = resamples.iter().position(is_reached);
    reached.expect("there are more resamples than are outside")
}

/// The interval of the median of `b` less that of `a`, both ascending.
pub(super) fn difference(a: &[f64], b: &[f64], confidence: f64, seed: u64) -> ConfidenceInterval {
    let mut random = Rng::with_seed(seed);
    let lengths = [a.len(), b.len()];
    let mut differences = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES / PER_DRAW {
        let one = Draw::new(lengths, &mut random);
        let other = Draw::new(lengths, &mut random);
        for (for_a, for_b) in [(&one, &other), (&other, &one)] {
            let of_a = for_a.medians(a, for_a.heads[0]);
            let of_b = for_b.medians(b, for_b.heads[1]);
            differences.extend(of_b.iter().zip(of_a).map(|(of_b, of_a)| of_b - of_a));
        }
    }
    let outside = outside(confidence);
    let (_, &mut low, above) = differences.select_nth_unstable_by(outside, f64::total_cmp);
    let nth = above.len() - 1 - outside;
    let (_, &mut high, _) = above.select_nth_unstable_by(nth, f64::total_cmp);
    ConfidenceInterval { low, high }
}

/// The values around a median with `below` values below it. Nothing is known beyond the
/// outermost.
fn around(sorted: &[f64], below: usize) -> ConfidenceInterval {
    ConfidenceInterval {
        low: sorted[below.saturating_sub(1)],
        high: sorted[below.min(sorted.len() - 1)],
    }
}

/// The random input of a resample.
struct Draw {
    /// The heads among the first tosses of a fair coin: one toss for each value of the first
    /// group, and of the second.
    heads: [usize; 2],
    /// The position of the median between the two values around it.
    way: f64,
}

impl Draw {
    fn new(lengths: [usize; 2], random: &mut Rng) -> Self {
        let mut heads = [0; 2];
        for word in 0..lengths[0].max(lengths[1]).div_ceil(TOSSES) {
            let tosses = random.u64(..);
            for (heads, length) in heads.iter_mut().zip(lengths) {
                let count = length.saturating_sub(word * TOSSES);
                *heads += heads_among(count, tosses);
            }
        }
        Self {
            heads,
            way: random.f64(),
        }
    }

    /// The medians of the resample of ascending values and of its mirror image, with `below`
    /// values below the former.
    fn medians(&self, sorted: &[f64], below: usize) -> [f64; 2] {
        let one = around(sorted, below);
        let mirrored = around(sorted, sorted.len() - below);
        [
            one.low + self.way * (one.high - one.low),
            mirrored.high - self.way * (mirrored.high - mirrored.low),
        ]
    }
}

/// The heads among the first `count` of the tosses in a word.
fn heads_among(count: usize, tosses: u64) -> usize {
    match count {
        0 => 0,
        _ => (tosses << (TOSSES - count.min(TOSSES))).count_ones() as usize,
    }
}

/// The number of resamples that may lie beyond each bound.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of the number of resamples"
)]
fn outside(confidence: f64) -> usize {
    let share = (1.0 - confidence) / 2.0;
    ((share * RESAMPLES as f64) as usize).min(RESAMPLES / 2 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_among_the_first_tosses_only() {
        for (count, heads) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (64, 4), (128, 4)] {
            assert_eq!(heads_among(count, 1 << 63 | 0b1011), heads, "{count}");
        }
        let seeded = || Rng::with_seed(7);
        for lengths in [[1, 64], [65, 64], [128, 200]] {
            let both = Draw::new(lengths, &mut seeded()).heads;
            let alone = lengths.map(|length| Draw::new([length, 0], &mut seeded()).heads[0]);
            assert_eq!(both, alone, "{lengths:?}");
        }
    }

    /// The bounds of the sign test, from tables of the binomial distribution.
    #[test]
    fn one_group_has_the_bounds_of_the_sign_test() {
        for (count, low, high) in [(6, 1, 6), (8, 1, 8), (10, 2, 9), (15, 4, 12), (40, 14, 27)] {
            let sorted: Vec<f64> = (1..=count).map(f64::from).collect();
            for seed in 0..20 {
                let interval = median(&sorted, 0.95, seed);
                let expected = ConfidenceInterval {
                    low: f64::from(low),
                    high: f64::from(high),
                };
                assert_eq!(interval, expected, "{count} values, seed {seed}");
            }
        }
    }
}
