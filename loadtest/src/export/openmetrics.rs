//! The text format of `OpenMetrics`, for Prometheus' textfile collector and push
//! gateways.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::latencies;
use crate::failure::Failure;
use crate::outcome::{Histogram, Latencies};
use crate::percentile::Percentile;
use crate::result::{Cost, ResultFile};
use crate::terminal::sanitized;

/// The bounds of the buckets are these in each decade from a microsecond to ten
/// seconds.
const BOUNDS_IN_DECADE: [u64; 3] = [1, 2, 5];

const DECADES: u32 = 7;

const FIRST_BOUND_NS: u64 = 1_000;

const NS_PER_S: f64 = 1e9;

pub(super) fn text(run: &ResultFile) -> Result<String, Failure> {
    let mut registry = Registry::with_prefix("loadtest");
    registry.register_collector(Box::new(RunCollector {
        latencies: latencies(run)?,
        run: run.clone(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Failure::File(error.to_string()))?;
    Ok(text)
}

#[derive(Debug)]
struct RunCollector {
    run: ResultFile,
    latencies: Latencies,
}

type Labels = [(&'static str, String); 1];

impl RunCollector {
    fn labels(&self) -> Labels {
        [("server", sanitized(&self.run.label))]
    }
}

impl Collector for RunCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.times(&mut encoder)?;
        self.counts(&mut encoder)?;
        self.costs(&mut encoder)
    }
}

impl RunCollector {
    fn times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, times_ns) in [
            (
                "response_time",
                "From the intended send to the reply",
                &self.latencies.response_ns,
            ),
            (
                "service_time",
                "From the actual send to the reply",
                &self.latencies.service_ns,
            ),
            (
                "generator_lag",
                "From the intended to the actual send",
                &self.latencies.lag_ns,
            ),
        ] {
            let sum_s = times_ns.mean() * times_ns.len() as f64 / NS_PER_S;
            encoder
                .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
                .encode_family(&self.labels())?
                .encode_histogram::<NoLabelSet>(sum_s, times_ns.len(), &buckets(times_ns), None)?;
        }
        self.percentiles(encoder)
    }

    /// The percentiles of the file, which are finer than the buckets.
    fn percentiles(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The response time at a quantile";
        let name = "response_time_quantile";
        let mut family =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for percentile in Percentile::REPORTED {
            let Some(ns) = percentile.of(&self.latencies.response_ns) else {
                continue;
            };
            let [server] = self.labels();
            let labels = [server, ("quantile", percentile.quantile().to_string())];
            family
                .encode_family(&labels)?
                .encode_gauge(&(ns as f64 / NS_PER_S))?;
        }
        let spread = &self.run.summary.response_ns;
        for (name, help, ns) in [
            (
                "response_time_min",
                "The shortest response time",
                spread.min.map(|ns| ns as f64),
            ),
            (
                "response_time_stdev",
                "The standard deviation of the response time",
                spread.stdev,
            ),
        ] {
            let value_s = ns.map(|ns| ns / NS_PER_S);
            self.gauge(encoder, name, help, Some(&Unit::Seconds), value_s)?;
        }
        Ok(())
    }

    fn counts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = &self.run.counts;
        for (name, help, count) in [
            (
                "messages_due",
                "Messages that were to be sent in the measurement",
                counts.due,
            ),
            (
                "messages_answered",
                "Of those due, the ones whose reply came",
                counts.answered,
            ),
            (
                "messages_timed_out",
                "Of those due, the ones without a reply within the timeout",
                counts.timed_out,
            ),
            (
                "replies",
                "Replies that came while measuring",
                counts.echoed,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_family(&self.labels())?
                .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }

    fn costs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rate = Some(self.run.summary.rate_per_s);
        self.gauge(encoder, "replies_per_second", "Throughput", None, rate)?;
        let server = self.run.summary.server.as_ref();
        let cpu_s = server
            .and_then(|cost: &Cost| cost.cpu_ns_per_message)
            .map(|ns| ns / NS_PER_S);
        self.gauge(
            encoder,
            "server_cpu_per_message",
            "CPU time the server took for each reply",
            Some(&Unit::Seconds),
            cpu_s,
        )?;
        let rss = server
            .and_then(|cost| cost.rss_bytes_per_connection)
            .map(|bytes| bytes as f64);
        self.gauge(
            encoder,
            "server_memory_per_connection",
            "Resident memory that came with the connections, for each",
            Some(&Unit::Bytes),
            rss,
        )?;
        for (name, help, cost) in [
            (
                "server_run_queue_wait",
                "Share of the time its threads wanted to run that the server waited for a core",
                server,
            ),
            (
                "generator_run_queue_wait",
                "Share of the time its threads wanted to run that the generator waited for a core",
                Some(&self.run.summary.generator),
            ),
        ] {
            let share = cost.and_then(|cost| cost.run_queue_wait_share);
            self.gauge(encoder, name, help, Some(&Unit::Ratios), share)?;
        }
        Ok(())
    }

    /// A gauge, where its value is known.
    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<f64>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        encoder
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_family(&self.labels())?
            .encode_gauge(&value)
    }
}

