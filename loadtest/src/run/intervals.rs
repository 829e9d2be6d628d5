//! The threads' seconds, added up.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::driver::DRAIN_INTERVAL;
use crate::outcome::{Interval, Latencies, per_second};
use crate::plan::Plan;
use crate::recorder::IntervalRecord;
use crate::result::encode_latencies;
use crate::units::format_rate;
use crate::verdict::{ACHIEVED_SHARE_MIN, Verdict};

/// All seconds of a run, or its slices, as they come in from its threads.
pub(super) struct Intervals {
    /// The length of a second.
    length: Duration,
    /// Channels that return emptied histograms, by thread.
    empty_histograms: Vec<Sender<Box<Latencies>>>,
    /// Seconds that some thread has not reported yet.
    open: BTreeMap<u32, IntervalSum>,
    /// The last second that each thread reported.
    reported: Vec<Option<u32>>,
    total: Latencies,
    closed: Vec<(u32, Interval)>,
    rates: Vec<f64>,
    last: LastSecond,
    due: u64,
    echoed: u64,
    answered: u64,
    timed_out: u64,
}

/// One second of all threads.
#[derive(Default)]
struct IntervalSum {
    due: u64,
    echoed: u64,
    timed_out: u64,
    latencies: Option<Box<Latencies>>,
}

/// The last second, for the live view.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastSecond {
    pub(super) rate: f64,
    pub(super) p50_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
    pub(super) max_ns: Option<u64>,
    lag_p99_ns: u64,
}

impl Intervals {
    pub(super) fn new(empty_histograms: Vec<Sender<Box<Latencies>>>, length: Duration) -> Self {
        Self {
            length,
            reported: vec![None; empty_histograms.len()],
            empty_histograms,
            open: BTreeMap::new(),
            total: Latencies::new(),
            closed: Vec::new(),
            rates: Vec::new(),
            last: LastSecond::default(),
            due: 0,
            echoed: 0,
            answered: 0,
            timed_out: 0,
        }
    }

    /// Adds a thread's second.
    pub(super) fn take(&mut self, thread: u32, part: IntervalRecord) {
        let thread = thread as usize;
        self.due += part.due;
        self.echoed += part.echoed;
        self.answered += part.latencies.response_ns.len();
        self.timed_out += part.timed_out;
        self.total.add(&part.latencies);

        let sum = self.open.entry(part.index).or_default();
        sum.due += part.due;
        sum.echoed += part.echoed;
        sum.timed_out += part.timed_out;
        let emptied = match &mut sum.latencies {
            None => {
                sum.latencies = Some(part.latencies);
                None
            }
            Some(latencies) => {
                latencies.add(&part.latencies);
                Some(part.latencies)
            }
        };
        if let Some(latencies) = emptied {
            self.recycle(thread, latencies);
        }
        self.reported[thread] = Some(part.index);
        self.close_reported(thread);
    }

    /// Closes the seconds that every thread has reported or passed.
    fn close_reported(&mut self, thread: usize) {
        let Some(reported) = self.reported.iter().copied().min().flatten() else {
            return;
        };
        while let Some(entry) = self.open.first_entry() {
            if *entry.key() > reported || *entry.key() == DRAIN_INTERVAL {
                return;
            }
            let (index, sum) = entry.remove_entry();
            self.last = LastSecond::of(&sum, self.length);
            self.rates.push(self.last.rate);
            self.close(index, sum, thread);
        }
    }

    fn close(&mut self, index: u32, sum: IntervalSum, thread: usize) {
        let latencies = sum.latencies.unwrap_or_default();
        let interval = Interval {
            start: self.length.saturating_mul(index),
            length: self.length,
            due: sum.due,
            echoed: sum.echoed,
            timed_out: sum.timed_out,
            latencies: encode_latencies(&latencies),
        };
        self.closed.push((index, interval));
        self.recycle(thread, latencies);
    }

    fn recycle(&self, thread: usize, mut latencies: Box<Latencies>) {
        latencies.reset();
        // A thread that is done needs none.
        let _ = self.empty_histograms[thread].send(latencies);
    }

    pub(super) fn last_second(&self) -> LastSecond {
        self.last
    }

    pub(super) fn rates(&self) -> &[f64] {
        &self.rates
    }

    pub(super) fn echoed(&self) -> u64 {
        self.echoed
    }

    pub(super) fn timed_out(&self) -> u64 {
        self.timed_out
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.due.saturating_sub(self.answered)
    }

    /// The verdict on the last second of an open loop.
    pub(super) fn so_far(&self, plan: &Plan) -> (Verdict, Option<String>) {
        let (Some(target), Some(_)) = (plan.rate(), self.rates.last()) else {
            return (Verdict::Valid, None);
        };
        if self.last.rate < ACHIEVED_SHARE_MIN * target {
            let reason = format!(
                "{}/s of {}/s achieved in the last second",
                format_rate(self.last.rate),
                format_rate(target)
            );
            return (Verdict::Suspect, Some(reason));
        }
        if self.last.lag_p99_ns > self.last.p50_ns.unwrap_or(u64::MAX) / 10 {
            return (Verdict::Suspect, Some("the generator lags".to_owned()));
        }
        (Verdict::Valid, None)
    }

    /// Everything, after a measurement of `elapsed` and a drain of `drained`.
    pub(super) fn finish(
        mut self,
        elapsed: Duration,
        drained: Duration,
    ) -> (Latencies, Vec<Interval>) {
        for (index, sum) in std::mem::take(&mut self.open) {
            self.close(index, sum, 0);
        }
        let intervals = self.closed.into_iter().map(|(index, mut interval)| {
            if index == DRAIN_INTERVAL {
                interval.start = elapsed;
                interval.length = drained;
            } else {
                interval.length = elapsed.saturating_sub(interval.start).min(self.length);
            }
            interval
        });
        (self.total, intervals.collect())
    }
}

impl LastSecond {
    fn of(sum: &IntervalSum, length: Duration) -> Self {
        let Some(latencies) = &sum.latencies else {
            return Self::default();
        };
        let response_ns = &latencies.response_ns;
        let at =
            |quantile| (!response_ns.is_empty()).then(|| response_ns.value_at_quantile(quantile));
        Self {
            rate: per_second(sum.echoed, length),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: at(1.0),
            lag_p99_ns: latencies.lag_ns.value_at_quantile(0.99),
        }
    }
}
