//! Checks accept what an honest generator reports, and nothing that a broken
//! one does.

use std::collections::VecDeque;
use std::time::Duration;

use super::check::{Check, CheckResult, Slack};
use super::injection::{FAULT_AT, Injection, ScenarioRun, ServerCounts, Tolerance};
use super::scenario::{Scenario, scenarios};
use super::{Attempt, retry, worst};
use crate::client::{CloseReason, MessageId, Violation};
use crate::failure::{Failure, Loss};
use crate::fixture;
use crate::outcome::{Counts, Histogram, Latencies, Outcome, Unclosed};
use crate::plan::Load;

const MS: u64 = 1_000_000;

/// The machine's share of a latency.
const MACHINE_NS: u64 = 50_000;

fn scenario(wanted: impl Fn(&Scenario) -> bool) -> Scenario {
    let found = scenarios(true, 1).into_iter().find(wanted);
    found.expect("there is one")
}

fn of(name: &str) -> Scenario {
    scenario(|scenario| format!("{:?}", scenario.injection).starts_with(name))
}

/// The result of the checks of an outcome. The bounds for a busy machine find the same faults,
/// except those that the machine explains.
fn result(scenario: &Scenario, outcome: &Outcome, rare: u64) -> CheckResult {
    let [quiet, busy] = [0.0, 1_000.0].map(|switches_per_s| {
        let (tolerance, _) = scenario.tolerance(true, switches_per_s);
        finding_within(scenario, outcome, rare, tolerance)
    });
    assert_eq!(quiet == CheckResult::Wrong, busy == CheckResult::Wrong);
    quiet
}

fn finding_within(
    scenario: &Scenario,
    outcome: &Outcome,
    rare: u64,
    tolerance: Tolerance,
) -> CheckResult {
    let checks = scenario.injection.check(&ScenarioRun {
        plan: &scenario.plan,
        outcome,
        server: ServerCounts {
            served: outcome.counts.answered,
            rare,
        },
        tolerance,
    });
    assert!(!checks.is_empty());
    worst(&checks)
}

/// All answered, with these response times and almost no lag.
fn answered(response_ns: &[u64]) -> Outcome {
    let mut latencies = Latencies::new();
    for &ns in response_ns {
        record(&mut latencies.response_ns, ns);
        record(&mut latencies.service_ns, ns);
        record(&mut latencies.lag_ns, 1_000);
    }
    let due = response_ns.len() as u64;
    Outcome {
        counts: Counts {
            due,
            sent: due,
            answered: due,
            echoed: due,
            ..Counts::default()
        },
        latencies,
        ..fixture::outcome()
    }
}

fn record(histogram: &mut Histogram, ns: u64) {
    histogram.record(ns).unwrap();
}

/// The response times of an open loop of 1,000/s that lasts 3 s and is stalled
/// from 1 s on for 1 s.
fn stalled() -> Vec<u64> {
    let response = |index: u64| match index {
        1_000..2_000 => (2_000 - index) * MS + MACHINE_NS,
        _ => MACHINE_NS,
    };
    (0..3_000).map(response).collect()
}

#[test]
fn a_constant_delay_is_found_and_nothing_shorter_or_twice_as_long() {
    let scenario = of("Constant");
    let with = |delay_ns: u64| result(&scenario, &answered(&vec![delay_ns; 1_000]), 0);
    assert_eq!(with(5 * MS), CheckResult::Holds);
    assert_eq!(with(5 * MS + MACHINE_NS), CheckResult::Holds);
    assert_eq!(with(5 * MS - MACHINE_NS), CheckResult::Wrong);
    assert_eq!(with(10 * MS), CheckResult::Disturbed);
    // One reply that came too soon.
    let mut times_ns = vec![5 * MS; 1_000];
    times_ns[500] = 4 * MS;
    assert_eq!(
        result(&scenario, &answered(&times_ns), 0),
        CheckResult::Wrong
    );
}

