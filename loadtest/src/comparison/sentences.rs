//! The sentences of a comparison.

use super::Comparison;
use super::cells::{self, changes};
use super::finding::{ComparisonVerdict, Contrast, MetricFinding};
use super::minimum_runs::findable;

/// The verdict on one side against the baseline.
pub(super) fn sentence(comparison: &Comparison, contrast: &Contrast) -> String {
    let (side, baseline) = (&contrast.side, &contrast.baseline);
    let with = |verdict| {
        let found = contrast.findings.iter().filter(|it| it.verdict == verdict);
        found.map(changes).collect::<Vec<_>>().join(", ")
    };
    match contrast.verdict {
        verdict @ (ComparisonVerdict::Better | ComparisonVerdict::Worse) => {
            format!("{side} is {verdict} than {baseline}: {}", with(verdict))
        }
        ComparisonVerdict::Mixed => format!(
            "{side} is better than {baseline} in {}, and worse in {}",
            with(ComparisonVerdict::Better),
            with(ComparisonVerdict::Worse)
        ),
        ComparisonVerdict::NoDifference => {
            let reaches = comparison
                .settings
                .deciding(&contrast.findings)
                .into_iter()
                .map(|it| format!("{} within {}", it.metric.title(), cells::reach(it)));
            let reaches: Vec<_> = reaches.collect();
            format!(
                "no difference between {baseline} and {side}: {}",
                reaches.join(", ")
            )
        }
        ComparisonVerdict::Inconclusive => {
            let unknown = comparison
                .settings
                .deciding(&contrast.findings)
                .into_iter()
                .filter(|it| it.verdict == ComparisonVerdict::Inconclusive)
                .map(|finding| unclear(comparison, finding));
            let unknown: Vec<_> = unknown.collect();
            let what = if unknown.is_empty() {
                "too few runs have the numbers".to_owned()
            } else {
                unknown.join("; ")
            };
            format!("inconclusive, {side} against {baseline}: {what}")
        }
    }
}

/// The differences that can be found on a machine of known noise.
pub(super) fn resolution(comparison: &Comparison, noise: &Contrast) -> String {
    let findable = findable(noise, comparison.settings.level);
    let shown = noise.findings.iter();
    let shown = shown.filter(|finding| findable.contains(&finding.metric));
    let reaches = shown.map(|finding| {
        let reach = cells::reach(finding);
        format!(
            "{} {}",
            finding.metric.title(),
            reach.trim_start_matches('±')
        )
    });
    let reaches: Vec<_> = reaches.collect();
    let runs = noise.findings.iter().map(|it| it.runs).min().unwrap_or(0);
    let unit = cells::unit(comparison);
    if reaches.is_empty() {
        return format!("{runs} {unit}s cannot show a difference on any machine");
    }
    format!(
        "with {runs} {unit}s, this machine can show differences of more than: {}",
        reaches.join(", ")
    )
}

fn unclear(comparison: &Comparison, finding: &MetricFinding) -> String {
    let outlook = finding
        .outlook
        .map(|it| format!(", {}", cells::outlook(it, cells::unit(comparison))));
    changes(finding) + &outlook.unwrap_or_default()
}
