//! Searches for a known limit.

use super::*;

const BOUNDS: Bounds = Bounds {
    lowest_per_s: 1_000.0,
    highest_per_s: None,
    tolerance: 0.02,
    steps: 30,
    confirm: 3,
};

/// Searches until there is an answer; returns the rates that were tried, and whether they held.
fn search(
    bounds: &Bounds,
    mut holds: impl FnMut(f64) -> bool,
) -> (Answer, Vec<(f64, Purpose, bool)>) {
    let mut bisection = Bisection::new(bounds.clone());
    let mut tried = Vec::new();
    while let Some((rate, purpose)) = bisection.next() {
        let held = holds(rate);
        tried.push((rate, purpose, held));
        bisection.record(Some(held));
        let most = bounds.steps + LOWEST_TRIES + (LOWERINGS_MAX + 1) * bounds.confirm;
        assert!(tried.len() <= most as usize, "{tried:?}");
    }
    (bisection.answer(), tried)
}

/// Rates come back as they were given.
fn is_at(tried: &(f64, Purpose, bool), rate: f64) -> bool {
    tried.0.to_bits() == rate.to_bits()
}

fn found(answer: Answer) -> (f64, Option<f64>) {
    match answer {
        Answer::Found {
            rate_per_s,
            fails_at_per_s,
            ..
        } => (rate_per_s, fails_at_per_s),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_is_found_to_the_tolerance() {
    let mut random = fastrand::Rng::with_seed(1);
    for highest_per_s in [None, Some(1e6)] {
        for _ in 0..500 {
            let limit = 1_000.0 * 10f64.powf(random.f64() * 2.9);
            let bounds = Bounds {
                highest_per_s,
                ..BOUNDS
            };
            let (answer, tried) = search(&bounds, |rate| rate <= limit);
            let (rate, fails) = found(answer);
            let fails = fails.expect("one that fails");
            assert!(rate <= limit && limit < fails, "{rate} {limit} {fails}");
            assert!(fails / rate <= 1.02, "{rate} {fails}");
            let confirming = tried.iter().filter(|one| one.1 == Purpose::Confirm);
            assert_eq!(confirming.map(|one| one.0).collect::<Vec<_>>(), [rate; 3]);
        }
    }
}

#[test]
fn the_found_rate_held_in_every_confirmation() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut answers = 0;
    for _ in 0..2_000 {
        let limit = 1_000.0 * 10f64.powf(random.f64() * 2.0);
        // Around the limit the result is random.
        let noise = random.f64() * 0.3;
        let mut chance = random.fork();
        let (answer, tried) = search(&BOUNDS, |rate| {
            rate <= limit * (1.0 + noise * (chance.f64() - 0.5))
        });
        match answer {
            Answer::Found {
                rate_per_s,
                fails_at_per_s,
                confirmed,
            } => {
                answers += 1;
                let last: Vec<_> = tried.iter().rev().take(3).collect();
                assert_eq!(confirmed, 3);
                for one in last {
                    assert_eq!(*one, (rate_per_s, Purpose::Confirm, true));
                }
                let fails = fails_at_per_s.expect("one that fails");
                assert!(fails > rate_per_s);
                assert!(tried.iter().any(|one| is_at(one, fails) && !one.2));
                let distance = rate_per_s / limit;
                let low = (1.0 - noise) / 1.5;
                assert!(
                    (low..=1.0 + noise).contains(&distance),
                    "{distance} {noise}"
                );
            }
            Answer::NothingHolds { lowest_per_s } => {
                assert!(tried.iter().any(|one| is_at(one, lowest_per_s) && !one.2));
                assert!(limit < 1_000.0 * (1.0 + noise), "{limit}");
            }
            Answer::Unconfirmed { .. } => {
                let failed = tried
                    .iter()
                    .filter(|one| one.1 == Purpose::Confirm && !one.2);
                assert_eq!(failed.count(), LOWERINGS_MAX as usize + 1);
            }
        }
    }
    assert!(answers > 1_900, "{answers}");
}

#[test]
fn every_sequence_of_results_terminates() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..2_000 {
        let odds = random.f64();
        let bounds = Bounds {
            highest_per_s: random.bool().then_some(50_000.0),
            steps: random.u32(1..20),
            confirm: random.u32(1..5),
            tolerance: 0.001 + random.f64(),
            ..BOUNDS
        };
        let mut chance = random.fork();
        let (_, tried) = search(&bounds, |_| chance.f64() < odds);
        let highest = bounds.highest_per_s.unwrap_or(RATE_MAX);
        for (rate, ..) in tried {
            assert!((bounds.lowest_per_s..=highest).contains(&rate), "{rate}");
        }
    }
}

