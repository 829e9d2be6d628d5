//! The fewest runs that can find a difference: with fewer, none is found however large it is,
//! as the least possible p-value is above the level that Holm's procedure leaves to its metric.

use super::finding::Contrast;
use super::settings::Settings;
use super::side::Side;
use crate::metric::Metric;
use crate::statistics::{least_p_value, pairs_min, runs_min};

/// A metric, and the fewest runs that can find a difference in it if no other metric differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MinimumRuns {
    metric: Metric,
    runs: usize,
}

impl Settings {
    /// The fewest pairs that can find a difference, by metric, as text.
    pub fn pairs_needed(&self) -> String {
        listed(&needs(&self.metrics, self.level, pairs_min))
    }

    /// A warning, if this number of pairs can find no difference in some of the metrics.
    pub fn too_few_pairs(&self, pairs: usize, unit: &str) -> Option<String> {
        let needs = needs(&self.metrics, self.level, pairs_min);
        warning(&format!("{pairs} {unit}s"), &needs, |need| {
            need.runs > pairs
        })
    }
}

/// The metrics of a contrast of pairs that were enough to find a difference.
pub(super) fn findable(contrast: &Contrast, level: f64) -> Vec<Metric> {
    let findings = contrast.findings.iter();
    let metrics: Vec<_> = findings.clone().map(|it| it.metric).collect();
    let needs = needs(&metrics, level, pairs_min);
    findings
        .zip(needs)
        .filter(|(finding, need)| finding.runs >= need.runs)
        .map(|(finding, _)| finding.metric)
        .collect()
}

/// A warning, if two groups have too few runs to find a difference in some of the metrics that
/// both have.
pub fn too_few_runs(
    baseline: &Side,
    side: &Side,
    contrast: &Contrast,
    level: f64,
) -> Option<String> {
    let metrics: Vec<_> = contrast.findings.iter().map(|it| it.metric).collect();
    let total: f64 = metrics.iter().map(|it| it.weight()).sum();
    let known = |side: &Side, metric| side.by_run(metric).iter().flatten().count();
    let subject = format!(
        "{} runs of {} and {} of {}",
        baseline.runs, baseline.label, side.runs, side.label
    );
    let needs = needs(&metrics, level, runs_min);
    warning(&subject, &needs, |need| {
        let metric = need.metric;
        let least = least_p_value(known(baseline, metric), known(side, metric));
        least > level * metric.weight() / total
    })
}

fn needs(metrics: &[Metric], level: f64, least: impl Fn(f64) -> usize) -> Vec<MinimumRuns> {
    let total: f64 = metrics.iter().map(|it| it.weight()).sum();
    let need = |metric: &Metric| MinimumRuns {
        metric: *metric,
        runs: least(level * metric.weight() / total),
    };
    metrics.iter().map(need).collect()
}

/// Metrics by what they need, the least first: `CPU/message 6; p50, p99 9`.
fn listed(needs: &[MinimumRuns]) -> String {
    let mut counts: Vec<_> = needs.iter().map(|need| need.runs).collect();
    counts.sort_unstable();
    counts.dedup();
    let groups = counts.into_iter().map(|count| {
        let alike = needs.iter().filter(|need| need.runs == count);
        let titles: Vec<_> = alike.map(|need| need.metric.title()).collect();
        format!("{} {count}", titles.join(", "))
    });
    groups.collect::<Vec<_>>().join("; ")
}

fn warning(
    subject: &str,
    needs: &[MinimumRuns],
    is_short: impl Fn(&MinimumRuns) -> bool,
) -> Option<String> {
    let short: Vec<_> = needs.iter().copied().filter(is_short).collect();
    if short.is_empty() {
        return None;
    }
    let what = if short.len() == needs.len() {
        "can find nothing"
    } else {
        "cannot find all differences"
    };
    let listed = listed(&short);
    Some(format!(
        "{subject} {what}, however large; needed at least: {listed}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::settings;
    use super::*;
    use crate::statistics::adjusted;

    #[test]
    fn the_minimum_is_listed_for_each_metric() {
        let needed = settings().pairs_needed();
        assert_eq!(
            needed,
            "CPU/message 6; messages/s, p50, p99, p99.9 9; RSS/connection 11"
        );
        let one = Settings {
            metrics: vec![Metric::P99],
            ..settings()
        };
        assert_eq!(one.pairs_needed(), "p99 6");
    }

    #[test]
    fn too_few_pairs_are_a_warning() {
        let warning = |pairs| settings().too_few_pairs(pairs, "pair");
        assert_eq!(
            warning(5).unwrap(),
            "5 pairs can find nothing, however large; needed at least: CPU/message 6; \
             messages/s, p50, p99, p99.9 9; RSS/connection 11"
        );
        assert_eq!(
            warning(6).unwrap(),
            "6 pairs cannot find all differences, however large; needed at least: \
             messages/s, p50, p99, p99.9 9; RSS/connection 11"
        );
        assert_eq!(warning(11), None);
    }

    /// The fewest pairs that are announced, all pointing one way, are significant; one less is
    /// not.
    #[test]
    fn the_minimum_is_that_of_the_test_and_its_correction() {
        let needs = needs(&Metric::ALL, 0.05, pairs_min);
        let weights = Metric::ALL.map(Metric::weight);
        for (index, need) in needs.iter().enumerate() {
            for (pairs, is_found) in [(need.runs, true), (need.runs - 1, false)] {
                let mut p_values = [1.0; Metric::ALL.len()];
                p_values[index] = 2.0 / 2.0_f64.powi(i32::try_from(pairs).unwrap());
                let adjusted = adjusted(&p_values, &weights)[index];
                assert_eq!(adjusted <= 0.05, is_found, "{need:?} {pairs}");
            }
        }
    }
}
