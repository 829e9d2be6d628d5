//! Histograms with fixed buckets, as plain arrays.

use std::time::Duration;

use super::number::Counter;

/// Buckets of [`Batches`]: none, 1, 2, 3 to 4, 5 to 8, up to 1024, and more.
const BATCH_BUCKETS: usize = 13;

/// Sizes of batches, in powers of two.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    buckets: [Counter; BATCH_BUCKETS],
    sum: Counter,
}

/// The upper bounds of the buckets of [`Durations`], except the last, which has none.
const DURATION_BOUNDS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Durations, from 100 µs to 10 s.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [Counter; DURATION_BOUNDS.len() + 1],
    sum_ns: Counter,
}

/// A histogram as it is read, over one worker or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// The upper bound, inclusive, and the count of each bucket, not cumulative.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Batches {
    /// Counts a batch of `size`.
    #[inline]
    pub(crate) fn note(&self, size: u32) {
        let bucket = match size.checked_sub(1) {
            None => 0,
            Some(below) => 1 + (u32::BITS - below.leading_zeros()) as usize,
        };
        self.buckets[bucket.min(BATCH_BUCKETS - 1)].add(1);
        self.sum.add(u64::from(size));
    }

    /// All of these as one.
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Histogram {
        let bound = |bucket| match bucket {
            0 => 0.0,
            _ if bucket == BATCH_BUCKETS - 1 => f64::INFINITY,
            _ => (1_u64 << (bucket - 1)) as f64,
        };
        let sum: u64 = all.clone().map(|batches| batches.sum.get()).sum();
        Histogram::new(
            sum as f64,
            (0..BATCH_BUCKETS).map(bound),
            all.map(|batches| &batches.buckets[..]),
        )
    }
}

impl Durations {
    /// Counts a duration.
    pub(crate) fn note(&self, duration: Duration) {
        let bucket = DURATION_BOUNDS.partition_point(|&bound| bound < duration);
        self.buckets[bucket].add(1);
        self.sum_ns
            .add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All of these as one, in seconds.
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Histogram {
        let bounds = DURATION_BOUNDS.iter().map(Duration::as_secs_f64);
        let sum: u64 = all.clone().map(|durations| durations.sum_ns.get()).sum();
        Histogram::new(
            sum as f64 / 1e9,
            bounds.chain([f64::INFINITY]),
            all.map(|durations| &durations.buckets[..]),
        )
    }
}

impl Histogram {
    fn new<'a>(
        sum: f64,
        bounds: impl Iterator<Item = f64>,
        parts: impl Iterator<Item = &'a [Counter]>,
    ) -> Self {
        let mut buckets: Vec<_> = bounds.map(|bound| (bound, 0)).collect();
        for part in parts {
            for (bucket, counted) in buckets.iter_mut().zip(part) {
                bucket.1 += counted.get();
            }
        }
        Self {
            sum,
            // A counter of its own could contradict the buckets.
            count: buckets.iter().map(|&(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds and counts of the buckets that are not empty.
    fn filled(histogram: &Histogram) -> Vec<(f64, u64)> {
        let is_filled = |&&(_, count): &&(f64, u64)| count > 0;
        histogram
            .buckets
            .iter()
            .filter(is_filled)
            .copied()
            .collect()
    }

    #[test]
    fn batch_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for size in (0..2000).chain([u32::MAX]) {
            let batches = Batches::default();
            batches.note(size);
            let histogram = Batches::merged([&batches].into_iter());
            let right = histogram
                .buckets
                .iter()
                .find(|(bound, _)| f64::from(size) <= *bound);
            assert_eq!(right.map(|&(_, count)| count), Some(1), "{size}");
            assert_eq!((histogram.count, histogram.sum), (1, f64::from(size)));
        }
    }

    #[test]
    fn duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001, 3_600_000_000] {
            durations.note(Duration::from_micros(micros));
        }
        let histogram = Durations::merged([&durations].into_iter());
        assert_eq!(
            filled(&histogram),
            [(0.0001, 2), (0.00025, 1), (10.0, 1), (f64::INFINITY, 2)]
        );
        assert!(
            (histogram.sum - 3_620.000_202).abs() < 1e-6,
            "{}",
            histogram.sum
        );
    }

    #[test]
    fn merged_histogram_sums_the_buckets() {
        let (first, second) = (Batches::default(), Batches::default());
        first.note(1);
        second.note(1);
        second.note(300);
        let histogram = Batches::merged([&first, &second].into_iter());
        assert_eq!(filled(&histogram), [(1.0, 2), (512.0, 1)]);
        assert_eq!((histogram.count, histogram.sum), (3, 302.0));
    }
}
