//! Injected behaviour, and the report expected for it.

use std::time::Duration;

use super::check::{Check, Slack};
use super::expect::{StalledLoop, poisson_spread, whole};
use crate::builtin::{Delay, Fault, Script, Stall};
use crate::client::{CloseReason, MessageId, Violation};
use crate::driver::as_ns;
use crate::failure::{Failure, Loss};
use crate::outcome::{Histogram, Outcome, Unclosed};
use crate::plan::{Extent, Load, Plan};
use crate::session::{EXIT_FAILED, EXIT_INVALID, exit_code};
use crate::verdict::{Facts, Verdict, judge};

/// The number of the message with which a fault happens, from 0.
pub(super) const FAULT_AT: u64 = 20;

/// A response this slow is one that a stall delayed.
const SLOW_NS: u64 = 10_000_000;

/// The tolerance in messages for the beginning and end of a stall, which fall between two of
/// them, and for the rank of a quantile.
const EDGE: u32 = 2;

/// The least lag that an overloaded generator has to report: a tenth of the 200 ms in which it
/// had to send what takes it seconds.
const OVERLOAD_LAG_NS_MIN: u64 = 20_000_000;

/// The behaviour of the server, for which the generator has to report a known result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Injection {
    /// Nothing, while messages are due at fixed times.
    Nothing,
    /// Nothing, while messages are due at random times.
    RandomArrivals,
    /// All replies are this late.
    Constant(Duration),
    /// Every `n`-th reply is later than the others.
    Bimodal {
        n: u64,
        usual: Duration,
        rare: Duration,
    },
    /// A stall in an open loop.
    OpenStall(Stall),
    /// A stall in a closed loop with one message in flight.
    ClosedStall(Stall),
    /// A stall that is longer than the plan's timeout.
    Timeout(Stall),
    /// Nothing, while more messages are due than any generator can send.
    Overload,
    /// One fault.
    Fault(Fault),
}

/// The result of a scenario's run.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScenarioRun<'a> {
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    pub(super) server: ServerCounts,
    pub(super) tolerance: Tolerance,
}

/// The server's own counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerCounts {
    /// Messages echoed.
    pub(super) served: u64,
    /// Messages that were given the rare delay.
    pub(super) rare: u64,
}

/// The latency that the machine may add, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) p50_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p99_ns: u64,
    /// The generator's lag at p99.
    pub(super) lag_ns: u64,
    /// Share of the messages that may be as slow as those that were delayed.
    pub(super) stray_share: f64,
}

impl Injection {
    /// The script of the server.
    pub(super) fn script(&self) -> Script {
        let mut script = Script::default();
        match *self {
            Self::Nothing | Self::RandomArrivals | Self::Overload => {}
            Self::Constant(delay) => script.delay = Delay::Constant(delay),
            Self::Bimodal { n, usual, rare } => script.delay = Delay::EveryNth { n, usual, rare },
            Self::OpenStall(stall) | Self::ClosedStall(stall) | Self::Timeout(stall) => {
                script.stall = Some(stall);
            }
            Self::Fault(fault) => script.fault = Some((FAULT_AT, fault)),
        }
        script
    }

    /// Compares what was reported with what was injected.
    pub(super) fn check(&self, run: &ScenarioRun<'_>) -> Vec<Check> {
        match *self {
            Self::Nothing => {
                let mut checks = every_message(run);
                checks.extend([run.lag_p99(), run.lag_share()]);
                checks
            }
            Self::RandomArrivals => random_arrivals(run),
            Self::Constant(delay) => constant(run, delay),
            Self::Bimodal { n, usual, rare } => bimodal(run, n, usual, rare),
            Self::OpenStall(stall) => open_stall(run, stall),
            Self::ClosedStall(stall) => closed_stall(run, stall),
            Self::Timeout(_) => timeout(run),
            Self::Overload => overload(run),
            Self::Fault(fault) => vec![caught(run, fault)],
        }
    }
}

impl ScenarioRun<'_> {
    fn strays(&self) -> u64 {
        whole(self.outcome.counts.due as f64 * self.tolerance.stray_share)
    }

    fn lag_p99(&self) -> Check {
        Check::time(
            "lag p99",
            0..=self.tolerance.lag_ns,
            self.outcome.latencies.lag_ns.value_at_quantile(0.99),
            Slack::Above,
        )
    }

    /// The lag is a part of the response time, so that it cannot be longer.
    fn lag_share(&self) -> Check {
        let latencies = &self.outcome.latencies;
        Check::time(
            "lag p99 within response p99",
            0..=latencies.response_ns.value_at_quantile(0.99),
            latencies.lag_ns.value_at_quantile(0.99),
            Slack::None,
        )
    }

    /// A quantile of the response time, which is what was injected and what the
    /// machine may add.
    fn response(&self, name: &str, quantile: f64, injected_ns: u64, machine_ns: u64) -> Check {
        Check::time(
            name,
            injected_ns..=injected_ns + machine_ns,
            self.outcome
                .latencies
                .response_ns
                .value_at_quantile(quantile),
            Slack::Above,
        )
    }
}

