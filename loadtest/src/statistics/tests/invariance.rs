//! Invariances of the statistics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{ConfidenceInterval, Paired, Unpaired, median};

const CONFIDENCE: f64 = 0.95;

fn assert_close(one: f64, other: f64) {
    assert!((one / other - 1.0).abs() < 1e-9, "{one} and {other}");
}

fn assert_same(one: ConfidenceInterval, other: ConfidenceInterval) {
    assert_close(one.low, other.low);
    assert_close(one.high, other.high);
}

fn inverted(interval: ConfidenceInterval) -> ConfidenceInterval {
    ConfidenceInterval {
        low: 1.0 / interval.high,
        high: 1.0 / interval.low,
    }
}

/// Values with a few places only, so that some are alike.
fn runs(least: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(
        (50_u32..200).prop_map(|percent| f64::from(percent) / 100.0),
        least..24,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn exchanged_pairs_invert_the_ratio(ratios in runs(2), seed: u64) {
        let one = Paired::of(&ratios, CONFIDENCE, seed).unwrap();
        let exchanged: Vec<_> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
        let other = Paired::of(&exchanged, CONFIDENCE, seed).unwrap();
        assert_close(other.median_ratio, 1.0 / one.median_ratio);
        assert_same(other.interval, inverted(one.interval));
        assert_close(other.p_value, one.p_value);
    }

    #[test]
    fn the_order_of_pairs_does_not_matter(mut ratios in runs(2), seed: u64) {
        let one = Paired::of(&ratios, CONFIDENCE, seed).unwrap();
        fastrand::Rng::with_seed(seed).shuffle(&mut ratios);
        let other = Paired::of(&ratios, CONFIDENCE, seed).unwrap();
        assert_close(other.median_ratio, one.median_ratio);
        assert_same(other.interval, one.interval);
        assert_close(other.p_value, one.p_value);
    }

    #[test]
    fn an_interval_contains_its_estimate(ratios in runs(2), b in runs(4), a in runs(4), seed: u64) {
        let paired = Paired::of(&ratios, CONFIDENCE, seed).unwrap();
        prop_assert!(paired.interval.low <= paired.median_ratio * (1.0 + 1e-9));
        prop_assert!(paired.interval.high >= paired.median_ratio * (1.0 - 1e-9));
        prop_assert!(paired.p_value > 0.0 && paired.p_value <= 1.0);
        let unpaired = Unpaired::of(&a, &b, CONFIDENCE, seed).unwrap();
        prop_assert!(unpaired.interval.low <= unpaired.ratio * (1.0 + 1e-9));
        prop_assert!(unpaired.interval.high >= unpaired.ratio * (1.0 - 1e-9));
        prop_assert!(unpaired.p_value > 0.0 && unpaired.p_value <= 1.0);
    }

    #[test]
    fn more_confidence_is_wider(ratios in runs(2), seed: u64) {
        let narrow = Paired::of(&ratios, 0.8, seed).unwrap().interval;
        let wide = Paired::of(&ratios, 0.99, seed).unwrap().interval;
        prop_assert!(wide.low <= narrow.low && wide.high >= narrow.high);
    }

    #[test]
    fn exchanged_groups_invert_the_ratio(a in runs(4), b in runs(4), seed: u64) {
        let one = Unpaired::of(&a, &b, CONFIDENCE, seed).unwrap();
        let other = Unpaired::of(&b, &a, CONFIDENCE, seed).unwrap();
        assert_close(other.ratio, 1.0 / one.ratio);
        assert_same(other.interval, inverted(one.interval));
        assert_same(other.interval_a, one.interval_b);
        assert_close(other.p_value, one.p_value);
    }

    #[test]
    fn the_unit_does_not_matter(a in runs(4), b in runs(4), factor in 1e-6..1e9, seed: u64) {
        let one = Unpaired::of(&a, &b, CONFIDENCE, seed).unwrap();
        let scaled = |runs: &[f64]| runs.iter().map(|run| run * factor).collect::<Vec<_>>();
        let other = Unpaired::of(&scaled(&a), &scaled(&b), CONFIDENCE, seed).unwrap();
        assert_close(other.ratio, one.ratio);
        assert_close(other.median_a, one.median_a * factor);
        assert_same(other.interval, one.interval);
        assert_close(other.p_value, one.p_value);
    }

    #[test]
    fn the_order_of_runs_does_not_matter(a in runs(4), mut b in runs(4), seed: u64) {
        let one = Unpaired::of(&a, &b, CONFIDENCE, seed).unwrap();
        fastrand::Rng::with_seed(seed).shuffle(&mut b);
        prop_assert_eq!(Unpaired::of(&a, &b, CONFIDENCE, seed).unwrap(), one);
    }

    #[test]
    fn half_of_all_are_on_each_side_of_the_median(values in runs(1)) {
        let median = median(&values).unwrap();
        let half = values.len().div_ceil(2);
        prop_assert!(values.iter().filter(|&&value| value <= median).count() >= half);
        prop_assert!(values.iter().filter(|&&value| value >= median).count() >= half);
    }
}

#[test]
fn invalid_samples_have_no_result() {
    for ratios in [
        &[][..],
        &[1.1],
        &[1.1, 0.0],
        &[1.1, -1.0],
        &[1.1, f64::NAN],
        &[1.1, f64::INFINITY],
    ] {
        assert_eq!(Paired::of(ratios, CONFIDENCE, 1), None, "{ratios:?}");
    }
    assert_eq!(Paired::of(&[1.1; 1_001], CONFIDENCE, 1), None);
    assert_eq!(Paired::of(&[1.1; 6], 1.0, 1), None);
    assert_eq!(Unpaired::of(&[1.0; 3], &[1.0; 9], CONFIDENCE, 1), None);
    assert_eq!(Unpaired::of(&[1.0; 9], &[1.0; 201], CONFIDENCE, 1), None);
    assert_eq!(
        Unpaired::of(&[1.0; 4], &[1.0, 1.0, 1.0, 0.0], CONFIDENCE, 1),
        None
    );
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[1.0, f64::NAN]), None);
}

#[test]
fn equal_runs_have_an_interval_of_one_number() {
    let paired = Paired::of(&[1.25; 3], CONFIDENCE, 1).unwrap();
    assert_close(paired.median_ratio, 1.25);
    assert_same(
        paired.interval,
        ConfidenceInterval {
            low: 1.25,
            high: 1.25,
        },
    );
    let unpaired = Unpaired::of(&[2.0; 4], &[2.0; 4], CONFIDENCE, 1).unwrap();
    assert_same(
        unpaired.interval,
        ConfidenceInterval {
            low: 1.0,
            high: 1.0,
        },
    );
    assert_close(unpaired.p_value, 1.0);
}
