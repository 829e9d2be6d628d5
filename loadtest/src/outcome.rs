//! The outcome of a run.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Loss};
use crate::units::nanoseconds;
use crate::watch::Usage;

/// Nanoseconds, three significant digits.
pub type Histogram = hdrhistogram::Histogram<u64>;

/// The longest latency that is recorded; longer ones count as this.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// An empty histogram with the bounds that all of this crate's have.
#[expect(clippy::missing_panics_doc, reason = "the bounds are constants")]
pub fn histogram() -> Histogram {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds in the valid range")
}

/// The three latencies of a message, in nanoseconds, of the messages whose intended send time is
/// in the measurement.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// From the intended send to the reply: the client's view.
    pub response_ns: Histogram,
    /// From the actual send to the reply: the time of server, network and kernel.
    pub service_ns: Histogram,
    /// From the intended to the actual send: the delay of the generator.
    pub lag_ns: Histogram,
}

impl Latencies {
    /// Three empty histograms.
    pub fn new() -> Self {
        Self {
            response_ns: histogram(),
            service_ns: histogram(),
            lag_ns: histogram(),
        }
    }

    /// Adds what another has counted.
    ///
    /// # Panics
    /// When the other has other bounds, which no histogram of this crate has.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.response_ns, &other.response_ns),
            (&mut self.service_ns, &other.service_ns),
            (&mut self.lag_ns, &other.lag_ns),
        ] {
            to.add(from).expect("the same bounds");
        }
    }

    /// Resets the counts, keeps the memory.
    pub fn reset(&mut self) {
        self.response_ns.reset();
        self.service_ns.reset();
        self.lag_ns.reset();
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// The counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Messages whose intended send time lies in the measurement.
    pub due: u64,
    /// Of those, the ones that were sent.
    pub sent: u64,
    /// Messages sent since the start of the run, warm-up included: the number that the server has
    /// received at the end. 0 in files from before it was counted.
    #[serde(default)]
    pub sent_total: u64,
    /// Of those, the ones whose reply came, during the measurement or after it.
    pub answered: u64,
    /// Of those due, the ones whose reply never came.
    pub unanswered: u64,
    /// Of those due, the ones without a reply for longer than the timeout,
    /// whether or not it came later.
    pub timed_out: u64,
    /// Replies that came while measuring, to any message: the throughput.
    pub echoed: u64,
    /// Their payload bytes.
    pub echoed_bytes: u64,
    /// Of those replies, the ones to messages that were due before: the warm-up's.
    #[serde(default)]
    pub echoed_of_warmup: u64,
    /// Messages due before the measurement and not answered when it began.
    pub carried_in: u64,
    /// Messages due in the measurement that had to wait for a full socket: the server does not
    /// read as fast as messages are sent.
    pub blocked: u64,
    /// Read calls that returned bytes, while measuring.
    pub reads: u64,
    /// Write calls that wrote bytes, while measuring.
    pub writes: u64,
    /// Replies that came in fragments.
    pub fragmented: u64,
    /// Pings answered.
    pub pings: u64,
    /// Handshakes completed, from the start of the run on.
    pub handshakes: u64,
    /// Connections replaced by new ones.
    pub replaced: u64,
    /// Slow readers whose connection the server closed.
    pub slow_readers_cut: u64,
    /// Messages that the server sent first, and that `--skip` skipped.
    #[serde(default)]
    pub skipped: u64,
    /// Connections that did not answer Close 1000 with Close 1000.
    #[serde(default)]
    pub unclosed: u64,
}

impl Counts {
    /// The number of due messages with an error.
    pub fn errors(&self) -> u64 {
        // Every unanswered message of a run that was not cut short has timed
        // out as well.
        self.timed_out.max(self.unanswered)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.due += other.due;
        self.sent += other.sent;
        self.sent_total += other.sent_total;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.timed_out += other.timed_out;
        self.echoed += other.echoed;
        self.echoed_bytes += other.echoed_bytes;
        self.echoed_of_warmup += other.echoed_of_warmup;
        self.carried_in += other.carried_in;
        self.blocked += other.blocked;
        self.reads += other.reads;
        self.writes += other.writes;
        self.fragmented += other.fragmented;
        self.pings += other.pings;
        self.handshakes += other.handshakes;
        self.replaced += other.replaced;
        self.slow_readers_cut += other.slow_readers_cut;
        self.skipped += other.skipped;
        self.unclosed += other.unclosed;
    }
}