/// Messages that a plan with fixed arrivals makes due.
fn due_by_rate(plan: &Plan) -> u64 {
    match (plan.rate(), plan.extent) {
        (Some(rate), Extent::Duration(time)) => whole(rate * time.as_secs_f64()),
        (_, Extent::Messages(count)) => count,
        (None, Extent::Duration(_)) => 0,
    }
}

/// Samples of a latency or longer. One of exactly this latency is among them.
fn at_least(histogram: &Histogram, latency_ns: u64) -> u64 {
    histogram.count_between(latency_ns, u64::MAX)
}

/// The number of due messages is that of the rate, and all were answered.
fn every_message(run: &ScenarioRun<'_>) -> Vec<Check> {
    let due = Check::exact(
        "messages due",
        due_by_rate(run.plan),
        run.outcome.counts.due,
    );
    [vec![due], all_answered(run)].concat()
}

/// Every message that was due was answered and recorded once, and the server
/// has seen the same number.
fn all_answered(run: &ScenarioRun<'_>) -> Vec<Check> {
    let counts = run.outcome.counts;
    vec![
        no_failure(run.outcome),
        Check::exact("answered", counts.due, counts.answered),
        Check::exact("unanswered", 0, counts.unanswered),
        Check::exact("echoed by the server", counts.due, run.server.served),
        recorded(run.outcome),
    ]
}

/// Each message due is in the histogram of response times, once.
fn recorded(outcome: &Outcome) -> Check {
    Check::exact(
        "response times recorded",
        outcome.counts.due,
        outcome.latencies.response_ns.len(),
    )
}

fn no_failure(outcome: &Outcome) -> Check {
    let failure = outcome.failure.as_ref();
    Check::fact("failure", "none", text(failure), failure.is_none())
}

fn random_arrivals(run: &ScenarioRun<'_>) -> Vec<Check> {
    let mean = due_by_rate(run.plan);
    let spread = poisson_spread(mean as f64);
    let mut checks = vec![Check::count(
        "messages due, to 4 sigma",
        mean.saturating_sub(spread)..=mean + spread,
        run.outcome.counts.due,
        Slack::None,
    )];
    checks.extend(all_answered(run));
    checks.push(Check::time(
        "lag mean",
        0..=run.tolerance.lag_ns,
        whole(run.outcome.latencies.lag_ns.mean()),
        Slack::Above,
    ));
    checks
}

fn constant(run: &ScenarioRun<'_>, delay: Duration) -> Vec<Check> {
    let delay_ns = as_ns(delay);
    let latencies = &run.outcome.latencies;
    let tolerance = run.tolerance;
    let mut checks = every_message(run);
    for (name, histogram) in [
        ("service", &latencies.service_ns),
        ("response", &latencies.response_ns),
    ] {
        // The histogram is precise to a thousandth: the shortest latency is reported as the
        // lower end of its bucket.
        let shortest_ns = histogram.lowest_equivalent(delay_ns);
        checks.push(Check::time(
            &format!("{name} min"),
            shortest_ns..=delay_ns + tolerance.p50_ns,
            histogram.min(),
            Slack::Above,
        ));
        for (percentile, quantile, machine_ns) in [
            ("p50", 0.5, tolerance.p50_ns),
            ("p90", 0.9, tolerance.p90_ns),
            ("p99", 0.99, tolerance.p99_ns),
        ] {
            checks.push(Check::time(
                &format!("{name} {percentile}"),
                delay_ns..=delay_ns + machine_ns,
                histogram.value_at_quantile(quantile),
                Slack::Above,
            ));
        }
    }
    checks
}

fn bimodal(run: &ScenarioRun<'_>, n: u64, usual: Duration, rare: Duration) -> Vec<Check> {
    let (usual_ns, rare_ns) = (as_ns(usual), as_ns(rare));
    let due = due_by_rate(run.plan);
    let tolerance = run.tolerance;
    let response_ns = &run.outcome.latencies.response_ns;
    let slow = at_least(response_ns, rare_ns);
    let mut checks = every_message(run);
    checks.extend([
        Check::exact("rarely delayed by the server", due / n, run.server.rare),
        // Other replies are this slow only on a busy machine.
        Check::count(
            "responses of the rare delay",
            run.server.rare..=run.server.rare + run.strays(),
            slow,
            Slack::Above,
        ),
        Check::time(
            "response min",
            response_ns.lowest_equivalent(usual_ns)..=usual_ns + tolerance.p50_ns,
            response_ns.min(),
            Slack::Above,
        ),
        run.response("response p50", 0.5, usual_ns, tolerance.p50_ns),
        run.response("response p90", 0.9, usual_ns, tolerance.p90_ns),
        run.response("response p99", 0.99, rare_ns, tolerance.p99_ns),
    ]);
    checks
}

