//! Comparisons for spreadsheets and scripts, as results are: plain numbers, and an
//! empty field for what is not known.

use super::Comparison;
use super::finding::{Contrast, MetricFinding, Outlook};
use crate::report::csv_line;

/// New columns go to the end of the line.
const TITLES: [&str; 15] = [
    "kind",
    "side",
    "baseline",
    "metric",
    "verdict",
    "runs",
    "baseline_median",
    "side_median",
    "ratio",
    "interval_low",
    "interval_high",
    "p_value",
    "adjusted_p_value",
    "margin",
    "more_runs_needed",
];

pub(super) fn comparison(comparison: &Comparison) -> String {
    let noise = comparison.noise.iter().map(|noise| ("noise", noise));
    let contrasts = comparison.contrasts.iter().map(|it| ("comparison", it));
    let mut csv = csv_line(&TITLES.map(str::to_owned));
    for (kind, contrast) in noise.chain(contrasts) {
        for finding in &contrast.findings {
            csv += &csv_line(&fields(kind, contrast, finding));
        }
    }
    csv
}

fn fields(kind: &str, contrast: &Contrast, finding: &MetricFinding) -> [String; TITLES.len()] {
    let more = match finding.outlook {
        Some(Outlook::More(runs) | Outlook::AtLeast(runs)) => runs.to_string(),
        // No number of runs is enough.
        Some(Outlook::TooNoisy) => "inf".to_owned(),
        Some(Outlook::Invalid) | None => String::new(),
    };
    [
        kind.to_owned(),
        contrast.side.clone(),
        contrast.baseline.clone(),
        finding.metric.to_string(),
        finding.verdict.to_string(),
        finding.runs.to_string(),
        finding.baseline.to_string(),
        finding.value.to_string(),
        finding.ratio.to_string(),
        finding.interval.low.to_string(),
        finding.interval.high.to_string(),
        finding.p_value.to_string(),
        finding.adjusted_p_value.to_string(),
        finding.margin.to_string(),
        more,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::fixture;

    #[test]
    fn every_metric_of_every_side_has_a_line() {
        let mut two = fixture::two();
        two.contrasts[0].findings.truncate(3);
        assert_eq!(
            two.csv(),
            "\
kind,side,baseline,metric,verdict,runs,baseline_median,side_median,ratio,interval_low,interval_high,p_value,adjusted_p_value,margin,more_runs_needed
noise,A again,A,cpu-per-message,no difference,10,1000,1002,1.002,0.99,1.011,0.4,0.8,0.05,
comparison,B,A,throughput,no difference,10,2000000,1980000,0.99,0.98,1.01,0.2,0.4,0.05,
comparison,B,A,cpu-per-message,worse,10,1000,1052,1.052,1.041,1.064,0.002,0.003,0.05,
comparison,B,A,p50,inconclusive,10,50000,52000,1.04,0.8,1.3,0.3,0.4,0.05,14
"
        );
    }
}
