//! The coverage of the intervals.

use fastrand::Rng;

use super::super::unpaired::difference;
use super::super::{ConfidenceInterval, median_interval};
use super::source::{Distribution, error_of, trials};

const CONFIDENCE: f64 = 0.95;

/// An interval that holds the truth more often than this is wider than it needs
/// to be.
const COVERAGE_MAX: f64 = 0.995;

/// The logarithm of the true ratio.
const SHIFT: f64 = 0.7;

#[test]
fn a_paired_interval_holds_the_true_ratio() {
    for distribution in Distribution::ALL {
        for count in [6, 10, 20, 40] {
            assert_paired(distribution, count);
        }
    }
}

#[test]
fn an_unpaired_interval_holds_the_true_ratio() {
    for distribution in Distribution::ALL {
        for counts in [(6, 6), (10, 10), (20, 20), (40, 40), (6, 40)] {
            assert_unpaired([distribution, distribution], 1.0, counts);
        }
    }
}

#[test]
fn groups_need_not_be_spread_alike() {
    for count in [6, 10, 20, 40] {
        assert_unpaired(
            [Distribution::Normal, Distribution::Skewed],
            5.0,
            (count, count),
        );
    }
}

/// With fewer than six runs no interval can keep to 95 % whatever the
/// distribution, if it is to have bounds at all.
#[test]
fn the_smallest_groups_are_covered_if_they_are_not_skewed() {
    for distribution in [Distribution::Normal, Distribution::Laplace] {
        for count in [2, 3, 4, 5] {
            assert_paired(distribution, count);
        }
        for counts in [(4, 4), (5, 5), (4, 20)] {
            assert_unpaired([distribution, distribution], 1.0, counts);
        }
    }
}

fn assert_paired(distribution: Distribution, count: usize) {
    let mut random = Rng::with_seed(count as u64);
    assert_covers(&format!("paired {distribution:?} {count}"), |seed| {
        let logs = distribution.logs(count, SHIFT, &mut random);
        median_interval(&logs, CONFIDENCE, seed).unwrap()
    });
}

/// The spread of the second group is `spread_b` times as wide.
fn assert_unpaired(
    distributions: [Distribution; 2],
    spread_b: f64,
    (count_a, count_b): (usize, usize),
) {
    let mut random = Rng::with_seed((count_a * count_b) as u64);
    assert_covers(
        &format!("unpaired {distributions:?} {count_a} {count_b}"),
        |seed| {
            let mut a = distributions[0].logs(count_a, 0.0, &mut random);
            let mut b = distributions[1].logs(count_b, 0.0, &mut random);
            for log in &mut b {
                *log = SHIFT + spread_b * *log;
            }
            a.sort_by(f64::total_cmp);
            b.sort_by(f64::total_cmp);
            difference(&a, &b, CONFIDENCE, seed)
        },
    );
}

fn assert_covers(what: &str, mut interval: impl FnMut(u64) -> ConfidenceInterval) {
    let trials = trials(200);
    let held = (0..trials).filter(|&trial| {
        let interval = interval(trial);
        (interval.low..=interval.high).contains(&SHIFT)
    });
    let coverage = held.count() as f64 / trials as f64;
    println!("{what}: {:.1} %", coverage * 100.0);
    assert!(
        coverage >= CONFIDENCE - error_of(CONFIDENCE, trials),
        "{what}: {coverage}"
    );
    assert!(
        coverage <= COVERAGE_MAX + error_of(COVERAGE_MAX, trials),
        "{what}: {coverage}"
    );
}