fn open_stall(run: &ScenarioRun<'_>, stall: Stall) -> Vec<Check> {
    let outcome = run.outcome;
    let latencies = &outcome.latencies;
    let tolerance = run.tolerance;
    let due = due_by_rate(run.plan);
    let stalled = StalledLoop {
        length_ns: as_ns(stall.length),
        rate: run.plan.rate().unwrap_or(0.0),
        due,
    };
    let edge_ns = stalled.spacing_ns(EDGE);
    let mut checks = every_message(run);
    // A busy machine also makes other messages slow, and delays those sent in the stall.
    let slow = stalled.slower_than(SLOW_NS);
    let (few, many) = (slow - u64::from(EDGE), slow + due / 100 + run.strays());
    checks.push(Check::count(
        "responses over 10 ms",
        few..=many,
        at_least(&latencies.response_ns, SLOW_NS),
        Slack::Above,
    ));
    checks.push(Check::count(
        "service times over 10 ms",
        slow - slow / 20..=many,
        at_least(&latencies.service_ns, SLOW_NS),
        Slack::Both,
    ));
    let mut quantile = |name: String, quantile: f64| {
        let expected_ns = stalled.at_quantile(quantile);
        checks.push(Check::time(
            &name,
            expected_ns.saturating_sub(edge_ns)..=expected_ns + tolerance.p99_ns,
            latencies.response_ns.value_at_quantile(quantile),
            Slack::Above,
        ));
    };
    for within in [0.1, 0.25, 0.5, 0.75, 0.9] {
        let name = format!("{:.0} % of the stalled within", within * 100.0);
        quantile(name, stalled.quantile_of(within));
    }
    quantile("response p99".to_owned(), 0.99);
    quantile("response max".to_owned(), 1.0);
    // A generator that waits for its server lags by the length of the stall.
    checks.push(run.lag_p99());
    checks.push(Check::time(
        "lag max",
        0..=stalled.length_ns / 4,
        latencies.lag_ns.max(),
        Slack::Above,
    ));
    checks
}

fn closed_stall(run: &ScenarioRun<'_>, stall: Stall) -> Vec<Check> {
    let outcome = run.outcome;
    let length_ns = as_ns(stall.length);
    let machine_ns = run.tolerance.p99_ns;
    let response_ns = &outcome.latencies.response_ns;
    vec![
        no_failure(outcome),
        Check::exact("answered", outcome.counts.due, outcome.counts.answered),
        recorded(outcome),
        Check::exact(
            "responses that the stall hit",
            1,
            at_least(response_ns, length_ns / 2),
        ),
        Check::time(
            "response p99: it hides",
            0..=length_ns / 20,
            response_ns.value_at_quantile(0.99),
            Slack::Above,
        ),
        // The one message was sent shortly before or after the beginning.
        Check::time(
            "response max",
            length_ns - machine_ns..=length_ns + machine_ns,
            response_ns.max(),
            Slack::Both,
        ),
    ]
}

fn timeout(run: &ScenarioRun<'_>) -> Vec<Check> {
    let outcome = run.outcome;
    let counts = outcome.counts;
    let response_ns = &outcome.latencies.response_ns;
    let timeout_ns = as_ns(run.plan.timeout);
    let late_ns = timeout_ns + run.tolerance.p99_ns + run.tolerance.lag_ns;
    let per_ns = run.plan.rate().unwrap_or(0.0) / 1e9;
    let messages_in = |time_ns: u64| whole(time_ns as f64 * per_ns);
    let edge = u64::from(EDGE);
    let halfway = messages_in(response_ns.max().saturating_sub(timeout_ns / 2));
    let mut checks = invalid(run, EXIT_FAILED);
    checks.extend([
        Check::fact(
            "failure",
            "no progress for the timeout",
            text(outcome.failure.as_ref()),
            matches!(&outcome.failure, Some(Failure::Stalled { timeout, .. })
                if *timeout == run.plan.timeout),
        ),
        accounted(outcome),
        recorded(outcome),
        // Their ages: those due since the server stalled, evenly spread.
        Check::count(
            "unanswered",
            messages_in(timeout_ns) - edge..=messages_in(late_ns),
            counts.unanswered,
            Slack::Above,
        ),
        Check::count(
            "timed out",
            1..=messages_in(late_ns - timeout_ns),
            counts.timed_out,
            Slack::Above,
        ),
        Check::time(
            "response max: the oldest's age",
            timeout_ns..=late_ns,
            response_ns.max(),
            Slack::Above,
        ),
        Check::count(
            "older than half the timeout",
            halfway.saturating_sub(edge)..=halfway + edge,
            at_least(response_ns, timeout_ns / 2),
            Slack::Both,
        ),
    ]);
    checks
}

