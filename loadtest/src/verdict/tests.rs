use super::*;
use crate::fixture;
use crate::plan::{Arrival, Extent, Load, Pace};
use std::time::Duration;

/// An open loop without any reason against it.
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
fn a_failure_is_the_only_reason() {
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
fn a_run_without_replies_is_invalid() {
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
fn replies_to_the_warm_up_do_not_count_for_the_rate() {
    // A server that stalled for the last second of the warm-up.
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
    // The number of replies is that of the due messages, but a sixth of them was the warm-up's.
    let hidden = Facts {
        echoed: 3_000,
        echoed_of_warmup: 500,
        answered: 2_990,
        ..behind.clone()
    };
    let (verdict_of_it, text) = verdict(&hidden);
    assert_eq!(verdict_of_it, Verdict::Invalid);
    assert!(text.starts_with("only 2,501 of 3,000 replies"), "{text}");
    // The usual number in flight is carried in and out.
    assert_valid(&Facts {
        echoed: 3_000,
        echoed_of_warmup: 50,
        carried_in: 50,
        response_mean_ns: 50e6,
        ..behind
    });
}

#[test]
fn a_hiccup_at_the_end_is_tolerated() {
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
    // The same deficit where replies are missing, or a larger share of the load.
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
fn the_advice_names_the_cause_of_a_deficit() {
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

    // In a closed loop it is normal, and only a note.
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
fn a_server_that_is_busy_in_pauses_is_suspect() {
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
fn a_deficit_of_a_starved_side_is_not_saturation() {
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
fn unanswered_messages_and_an_interrupt_are_noted() {
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
    // One slow reply at the end: the median shows that it is one.
    outcome.elapsed = Duration::from_secs(11);
    let facts = Facts::of(&plan, &outcome);
    assert_eq!(judge(&facts).verdict, Verdict::Valid, "{facts:?}");
    // The last reply is a second late, the median half a second.
    outcome.latencies.response_ns.reset();
    let ramp = &mut outcome.latencies.response_ns;
    for late_ms in 1..=1_000 {
        ramp.record_n(late_ms * 1_000_000, 500).unwrap();
    }
    let facts = Facts::of(&plan, &outcome);
    assert!((547_000..=550_000).contains(&facts.scheduled), "{facts:?}");
    assert_eq!(judge(&facts).reasons[0].verdict, Verdict::Invalid);
}
