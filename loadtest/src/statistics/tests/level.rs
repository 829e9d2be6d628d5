//! The rate of false alarms.

use fastrand::Rng;

use super::super::{adjusted, rank_sum, signed_rank};
use super::source::{Distribution, error_of, normal};

const LEVEL: f64 = 0.05;
const TRIALS: u64 = 1_500;

fn assert_at_most_level(found: usize, trials: u64, what: &str) {
    let share = found as f64 / trials as f64;
    println!("{what}: {:.1} %", share * 100.0);
    assert!(share <= LEVEL + error_of(LEVEL, trials), "{what}: {share}");
}

#[test]
fn false_alarms_of_pairs_are_within_the_level() {
    for distribution in Distribution::ALL {
        for count in [6, 10, 20, 40] {
            let mut random = Rng::with_seed(count as u64);
            let found = (0..TRIALS).filter(|_| {
                let a = distribution.logs(count, 4.0, &mut random);
                let b = distribution.logs(count, 4.0, &mut random);
                let logs: Vec<_> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
                signed_rank::p_value(&logs) <= LEVEL
            });
            assert_at_most_level(
                found.count(),
                TRIALS,
                &format!("pairs {distribution:?} {count}"),
            );
        }
    }
}

#[test]
fn false_alarms_of_groups_are_within_the_level() {
    for distribution in Distribution::ALL {
        for (count_a, count_b) in [(4, 4), (6, 6), (10, 20), (20, 20)] {
            let mut random = Rng::with_seed(count_b as u64);
            let found = (0..TRIALS).filter(|_| {
                let a = distribution.logs(count_a, 4.0, &mut random);
                let b = distribution.logs(count_b, 4.0, &mut random);
                rank_sum::p_value(&a, &b) <= LEVEL
            });
            let what = format!("groups {distribution:?} {count_a} {count_b}");
            assert_at_most_level(found.count(), TRIALS, &what);
        }
    }
}

/// Six metrics of the same runs, alike to a degree, with weights or without.
#[test]
fn false_alarms_of_many_metrics_are_within_the_level() {
    const METRICS: usize = 6;
    const PAIRS: usize = 12;
    for (seed, in_common) in [(1, 0.0), (2, 0.5), (3, 0.9)] {
        let mut random = Rng::with_seed(seed);
        let mut found = [0; 2];
        for _ in 0..TRIALS {
            let shared: Vec<_> = (0..PAIRS).map(|_| normal(&mut random)).collect();
            let p_values: Vec<_> = (0..METRICS)
                .map(|_| {
                    let own = f64::sqrt(1.0 - in_common);
                    let logs: Vec<_> = shared
                        .iter()
                        .map(|shared| f64::sqrt(in_common) * shared + own * normal(&mut random))
                        .collect();
                    signed_rank::p_value(&logs)
                })
                .collect();
            let weights = [[1.0; METRICS], [5.0, 3.0, 1.0, 1.0, 1.0, 0.5]];
            for (found, weights) in found.iter_mut().zip(weights) {
                let adjusted = adjusted(&p_values, &weights);
                *found += usize::from(adjusted.iter().any(|&p_value| p_value <= LEVEL));
            }
        }
        for (found, what) in found.into_iter().zip(["alike", "weighted"]) {
            assert_at_most_level(found, TRIALS, &format!("Holm, {what}, {in_common}"));
        }
    }
}
