//! Writes metrics: single ones, one series per worker, or one per label.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::observe::metrics::Counters;
use crate::observe::metrics::histogram::{Batches, Durations, Histogram};
use crate::observe::metrics::number::{Counter, Gauge};

/// The labels of a worker.
pub(super) fn worker(number: usize) -> [(&'static str, String); 1] {
    [("worker", number.to_string())]
}

/// The page that is being written.
pub(super) struct Page<'e, 'w> {
    pub(super) encoder: DescriptorEncoder<'e>,
    pub(super) workers: Vec<&'w Counters>,
}

impl Page<'_, '_> {
    pub(super) fn counter<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        value: &V,
    ) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, V, f64>(value, None)
    }

    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn counter_by_worker(
        &mut self,
        name: &str,
        help: &str,
        counter: impl Fn(&Counters) -> &Counter,
    ) -> fmt::Result {
        let workers = self.workers.clone();
        let values = workers.into_iter().map(|counters| counter(counters).get());
        self.counters(name, help, values.enumerate().map(|(n, v)| (worker(n), v)))
    }

    /// One counter for each of `kinds`, with its `labels`: the sum of `count` over all
    /// workers.
    pub(super) fn counter_by_label<K: Copy, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kinds: impl IntoIterator<Item = K>,
        labels: impl Fn(K) -> L,
        count: impl Fn(&Counters, K) -> u64,
    ) -> fmt::Result {
        let workers = self.workers.clone();
        let total = |kind| workers.iter().map(|counters| count(counters, kind)).sum();
        let values = kinds.into_iter();
        self.counters(
            name,
            help,
            values.map(|kind| -> (L, u64) { (labels(kind), total(kind)) }),
        )
    }

    pub(super) fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: &V,
    ) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(value)
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    pub(super) fn gauge_by_worker(
        &mut self,
        name: &str,
        help: &str,
        gauge: impl Fn(&Counters) -> &Gauge,
    ) -> fmt::Result {
        let workers = self.workers.clone();
        let values = workers.into_iter().map(|counters| gauge(counters).get());
        self.gauges(name, help, values.enumerate().map(|(n, v)| (worker(n), v)))
    }

    /// One histogram over all workers.
    pub(super) fn batches(
        &mut self,
        name: &str,
        help: &str,
        batches: impl Fn(&Counters) -> &Batches,
    ) -> fmt::Result {
        let merged = Batches::merged(self.workers.iter().map(|&counters| batches(counters)));
        self.histogram(name, help, &merged)
    }

    /// As [`batches`](Self::batches), in seconds.
    pub(super) fn durations(
        &mut self,
        name: &str,
        help: &str,
        durations: impl Fn(&Counters) -> &Durations,
    ) -> fmt::Result {
        let merged = Durations::merged(self.workers.iter().map(|&counters| durations(counters)));
        self.histogram(name, help, &merged)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let Histogram {
            sum,
            count,
            buckets,
        } = histogram;
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }
}
