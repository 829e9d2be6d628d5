//! The rules that make a run SUSPECT or INVALID.

use super::{Facts, Reason, Verdict};
use crate::percentile::Percentile;
use crate::units::{format_count, format_ns};

/// An open loop with a smaller share of replies in time is no measurement at its target rate:
/// missing messages queue up, and every latency then depends on the length of the run.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// In an open loop no more replies than messages due can come, but for those carried in from the
/// warm-up. Above this share the server had fallen behind before the measurement, and the rate is
/// that of its catching up.
pub const ACHIEVED_SHARE_MAX: f64 = 1.01;

/// In a short run, replies delayed by a hiccup at its very end may be more than a hundredth. Up
/// to this number of seconds of the load is tolerated, if all replies came later.
pub const HICCUP_S_MAX: f64 = 0.1;

/// The same as a share of the run: what misses more of it is no hiccup.
pub const HICCUP_SHARE_MAX: f64 = 0.1;

/// The response time contains the generator's lag. Up to this share of the median, lag at its
/// 99th percentile does not matter.
pub const LAG_SHARE_MAX: f64 = 0.1;

/// Steal time stops server and generator at random. Above this share it affects the reported
/// percentiles.
pub const STEAL_SHARE_MAX: f64 = 0.02;

/// A runnable thread that waits for a core answers late, and its wait depends on the other load
/// of the machine. Above this share of the time that it wanted to run, the numbers are those of
/// that load. On cores of its own a thread waits some 300 ns for each wake-up, which is 1 % of
/// it.
pub const RUN_QUEUE_WAIT_SHARE_MAX: f64 = 0.05;

/// A server that keeps more than this part of a core busy in the pauses between slices takes it
/// from the server being measured. Less is housekeeping.
pub const IDLE_CORES_MAX: f64 = 0.05;

/// Returns the reason if a run breaks the rule.
type Rule = fn(&Facts) -> Option<Reason>;

/// Rules that end the judgement: other reasons would follow from these.
pub(super) const FATAL: [Rule; 2] = [failure, no_reply];

/// Rules that are applied independently.
pub(super) const INDEPENDENT: [Rule; 11] = [
    deficit,
    surplus,
    lag,
    busy,
    sleep,
    busy_in_pauses,
    shared_core,
    starved_generator,
    starved_server,
    steal,
    few_samples,
];

fn failure(facts: &Facts) -> Option<Reason> {
    Some(Reason {
        verdict: Verdict::Invalid,
        what: facts.failure.clone()?,
        advice: "what was counted is no measurement".to_owned(),
    })
}

fn no_reply(facts: &Facts) -> Option<Reason> {
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
    // The replies were late, but not lost.
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

/// Replies to the warm-up that came while measuring do not count for the rate.
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

/// A server that polls, or collects garbage, while it has no load.
fn busy_in_pauses(facts: &Facts) -> Option<Reason> {
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

pub(super) fn is_starved(wait_share: Option<f64>) -> bool {
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

pub(super) fn few_samples_for(percentile: Percentile, samples: u64) -> String {
    format!(
        "too few messages for {percentile}: {} of the {} it needs",
        format_count(samples),
        format_count(percentile.samples_min())
    )
}
