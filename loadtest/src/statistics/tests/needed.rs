//! The power at the number of runs that is estimated to be needed.

use fastrand::Rng;

use super::super::median::logarithms;
use super::super::{
    least_p_value, median, median_interval, pairs_for_margin, pairs_min, pairs_needed, rank_sum,
    runs_min, runs_needed, signed_rank,
};
use super::source::Distribution;

const LEVEL: f64 = 0.05;
/// The level that Holm's procedure leaves to one of several metrics, before any was significant.
const SHARE: f64 = 0.004;

const POWER: f64 = 0.8;
const TRIALS: u64 = 200;

/// The bounds of the power with the number of runs estimated for 80 %, each trial by its own
/// spread.
const POWER_MIN: f64 = 0.7;
const POWER_MAX: f64 = 0.95;

/// The lower bound where some runs are far from the others, so that their number among the few
/// seen is random.
const POWER_MIN_FAR: f64 = 0.6;

/// The least share of trials with an estimate: with many outliers among few runs it can exceed
/// the limit.
const ESTIMATED_MIN: f64 = 0.9;

#[test]
fn as_many_pairs_as_needed_have_the_power_asked_for() {
    for distribution in Distribution::ALL {
        for (effect, spread, level) in [
            (1.05, 0.03, LEVEL),
            (0.95, 0.04, LEVEL),
            (1.05, 0.03, SHARE),
        ] {
            let mut random = Rng::with_seed(5);
            let what = format!("pairs {distribution:?} {effect} {spread} {level}");
            assert_power(distribution, &what, level, || {
                let observed = ratios(distribution, 20, 1.0, spread, &mut random);
                let pairs = pairs_needed(&observed, effect, level, POWER)?;
                let ratios = ratios(distribution, pairs, effect, spread, &mut random);
                Some(signed_rank::p_value(&logarithms(&ratios)?))
            });
        }
    }
}

/// Of pairs of runs, each disturbed on its own.
fn ratios(
    distribution: Distribution,
    pairs: usize,
    effect: f64,
    spread: f64,
    random: &mut Rng,
) -> Vec<f64> {
    let a = distribution.runs(pairs, 1.0, spread, random);
    let b = distribution.runs(pairs, effect, spread, random);
    a.iter().zip(b).map(|(a, b)| b / a).collect()
}

#[test]
fn as_many_runs_as_needed_have_the_power_asked_for() {
    for distribution in [
        Distribution::Normal,
        Distribution::Laplace,
        Distribution::Outliers,
    ] {
        for (effect, spread) in [(1.05, 0.04), (1.1, 0.1)] {
            let mut random = Rng::with_seed(6);
            let what = format!("runs {distribution:?} {effect} {spread}");
            assert_power(distribution, &what, LEVEL, || {
                let seen_a = distribution.runs(15, 30.0, spread, &mut random);
                let seen_b = distribution.runs(15, 30.0, spread, &mut random);
                let runs = runs_needed(&seen_a, &seen_b, effect, LEVEL, POWER)?;
                let a = distribution.runs(runs, 30.0, spread, &mut random);
                let b = distribution.runs(runs, 30.0 * effect, spread, &mut random);
                Some(rank_sum::p_value(&logarithms(&a)?, &logarithms(&b)?))
            });
        }
    }
}

fn assert_power(
    distribution: Distribution,
    what: &str,
    level: f64,
    mut p_value: impl FnMut() -> Option<f64>,
) {
    let p_values: Vec<_> = (0..TRIALS).filter_map(|_| p_value()).collect();
    let found = p_values.iter().filter(|&&p_value| p_value <= level).count();
    let (estimated, power) = (
        p_values.len() as f64 / TRIALS as f64,
        found as f64 / p_values.len() as f64,
    );
    println!(
        "{what}: {:.1} % of {:.1} %",
        power * 100.0,
        estimated * 100.0
    );
    assert!(estimated >= ESTIMATED_MIN, "{what}: {estimated}");
    let power_min = match distribution {
        Distribution::Skewed | Distribution::Outliers => POWER_MIN_FAR,
        Distribution::Normal | Distribution::Laplace => POWER_MIN,
    };
    assert!((power_min..=POWER_MAX).contains(&power), "{what}: {power}");
}

