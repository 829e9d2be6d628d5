//! The cost of threads while measuring.

use std::time::{Duration, Instant};

use crate::watch::{Sample, Usage};

/// The cost of some threads over all slices of a measurement.
#[derive(Debug, Default)]
pub(super) struct CostMeter {
    rss_before: u64,
    /// The sample at the start of the first slice, plus the cost of the pauses since.
    start: Option<Sample>,
    end: Option<Sample>,
}

impl CostMeter {
    /// For threads with this sample before the first connection.
    pub(super) fn after(before: Option<Sample>) -> Self {
        Self {
            rss_before: before.map_or(0, |sample| sample.rss_bytes),
            ..Self::default()
        }
    }

    /// A slice begins.
    pub(super) fn begin(&mut self, now: Option<Sample>) {
        self.start = match (self.start, self.end, now) {
            (Some(start), Some(end), Some(now)) => Some(start.without(&end, &now)),
            _ => now,
        };
    }

    /// It is over.
    pub(super) fn end(&mut self, now: Option<Sample>) {
        self.end = now;
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let (start, end) = (self.start?, self.end?);
        Some(end.usage_since(&start, self.rss_before))
    }
}

/// The CPU time of a server in pauses.
#[derive(Debug, Default)]
pub(super) struct IdleClock {
    since: Option<(Instant, u64)>,
    wall: Duration,
    cpu: Duration,
}

impl IdleClock {
    /// A pause begins, at this CPU time.
    pub(super) fn begin(&mut self, cpu_ns: Option<u64>) {
        self.since = cpu_ns.map(|cpu_ns| (Instant::now(), cpu_ns));
    }

    /// The pause is over.
    pub(super) fn end(&mut self, cpu_ns: Option<u64>) {
        if let (Some((since, cpu_before_ns)), Some(cpu_ns)) = (self.since.take(), cpu_ns) {
            self.wall += since.elapsed();
            self.cpu += Duration::from_nanos(cpu_ns.saturating_sub(cpu_before_ns));
        }
    }

    /// The cores that it kept busy in pauses, if it was sampled.
    pub(super) fn cores(&self) -> Option<f64> {
        (!self.wall.is_zero()).then(|| self.cpu.as_secs_f64() / self.wall.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_ns: u64) -> Sample {
        Sample {
            cpu_ns,
            voluntary_switches: cpu_ns / 10,
            rss_bytes: 4096,
            threads: 1,
            ..Sample::default()
        }
    }

    #[test]
    fn pauses_cost_nothing() {
        let mut cost = CostMeter::after(Some(sample(5)));
        assert_eq!(cost.usage(), None);
        for (begin, end) in [(100, 200), (1_000, 1_010), (9_000, 9_090)] {
            cost.begin(Some(sample(begin)));
            cost.end(Some(sample(end)));
        }
        let usage = cost.usage().expect("it was measured");
        assert_eq!((usage.cpu_ns, usage.voluntary_switches), (200, 20));
        assert_eq!((usage.rss_before, usage.rss_after), (4096, 4096));
    }

    #[test]
    fn idle_cores_are_cpu_time_in_pauses() {
        let mut idle = IdleClock::default();
        assert_eq!(idle.cores(), None);
        idle.end(Some(7));
        assert_eq!(idle.cores(), None, "it had not begun");
        idle.begin(Some(7));
        idle.end(Some(7));
        assert_eq!(idle.cores(), Some(0.0));
        idle.begin(None);
        idle.end(Some(1_000_000_000));
        assert_eq!(idle.cores(), Some(0.0), "nobody looked when it began");
    }
}
