//! The tests' p-values against those counted one by one, and those of the tables.

use fastrand::Rng;

use super::super::{Paired, Unpaired};

fn signed_rank(logs: &[f64]) -> f64 {
    let ratios: Vec<_> = logs.iter().map(|log| log.exp()).collect();
    Paired::of(&ratios, 0.95, 0).unwrap().p_value
}

fn rank_sum(a: &[f64], b: &[f64]) -> f64 {
    Unpaired::of(a, b, 0.95, 0).unwrap().p_value
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() < 1e-12,
        "{what}: {found} for {expected}"
    );
}

/// Mid-ranks by their definition.
fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let up_to = values.iter().filter(|other| *other <= value).count();
        f64::midpoint(below as f64 + 1.0, up_to as f64)
    };
    values.iter().map(rank).collect()
}

/// The share of the sums that are as far from their mean as the one seen.
fn share_as_far(sums: &[f64], observed: f64) -> f64 {
    let mean = sums.iter().sum::<f64>() / sums.len() as f64;
    let as_far = sums
        .iter()
        .filter(|sum| (*sum - mean).abs() >= (observed - mean).abs() - 1e-9);
    as_far.count() as f64 / sums.len() as f64
}

fn sum_of_selected(ranks: &[f64], selection: u32) -> f64 {
    let selected = ranks
        .iter()
        .enumerate()
        .filter(|(index, _)| selection >> index & 1 == 1);
    selected.map(|(_, rank)| rank).sum()
}

#[test]
fn every_way_to_sign_the_ranks_is_counted() {
    let mut random = Rng::with_seed(1);
    for _ in 0..300 {
        let count = random.usize(2..=10);
        let differences: Vec<_> = (0..count).map(|_| f64::from(random.i32(-4..=6))).collect();
        let sizes: Vec<_> = differences
            .iter()
            .map(|difference| difference.abs())
            .collect();
        let (ranks, signs): (Vec<_>, Vec<_>) = mid_ranks(&sizes)
            .into_iter()
            .zip(&differences)
            .filter(|(_, difference)| **difference != 0.0)
            .map(|(rank, difference)| (rank, *difference > 0.0))
            .unzip();
        let sums: Vec<_> = (0..1 << ranks.len())
            .map(|selection| sum_of_selected(&ranks, selection))
            .collect();
        let observed = ranks.iter().zip(&signs).filter(|(_, sign)| **sign);
        let expected = share_as_far(&sums, observed.map(|(rank, _)| rank).sum());
        assert_close(
            signed_rank(&differences),
            expected,
            &format!("{differences:?}"),
        );
    }
}

#[test]
fn every_way_to_group_the_runs_is_counted() {
    let mut random = Rng::with_seed(2);
    for _ in 0..100 {
        let (count_a, count_b) = (random.usize(4..=5), random.usize(4..=6));
        let values: Vec<_> = (0..count_a + count_b)
            .map(|_| f64::from(random.u32(1..=9)))
            .collect();
        let ranks = mid_ranks(&values);
        let sums: Vec<_> = (0..1_u32 << ranks.len())
            .filter(|selection| selection.count_ones() as usize == count_a)
            .map(|selection| sum_of_selected(&ranks, selection))
            .collect();
        let expected = share_as_far(&sums, ranks[..count_a].iter().sum());
        let (a, b) = values.split_at(count_a);
        assert_close(rank_sum(a, b), expected, &format!("{a:?} {b:?}"));
    }
}

#[test]
fn pairs_all_one_way_leave_two_of_all_signs() {
    for count in [2, 6, 10, 53, 200, 1_000] {
        let logs: Vec<_> = (1..=count).map(|nth| f64::from(nth) * 1e-3).collect();
        assert_close(
            signed_rank(&logs) / 2.0_f64.powi(1 - count),
            1.0,
            "of all signs",
        );
    }
    let alike = [0.01; 6];
    assert_close(signed_rank(&alike), 2.0 / 64.0, "ties");
}

#[test]
fn pairs_without_a_difference_have_a_p_value_of_one() {
    assert_close(signed_rank(&[0.0; 6]), 1.0, "no difference at all");
    let one_way = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
    assert_close(
        signed_rank(&[&one_way[..], &[0.0, 0.0]].concat()),
        2.0 / 64.0,
        "two zeros",
    );
}

/// Critical values of the tables: the sum of the lesser signs' ranks that is the
/// last to be significant at 5 %, and the first that is not.
#[test]
fn signed_ranks_agree_with_the_tables() {
    for (count, critical) in [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (15, 25), (20, 52)] {
        let with_negative_sum = |sum: i32| {
            let mut left = sum;
            let mut logs: Vec<_> = (1..=count)
                .rev()
                .map(|rank| {
                    let negative = rank <= left;
                    left -= if negative { rank } else { 0 };
                    f64::from(if negative { -rank } else { rank }) * 0.01
                })
                .collect();
            logs.reverse();
            signed_rank(&logs)
        };
        assert!(with_negative_sum(critical) <= 0.05, "{count}");
        assert!(with_negative_sum(critical + 1) > 0.05, "{count}");
    }
}

/// Critical values of U in the tables, for groups of the same size.
#[test]
fn rank_sums_agree_with_the_tables() {
    for (count, critical) in [(4, 0), (5, 2), (6, 5), (8, 13), (10, 23), (20, 127)] {
        let with_u = |u: usize| {
            // A run of `a` above `n` of `b` adds `n` to U.
            let above = |nth: usize| u.saturating_sub((count - 1 - nth) * count).min(count);
            let b: Vec<_> = (1..=count).map(|nth| nth as f64).collect();
            let a: Vec<_> = (0..count)
                .map(|nth| above(nth) as f64 + 0.5 + nth as f64 * 1e-3)
                .collect();
            rank_sum(&a, &b)
        };
        assert!(with_u(critical) <= 0.05, "{count}: {}", with_u(critical));
        assert!(
            with_u(critical + 1) > 0.05,
            "{count}: {}",
            with_u(critical + 1)
        );
    }
}

#[test]
fn large_groups_are_counted_as_well() {
    let values = |from: u32| (from..from + 100).map(f64::from).collect::<Vec<_>>();
    let p_value = rank_sum(&values(1_000), &values(1_015));
    // A run of the second is above 63.87 % of the first: 3.389 standard errors, for
    // which the normal approximation has 7.0e-4.
    assert!((p_value / 7.0e-4 - 1.0).abs() < 0.1, "{p_value}");
}