#[test]
fn lost_extra_and_doubly_recorded_messages_are_found() {
    let scenario = of("Nothing");
    let honest = || answered(&[MACHINE_NS; 2_000]);
    let after = |change: fn(&mut Outcome)| {
        let mut outcome = honest();
        change(&mut outcome);
        result(&scenario, &outcome, 0)
    };
    assert_eq!(after(|_| ()), CheckResult::Holds);
    assert_eq!(after(|outcome| outcome.counts.due -= 1), CheckResult::Wrong);
    assert_eq!(
        after(|outcome| outcome.counts.answered += 1),
        CheckResult::Wrong
    );
    assert_eq!(
        after(|outcome| outcome.counts.unanswered = 1),
        CheckResult::Wrong
    );
    let twice = after(|outcome| record(&mut outcome.latencies.response_ns, 1));
    assert_eq!(twice, CheckResult::Wrong);
    // The lag is part of the response, never more than it.
    let lag = after(|outcome| {
        let lag_ns = &mut outcome.latencies.lag_ns;
        lag_ns.reset();
        lag_ns.record_n(2 * MACHINE_NS, 2_000).unwrap();
    });
    assert_eq!(lag, CheckResult::Wrong);
    let failed = after(|outcome| outcome.failure = Some(Failure::Interrupted));
    assert_eq!(failed, CheckResult::Wrong);
    let unseen = ScenarioRun {
        plan: &scenario.plan,
        outcome: &honest(),
        server: ServerCounts {
            served: 1_999,
            rare: 0,
        },
        tolerance: scenario.tolerance(false, 0.0).0,
    };
    assert_eq!(
        worst(&scenario.injection.check(&unseen)),
        CheckResult::Wrong
    );
}

#[test]
fn two_modes_are_found_with_exactly_their_shares() {
    let scenario = of("Bimodal");
    let with = |slow: usize| {
        let mut times_ns = vec![MS + MACHINE_NS; 2_000 - slow];
        times_ns.extend(vec![40 * MS + MACHINE_NS; slow]);
        result(&scenario, &answered(&times_ns), 40)
    };
    assert_eq!(with(40), CheckResult::Holds);
    assert_eq!(
        with(39),
        CheckResult::Wrong,
        "one was not recorded as it was"
    );
    assert_eq!(with(41), CheckResult::Disturbed, "one was slow by itself");
    let honest = answered(&[MS; 2_000]);
    assert_eq!(result(&scenario, &honest, 0), CheckResult::Wrong);
}

#[test]
fn a_stall_is_found_as_many_slow_responses() {
    let scenario = of("OpenStall");
    assert_eq!(
        result(&scenario, &answered(&stalled()), 0),
        CheckResult::Holds
    );
}

#[test]
fn coordinated_omission_is_rejected() {
    let scenario = of("OpenStall");
    // The generator waited for its server: one slow response.
    let mut times_ns = vec![MACHINE_NS; 3_000];
    times_ns[1_000] = 1_000 * MS;
    assert_eq!(
        result(&scenario, &answered(&times_ns), 0),
        CheckResult::Wrong
    );
    // It also sent nothing in the meantime, or a tenth as much.
    times_ns.truncate(2_001);
    assert_eq!(
        result(&scenario, &answered(&times_ns), 0),
        CheckResult::Wrong
    );
    let tenth = stalled().into_iter().enumerate();
    let tenth: Vec<_> = tenth
        .map(|(index, ns)| if index % 10 == 0 { ns } else { MACHINE_NS })
        .collect();
    assert_eq!(result(&scenario, &answered(&tenth), 0), CheckResult::Wrong);
}

#[test]
fn a_generator_that_stops_sending_is_rejected() {
    let scenario = of("OpenStall");
    let mut outcome = answered(&stalled());
    let latencies = &mut outcome.latencies;
    latencies.service_ns.reset();
    latencies.service_ns.record_n(MACHINE_NS, 2_999).unwrap();
    latencies.service_ns.record(1_000 * MS).unwrap();
    latencies.lag_ns.reset();
    for ns in stalled() {
        record(&mut latencies.lag_ns, ns - MACHINE_NS + 1);
    }
    assert_ne!(result(&scenario, &outcome, 0), CheckResult::Holds);
}