/// One second or slice of the measurement, or the drain after it, by the clock of the replies.
/// The intervals of a run add up to its histograms exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// From the start of the measurement, pauses left out, in nanoseconds.
    #[serde(rename = "start_ns", with = "nanoseconds")]
    #[schemars(with = "u64")]
    pub start: Duration,
    /// Its length, in nanoseconds.
    #[serde(rename = "length_ns", with = "nanoseconds")]
    #[schemars(with = "u64")]
    pub length: Duration,
    /// Messages due in it.
    pub due: u64,
    /// Replies that came in it.
    pub echoed: u64,
    /// Messages that timed out in it.
    pub timed_out: u64,
    /// The latencies recorded in it, as histograms in HDR V2 format, deflated,
    /// in base64: the form of `.hlog` files.
    pub latencies: EncodedLatencies,
}

/// [`Latencies`] in HDR V2 format, deflated, in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EncodedLatencies {
    /// From the intended send to the reply.
    pub response_ns: String,
    /// From the actual send to the reply.
    pub service_ns: String,
    /// From the intended to the actual send.
    pub lag_ns: String,
}

/// The generator's own cost while measuring, all threads together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorUse {
    /// CPU time, context switches, memory.
    pub usage: Usage,
    /// CPU time of busy waiting for the next send, in nanoseconds. It is part of the usage's CPU
    /// time.
    pub spin_ns: u64,
    /// Share of the measurement that the busiest thread worked, spinning apart,
    /// 0 to 1.
    pub busy_max: f64,
}

/// A connection that did not answer Close 1000 with Close 1000.
#[derive(Debug)]
pub struct Unclosed {
    /// The connection, from 0.
    pub connection: u32,
    /// How it ended instead.
    pub reason: Loss,
}

impl fmt::Display for Unclosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}: {}", self.connection + 1, self.reason)
    }
}

/// The numbers of a run, whole or cut short.
#[derive(Debug)]
pub struct Outcome {
    /// The address and port of each of the plan's targets.
    pub addresses: Vec<String>,
    /// When the measurement began.
    pub started_at: SystemTime,
    /// The length of the measurement.
    pub elapsed: Duration,
    /// The counters.
    pub counts: Counts,
    /// The latencies of the messages that were due, the unanswered ones with their age at the end
    /// of the drain (censored).
    pub latencies: Latencies,
    /// From connect to the handshake's response, all connections of the run.
    pub handshake_ns: Histogram,
    /// The most handshakes that were concurrent, at the start and
    /// at most: the sum of what each thread had.
    pub handshakes_at_a_time: Option<u64>,
    /// The measurement second by second, and the drain.
    pub intervals: Vec<Interval>,
    /// The generator's own cost.
    pub generator: GeneratorUse,
    /// The server's cost, where its process is known.
    pub server: Option<Usage>,
    /// Share of the measurement that the server's busiest thread ran, 0 to 1,
    /// where its process is known.
    pub server_busy_max: Option<f64>,
    /// The cores that the server kept busy in the pauses between slices.
    pub idle_cores: Option<f64>,
    /// Whether server and generator were seen on the same core, where the
    /// server's process is known.
    pub shared_core: Option<bool>,
    /// The share of steal time in the measurement, 0 to 1, if the kernel counts it.
    pub steal_share: Option<f64>,
    /// Source addresses of 127.0.0.0/8 that were added because ports ran out.
    pub added_sources: u32,
    /// The first of the connections that [`Counts::unclosed`] counts.
    pub unclosed: Option<Unclosed>,
    /// Whether the user ended it before its time.
    pub interrupted: bool,
    /// The failure that ended it early, or was found at its end.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// The outcome, if the run came to its end.
    ///
    /// # Errors
    /// The failure that ended it early, or was found at its end: [`Failure::Interrupted`] after
    /// an interrupt.
    pub fn whole(self) -> Result<Self, Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.interrupted => Err(Failure::Interrupted),
            None => Ok(self),
        }
    }

    /// Replies per second while measuring.
    pub fn rate(&self) -> f64 {
        per_second(self.counts.echoed, self.elapsed)
    }

    /// `total` per message echoed while measuring, or `None` without any.
    pub fn per_message(&self, total: u64) -> Option<f64> {
        (self.counts.echoed > 0).then(|| total as f64 / self.counts.echoed as f64)
    }
}

/// A count over a time, 0 where there was no time.
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    let elapsed_s = elapsed.as_secs_f64();
    if elapsed_s > 0.0 {
        count as f64 / elapsed_s
    } else {
        0.0
    }
}