/// The width that an interval will have is as much a matter of chance as its
/// place, so the width in the middle is judged.
#[test]
fn as_many_pairs_as_needed_have_an_interval_about_as_narrow() {
    for distribution in Distribution::ALL {
        for (margin, spread) in [(0.05, 0.1), (0.02, 0.03)] {
            let mut random = Rng::with_seed(7);
            let widths: Vec<_> = (0..TRIALS)
                .filter_map(|seed| {
                    let observed = distribution.runs(20, 1.1, spread, &mut random);
                    let pairs = pairs_for_margin(&observed, margin, 0.95)?;
                    let ratios = distribution.runs(pairs, 1.1, spread, &mut random);
                    let interval = median_interval(&ratios, 0.95, seed)?;
                    Some((interval.high / interval.low).ln() / 2.0 / f64::ln(1.0 + margin))
                })
                .collect();
            assert!(
                widths.len() as f64 >= ESTIMATED_MIN * TRIALS as f64,
                "{distribution:?} {margin}"
            );
            let middle = median(&widths).unwrap();
            println!("margin {distribution:?} {margin} {spread}: {middle:.2}");
            assert!(
                (0.75..=1.2).contains(&middle),
                "{distribution:?} {margin}: {middle}"
            );
        }
    }
}

#[test]
fn small_differences_and_wide_spreads_need_more() {
    let narrow: [f64; 6] = [1.0, 1.03, 1.06, 0.97, 0.94, 1.0];
    let wide: Vec<f64> = narrow.iter().map(|ratio| ratio.powi(5)).collect();
    let needed = |ratios: &[f64], effect| pairs_needed(ratios, effect, LEVEL, POWER).unwrap();
    assert!(needed(&narrow, 1.02) > needed(&narrow, 1.05));
    assert!(needed(&wide, 1.05) > needed(&narrow, 1.05));
    assert_eq!(needed(&narrow, 1.05), needed(&narrow, 1.0 / 1.05));
    assert!(pairs_for_margin(&wide, 0.05, 0.95) > pairs_for_margin(&narrow, 0.05, 0.95));
}

/// No spread makes up for too few signs or ranks.
#[test]
fn equal_runs_still_need_the_minimum_number() {
    assert_eq!(pairs_needed(&[1.0; 4], 1.05, LEVEL, POWER), Some(6));
    assert_eq!(pairs_for_margin(&[1.0; 4], 0.05, 0.95), Some(6));
    assert_eq!(
        runs_needed(&[1.0; 4], &[1.0; 4], 1.05, LEVEL, POWER),
        Some(4)
    );
    assert_eq!(
        runs_needed(&[1.0; 4], &[1.0; 4], 1.05, 0.01, POWER),
        Some(5)
    );
}

/// All signs alike are 2 of `2ⁿ`, groups wholly apart 2 of all ways to pick one.
#[test]
fn the_fewest_that_find_anything_are_those_of_the_tables() {
    for (level, pairs, runs) in [
        (0.05, 6, 4),
        (0.0325, 6, 4),
        (0.05 / 6.0, 8, 5),
        (0.004, 9, 6),
        (0.0015, 11, 7),
    ] {
        assert_eq!(pairs_min(level), pairs, "{level}");
        assert_eq!(runs_min(level), runs, "{level}");
    }
    for (a, b, ways) in [(4, 4, 70.0), (4, 6, 210.0), (6, 4, 210.0), (5, 5, 252.0)] {
        assert!((least_p_value(a, b) * ways - 2.0).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn too_few_runs_have_no_estimate() {
    let ratios = [1.0, 1.1, 0.9, 1.2];
    assert_eq!(pairs_needed(&ratios[..3], 1.05, LEVEL, POWER), None);
    assert_eq!(pairs_needed(&ratios, 1.0, LEVEL, POWER), None);
    assert_eq!(pairs_needed(&ratios, 1.000_1, LEVEL, POWER), None);
    assert_eq!(pairs_needed(&ratios, 1.05, 0.0, POWER), None);
    assert_eq!(pairs_for_margin(&ratios, 0.0, 0.95), None);
    assert_eq!(pairs_for_margin(&ratios, 0.05, 1.0), None);
    assert_eq!(runs_needed(&ratios, &ratios[..3], 1.05, LEVEL, POWER), None);
    assert_eq!(runs_needed(&ratios, &ratios, 1.000_1, LEVEL, POWER), None);
}