#[test]
fn a_stall_of_another_shape_is_rejected() {
    let scenario = of("OpenStall");
    // The same number of slow ones, but all as slow as the stall is long, or half of it.
    for ns in [500 * MS, 1_000 * MS] {
        let flat: Vec<_> = stalled()
            .into_iter()
            .map(|response_ns| match response_ns {
                MACHINE_NS => MACHINE_NS,
                _ => ns,
            })
            .collect();
        assert_ne!(result(&scenario, &answered(&flat), 0), CheckResult::Holds);
    }
}

#[test]
fn a_closed_loop_has_one_slow_response() {
    let scenario = of("ClosedStall");
    let with = |slow: usize| {
        let mut times_ns = vec![MACHINE_NS; 10_000];
        times_ns.extend(vec![1_000 * MS; slow]);
        result(&scenario, &answered(&times_ns), 0)
    };
    assert_eq!(with(1), CheckResult::Holds);
    assert_eq!(with(0), CheckResult::Wrong);
    assert_eq!(with(2), CheckResult::Wrong);
}

/// Stalled from 500 ms on and aborted after 301 ms, 800 messages in.
fn timed_out(scenario: &Scenario) -> Outcome {
    let mut times_ns = vec![MACHINE_NS; 500];
    times_ns.extend((1..=301).map(|age| age * MS));
    let mut outcome = answered(&times_ns);
    outcome.counts.answered = 500;
    outcome.counts.unanswered = 301;
    outcome.counts.timed_out = 2;
    outcome.failure = Some(Failure::Stalled {
        connection: 0,
        message: 10,
        timeout: scenario.plan.timeout,
    });
    outcome
}

#[test]
fn unanswered_messages_count_with_their_age() {
    let scenario = of("Timeout");
    let after = |change: fn(&mut Outcome)| {
        let mut outcome = timed_out(&scenario);
        change(&mut outcome);
        result(&scenario, &outcome, 0)
    };
    assert_eq!(after(|_| ()), CheckResult::Holds);
    assert_eq!(after(|outcome| outcome.failure = None), CheckResult::Wrong);
    assert_eq!(
        after(|outcome| outcome.counts.unanswered = 0),
        CheckResult::Wrong
    );
    assert_eq!(
        after(|outcome| outcome.counts.timed_out = 0),
        CheckResult::Wrong
    );
    // Only the answered ones are recorded, as survivors.
    let survivors = after(|outcome| {
        outcome.latencies = answered(&[MACHINE_NS; 500]).latencies;
    });
    assert_eq!(survivors, CheckResult::Wrong);
    // All are recorded, but with no age.
    let ageless = after(|outcome| {
        outcome.latencies = answered(&[MACHINE_NS; 801]).latencies;
    });
    assert_eq!(ageless, CheckResult::Wrong);
}

#[test]
fn an_overload_has_to_be_reported() {
    let scenario = of("Overload");
    let due = 4_000_000;
    let overloaded = || {
        let mut outcome = answered(&[]);
        outcome.counts = Counts {
            due,
            sent: due / 2,
            answered: due / 2,
            unanswered: due / 2,
            echoed: due / 10,
            timed_out: due / 2,
            ..Counts::default()
        };
        let latencies = &mut outcome.latencies;
        latencies.response_ns.record_n(400 * MS, due).unwrap();
        latencies.lag_ns.record_n(300 * MS, due).unwrap();
        outcome
    };
    let after = |change: fn(&mut Outcome)| {
        let mut outcome = overloaded();
        change(&mut outcome);
        result(&scenario, &outcome, 0)
    };
    assert_eq!(after(|_| ()), CheckResult::Holds);
    // It claims to have kept up.
    assert_eq!(
        after(|outcome| outcome.counts.echoed = 4_000_000),
        CheckResult::Wrong
    );
    // Messages that it could not send are missing from the due ones.
    assert_eq!(after(|outcome| outcome.counts.due /= 2), CheckResult::Wrong);
    assert_eq!(
        after(|outcome| outcome.counts.unanswered -= 1),
        CheckResult::Wrong
    );
    // It was late and does not report it.
    let punctual = after(|outcome| {
        outcome.latencies.lag_ns.reset();
        outcome.latencies.lag_ns.record_n(1_000, 4_000_000).unwrap();
    });
    assert_eq!(punctual, CheckResult::Wrong);
}

