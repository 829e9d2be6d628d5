//! The numbers of a run that its verdict rests on.

use crate::outcome::Outcome;
use crate::plan::{Arrival, Extent, Load, Pace, Plan};

/// The number of standard deviations that a deficit of replies has to exceed, so that chance does
/// not make short runs INVALID.
///
/// The deficit of a run that keeps up is the number in flight at its end less the usual number,
/// `Facts::usually_in_flight`. Both fluctuate like a Poisson variable, with a variance as large
/// as its mean; the variance of the difference is twice that, and one more where nothing is in
/// flight.
pub const FLUCTUATION_SIGMAS: f64 = 3.0;

/// A generator thread that works for a larger share of the time is saturated: its own queue is
/// part of what it measures.
pub const BUSY_MAX: f64 = 0.9;

/// From this share of the messages on, full sockets are the cause of the delay, and not an
/// exception.
pub const BLOCKED_SHARE_MAX: f64 = 0.1;

/// The numbers that the rules judge a run by.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The failure that ended the run early, or was found at its end.
    pub failure: Option<String>,
    /// Whether the user ended it.
    pub interrupted: bool,
    /// Whether messages were sent whatever the server did.
    pub is_open_loop: bool,
    /// Whether an open loop slept until the kernel woke it.
    pub is_sleeping: bool,
    /// The target rate in messages per second, 0 in a closed loop.
    pub target_rate: f64,
    /// Messages due in the measurement.
    pub due: u64,
    /// Replies that an open loop's schedule expects while measuring.
    pub scheduled: u64,
    /// Replies that came while measuring.
    pub echoed: u64,
    /// Of those, the ones to messages of the warm-up.
    pub echoed_of_warmup: u64,
    /// Messages in flight when the measurement began.
    pub carried_in: u64,
    /// Messages due that had to wait until the socket took more.
    pub blocked: u64,
    /// Messages due that were answered.
    pub answered: u64,
    /// Messages due that never were.
    pub unanswered: u64,
    /// Messages due that waited longer than the timeout.
    pub timed_out: u64,
    /// Source addresses of 127.0.0.0/8 that were added because ports ran out.
    pub added_sources: u32,
    /// Connections that did not answer Close 1000 with Close 1000.
    pub unclosed: u64,
    /// How the first of them ended instead.
    pub first_unclosed: Option<String>,
    /// Messages in the histogram of response times.
    pub samples: u64,
    /// The response time's median, in nanoseconds.
    pub response_p50_ns: u64,
    /// Its mean.
    pub response_mean_ns: f64,
    /// The generator's lag at its 99th percentile, in nanoseconds.
    pub lag_p99_ns: u64,
    /// Share of the time the busiest generator thread worked, spinning apart.
    pub busy_max: f64,
    /// Share of the time that the server's busiest thread ran, if known.
    pub server_busy_max: Option<f64>,
    /// Share of the time that the server's threads wanted to run that they waited
    /// for a core, if known.
    pub server_wait_share: Option<f64>,
    /// The same of the generator's threads.
    pub generator_wait_share: Option<f64>,
    /// The cores that the server kept busy in pauses, if there were any.
    pub idle_cores: Option<f64>,
    /// Whether server and generator were seen on the same core, if known.
    pub shared_core: Option<bool>,
    /// The share of steal time, if known.
    pub steal_share: Option<f64>,
}

