//! The main numbers, so that a result file can be read without its histograms.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{Histogram, Outcome, per_second};
use crate::percentile::Percentile;
use crate::watch::Usage;

/// Numbers computed from the counts and histograms of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    /// Replies per second while measuring.
    pub rate_per_s: f64,
    /// Their payload bytes per second.
    pub payload_bytes_per_s: f64,
    /// From the intended send to the reply.
    pub response_ns: Spread,
    /// From the actual send to the reply.
    pub service_ns: Spread,
    /// From the intended to the actual send.
    pub lag_ns: Spread,
    /// From connect to the handshake's response.
    pub handshake_ns: Spread,
    /// The cost of the generator, spinning included.
    pub generator: Cost,
    /// The cost of the server, if its process is known.
    pub server: Option<Cost>,
}

/// The names of a [`Spread`]'s values, in the order of tables for programs.
pub const STATISTICS: [&str; 7] = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];

/// Statistics added later: at the end of the lines of CSV, so that scripts that count columns
/// still work.
pub const LATER_STATISTICS: [&str; 3] = ["p95", "min", "stdev"];

/// The distribution of times, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The number of times.
    pub samples: u64,
    /// The values at p50, p90, p95, p99, p99.9 and p99.99; null with too few samples.
    pub percentiles: BTreeMap<String, Option<u64>>,
    /// The shortest, null without samples.
    #[serde(default)]
    pub min: Option<u64>,
    /// The longest, null without samples.
    pub max: Option<u64>,
    /// The mean, null without samples.
    pub mean: Option<f64>,
    /// The standard deviation, null without samples.
    #[serde(default)]
    pub stdev: Option<f64>,
}

/// Below this number of connections their memory is mostly that of buffers, histograms and the
/// allocator's pools, some hundred KiB to MiB for each thread: a server seemed to take from 81
/// bytes to 21 KiB for each of 100 connections.
pub const RSS_SOCKETS_MIN: u64 = 1_000;

/// The cost of a process, per message echoed while measuring or per connection; null without any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// CPU time per message, in nanoseconds.
    pub cpu_ns_per_message: Option<f64>,
    /// The part of it in user space.
    pub user_ns_per_message: Option<f64>,
    /// The part of it in the kernel.
    pub system_ns_per_message: Option<f64>,
    /// Context switches per message, voluntary or not.
    pub switches_per_message: Option<f64>,
    /// Resident memory that came with the connections, per connection, in bytes;
    /// null below 1,000 connections, where it is noise.
    pub rss_bytes_per_connection: Option<u64>,
    /// CPU time over elapsed time: 2 is two cores.
    pub cores: f64,
    /// Time on run queues as a share of the time that the threads wanted to run, which is that
    /// and their run time, 0 to 1; null where the kernel does not count it.
    #[serde(default)]
    pub run_queue_wait_share: Option<f64>,
}

impl Numbers {
    /// The numbers of a run with this number of sockets.
    pub fn of(outcome: &Outcome, sockets: u64) -> Self {
        Self {
            rate_per_s: outcome.rate(),
            payload_bytes_per_s: per_second(outcome.counts.echoed_bytes, outcome.elapsed),
            response_ns: Spread::of(&outcome.latencies.response_ns),
            service_ns: Spread::of(&outcome.latencies.service_ns),
            lag_ns: Spread::of(&outcome.latencies.lag_ns),
            handshake_ns: Spread::of(&outcome.handshake_ns),
            generator: Cost::of(&outcome.generator.usage, outcome, sockets),
            server: outcome
                .server
                .map(|usage| Cost::of(&usage, outcome, sockets)),
        }
    }
}

