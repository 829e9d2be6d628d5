//! The correction of p-values for multiple tests.

/// Adjusted p-values by the weighted method of Holm (1979, Scandinavian Journal of
/// Statistics 6:65), in the order given.
///
/// Rejecting those at or below a level keeps the probability of rejecting any that
/// holds at that level, however the tests depend on each other. A weight above
/// those of the others makes a test the stronger at their expense; alike, they are
/// Holm's usual method.
///
/// # Panics
/// Unless there is one weight above 0 for every p-value.
pub fn adjusted(p_values: &[f64], weights: &[f64]) -> Vec<f64> {
    assert_eq!(p_values.len(), weights.len(), "a weight for every p-value");
    assert!(
        weights
            .iter()
            .all(|&weight| weight.is_finite() && weight > 0.0),
        "weights are above 0"
    );
    let mut order: Vec<_> = (0..p_values.len()).collect();
    let per_weight = |index: usize| p_values[index] / weights[index];
    order.sort_by(|&one, &other| per_weight(one).total_cmp(&per_weight(other)));

    let mut adjusted = vec![1.0; p_values.len()];
    let mut weight_left: f64 = weights.iter().sum();
    let mut highest = 0.0_f64;
    for index in order {
        highest = highest.max(per_weight(index) * weight_left).min(1.0);
        adjusted[index] = highest;
        weight_left -= weights[index];
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        }
    }

    #[test]
    fn without_weights_the_least_is_multiplied_by_the_number_of_tests() {
        let found = adjusted(&[0.01, 0.04, 0.03, 0.005], &[1.0; 4]);
        assert_close(&found, &[0.03, 0.06, 0.06, 0.02]);
    }

    #[test]
    fn weights_shift_strength_from_one_test_to_another() {
        let found = adjusted(&[0.03, 0.03], &[2.0, 1.0]);
        assert_close(&found, &[0.045, 0.045]);
        let found = adjusted(&[0.03, 0.01], &[2.0, 1.0]);
        assert_close(&found, &[0.03, 0.03]);
        let found = adjusted(&[0.02, 0.3, 0.4], &[4.0, 1.0, 1.0]);
        assert_close(&found, &[0.03, 0.6, 0.6]);
    }

    #[test]
    fn nothing_is_above_one_and_one_test_is_left_alone() {
        assert_close(&adjusted(&[0.6, 0.7], &[1.0, 1.0]), &[1.0, 1.0]);
        assert_close(&adjusted(&[0.02], &[0.3]), &[0.02]);
        assert!(adjusted(&[], &[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "weights are above 0")]
    fn a_test_without_weight_is_a_mistake() {
        adjusted(&[0.5, 0.5], &[1.0, 0.0]);
    }
}
