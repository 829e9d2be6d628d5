//! The metrics that runs are compared by.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::percentile::Percentile;
use crate::result::ResultFile;
use crate::units::{format_bytes, format_ns, format_rate};

/// A number of a run. Ordered as in tables.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Metric {
    /// Replies per second while measuring.
    #[serde(rename = "throughput")]
    Throughput,
    /// The server's CPU time per message, in nanoseconds.
    #[serde(rename = "cpu-per-message")]
    CpuPerMessage,
    /// The response time at p50, in nanoseconds.
    #[serde(rename = "p50")]
    P50,
    /// The response time at p99, in nanoseconds.
    #[serde(rename = "p99")]
    P99,
    /// The response time at p99.9, in nanoseconds.
    #[serde(rename = "p99.9")]
    P99_9,
    /// The server's resident memory per connection, in bytes, from 1,000
    /// connections on: with fewer it is noise.
    #[serde(rename = "rss-per-connection")]
    RssPerConnection,
}

impl Metric {
    /// All metrics, in the order of tables.
    pub const ALL: [Self; 6] = [
        Self::Throughput,
        Self::CpuPerMessage,
        Self::P50,
        Self::P99,
        Self::P99_9,
        Self::RssPerConnection,
    ];

    /// The name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::CpuPerMessage => "cpu-per-message",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::RssPerConnection => "rss-per-connection",
        }
    }

    /// The title in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Throughput => "messages/s",
            Self::CpuPerMessage => "CPU/message",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::RssPerConnection => "RSS/connection",
        }
    }

    /// Whether more of it is better.
    pub const fn is_more_better(self) -> bool {
        matches!(self, Self::Throughput)
    }

    /// Its share of the significance level, as a weight of Holm's procedure.
    ///
    /// CPU time per message is the steadiest of them, so it gets most: six pairs that all point
    /// one way have a p-value of 2/64, which is significant at its share of 5 %, and would not be
    /// at a sixth of 5 %. Nine pairs, 2/512, are enough for throughput and times, and eleven,
    /// 2/2048, for memory, the least important.
    pub const fn weight(self) -> f64 {
        match self {
            Self::CpuPerMessage => 65.0,
            Self::Throughput | Self::P50 | Self::P99 | Self::P99_9 => 8.0,
            Self::RssPerConnection => 3.0,
        }
    }

    /// The default of `--margin`, as a share: servers whose interval is within it do not differ.
    /// It does not depend on the runs: a margin that grows with their noise would find no
    /// difference in whatever is noisy enough.
    pub const fn margin(self) -> f64 {
        match self {
            Self::Throughput | Self::CpuPerMessage | Self::P50 => 0.05,
            Self::P99 | Self::P99_9 | Self::RssPerConnection => 0.10,
        }
    }

    /// The value of a run; `None` where it was not measured, or of too few messages.
    pub fn of(self, run: &ResultFile) -> Option<f64> {
        let server = run.summary.server.as_ref();
        let at = |percentile: Percentile| {
            let percentiles = &run.summary.response_ns.percentiles;
            let ns = percentiles.get(&percentile.to_string()).copied().flatten();
            ns.map(|ns| ns as f64)
        };
        let value = match self {
            Self::Throughput => Some(run.summary.rate_per_s),
            Self::CpuPerMessage => server.and_then(|cost| cost.cpu_ns_per_message),
            Self::P50 => at(Percentile::P50),
            Self::P99 => at(Percentile::P99),
            Self::P99_9 => at(Percentile::P99_9),
            Self::RssPerConnection => server
                .and_then(|cost| cost.rss_bytes_per_connection)
                .map(|bytes| bytes as f64),
        };
        // There is no ratio to 0.
        value.filter(|value| value.is_finite() && *value > 0.0)
    }

    /// A value of it, with its unit.
    pub fn format(self, value: f64) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "times are positive, and a cast saturates"
        )]
        match self {
            Self::Throughput => format!("{}/s", format_rate(value)),
            // To the nanosecond, so that two of them can be subtracted.
            Self::CpuPerMessage if value < 100.0 => format!("{value:.1} ns"),
            Self::CpuPerMessage => format!("{value:.0} ns"),
            Self::P50 | Self::P99 | Self::P99_9 => format_ns(value.round() as u64),
            Self::RssPerConnection => format_bytes(value),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a metric; there are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn names_are_read_as_they_are_written() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            let json = serde_json::to_value(metric).unwrap();
            assert_eq!(json, metric.name());
        }
        let error = "p98".parse::<Metric>().unwrap_err();
        assert!(error.starts_with("\"p98\" is not a metric; there are throughput,"));
    }

    #[test]
    fn a_run_has_them_where_they_were_measured() {
        let run = fixture::result();
        let values = Metric::ALL.map(|metric| metric.of(&run));
        assert_eq!(
            values,
            [
                Some(50_000.0),
                Some(5_000.0),
                Some(50_015.0),
                Some(80_063.0),
                Some(1_000_447.0),
                None
            ]
        );
        let mut silent = run;
        silent.summary.rate_per_s = 0.0;
        silent.summary.server = None;
        silent.summary.response_ns.percentiles.clear();
        assert_eq!(Metric::ALL.map(|metric| metric.of(&silent)), [None; 6]);
    }

    #[test]
    fn values_have_units() {
        let shown = [2_750_000.0, 40.63, 50_015.0, 80_063.0, 1e6, 2_048.0];
        let shown: Vec<_> = Metric::ALL
            .into_iter()
            .zip(shown)
            .map(|(metric, value)| metric.format(value))
            .collect();
        assert_eq!(
            shown,
            [
                "2,750,000/s",
                "40.6 ns",
                "50.0 µs",
                "80.1 µs",
                "1.00 ms",
                "2.0 KiB"
            ]
        );
    }
}