impl Facts {
    /// The facts of a run.
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let (counts, latencies) = (&outcome.counts, &outcome.latencies);
        Self {
            failure: outcome.failure.as_ref().map(ToString::to_string),
            interrupted: outcome.interrupted,
            is_open_loop: plan.is_open_loop(),
            is_sleeping: plan.is_open_loop() && plan.pace == Pace::Sleep,
            target_rate: plan.rate().unwrap_or(0.0),
            due: counts.due,
            scheduled: scheduled(plan, outcome),
            echoed: counts.echoed,
            echoed_of_warmup: counts.echoed_of_warmup,
            carried_in: counts.carried_in,
            blocked: counts.blocked,
            answered: counts.answered,
            unanswered: counts.unanswered,
            timed_out: counts.timed_out,
            added_sources: outcome.added_sources,
            unclosed: counts.unclosed,
            first_unclosed: outcome.unclosed.as_ref().map(ToString::to_string),
            samples: latencies.response_ns.len(),
            response_p50_ns: latencies.response_ns.value_at_quantile(0.5),
            response_mean_ns: latencies.response_ns.mean(),
            lag_p99_ns: latencies.lag_ns.value_at_quantile(0.99),
            busy_max: outcome.generator.busy_max,
            server_busy_max: outcome.server_busy_max,
            server_wait_share: outcome
                .server
                .and_then(|usage| usage.run_queue_wait_share()),
            generator_wait_share: outcome.generator.usage.run_queue_wait_share(),
            idle_cores: outcome.idle_cores,
            shared_core: outcome.shared_core,
            steal_share: outcome.steal_share,
        }
    }

    /// Replies while measuring as a share of those that an open loop's schedule expects: the
    /// achieved share of the target rate.
    pub fn achieved_share(&self) -> Option<f64> {
        (self.is_open_loop && self.scheduled > 0)
            .then(|| self.echoed as f64 / self.scheduled as f64)
    }

    /// Replies while measuring to messages due in it, and to the messages of the warm-up that the
    /// messages in flight at its end make up for.
    pub(super) fn in_time(&self) -> f64 {
        let of_warmup = self.echoed_of_warmup as f64;
        self.echoed as f64 - of_warmup + of_warmup.min(self.usually_in_flight())
    }

    /// The usual number of messages in flight of a run that keeps up: that at its start, unless
    /// the server had fallen behind by then. Little's law gives the limit: rate times mean
    /// response time, and twice that for its variation.
    fn usually_in_flight(&self) -> f64 {
        let by_response_time = 2.0 * self.response_mean_ns / 1e9 * self.target_rate;
        (self.carried_in as f64).min(by_response_time.max(1.0))
    }

    pub(super) fn by_chance(&self) -> f64 {
        FLUCTUATION_SIGMAS * (2.0 * self.usually_in_flight() + 1.0).sqrt()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy_max > BUSY_MAX
    }

    /// Whether both sides are known to be far from what a core can do.
    pub(super) fn neither_is_busy(&self) -> bool {
        !self.is_busy() && self.server_busy_max.is_some_and(|share| share <= BUSY_MAX)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked as f64 > BLOCKED_SHARE_MAX * self.due as f64
    }
}

/// The part of the schedule in the measurement: the messages due, in a run that ends by the
/// clock. (Not rate × time: the number of random arrivals varies.)
///
/// A run that ends by a count goes on until all replies are received, so that none of the due
/// ones is missing. Its expected number is the rate times the elapsed time, but at most the
/// excess that twice the median response time accounts for: behind a saturated server the last
/// reply is that late, while one slow reply at the end of a short run proves nothing. The usual
/// number of messages in flight is allowed for.
fn scheduled(plan: &Plan, outcome: &Outcome) -> u64 {
    let due = outcome.counts.due;
    let (Extent::Messages(_), Some(rate)) = (plan.extent, plan.rate()) else {
        return due;
    };
    let response_p50_s = outcome.latencies.response_ns.value_at_quantile(0.5) as f64 / 1e9;
    let by_the_clock = rate * outcome.elapsed.as_secs_f64();
    let late = (by_the_clock - due as f64).min(2.0 * response_p50_s * rate);
    let in_flight = 2.0 * outcome.counts.carried_in as f64;
    // The time of this number of random arrivals varies by the root of their number.
    let by_chance = match plan.load {
        Load::Open {
            arrival: Arrival::Poisson,
            ..
        } => FLUCTUATION_SIGMAS * (due as f64).sqrt(),
        _ => 0.0,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and a cast saturates"
    )]
    let late = (late - in_flight - by_chance).max(0.0) as u64;
    due.saturating_add(late)
}
