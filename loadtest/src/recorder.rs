//! The counts and histograms of one thread.

use std::time::Duration;

use crate::outcome::{Counts, Histogram, LATENCY_NS_MAX, Latencies, histogram};

/// The range of due times that are measured, from the run's epoch, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first nanosecond of the measurement.
    pub start_ns: u64,
    /// The first nanosecond after it; `u64::MAX` while the end is not known.
    pub end_ns: u64,
}

impl Window {
    /// Whether a time is within it.
    #[inline]
    pub fn contains(&self, at_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&at_ns)
    }
}

/// The due time and the send time of messages sent together.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The intended send.
    pub intended_ns: u64,
    /// The actual send: the clock before the write call that took the first byte of the first
    /// one.
    pub sent_ns: u64,
}

/// The record of one second.
#[derive(Debug)]
pub struct IntervalRecord {
    /// The index of the second.
    pub index: u32,
    /// Messages due in it.
    pub due: u64,
    /// Replies that came in it.
    pub echoed: u64,
    /// Messages that had timed out when they were recorded in it.
    pub timed_out: u64,
    /// The latencies recorded in it.
    pub latencies: Box<Latencies>,
}

/// Counts messages and their latencies. Recording never allocates.
#[derive(Debug)]
pub struct Recorder {
    /// The measurement, on the epoch's clock.
    pub window: Window,
    timeout_ns: u64,
    /// The whole run.
    pub counts: Counts,
    /// The handshakes of the whole run.
    pub handshake_ns: Histogram,
    part: IntervalRecord,
}

impl Recorder {
    /// An empty recorder that measures nothing yet.
    pub fn new(timeout: Duration) -> Self {
        Self {
            window: Window {
                start_ns: u64::MAX,
                end_ns: u64::MAX,
            },
            timeout_ns: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
            counts: Counts::default(),
            handshake_ns: histogram(),
            part: IntervalRecord::new(0, Box::default()),
        }
    }

    /// Counts messages that are due.
    #[inline]
    pub fn due(&mut self, intended_ns: u64, messages: u64) {
        if self.window.contains(intended_ns) {
            self.counts.due += messages;
            self.part.due += messages;
        }
    }

    /// Records messages that were sent, and whether they had to wait for
    /// the socket.
    #[inline]
    pub fn sent(&mut self, intended_ns: u64, messages: u64, blocked: bool) {
        self.counts.sent_total += messages;
        if self.window.contains(intended_ns) {
            self.counts.sent += messages;
            if blocked {
                self.counts.blocked += messages;
            }
        }
    }

    /// Records replies that came at `now_ns`.
    #[inline]
    pub fn answered(&mut self, times: Times, now_ns: u64, messages: u64, payload_len: u64) {
        if self.window.contains(now_ns) {
            self.counts.echoed += messages;
            self.counts.echoed_bytes += payload_len;
            if times.intended_ns < self.window.start_ns {
                self.counts.echoed_of_warmup += messages;
            }
            self.part.echoed += messages;
        }
        if self.window.contains(times.intended_ns) {
            self.counts.answered += messages;
            self.record(times, now_ns, messages);
        }
    }

    /// Records messages whose replies are not awaited any more: their latencies are lower bounds
    /// (censored).
    pub fn unanswered(&mut self, times: Times, now_ns: u64, messages: u64) {
        if self.window.contains(times.intended_ns) {
            self.counts.unanswered += messages;
            self.record(times, now_ns, messages);
        }
    }

    /// Records messages that were due and are not going to be sent. They
    /// have no service time.
    pub fn unsent(&mut self, intended_ns: u64, now_ns: u64, messages: u64) {
        if self.window.contains(intended_ns) {
            self.counts.unanswered += messages;
            let age_ns = now_ns.saturating_sub(intended_ns).clamp(1, LATENCY_NS_MAX);
            let latencies = &mut self.part.latencies;
            latencies.response_ns.saturating_record_n(age_ns, messages);
            latencies.lag_ns.saturating_record_n(age_ns, messages);
            self.check_timeout(age_ns, messages);
        }
    }

