//! Whether a run's numbers may be believed.
//!
//! Pure: [`Facts`] are plain numbers, [`judge`] turns them into a verdict with
//! its reasons. Each rule is a function below, its threshold a constant.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::percentile::Percentile;
use crate::plan::{Arrival, Extent, Load, Pace, Plan};
use crate::units::{format_count, format_ns};

/// An open loop that gets fewer of its messages back in time is no measurement
/// at its target rate: what is missing queues up, and every latency is then a
/// function of how long the run lasted.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// Of an open loop no more can come back than was due, but what was carried in
/// from the warm-up. Above this share of it the server had fallen behind before
/// the measurement, and the rate is that of its catching up.
pub const ACHIEVED_SHARE_MAX: f64 = 1.01;

/// How many standard deviations a deficit of replies has to exceed, so that
/// short runs are not condemned by chance.
///
/// The deficit of a run that keeps up is what is in flight at its end less what
/// usually is, `Facts::usually_in_flight`. Both fluctuate like a Poisson
/// variable, with a variance as large as its mean; the variance of the difference
/// is twice that, and one more where nothing is in flight.
pub const FLUCTUATION_SIGMAS: f64 = 3.0;

/// In a short run, replies that a hiccup at its very end delayed may be more than
/// a hundredth. Up to so many seconds of the load are not held against it, if
/// they all came later.
pub const HICCUP_S_MAX: f64 = 0.1;

/// The same as a share of the run: what misses more of it is no hiccup.
pub const HICCUP_SHARE_MAX: f64 = 0.1;

/// The response time contains the generator's lag. Up to this share of the
/// median, lag at its 99th percentile does not change what is read from it.
pub const LAG_SHARE_MAX: f64 = 0.1;

/// A generator thread that works for more of the time than this has no slack
/// left: its own queue is part of what it measures.
pub const BUSY_MAX: f64 = 0.9;

/// From this share of the messages on, a socket that took no more is the cause
/// of what is late, and not an exception.
pub const BLOCKED_SHARE_MAX: f64 = 0.1;

/// Time that the hypervisor gives to others stops server and generator at
/// random. Above this share it reaches into the percentiles that are reported.
pub const STEAL_SHARE_MAX: f64 = 0.02;

/// A thread that could run and waits for a core answers later than it would, and
/// what it waits is whatever else the machine does. Above this share of the time
/// that it wanted to run, the numbers are those of that company. On cores of its
/// own a thread waits some 300 ns for each time it is woken, which is 1 % of it.
pub const RUN_QUEUE_WAIT_SHARE_MAX: f64 = 0.05;

/// A server that keeps more than this part of a core busy in the pauses between
/// slices takes it from those whose turn it is. Less is housekeeping.
pub const IDLE_CORES_MAX: f64 = 0.05;

/// What a run's numbers are worth. Ordered: the worst reason decides.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against them.
    Valid,
    /// They may be the generator's or the machine's rather than the server's.
    Suspect,
    /// They do not say what was asked.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        })
    }
}

/// One thing that speaks against a run, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// How much it weighs: never valid.
    pub verdict: Verdict,
    /// What was seen.
    pub what: String,
    /// What helps.
    pub advice: String,
}

/// A verdict, what it rests on, and what else to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// That of the worst reason.
    pub verdict: Verdict,
    /// Everything that speaks against the run.
    pub reasons: Vec<Reason>,
    /// What a reader has to know, though it speaks against nothing.
    pub notes: Vec<String>,
}

impl Judgement {
    /// What speaks most against the run.
    pub fn worst(&self) -> Option<&Reason> {
        self.reasons.iter().max_by_key(|reason| reason.verdict)
    }

    /// Adds a reason that its own rules do not see, if it is not there.
    pub fn add(&mut self, reason: Reason) {
        self.verdict = self.verdict.max(reason.verdict);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// What a run is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What ended the run before its time, or was found wrong at its end.
    pub failure: Option<String>,
    /// Whether the user ended it.
    pub interrupted: bool,
    /// Whether messages were sent whatever the server did.
    pub is_open_loop: bool,
    /// Whether an open loop slept until the kernel woke it.
    pub is_sleeping: bool,
    /// Messages per second that were asked for, 0 in a closed loop.
    pub target_rate: f64,
    /// Messages due in the measurement.
    pub due: u64,
    /// Replies that an open loop's schedule asked for while measuring.
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
    /// Addresses of 127.0.0.0/8 that were taken because ports ran out.
    pub added_sources: u32,
    /// Connections that did not answer Close 1000 with Close 1000.
    pub unclosed: u64,
    /// What the first of them did instead.
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
    /// Share of the time that the hypervisor gave to others, if known.
    pub steal_share: Option<f64>,
}

impl Facts {
    /// Those of a run.
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

