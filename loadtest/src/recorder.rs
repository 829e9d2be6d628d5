//! The numbers of one run.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones: they count as this.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Counts echoed messages and their latencies while it is on.
#[derive(Debug)]
pub struct Recorder {
    on: bool,
    messages: u64,
    latency_ns: Histogram<u64>,
}

impl Recorder {
    /// An empty recorder, off. All its memory is taken here: recording never
    /// allocates.
    #[expect(clippy::missing_panics_doc, reason = "the bounds are constants")]
    pub fn new() -> Self {
        Self {
            on: false,
            messages: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
                .expect("bounds in the valid range"),
        }
    }

    /// Counts from here on.
    pub fn start(&mut self) {
        self.on = true;
    }

    /// Counts no more.
    pub fn stop(&mut self) {
        self.on = false;
    }

    /// Takes note of `messages` messages that came back after `latency_ns`.
    #[inline]
    pub fn record(&mut self, latency_ns: u64, messages: u64) {
        if self.on {
            self.messages += messages;
            self.latency_ns
                .saturating_record_n(latency_ns.max(1), messages);
        }
    }

    /// What was counted, over `elapsed` between [`start`](Self::start) and
    /// [`stop`](Self::stop), the clock of which is the driver's.
    pub fn finish(self, elapsed: Duration, generator_cpu_ns: u64) -> Outcome {
        Outcome {
            messages: self.messages,
            elapsed,
            latency_ns: self.latency_ns,
            generator_cpu_ns,
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// What a run that kept every promise came to.
#[derive(Debug)]
pub struct Outcome {
    /// Messages echoed, and checked, while measuring.
    pub messages: u64,
    /// How long was measured.
    pub elapsed: Duration,
    /// Their latencies in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// CPU time the generator's thread used while measuring.
    pub generator_cpu_ns: u64,
}

impl Outcome {
    /// Messages per second.
    pub fn rate(&self) -> f64 {
        let elapsed_s = self.elapsed.as_secs_f64();
        if elapsed_s > 0.0 {
            self.messages as f64 / elapsed_s
        } else {
            0.0
        }
    }

    /// `cpu_ns` shared out over the messages, or `None` where there were none.
    pub fn per_message(&self, cpu_ns: u64) -> Option<u64> {
        cpu_ns.checked_div(self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_while_it_is_on_counts() {
        let mut recorder = Recorder::new();
        recorder.record(5, 7);
        recorder.start();
        recorder.record(1_000, 3);
        recorder.record(0, 1);
        recorder.record(u64::MAX, 1);
        recorder.stop();
        recorder.record(5, 7);
        let outcome = recorder.finish(Duration::from_secs(2), 10);
        assert_eq!(outcome.messages, 5);
        assert_eq!(outcome.latency_ns.len(), 5);
        assert!((outcome.rate() - 2.5).abs() < 1e-9);
        assert_eq!(outcome.per_message(10), Some(2));
        let max = outcome.latency_ns.max() as f64;
        assert!((max / LATENCY_NS_MAX as f64 - 1.0).abs() < 1e-3);
    }
}
