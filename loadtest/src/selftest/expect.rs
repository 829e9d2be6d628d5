//! The effect of a stall on the latencies of an open loop.

/// A stall in an open loop of a fixed rate.
///
/// Every message due while it lasts is answered when it ends: one that is due
/// `x` before the end takes `x`. So the latencies of the messages due in the
/// stall are spread evenly from nothing to its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct StalledLoop {
    /// The length of the stall.
    pub(super) length_ns: u64,
    /// Messages per second.
    pub(super) rate: f64,
    /// Messages due in the whole run.
    pub(super) due: u64,
}

impl StalledLoop {
    /// Messages due in the stall.
    pub(super) fn stalled(&self) -> f64 {
        self.rate * self.length_ns as f64 / 1e9
    }

    /// Messages that take `threshold_ns` or longer because of the stall alone.
    pub(super) fn slower_than(&self, threshold_ns: u64) -> u64 {
        let left_ns = self.length_ns.saturating_sub(threshold_ns);
        whole(self.rate * left_ns as f64 / 1e9)
    }

    /// The latency at a quantile of the whole run, in nanoseconds, 0 where the
    /// stall does not reach.
    pub(super) fn at_quantile(&self, quantile: f64) -> u64 {
        let slower = self.due as f64 * (1.0 - quantile);
        whole((self.length_ns as f64 - slower / self.rate * 1e9).max(0.0))
    }

    /// The quantile of the whole run that is the quantile `within` of the
    /// messages due in the stall.
    pub(super) fn quantile_of(&self, within: f64) -> f64 {
        1.0 - (1.0 - within) * self.stalled() / self.due as f64
    }

    /// The time in which this number of messages is due, in nanoseconds.
    pub(super) fn spacing_ns(&self, messages: u32) -> u64 {
        whole(f64::from(messages) / self.rate * 1e9)
    }
}

/// The tolerance of a number of random arrivals: four standard deviations, exceeded by chance
/// once in 16,000 runs.
pub(super) fn poisson_spread(mean: f64) -> u64 {
    whole(4.0 * mean.sqrt())
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and times are positive and far below 2^53"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: StalledLoop = StalledLoop {
        length_ns: 1_000_000_000,
        rate: 1_000.0,
        due: 5_000,
    };

    #[test]
    fn the_quantiles_are_those_of_the_messages_one_by_one() {
        // The stall lasts from 2 s to 3 s, other messages take no time.
        let mut latencies_ns: Vec<u64> = (0..5_000_u64)
            .map(|index| index * 1_000_000)
            .map(|due_ns| match due_ns {
                2_000_000_000..3_000_000_000 => 3_000_000_000 - due_ns,
                _ => 0,
            })
            .collect();
        latencies_ns.sort_unstable();
        for rank in [1, 2_000, 4_000, 4_001, 4_250, 4_500, 4_950, 4_999, 5_000] {
            let expected = LOOP.at_quantile(rank as f64 / 5_000.0);
            let off_ns = latencies_ns[rank - 1].abs_diff(expected);
            assert!(off_ns <= 1_000_000, "{rank}: {expected}");
        }
        for threshold_ns in [1, 10_000_000, 500_000_000, 1_000_000_000] {
            let slower = latencies_ns.iter().filter(|&&ns| ns >= threshold_ns);
            let expected = LOOP.slower_than(threshold_ns);
            assert!(expected.abs_diff(slower.count() as u64) <= 1, "{expected}");
        }
        assert_eq!(LOOP.slower_than(2_000_000_000), 0);
    }

    #[test]
    fn quantiles_within_the_stall_are_shares_of_its_length() {
        assert_eq!(LOOP.at_quantile(0.99), 950_000_000);
        for (within, expected_ns) in [(0.1, 100_000_000), (0.5, 500_000_000), (1.0, 1_000_000_000)]
        {
            let quantile = LOOP.quantile_of(within);
            assert_eq!(LOOP.at_quantile(quantile), expected_ns, "{within}");
        }
        assert_eq!(LOOP.spacing_ns(3), 3_000_000);
    }

    #[test]
    fn random_arrivals_spread_by_the_root_of_their_mean() {
        assert_eq!(poisson_spread(10_000.0), 400);
    }
}