    /// Replies that came while measuring as a share of those that an open loop's
    /// schedule asked for: the rate that was achieved, of its target.
    pub fn achieved_share(&self) -> Option<f64> {
        (self.is_open_loop && self.scheduled > 0)
            .then(|| self.echoed as f64 / self.scheduled as f64)
    }

    /// Replies that came while measuring to messages that were due in it, and to
    /// as many of the warm-up as are in flight at its end in return.
    fn in_time(&self) -> f64 {
        let of_warmup = self.echoed_of_warmup as f64;
        self.echoed as f64 - of_warmup + of_warmup.min(self.usually_in_flight())
    }

    /// Messages in flight at any time of a run that keeps up: as many as at its
    /// start, unless the server had fallen behind by then, which Little's law
    /// tells: rate times mean response time, and twice that for what varies.
    fn usually_in_flight(&self) -> f64 {
        let by_response_time = 2.0 * self.response_mean_ns / 1e9 * self.target_rate;
        (self.carried_in as f64).min(by_response_time.max(1.0))
    }

    fn by_chance(&self) -> f64 {
        FLUCTUATION_SIGMAS * (2.0 * self.usually_in_flight() + 1.0).sqrt()
    }

    fn is_busy(&self) -> bool {
        self.busy_max > BUSY_MAX
    }

    /// Whether both sides are known to be far from what a core can do.
    fn neither_is_busy(&self) -> bool {
        !self.is_busy() && self.server_busy_max.is_some_and(|share| share <= BUSY_MAX)
    }