impl Spread {
    /// The distribution of a histogram.
    pub fn of(times_ns: &Histogram) -> Self {
        let has_samples = !times_ns.is_empty();
        Self {
            samples: times_ns.len(),
            percentiles: Percentile::REPORTED
                .into_iter()
                .map(|percentile| (percentile.to_string(), percentile.of(times_ns)))
                .collect(),
            min: has_samples.then(|| times_ns.min()),
            max: has_samples.then(|| times_ns.max()),
            mean: has_samples.then(|| times_ns.mean()),
            stdev: has_samples.then(|| times_ns.stdev()),
        }
    }

    /// One of the [`STATISTICS`] or [`LATER_STATISTICS`] as a field of CSV: plain nanoseconds, or empty
    /// where it is not known.
    pub fn field(&self, name: &str) -> String {
        let text = match name {
            "min" => self.min.map(|ns| ns.to_string()),
            "max" => self.max.map(|ns| ns.to_string()),
            "mean" => self.mean.map(|ns| ns.to_string()),
            "stdev" => self.stdev.map(|ns| ns.to_string()),
            percentile => {
                let ns = self.percentiles.get(percentile).copied().flatten();
                ns.map(|ns| ns.to_string())
            }
        };
        text.unwrap_or_default()
    }
}

impl Cost {
    /// The cost of a process in a run with this number of sockets. Memory is given per socket
    /// from [`RSS_SOCKETS_MIN`] on.
    pub fn of(usage: &Usage, outcome: &Outcome, sockets: u64) -> Self {
        let switches = usage.voluntary_switches + usage.involuntary_switches;
        Self {
            cpu_ns_per_message: outcome.per_message(usage.cpu_ns),
            user_ns_per_message: outcome.per_message(usage.user_ns),
            system_ns_per_message: outcome.per_message(usage.system_ns),
            switches_per_message: outcome.per_message(switches),
            rss_bytes_per_connection: (sockets >= RSS_SOCKETS_MIN)
                .then(|| usage.rss_per_connection(sockets))
                .flatten(),
            cores: cores(usage.cpu_ns, outcome.elapsed),
            run_queue_wait_share: usage.run_queue_wait_share(),
        }
    }
}

fn cores(cpu_ns: u64, elapsed: Duration) -> f64 {
    per_second(cpu_ns, elapsed) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn costs_are_per_message() {
        let numbers = Numbers::of(&fixture::outcome(), 100);
        assert_eq!(
            (Some(numbers.rate_per_s), Some(numbers.payload_bytes_per_s)),
            (Some(50_000.0), Some(1_600_000.0))
        );
        let server = numbers.server.unwrap();
        assert_eq!(server.cpu_ns_per_message, Some(5_000.0));
        assert_eq!(server.switches_per_message, Some(0.5));
        assert_eq!(server.rss_bytes_per_connection, None);
        assert_eq!(Some(server.cores), Some(0.25));
    }

    #[test]
    fn memory_is_per_socket_from_the_minimum_on() {
        for sockets in [1, RSS_SOCKETS_MIN - 1] {
            let numbers = Numbers::of(&fixture::outcome(), sockets);
            let server = numbers.server.unwrap();
            assert_eq!(server.rss_bytes_per_connection, None);
            assert_eq!(numbers.generator.rss_bytes_per_connection, None);
        }
        let numbers = Numbers::of(&fixture::outcome(), RSS_SOCKETS_MIN);
        assert_eq!(numbers.server.unwrap().rss_bytes_per_connection, Some(204));
        assert!(numbers.generator.rss_bytes_per_connection.is_some());
    }

    #[test]
    fn unknown_numbers_are_null() {
        let spread = Numbers::of(&fixture::outcome(), 100).handshake_ns;
        assert_eq!(spread.percentiles["p90"], Some(200_063));
        assert_eq!(spread.percentiles["p99"], None);
        let silent = Numbers::of(&fixture::silent_outcome(), 0);
        assert_eq!(
            (silent.response_ns.max, silent.response_ns.mean),
            (None, None)
        );
        assert_eq!(silent.generator.cpu_ns_per_message, None);
        assert_eq!(silent.generator.rss_bytes_per_connection, None);
    }
}
