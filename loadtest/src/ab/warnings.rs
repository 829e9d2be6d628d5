//! Warnings about a comparison.

use crate::comparison::{ComparisonVerdict, Contrast};
use crate::failure::Failure;
use crate::result::ResultFile;
use crate::verdict::Verdict;

/// The runs of a side that are not VALID.
pub(super) fn of_runs(label: &str, runs: &[ResultFile]) -> Vec<String> {
    let warning = |verdict| {
        let mut bad = runs.iter().filter(|run| run.judgement.verdict == verdict);
        let first = bad.next()?;
        let reason = first.judgement.worst()?;
        Some(format!(
            "{} of {} runs of {label} are {verdict}; of the first: {} ({})",
            1 + bad.count(),
            runs.len(),
            reason.what,
            reason.advice
        ))
    };
    [Verdict::Invalid, Verdict::Suspect]
        .into_iter()
        .filter_map(warning)
        .collect()
}

/// A comparison that was not brought to its end.
pub(super) fn of_early_end(count: usize, requested: usize, failure: Option<&Failure>) -> String {
    let complete = format!("when {count} of {requested} pairs were complete");
    match failure {
        Some(failure) => format!("ended {complete}: {failure}"),
        None => format!("interrupted {complete}"),
    }
}

/// A server that differs from itself.
pub(super) fn of_noise(noise: &Contrast) -> Option<String> {
    let is_different = |verdict| {
        !matches!(
            verdict,
            ComparisonVerdict::NoDifference | ComparisonVerdict::Inconclusive
        )
    };
    let found = noise.findings.iter().filter(|it| is_different(it.verdict));
    let found: Vec<_> = found.map(|finding| finding.metric.title()).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{} seems to differ from itself in {}: chance in one of twenty comparisons, or \
             something disturbs this machine (ask loadtest doctor)",
            noise.baseline,
            found.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::verdict::{Facts, judge};

    /// A run with this number of replies in time.
    fn run(echoed: u64) -> ResultFile {
        let (plan, mut outcome) = (fixture::plan(), fixture::outcome());
        outcome.counts.echoed = echoed;
        let mut run = fixture::result_of(&plan, &outcome);
        run.judgement = judge(&Facts::of(&plan, &outcome));
        run
    }

    #[test]
    fn runs_that_are_not_valid_are_counted_with_a_reason() {
        assert_eq!(of_runs("A", &[run(500_000), run(500_000)]), [""; 0]);
        let warnings = of_runs("B", &[run(500_000), run(410_000), run(300_000)]);
        assert_eq!(
            warnings,
            [
                "2 of 3 runs of B are INVALID; of the first: only 410,000 of 500,000 replies came \
              in time (82.0 % of the target rate) (neither is at its limit: the server did not \
              answer for a while; look at the seconds, or lower --rate)"
            ]
        );
    }
}