fn overload(run: &ScenarioRun<'_>) -> Vec<Check> {
    let outcome = run.outcome;
    let mut checks = invalid(run, EXIT_INVALID);
    checks.extend([
        no_failure(outcome),
        Check::exact("messages due", due_by_rate(run.plan), outcome.counts.due),
        accounted(outcome),
        recorded(outcome),
        Check::exact(
            "lags recorded",
            outcome.counts.due,
            outcome.latencies.lag_ns.len(),
        ),
        Check::time(
            "lag p99",
            OVERLOAD_LAG_NS_MIN..=u64::MAX,
            outcome.latencies.lag_ns.value_at_quantile(0.99),
            Slack::None,
        ),
        run.lag_share(),
    ]);
    checks
}

/// The verdict and the exit code of a run that is not valid.
fn invalid(run: &ScenarioRun<'_>, expected_code: u8) -> Vec<Check> {
    let judgement = judge(&Facts::of(run.plan, run.outcome));
    let code = exit_code(run.outcome, &judgement, &[]);
    vec![
        Check::fact(
            "verdict",
            "INVALID",
            judgement.verdict.to_string(),
            judgement.verdict == Verdict::Invalid,
        ),
        Check::exact("exit code", expected_code.into(), code.into()),
    ]
}

/// Every due message is counted.
fn accounted(outcome: &Outcome) -> Check {
    let counts = outcome.counts;
    Check::exact(
        "answered + unanswered",
        counts.due,
        counts.answered + counts.unanswered,
    )
}

fn text(failure: Option<&Failure>) -> String {
    failure.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// The failure that names the fault, and its message.
fn caught(run: &ScenarioRun<'_>, fault: Fault) -> Check {
    let failure = run.outcome.failure.as_ref();
    let alone = run.plan.load == Load::Closed { window: 1 };
    let loop_ = match run.plan.load {
        Load::Open { .. } => "open loop".to_owned(),
        Load::Closed { window } => format!("closed loop × {window}"),
    };
    let violation = match failure {
        Some(Failure::Integrity {
            message, violation, ..
        }) => Some((*message, violation)),
        _ => None,
    };
    let is_stalled = matches!(
        failure,
        Some(Failure::Stalled {
            message: FAULT_AT,
            ..
        })
    );
    let got = |expected: u64| {
        matches!(violation, Some((FAULT_AT, Violation::WrongMessage(MessageId { sequence, .. })))
            if *sequence == expected)
    };
    let (expected, holds) = match fault {
        Fault::WrongByte => (
            "integrity: a byte of message 21",
            matches!(violation, Some((FAULT_AT, Violation::WrongByte { .. }))),
        ),
        Fault::WrongType => (
            "integrity: message 21's opcode",
            matches!(violation, Some((FAULT_AT, Violation::WrongType { .. }))),
        ),
        // There is no other message to be answered before it.
        Fault::Drop | Fault::Swap if alone => ("no reply to message 21", is_stalled),
        Fault::Drop | Fault::Swap => ("integrity: 22 instead of message 21", got(FAULT_AT + 1)),
        Fault::Duplicate => ("integrity: message 21 again", is_repeated(violation)),
        Fault::WrongCloseCode => (
            "1 connection closed with 1001",
            failure.is_none()
                && run.outcome.counts.unclosed == 1
                && matches!(
                    &run.outcome.unclosed,
                    Some(Unclosed {
                        reason: Loss::Close(Some(CloseReason { code: 1001, .. })),
                        ..
                    })
                ),
        ),
        Fault::Disconnect => (
            "connection lost at message 21",
            matches!(
                failure,
                Some(Failure::Lost {
                    message: FAULT_AT,
                    reason: Loss::Eof | Loss::Io(_),
                    ..
                })
            ),
        ),
    };
    Check::fact(
        &format!("{fault:?}, {loop_}"),
        expected,
        text(failure),
        holds,
    )
}

/// Whether a message came again instead of the next one, or unexpectedly.
fn is_repeated(violation: Option<(u64, &Violation)>) -> bool {
    let Some((message, violation)) = violation else {
        return false;
    };
    message == FAULT_AT + 1
        && match violation {
            Violation::Unsolicited => true,
            Violation::WrongMessage(id) => id.sequence == FAULT_AT,
            _ => false,
        }
}