#[test]
fn random_arrivals_may_vary_by_chance() {
    let scenario = of("RandomArrivals");
    let with = |due: usize| result(&scenario, &answered(&vec![MACHINE_NS; due]), 0);
    assert_eq!(with(2_000), CheckResult::Holds);
    assert_eq!(with(2_178), CheckResult::Holds);
    assert_eq!(with(2_180), CheckResult::Wrong);
    assert_eq!(with(1_820), CheckResult::Wrong);
}

fn integrity(message: u64, violation: Violation) -> Failure {
    Failure::Integrity {
        connection: 0,
        message,
        violation,
        got: None,
    }
}

/// An honest generator's failure for each fault, closed loops of one message apart.
fn failures() -> [(&'static str, Failure); 6] {
    let wrong = |sequence| {
        Violation::WrongMessage(MessageId {
            connection: 0,
            sequence,
        })
    };
    let byte = Violation::WrongByte {
        at: 31,
        got: 0,
        expected: 1,
    };
    let opcode = Violation::WrongType {
        got: 1,
        expected: 2,
    };
    [
        ("WrongByte", integrity(FAULT_AT, byte)),
        ("WrongType", integrity(FAULT_AT, opcode)),
        ("Drop", integrity(FAULT_AT, wrong(FAULT_AT + 1))),
        ("Swap", integrity(FAULT_AT, wrong(FAULT_AT + 1))),
        ("Duplicate", integrity(FAULT_AT + 1, wrong(FAULT_AT))),
        (
            "Disconnect",
            Failure::Lost {
                connection: 0,
                message: FAULT_AT,
                reason: Loss::Eof,
            },
        ),
    ]
}

#[test]
fn a_fault_has_to_be_reported_as_what_it_is() {
    for (fault, _) in failures() {
        let scenario = scenario(|scenario| {
            let injection = format!("{:?}", scenario.injection);
            injection == format!("Fault({fault})") && scenario.plan.is_open_loop()
        });
        let with = |failure: Option<Failure>| {
            let outcome = Outcome {
                failure,
                ..answered(&[MACHINE_NS; 20])
            };
            result(&scenario, &outcome, 0)
        };
        assert_eq!(with(None), CheckResult::Wrong, "{fault} went unnoticed");
        for (other, failure) in failures() {
            // Both look the same at the message that is missing.
            let alike = ["Drop", "Swap"];
            let is_right = fault == other || (alike.contains(&fault) && alike.contains(&other));
            let expected = if is_right {
                CheckResult::Holds
            } else {
                CheckResult::Wrong
            };
            assert_eq!(with(Some(failure)), expected, "{fault}, {other}");
        }
        let early = integrity(FAULT_AT - 1, Violation::Unsolicited);
        assert_eq!(with(Some(early)), CheckResult::Wrong);
    }
}

#[test]
fn a_wrong_close_code_is_noted_and_fails_no_run() {
    let scenario = of("Fault(WrongCloseCode)");
    let with = |unclosed: u64, code: u16| {
        let mut outcome = answered(&[MACHINE_NS; 20]);
        outcome.counts.unclosed = unclosed;
        let text = Vec::new();
        outcome.unclosed = Some(Unclosed {
            connection: 0,
            reason: Loss::Close(Some(CloseReason { code, text })),
        });
        result(&scenario, &outcome, 0)
    };
    assert_eq!(with(1, 1001), CheckResult::Holds);
    assert_eq!(with(0, 1001), CheckResult::Wrong);
    assert_eq!(with(1, 1000), CheckResult::Wrong);
    let unnoticed = result(&scenario, &answered(&[MACHINE_NS; 20]), 0);
    assert_eq!(unnoticed, CheckResult::Wrong);
}

#[test]
fn a_missing_reply_of_a_closed_loop_of_one_is_a_stall() {
    let scenario = scenario(|scenario| {
        format!("{:?}", scenario.injection) == "Fault(Drop)"
            && scenario.plan.load == Load::Closed { window: 1 }
    });
    let with = |message| {
        let outcome = Outcome {
            failure: Some(Failure::Stalled {
                connection: 0,
                message,
                timeout: Duration::from_millis(300),
            }),
            ..answered(&[MACHINE_NS; 20])
        };
        result(&scenario, &outcome, 0)
    };
    assert_eq!(with(FAULT_AT), CheckResult::Holds);
    assert_eq!(with(FAULT_AT + 1), CheckResult::Wrong);
}

/// Retries runs with these results, one after the other. Returns the final result and the number
/// of attempts.
fn retried(results: &[CheckResult]) -> (CheckResult, u32) {
    let mut runs: VecDeque<_> = results.iter().copied().collect();
    let attempt = |_| {
        let reported = match runs.pop_front().expect("no more tries") {
            CheckResult::Holds => 5,
            CheckResult::Disturbed => 11,
            CheckResult::Wrong => 4,
        };
        let checks = vec![Check::time("it", 5..=10, reported, Slack::Above)];
        Ok(Some(Attempt {
            checks,
            switches_per_s: 7.0,
            is_wide: false,
        }))
    };
    let retried = retry("a scenario", attempt).unwrap().unwrap();
    (worst(&retried.checks), retried.tries)
}

#[test]
fn only_disturbances_are_retried() {
    use CheckResult::{Disturbed, Holds, Wrong};
    assert_eq!(retried(&[Holds]), (Holds, 1));
    assert_eq!(retried(&[Disturbed, Holds]), (Holds, 2));
    assert_eq!(retried(&[Disturbed; 3]), (Disturbed, 3));
    assert_eq!(retried(&[Wrong]), (Wrong, 1));
    assert_eq!(retried(&[Disturbed, Wrong]), (Wrong, 2));
}

#[test]
fn bounds_are_wide_only_in_the_last_try_of_a_quick_run_on_a_busy_machine() {
    for quick in [true, false] {
        for scenario in scenarios(quick, 0) {
            for (is_last, switches_per_s) in [(false, 0.0), (false, 1e3), (true, 0.0), (true, 1e3)]
            {
                let (_, is_wide) = scenario.tolerance(is_last, switches_per_s);
                assert_eq!(is_wide, quick && is_last && switches_per_s > 0.0);
            }
        }
    }
}

#[test]
fn an_interrupt_ends_the_attempts() {
    assert!(retry("a scenario", |_| Ok(None)).unwrap().is_none());
}

#[test]
fn every_scenario_has_a_sound_plan_and_its_time() {
    for (quick, time_max) in [(true, 15), (false, 60)] {
        let mut time = Duration::ZERO;
        for mut scenario in scenarios(quick, 0) {
            scenario.plan.targets = fixture::plan().targets;
            assert_eq!(scenario.plan.validate(), Ok(()), "{}", scenario.title);
            // Faults, and a stall that times out, end their runs early.
            let is_cut = matches!(
                scenario.injection,
                Injection::Fault(_) | Injection::Timeout(_)
            );
            if let (crate::plan::Extent::Duration(length), false) = (scenario.plan.extent, is_cut) {
                time += length;
            }
        }
        assert!(time < Duration::from_secs(time_max - 5), "{time:?}");
    }
}