/// The number of times in each bucket, with its upper bound in seconds.
fn buckets(times_ns: &Histogram) -> Vec<(f64, u64)> {
    let decades = (0..DECADES).map(|decade| FIRST_BOUND_NS * 10_u64.pow(decade));
    let bounds_ns = decades.flat_map(|decade_ns| BOUNDS_IN_DECADE.map(|step| step * decade_ns));
    let mut below = 0;
    let mut buckets: Vec<_> = bounds_ns
        .map(|bound_ns| {
            let up_to = times_ns.count_between(0, bound_ns);
            let own = up_to.saturating_sub(below);
            below = up_to;
            (bound_ns as f64 / NS_PER_S, own)
        })
        .collect();
    buckets.push((f64::INFINITY, times_ns.len().saturating_sub(below)));
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn times_are_histograms_in_seconds() {
        let text = text(&fixture::result()).unwrap();
        for line in [
            "# TYPE loadtest_response_time_seconds histogram",
            "# UNIT loadtest_response_time_seconds seconds",
            "loadtest_response_time_seconds_count{server=\"epoll\"} 500000",
            "loadtest_response_time_seconds_bucket{le=\"+Inf\",server=\"epoll\"} 500000",
            "loadtest_response_time_quantile_seconds{server=\"epoll\",quantile=\"0.99\"} 0.000080063",
            "loadtest_replies_total{server=\"epoll\"} 500000",
            "loadtest_replies_per_second{server=\"epoll\"} 50000.0",
            "loadtest_response_time_quantile_seconds{server=\"epoll\",quantile=\"0.95\"} 0.000050015",
            "loadtest_response_time_min_seconds{server=\"epoll\"} 0.000049984",
            "loadtest_generator_run_queue_wait_ratios{server=\"epoll\"} 0.001996007984031936",
            "# EOF",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_label_is_one_line_of_text() {
        let mut run = fixture::result();
        run.label = "a\n\u{1b}[2J\"b".to_owned();
        let text = text(&run).unwrap();
        let line = "loadtest_replies_total{server=\"a  [2J\\\"b\"} 500000";
        assert!(text.lines().any(|it| it == line), "{text}");
    }

    #[test]
    fn every_time_is_in_one_bucket() {
        let run = fixture::result();
        let times_ns = run.latencies().unwrap().response_ns;
        let buckets = buckets(&times_ns);
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0));
        let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, times_ns.len());
        let up_to_100_us = buckets.iter().filter(|(bound_s, _)| *bound_s <= 1e-4);
        assert_eq!(up_to_100_us.map(|(_, count)| count).sum::<u64>(), 499_400);
    }
}
