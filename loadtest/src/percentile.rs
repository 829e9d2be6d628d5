//! Percentiles: their text form, and the number of samples that each needs.

use std::fmt;
use std::str::FromStr;

use crate::outcome::Histogram;

/// A percentile is shown from `3.7 / (1 − q)` samples on, q being its quantile.
///
/// With n samples, at least one lies beyond the quantile with a probability of `1 − qⁿ`. At that
/// number it is 97.5 % (`ln 0.025 = −3.69`). With fewer, the value would be just the longest
/// latency seen.
const TENTHS_BEYOND_MIN: u64 = 37;

/// 100 %, in millionths.
const MILLION: u32 = 1_000_000;

/// A percentile between 0 and 100, both excluded, with up to four decimals. Its
/// text is `p99.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentile {
    /// An integer, to be compared and written exactly.
    millionths: u32,
}

impl Percentile {
    /// The median.
    pub const P50: Self = Self::of_hundredths(50_00);
    /// Nine messages of ten are as fast.
    pub const P90: Self = Self::of_hundredths(90_00);
    /// Nineteen messages of twenty are as fast.
    pub const P95: Self = Self::of_hundredths(95_00);
    /// All but one message of a hundred are as fast.
    pub const P99: Self = Self::of_hundredths(99_00);
    /// All but one message of a thousand are as fast.
    pub const P99_9: Self = Self::of_hundredths(99_90);
    /// All but one message of ten thousand are as fast.
    pub const P99_99: Self = Self::of_hundredths(99_99);

    /// The percentiles of reports and result files, ascending.
    pub const REPORTED: [Self; 6] = [
        Self::P50,
        Self::P90,
        Self::P95,
        Self::P99,
        Self::P99_9,
        Self::P99_99,
    ];

    const fn of_hundredths(hundredths: u32) -> Self {
        Self {
            millionths: hundredths * 100,
        }
    }

    /// The same between 0 and 1.
    pub fn quantile(self) -> f64 {
        f64::from(self.millionths) / f64::from(MILLION)
    }

    /// The least number of samples for which one lies beyond it with a probability of 97.5 %.
    pub fn samples_min(self) -> u64 {
        (TENTHS_BEYOND_MIN * u64::from(MILLION)).div_ceil(10 * u64::from(MILLION - self.millionths))
    }

    /// Whether this number of samples is enough for it.
    pub fn is_supported(self, samples: u64) -> bool {
        samples >= self.samples_min()
    }

    /// The value at it, or `None` where there are too few samples.
    pub fn of(self, histogram: &Histogram) -> Option<u64> {
        self.is_supported(histogram.len())
            .then(|| histogram.value_at_quantile(self.quantile()))
    }

    /// Whether the value at it is only a lower bound, because its rank is among the `censored`
    /// highest of the `samples`: unanswered messages are recorded with their age.
    pub fn is_censored(self, samples: u64, censored: u64) -> bool {
        let rank =
            (u128::from(samples) * u128::from(self.millionths)).div_ceil(u128::from(MILLION));
        censored > 0 && rank > u128::from(samples.saturating_sub(censored))
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.millionths / 10_000, self.millionths % 10_000);
        if decimals == 0 {
            return write!(f, "p{whole}");
        }
        let decimals = format!("{decimals:04}");
        write!(f, "p{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Percentile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = || format!("{text:?} is not a percentile: write p50, p99 or p99.9");
        let number = text.strip_prefix('p').ok_or_else(advice)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_digits(whole) || !is_digits(decimals) || whole.len() > 2 || decimals.len() > 4 {
            return Err(advice());
        }
        let millionths = format!("{whole}{decimals:0<4}")
            .parse()
            .map_err(|_| advice())?;
        match millionths {
            0 => Err(advice()),
            _ => Ok(Self { millionths }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::histogram;

    #[test]
    fn text_and_value_belong_together() {
        for (text, quantile) in [
            ("p50", 0.5),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("p99.99", 0.9999),
            ("p99.9999", 0.999_999),
            ("p0.05", 0.0005),
        ] {
            let percentile: Percentile = text.parse().unwrap();
            assert_eq!(percentile.quantile().to_bits(), f64::to_bits(quantile));
            assert_eq!(percentile.to_string(), text);
        }
        assert_eq!("p99.90".parse(), Ok(Percentile::P99_9));
        for wrong in [
            "",
            "p",
            "99",
            "p100",
            "p0",
            "p0.0",
            "p9.",
            "p.9",
            "p+9",
            "p99.99999",
        ] {
            assert!(wrong.parse::<Percentile>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        for (percentile, needed) in [
            (Percentile::P50, 8),
            (Percentile::P90, 37),
            (Percentile::P99, 370),
            (Percentile::P99_9, 3_700),
            (Percentile::P99_99, 37_000),
        ] {
            assert_eq!(percentile.samples_min(), needed);
            assert!(percentile.is_supported(needed));
            assert!(!percentile.is_supported(needed - 1));
            let beyond = 1.0 - percentile.quantile().powf(needed as f64);
            assert!(beyond >= 0.975, "{percentile}: {beyond}");
        }
        let mut latency_ns = histogram();
        latency_ns.record_n(1_000, 369).unwrap();
        assert_eq!(Percentile::P99.of(&latency_ns), None);
        latency_ns.record(2_000).unwrap();
        assert_eq!(Percentile::P99.of(&latency_ns), Some(1_000));
    }

    #[test]
    fn percentiles_among_unanswered_messages_are_lower_bounds() {
        let p99 = Percentile::P99;
        assert!(!p99.is_censored(1_000, 0));
        assert!(!p99.is_censored(1_000, 10));
        assert!(p99.is_censored(1_000, 11));
        assert!(p99.is_censored(1_000, 2_000));
    }
}