    #[inline]
    fn record(&mut self, times: Times, now_ns: u64, messages: u64) {
        let between =
            |from_ns: u64, to_ns: u64| to_ns.saturating_sub(from_ns).clamp(1, LATENCY_NS_MAX);
        let response_ns = between(times.intended_ns, now_ns);
        let latencies = &mut self.part.latencies;
        latencies
            .response_ns
            .saturating_record_n(response_ns, messages);
        let service_ns = between(times.sent_ns, now_ns);
        latencies
            .service_ns
            .saturating_record_n(service_ns, messages);
        let lag_ns = between(times.intended_ns, times.sent_ns);
        latencies.lag_ns.saturating_record_n(lag_ns, messages);
        self.check_timeout(response_ns, messages);
    }

    #[inline]
    fn check_timeout(&mut self, response_ns: u64, messages: u64) {
        if response_ns >= self.timeout_ns {
            self.counts.timed_out += messages;
            self.part.timed_out += messages;
        }
    }

    /// Records a completed handshake.
    pub fn handshake(&mut self, took_ns: u64) {
        self.counts.handshakes += 1;
        self.handshake_ns
            .saturating_record(took_ns.clamp(1, LATENCY_NS_MAX));
    }

    /// The index of the second being recorded.
    pub fn interval_index(&self) -> u32 {
        self.part.index
    }

    /// Ends a second and begins the one with this index, with empty histograms
    /// to record it in.
    pub fn next_interval(&mut self, index: u32, empty: Box<Latencies>) -> IntervalRecord {
        std::mem::replace(&mut self.part, IntervalRecord::new(index, empty))
    }
}

impl IntervalRecord {
    fn new(index: u32, latencies: Box<Latencies>) -> Self {
        Self {
            index,
            due: 0,
            echoed: 0,
            timed_out: 0,
            latencies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Recorder {
        let mut recorder = Recorder::new(Duration::from_micros(1));
        recorder.window = Window {
            start_ns: 100,
            end_ns: 200,
        };
        recorder
    }

    fn times(intended_ns: u64, sent_ns: u64) -> Times {
        Times {
            intended_ns,
            sent_ns,
        }
    }

    #[test]
    fn messages_due_while_measuring_count_at_any_time_of_reply() {
        let mut recorder = recorder();
        recorder.answered(times(99, 99), 150, 1, 10);
        recorder.answered(times(100, 110), 199, 2, 20);
        recorder.answered(times(199, 199), 500, 4, 40);
        recorder.answered(times(200, 200), 500, 8, 80);
        let counts = recorder.counts;
        assert_eq!(counts.echoed, 3, "while measuring");
        assert_eq!(counts.echoed_bytes, 30);
        assert_eq!(counts.echoed_of_warmup, 1, "due before");
        assert_eq!(counts.answered, 6, "due while measuring");
        let part = recorder.next_interval(1, Box::default());
        assert_eq!(part.latencies.response_ns.len(), 6);
        assert_eq!(part.latencies.response_ns.max(), 301);
        assert_eq!(part.latencies.service_ns.min(), 89);
        assert_eq!(part.latencies.lag_ns.max(), 10);
        assert_eq!((part.echoed, part.index), (3, 0));
    }

    #[test]
    fn late_and_missing_replies_are_timeouts_with_their_age() {
        let mut recorder = recorder();
        recorder.answered(times(150, 150), 1_149, 1, 1);
        recorder.answered(times(150, 150), 1_150, 1, 1);
        recorder.unanswered(times(150, 160), 2_000, 3);
        recorder.unanswered(times(50, 50), 2_000, 3);
        recorder.unsent(150, 2_000, 1);
        assert_eq!(recorder.counts.timed_out, 5);
        assert_eq!(recorder.counts.unanswered, 4);
        assert_eq!(recorder.counts.answered, 2);
        let part = recorder.next_interval(1, Box::default());
        assert_eq!(part.latencies.response_ns.len(), 6);
        assert_eq!(part.latencies.service_ns.len(), 5);
        assert_eq!(part.latencies.response_ns.max(), 1_850);
    }

    #[test]
    fn before_the_window_only_sent_total_counts() {
        let mut recorder = Recorder::new(Duration::from_secs(1));
        recorder.due(5, 1);
        recorder.sent(5, 2, true);
        recorder.answered(times(5, 5), 6, 1, 1);
        let only_the_total = Counts {
            sent_total: 2,
            ..Counts::default()
        };
        assert_eq!(recorder.counts, only_the_total);
    }
}