    fn is_blocked(&self) -> bool {
        self.blocked as f64 > BLOCKED_SHARE_MAX * self.due as f64
    }
}

/// Judges a run.
///
/// A run that failed, or in which nothing was answered, is not judged further:
/// what else is wrong with its numbers follows from that.
pub fn judge(facts: &Facts) -> Judgement {
    let fatal = failure(facts).or_else(|| silence(facts));
    let reasons: Vec<Reason> = if fatal.is_some() {
        fatal.into_iter().collect()
    } else {
        let rules = [
            deficit,
            surplus,
            lag,
            busy,
            sleep,
            restless,
            shared_core,
            starved_generator,
            starved_server,
            steal,
            few_samples,
        ];
        rules.iter().filter_map(|rule| rule(facts)).collect()
    };
    Judgement {
        verdict: reasons
            .iter()
            .map(|reason| reason.verdict)
            .max()
            .unwrap_or(Verdict::Valid),
        reasons,
        notes: notes(facts),
    }
}

/// What of the schedule lies in the measurement: the messages due, in a run that
/// ends by the clock. (Not rate × time: arrivals at random are as many as they
/// are.)
///
/// A run that ends by a count goes on until all replies are there, so that all
/// that were due have always come. There it is what the rate makes of the time
/// it took, but no more than twice the median response time accounts for: behind
/// a saturated server the last reply is that late, while one slow reply at the
/// end of a short run says nothing. What is in flight anyway is not held
/// against it.
fn scheduled(plan: &Plan, outcome: &Outcome) -> u64 {
    let due = outcome.counts.due;
    let (Extent::Messages(_), Some(rate)) = (plan.extent, plan.rate()) else {
        return due;
    };
    let response_p50_s = outcome.latencies.response_ns.value_at_quantile(0.5) as f64 / 1e9;
    let by_the_clock = rate * outcome.elapsed.as_secs_f64();
    let late = (by_the_clock - due as f64).min(2.0 * response_p50_s * rate);
    let in_flight = 2.0 * outcome.counts.carried_in as f64;
    // So many random arrivals take a time that varies by the root of their number.
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

fn failure(facts: &Facts) -> Option<Reason> {
    Some(Reason {
        verdict: Verdict::Invalid,
        what: facts.failure.clone()?,
        advice: "what was counted is no measurement".to_owned(),
    })
}

fn silence(facts: &Facts) -> Option<Reason> {
    (facts.answered == 0 && facts.echoed == 0).then(|| Reason {
        verdict: Verdict::Invalid,
        what: "no message was answered".to_owned(),
        advice: "there is nothing to measure; run longer (-d) or look at the server".to_owned(),
    })
}

fn deficit(facts: &Facts) -> Option<Reason> {
    facts.achieved_share()?;
    let in_time = facts.in_time();
    let missing = facts.scheduled as f64 - in_time;
    let share = in_time / facts.scheduled as f64;
    // Late, but not lost.
    let by_hiccup = if facts.answered == facts.due {
        (HICCUP_S_MAX * facts.target_rate).min(HICCUP_SHARE_MAX * facts.scheduled as f64)
    } else {
        0.0
    };
    if share >= ACHIEVED_SHARE_MIN || missing <= facts.by_chance().max(by_hiccup) {
        return None;
    }
    let advice = if facts.is_busy() {
        "the generator is at its limit; more threads (-t) or a lower --rate"
    } else if is_starved(facts.generator_wait_share) {
        "the generator waited for a core; free its cores (loadtest doctor), or lower --rate"
    } else if is_starved(facts.server_wait_share) {
        "the server waited for a core; free its cores (loadtest doctor), or lower --rate"
    } else if facts.is_blocked() {
        "the server does not read as fast as it is sent to; lower --rate"
    } else if facts.neither_is_busy() {
        "neither is at its limit: the server did not answer for a while; look at the seconds, \
         or lower --rate"
    } else {
        "the server is saturated: latency grows for as long as the run lasts; lower --rate"
    };
    Some(Reason {
        verdict: Verdict::Invalid,
        what: format!(
            "only {} of {} replies came in time ({:.1} % of the target rate)",
            format_count(whole(in_time)),
            format_count(facts.scheduled),
            share * 100.0
        ),
        advice: advice.to_owned(),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of messages is positive and fits"
)]
fn whole(messages: f64) -> u64 {
    messages.round() as u64
}

/// Replies to the warm-up that came while measuring are no rate of the
/// measurement's.
fn surplus(facts: &Facts) -> Option<Reason> {
    let share = facts.achieved_share()?;
    let more = facts.echoed.saturating_sub(facts.scheduled) as f64;
    if share <= ACHIEVED_SHARE_MAX || more <= facts.by_chance() {
        return None;
    }
    Some(Reason {
        verdict: Verdict::Suspect,
        what: format!(
            "{:.1} % of the target rate came back: {} replies were to messages of the warm-up",
            share * 100.0,
            format_count(facts.echoed_of_warmup)
        ),
        advice: "the server had fallen behind before the measurement; a longer --warmup".to_owned(),
    })
}

fn lag(facts: &Facts) -> Option<Reason> {
    let limit_ns = LAG_SHARE_MAX * facts.response_p50_ns as f64;
    if !facts.is_open_loop || facts.lag_p99_ns as f64 <= limit_ns {
        return None;
    }
    let times = format!(
        "p99 {}, while the response time's p50 is {}",
        format_ns(facts.lag_p99_ns),
        format_ns(facts.response_p50_ns)
    );
    let (what, advice) = if facts.is_blocked() {
        (
            format!("messages were sent late, as the sockets were full: {times}"),
            "the server did not read as fast as it was sent to; lower --rate",
        )
    } else if is_starved(facts.generator_wait_share) {
        (
            format!("the generator sent late: {times}"),
            "it waited for a core; free its cores (loadtest doctor), or fewer threads (-t)",
        )
    } else {
        (
            format!("the generator sent late: {times}"),
            "more threads (-t), cores of their own (--pin) or a lower --rate",
        )
    };
    Some(Reason {
        verdict: Verdict::Suspect,
        what,
        advice: advice.to_owned(),
    })
}

/// A server that polls, or collects garbage, when there is nothing to do.
fn restless(facts: &Facts) -> Option<Reason> {
    let cores = facts.idle_cores.filter(|cores| *cores > IDLE_CORES_MAX)?;
    Some(Reason {
        verdict: Verdict::Suspect,
        what: format!("the server kept {cores:.2} of a core busy while others had their turn"),
        advice: "compare it by whole runs: --slice none".to_owned(),
    })
}

fn busy(facts: &Facts) -> Option<Reason> {
    (facts.is_open_loop && facts.is_busy()).then(|| Reason {
        verdict: Verdict::Suspect,
        what: format!(
            "a generator thread worked {:.0} % of the time",
            facts.busy_max * 100.0
        ),
        advice: "more threads (-t) or a lower --rate".to_owned(),
    })
}

fn sleep(facts: &Facts) -> Option<Reason> {
    (facts.is_open_loop && facts.is_sleeping).then(|| Reason {
        verdict: Verdict::Suspect,
        what: "--pace sleep: every send waits for the kernel's timer, and is late by that"
            .to_owned(),
        advice: "use --pace spin".to_owned(),
    })
}

fn shared_core(facts: &Facts) -> Option<Reason> {
    (facts.shared_core == Some(true)).then(|| Reason {
        verdict: Verdict::Suspect,
        what: "server and generator were seen on the same core".to_owned(),
        advice: "keep them apart with --pin and --server-pin".to_owned(),
    })
}

fn is_starved(wait_share: Option<f64>) -> bool {
    wait_share.is_some_and(|share| share > RUN_QUEUE_WAIT_SHARE_MAX)
}

fn starved_generator(facts: &Facts) -> Option<Reason> {
    starved(
        "generator",
        facts.generator_wait_share,
        "--pin, or fewer -t",
    )
}

fn starved_server(facts: &Facts) -> Option<Reason> {
    starved("server", facts.server_wait_share, "--server-pin")
}

/// Threads that waited for a core, and the flags that give them one.
fn starved(whose: &str, wait_share: Option<f64>, flags: &str) -> Option<Reason> {
    is_starved(wait_share).then(|| Reason {
        verdict: Verdict::Suspect,
        what: format!(
            "the {whose} waited for a core {:.0} % of the time that it wanted to run",
            wait_share.unwrap_or(0.0) * 100.0
        ),
        advice: format!(
            "stop what else uses its cores (loadtest doctor), or give it cores enough ({flags})"
        ),
    })
}

fn steal(facts: &Facts) -> Option<Reason> {
    let share = facts.steal_share?;
    (share > STEAL_SHARE_MAX).then(|| Reason {
        verdict: Verdict::Suspect,
        what: format!("the hypervisor took {:.1} % of the time", share * 100.0),
        advice: "repeat it when the host is idle, or on a machine of its own".to_owned(),
    })
}

fn few_samples(facts: &Facts) -> Option<Reason> {
    (!Percentile::P99.is_supported(facts.samples)).then(|| Reason {
        verdict: Verdict::Suspect,
        what: few_samples_for(Percentile::P99, facts.samples),
        advice: "run longer (-d)".to_owned(),
    })
}

fn few_samples_for(percentile: Percentile, samples: u64) -> String {
    format!(
        "too few messages for {percentile}: {} of the {} it needs",
        format_count(samples),
        format_count(percentile.samples_min())
    )
}

fn notes(facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.interrupted {
        notes.push("interrupted: these are the numbers until then".to_owned());
    }
    if facts.unanswered > 0 || facts.timed_out > 0 {
        notes.push(format!(
            "{} messages timed out, {} were never answered: those count with their age when given \
             up, the least their latency can be",
            format_count(facts.timed_out),
            format_count(facts.unanswered)
        ));
    }
    if facts.added_sources > 0 {
        notes.push(format!(
            "connections were made from 127.0.0.1 and {} more addresses of 127.0.0.0/8, as ports \
             ran out (--source chooses others)",
            facts.added_sources
        ));
    }
    if facts.unclosed > 0 {
        let first = facts.first_unclosed.as_ref();
        notes.push(format!(
            "{} connections did not answer Close 1000 with Close 1000, behind the last message{}",
            format_count(facts.unclosed),
            first.map_or_else(String::new, |first| format!("; {first}"))
        ));
    }
    let has_p99 = Percentile::P99.is_supported(facts.samples);
    if has_p99 && !Percentile::P99_9.is_supported(facts.samples) {
        notes.push(few_samples_for(Percentile::P99_9, facts.samples));
    }
    if !facts.is_open_loop {
        notes.push(
            "a closed loop slows down with its server and under-reports stalls; use --rate for \
             latency"
                .to_owned(),
        );
        if facts.is_busy() {
            notes.push(format!(
                "a generator thread worked {:.0} % of the time: the throughput may be its limit \
                 and not the server's; try more threads (-t)",
                facts.busy_max * 100.0
            ));
        }
        if facts.neither_is_busy()
            && let Some(server_busy_max) = facts.server_busy_max
        {
            let waits = [facts.server_wait_share, facts.generator_wait_share];
            let advice = if waits.into_iter().any(is_starved) {
                "they waited for a core, see above"
            } else {
                "try more in flight (-c, -w)"
            };
            notes.push(format!(
                "neither is the limit: the server's busiest thread ran {:.0} % of the time, the \
                 generator's {:.0} %; {advice}",
                server_busy_max * 100.0,
                facts.busy_max * 100.0
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::plan::{Arrival, Load};
    use std::time::Duration;

    /// An open loop with nothing to be said against it.
    fn sound() -> Facts {
        Facts {
            failure: None,
            interrupted: false,
            is_open_loop: true,
            is_sleeping: false,
            due: 100_000,
            scheduled: 100_000,
            echoed: 100_000,
            echoed_of_warmup: 0,
            target_rate: 100.0,
            carried_in: 4,
            blocked: 0,
            answered: 100_000,
            unanswered: 0,
            timed_out: 0,
            added_sources: 0,
            unclosed: 0,
            first_unclosed: None,
            samples: 100_000,
            response_p50_ns: 100_000,
            response_mean_ns: 100_000.0,
            lag_p99_ns: 1_000,
            busy_max: 0.5,
            server_busy_max: Some(0.95),
            server_wait_share: Some(0.01),
            generator_wait_share: Some(0.0),
            idle_cores: Some(0.0),
            shared_core: Some(false),
            steal_share: Some(0.0),
        }
    }

    /// The verdict, and the text of the one reason and its advice.
    fn verdict(facts: &Facts) -> (Verdict, String) {
        let judgement = judge(facts);
        let text = match judgement.reasons.as_slice() {
            [] => String::new(),
            [reason] => {
                assert_eq!(reason.verdict, judgement.verdict);
                format!("{} | {}", reason.what, reason.advice)
            }
            more => panic!("{more:?}"),
        };
        (judgement.verdict, text)
    }

    fn assert_valid(facts: &Facts) {
        assert_eq!(verdict(facts), (Verdict::Valid, String::new()));
    }

    #[test]
    fn a_sound_run_is_valid() {
        assert_valid(&sound());
        assert_eq!(judge(&sound()).notes, Vec::<String>::new());
    }

    #[test]
    fn a_failure_invalidates_and_hides_what_follows_from_it() {
        let facts = Facts {
            failure: Some("integrity error on connection 1".to_owned()),
            echoed: 1,
            answered: 0,
            samples: 1,
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Invalid);
        assert!(
            text.starts_with("integrity error on connection 1 | "),
            "{text}"
        );
    }

    #[test]
    fn silence_is_no_measurement() {
        let facts = Facts {
            answered: 0,
            echoed: 0,
            ..sound()
        };
        assert_eq!(verdict(&facts).0, Verdict::Invalid);
        assert_valid(&Facts {
            answered: 1,
            due: 1,
            ..sound()
        });
    }

    #[test]
    fn a_deficit_of_a_hundredth_invalidates() {
        assert_valid(&Facts {
            echoed: 99_000,
            ..sound()
        });
        let facts = Facts {
            echoed: 98_999,
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Invalid);
        assert_eq!(
            text,
            "only 98,999 of 100,000 replies came in time (99.0 % of the target rate) | the server \
             is saturated: latency grows for as long as the run lasts; lower --rate"
        );
    }

    #[test]
    fn replies_to_the_warm_up_are_no_rate_of_the_measurement() {
        // A server that stood still for the last second of the warm-up.
        let behind = Facts {
            due: 3_000,
            scheduled: 3_000,
            answered: 3_000,
            samples: 3_000,
            echoed: 4_000,
            echoed_of_warmup: 1_000,
            carried_in: 1_000,
            target_rate: 1_000.0,
            ..sound()
        };
        let (verdict_of_it, text) = verdict(&behind);
        assert_eq!(verdict_of_it, Verdict::Suspect);
        assert!(
            text.starts_with("133.3 % of the target rate came back: 1,000 replies were to"),
            "{text}"
        );
        // As much came back as was due, but a sixth of it was the warm-up's.
        let hidden = Facts {
            echoed: 3_000,
            echoed_of_warmup: 500,
            answered: 2_990,
            ..behind.clone()
        };
        let (verdict_of_it, text) = verdict(&hidden);
        assert_eq!(verdict_of_it, Verdict::Invalid);
        assert!(text.starts_with("only 2,501 of 3,000 replies"), "{text}");
        // What is always in flight comes in and goes out.
        assert_valid(&Facts {
            echoed: 3_000,
            echoed_of_warmup: 50,
            carried_in: 50,
            response_mean_ns: 50e6,
            ..behind
        });
    }

    #[test]
    fn a_hiccup_at_the_end_is_no_saturation() {
        let hiccup = Facts {
            scheduled: 1_000,
            echoed: 982,
            target_rate: 2_000.0,
            ..sound()
        };
        assert_valid(&hiccup);
        let most = Facts {
            scheduled: 200_000,
            echoed: 179_999,
            target_rate: 1e6,
            ..sound()
        };
        assert_eq!(verdict(&most).0, Verdict::Invalid);
        assert_valid(&Facts {
            echoed: 180_000,
            ..most
        });
        // The same deficit where what is missing never came, or is more of a load.
        let lost = Facts {
            answered: hiccup.due - 1,
            ..hiccup.clone()
        };
        assert_eq!(verdict(&lost).0, Verdict::Invalid);
        let slow = Facts {
            target_rate: 100.0,
            ..hiccup
        };
        assert_eq!(verdict(&slow).0, Verdict::Invalid);
    }

    #[test]
    fn a_deficit_within_chance_is_none() {
        // 3 × √(2 × 12 + 1) = 15 messages.
        let short = Facts {
            scheduled: 1_000,
            carried_in: 12,
            response_mean_ns: 60e6,
            ..sound()
        };
        assert_valid(&Facts {
            echoed: 985,
            ..short.clone()
        });
        let facts = Facts {
            echoed: 984,
            ..short
        };
        assert_eq!(verdict(&facts).0, Verdict::Invalid);
    }

    #[test]
    fn the_cause_of_a_deficit_is_told() {
        let slow = Facts {
            echoed: 50_000,
            ..sound()
        };
        let busy = judge(&Facts {
            busy_max: 0.95,
            ..slow.clone()
        });
        assert!(busy.reasons[0].advice.contains("-t"), "{busy:?}");
        assert_eq!(busy.verdict, Verdict::Invalid);
        let blocked = judge(&Facts {
            blocked: 10_001,
            ..slow
        });
        assert!(
            blocked.reasons[0].advice.contains("not read"),
            "{blocked:?}"
        );
    }

    #[test]
    fn a_closed_loop_has_no_rate_to_miss() {
        let facts = Facts {
            is_open_loop: false,
            echoed: 1,
            lag_p99_ns: 1_000_000,
            ..sound()
        };
        assert_valid(&facts);
        assert_eq!(facts.achieved_share(), None);
        assert_eq!(
            judge(&facts).notes,
            [
                "a closed loop slows down with its server and under-reports stalls; use --rate \
                 for latency"
            ]
        );
    }

    #[test]
    fn lag_of_a_tenth_of_the_response_time_is_suspect() {
        assert_valid(&Facts {
            lag_p99_ns: 10_000,
            ..sound()
        });
        let late = Facts {
            lag_p99_ns: 10_001,
            ..sound()
        };
        let (verdict_, text) = verdict(&late);
        assert_eq!(verdict_, Verdict::Suspect);
        assert!(
            text.starts_with("the generator sent late: p99 10.0 µs"),
            "{text}"
        );
        let (_, text) = verdict(&Facts {
            blocked: 10_001,
            ..late
        });
        assert!(text.contains("the sockets were full"), "{text}");
        assert!(text.contains("did not read"), "{text}");
    }

    #[test]
    fn a_busy_generator_is_suspect() {
        assert_valid(&Facts {
            busy_max: 0.9,
            ..sound()
        });
        let facts = Facts {
            busy_max: 0.91,
            ..sound()
        };
        let (verdict_, text) = verdict(&facts);
        assert_eq!(verdict_, Verdict::Suspect);
        assert!(text.starts_with("a generator thread worked 91 %"), "{text}");

        // In a closed loop it is the rule, and only worth a note.
        let closed = Facts {
            is_open_loop: false,
            ..facts
        };
        assert_valid(&closed);
        assert_eq!(judge(&closed).notes.len(), 2);
    }

    #[test]
    fn sleeping_is_suspect() {
        let facts = Facts {
            is_sleeping: true,
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(text.ends_with("use --pace spin"), "{text}");
    }

    #[test]
    fn a_server_that_works_in_pauses_is_suspect() {
        for idle_cores in [None, Some(IDLE_CORES_MAX)] {
            assert_valid(&Facts {
                idle_cores,
                ..sound()
            });
        }
        let facts = Facts {
            idle_cores: Some(0.97),
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(
            text.starts_with("the server kept 0.97 of a core busy"),
            "{text}"
        );
        assert!(text.ends_with("--slice none"), "{text}");
    }

    #[test]
    fn a_shared_core_is_suspect_where_it_was_seen() {
        assert_valid(&Facts {
            shared_core: None,
            ..sound()
        });
        let facts = Facts {
            shared_core: Some(true),
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(text.contains("--server-pin"), "{text}");
    }

    #[test]
    fn waiting_for_a_core_is_suspect_on_either_side() {
        for share in [None, Some(RUN_QUEUE_WAIT_SHARE_MAX)] {
            assert_valid(&Facts {
                server_wait_share: share,
                generator_wait_share: share,
                ..sound()
            });
        }
        for is_open_loop in [true, false] {
            let starved_generator = Facts {
                is_open_loop,
                generator_wait_share: Some(0.487),
                ..sound()
            };
            let starved_server = Facts {
                is_open_loop,
                server_wait_share: Some(0.051),
                ..sound()
            };
            for (facts, what, flag) in [
                (
                    &starved_generator,
                    "the generator waited for a core 49 % of",
                    "--pin",
                ),
                (
                    &starved_server,
                    "the server waited for a core 5 % of",
                    "--server-pin",
                ),
            ] {
                let (verdict, text) = verdict(facts);
                assert_eq!(verdict, Verdict::Suspect);
                assert!(text.starts_with(what), "{text}");
                assert!(text.contains(flag), "{text}");
            }
        }
    }

    #[test]
    fn a_starved_side_is_no_saturated_server() {
        let late = Facts {
            echoed: 80_000,
            ..sound()
        };
        let advice = |facts: &Facts| judge(facts).reasons[0].advice.clone();
        assert!(advice(&late).starts_with("the server is saturated"));
        for (facts, expected) in [
            (
                Facts {
                    generator_wait_share: Some(0.5),
                    ..late.clone()
                },
                "the generator waited",
            ),
            (
                Facts {
                    server_wait_share: Some(0.5),
                    ..late.clone()
                },
                "the server waited",
            ),
            (
                Facts {
                    server_busy_max: Some(0.3),
                    ..late.clone()
                },
                "neither is at its limit",
            ),
        ] {
            let advice = advice(&facts);
            assert!(advice.starts_with(expected), "{advice}");
        }
        let late_sends = Facts {
            lag_p99_ns: 1_000_000,
            generator_wait_share: Some(0.5),
            ..sound()
        };
        let advice = advice(&late_sends);
        assert!(advice.starts_with("it waited"), "{advice}");
    }

    #[test]
    fn a_closed_loop_says_when_neither_side_is_the_limit() {
        let says_so = |busy_max, server_busy_max| {
            let facts = Facts {
                is_open_loop: false,
                busy_max,
                server_busy_max,
                ..sound()
            };
            let notes = judge(&facts).notes;
            notes
                .iter()
                .any(|note| note.starts_with("neither is the limit"))
        };
        assert!(says_so(0.4, Some(0.45)));
        let starved = judge(&Facts {
            is_open_loop: false,
            server_busy_max: Some(0.2),
            server_wait_share: Some(0.8),
            ..sound()
        });
        let note = starved.notes.last().expect("a note");
        assert!(
            note.ends_with("they waited for a core, see above"),
            "{note}"
        );
        assert!(!says_so(0.95, Some(0.45)), "the generator is");
        assert!(!says_so(0.4, Some(0.95)), "the server is");
        assert!(!says_so(0.4, None), "nobody looked");
    }

    #[test]
    fn stolen_time_is_suspect() {
        for steal_share in [None, Some(0.02)] {
            assert_valid(&Facts {
                steal_share,
                ..sound()
            });
        }
        let facts = Facts {
            steal_share: Some(0.034),
            ..sound()
        };
        let (verdict, text) = verdict(&facts);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(
            text.starts_with("the hypervisor took 3.4 % of the time"),
            "{text}"
        );
    }

    #[test]
    fn too_few_messages_are_suspect_or_noted() {
        let facts = Facts {
            samples: 369,
            ..sound()
        };
        assert_eq!(
            verdict(&facts),
            (
                Verdict::Suspect,
                "too few messages for p99: 369 of the 370 it needs | run longer (-d)".to_owned()
            )
        );
        let facts = Facts {
            samples: 370,
            ..sound()
        };
        assert_valid(&facts);
        assert_eq!(
            judge(&facts).notes,
            ["too few messages for p99.9: 370 of the 3,700 it needs"]
        );
        let facts = Facts {
            samples: 3_700,
            ..sound()
        };
        assert!(judge(&facts).notes.is_empty());
    }

    #[test]
    fn what_was_given_up_and_an_interruption_are_noted() {
        let judgement = judge(&Facts {
            interrupted: true,
            unanswered: 3,
            timed_out: 12,
            ..sound()
        });
        assert_eq!(judgement.verdict, Verdict::Valid);
        assert_eq!(
            judgement.notes,
            [
                "interrupted: these are the numbers until then",
                "12 messages timed out, 3 were never answered: those count with their age when \
                 given up, the least their latency can be"
            ]
        );
    }

    #[test]
    fn the_worst_reason_decides() {
        let judgement = judge(&Facts {
            echoed: 1,
            shared_core: Some(true),
            ..sound()
        });
        assert_eq!(judgement.reasons.len(), 2);
        assert_eq!(judgement.verdict, Verdict::Invalid);
    }

    #[test]
    fn facts_come_from_plan_and_outcome() {
        let facts = Facts::of(&fixture::plan(), &fixture::outcome());
        assert_eq!(judge(&facts).verdict, Verdict::Valid);
        assert_eq!((facts.due, facts.scheduled), (500_000, 500_000));
        assert_eq!(facts.samples, 500_000);
        assert_eq!(facts.lag_p99_ns, 1_000);
        let mut plan = fixture::plan();
        plan.pace = Pace::Sleep;
        assert!(Facts::of(&plan, &fixture::outcome()).is_sleeping);
        plan.load = Load::Closed { window: 1 };
        assert!(!Facts::of(&plan, &fixture::outcome()).is_sleeping);
    }

    #[test]
    fn a_run_of_a_count_is_saturated_when_it_takes_longer_than_its_schedule() {
        let mut plan = fixture::plan();
        plan.extent = Extent::Messages(500_000);
        plan.load = Load::Open {
            rate: 50_000.0,
            arrival: Arrival::Poisson,
        };
        let mut outcome = fixture::outcome();
        // One slow reply at the end: the median tells that it is one.
        outcome.elapsed = Duration::from_secs(11);
        let facts = Facts::of(&plan, &outcome);
        assert_eq!(judge(&facts).verdict, Verdict::Valid, "{facts:?}");
        // A second late at the end, half a second in the middle.
        outcome.latencies.response_ns.reset();
        let ramp = &mut outcome.latencies.response_ns;
        for late_ms in 1..=1_000 {
            ramp.record_n(late_ms * 1_000_000, 500).unwrap();
        }
        let facts = Facts::of(&plan, &outcome);
        assert!((547_000..=550_000).contains(&facts.scheduled), "{facts:?}");
        assert_eq!(judge(&facts).reasons[0].verdict, Verdict::Invalid);
    }
}