#[test]
fn when_the_lowest_rate_fails_twice_nothing_holds() {
    let (answer, tried) = search(&BOUNDS, |_| false);
    assert_eq!(
        answer,
        Answer::NothingHolds {
            lowest_per_s: 1_000.0
        }
    );
    assert_eq!(tried.len(), 2);
    let mut count = 0;
    let (answer, _) = search(&BOUNDS, |rate| {
        count += 1;
        count > 1 && rate < 3_000.0
    });
    let (rate, _) = found(answer);
    assert!((2_900.0..3_000.0).contains(&rate), "once is chance: {rate}");
}

#[test]
fn a_highest_rate_that_holds_is_the_answer() {
    let bounds = Bounds {
        highest_per_s: Some(40_000.0),
        ..BOUNDS
    };
    let (answer, tried) = search(&bounds, |_| true);
    assert_eq!(found(answer), (40_000.0, None));
    assert_eq!(tried.len(), 2 + 3);
    let (answer, _) = search(&BOUNDS, |_| true);
    assert_eq!(found(answer), (RATE_MAX, None), "and no search goes beyond");
    let alone = Bounds {
        highest_per_s: Some(1_000.0),
        ..BOUNDS
    };
    assert_eq!(found(search(&alone, |_| true).0), (1_000.0, None));
}

#[test]
fn steps_end_a_search_early() {
    let bounds = Bounds { steps: 4, ..BOUNDS };
    let (answer, tried) = search(&bounds, |rate| rate < 3_000.0);
    assert_eq!(tried.len(), 4 + 3);
    let (rate, fails) = found(answer);
    assert!(rate < 3_000.0 && fails >= Some(3_000.0), "{rate} {fails:?}");
}

#[test]
fn an_unconfirmed_rate_is_lowered() {
    let (mut confirming, mut confirmed_at) = (0, Vec::new());
    let mut bisection = Bisection::new(BOUNDS);
    while let Some((rate, purpose)) = bisection.next() {
        let is_confirming = purpose == Purpose::Confirm;
        confirming += u32::from(is_confirming);
        if is_confirming {
            confirmed_at.push(rate);
        }
        // The second and the third run of a confirmation fail.
        bisection.record(Some(rate < 10_000.0 && !(2..=3).contains(&confirming)));
    }
    let (rate, fails) = found(bisection.answer());
    assert_eq!(confirmed_at.len(), 2 + 1 + 3);
    assert!(confirmed_at[2] < confirmed_at[0] && rate < confirmed_at[2]);
    assert_eq!(fails, Some(confirmed_at[2]));
}

#[test]
fn an_ended_search_reports_its_bounds() {
    let mut bisection = Bisection::new(BOUNDS);
    for held in [true, true, false] {
        bisection.record(Some(held));
    }
    assert_eq!(
        bisection.answer(),
        Answer::Unconfirmed {
            held_per_s: Some(2_000.0),
            fails_at_per_s: Some(4_000.0),
        }
    );
}

#[test]
fn an_unknown_run_is_repeated() {
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..200 {
        let limit = 1_000.0 * 10f64.powf(random.f64() * 2.9);
        let (answer, _) = search(&BOUNDS, |rate| rate <= limit);
        let mut bisection = Bisection::new(BOUNDS);
        let mut in_a_row = 0;
        while let Some((rate, purpose)) = bisection.next() {
            if in_a_row < UNKNOWN_TRIES - 1 && random.bool() {
                in_a_row += 1;
                bisection.record(None);
                assert_eq!(bisection.next(), Some((rate, purpose)));
            } else {
                in_a_row = 0;
                bisection.record(Some(rate <= limit));
            }
        }
        assert_eq!(bisection.answer(), answer);
    }
}

#[test]
fn repeated_unknown_runs_end_a_search_unconfirmed() {
    let mut bisection = Bisection::new(BOUNDS);
    for held in [Some(true), Some(true), Some(false), None, None, None] {
        assert!(bisection.next().is_some());
        bisection.record(held);
    }
    assert_eq!(bisection.next(), None);
    assert_eq!(
        bisection.answer(),
        Answer::Unconfirmed {
            held_per_s: Some(2_000.0),
            fails_at_per_s: Some(4_000.0),
        }
    );
}
