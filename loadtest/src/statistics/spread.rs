//! Robust estimates of the spread of runs, for medians and ranks.
//!
//! Each spread is the width between order statistics that are a number of standard errors apart
//! (Lehmann 1963, Annals of Mathematical Statistics 34:1507), normalized by the number of runs.
//! So an outlier has as little weight here as in the tests, unlike in a standard deviation.

/// The spread that the signed-rank test has to overcome: the standard error of
/// the shift it sees is this over the root of the number of pairs.
pub(super) fn of_pairs(differences: &[f64]) -> f64 {
    let count = differences.len() as f64;
    let mut means = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (index, one) in differences.iter().enumerate() {
        means.extend(
            differences[index..]
                .iter()
                .map(|other| f64::midpoint(*one, *other)),
        );
    }
    let deviation = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
    half_width(means, deviation) * count.sqrt()
}

/// The spread that the rank-sum test has to overcome: the standard error of the
/// shift it sees is this times the root of `1/n + 1/m`.
pub(super) fn of_groups(a: &[f64], b: &[f64]) -> f64 {
    let (count_a, count_b) = (a.len() as f64, b.len() as f64);
    let differences = a
        .iter()
        .flat_map(|one| b.iter().map(move |other| other - one));
    let deviation = (count_a * count_b * (count_a + count_b + 1.0) / 12.0).sqrt();
    half_width(differences.collect(), deviation) / (1.0 / count_a + 1.0 / count_b).sqrt()
}

/// The spread of the median: its standard error is this over the root of the number of values,
/// for an interval of `errors` standard errors. Where values are denser near their median, more
/// errors are wider ones.
pub(super) fn of_median(values: &[f64], errors: f64) -> f64 {
    let root = (values.len() as f64).sqrt();
    half_width(values.to_vec(), errors * root / 2.0) / errors * root
}

/// Half the width between the values `places` to the left and to the right of the middle; in
/// proportion where there are fewer.
fn half_width(mut values: Vec<f64>, places: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let reach = places.min(middle);
    let width = at(&values, middle + reach) - at(&values, middle - reach);
    width / 2.0 * (places / reach)
}

/// The value at a place between two, in proportion.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among the values"
)]
fn at(sorted: &[f64], place: f64) -> f64 {
    let before = place as usize;
    let after = (before + 1).min(sorted.len() - 1);
    sorted[before] + place.fract() * (sorted[after] - sorted[before])
}
