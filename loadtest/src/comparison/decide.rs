//! The verdicts from the numbers.

use crate::metric::Metric;
use crate::statistics::{
    ConfidenceInterval, Paired, SPREAD_RUNS_MIN, Unpaired, adjusted, median, pairs_for_margin,
    pairs_min, pairs_needed, runs_min, runs_needed,
};

use super::finding::{ComparisonVerdict, Contrast, MetricFinding, Outlook};
use super::settings::Settings;
use super::side::Side;

/// The power that the outlook aims at for the smallest relevant effect.
const POWER: f64 = 0.8;

/// An estimate below this part of the present runs is taken for none.
const MORE_DIVISOR: usize = 4;

/// Compares sides whose runs are paired. A metric with fewer than two pairs is left out.
pub fn paired(baseline: &Side, side: &Side, settings: &Settings) -> Contrast {
    let measured = settings.metrics.iter().filter_map(|&metric| {
        let runs = baseline.by_run(metric).iter().zip(side.by_run(metric));
        let pairs = runs.filter_map(|(a, b)| Some((((*a)?), (*b)?)));
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let ratios: Vec<_> = a.iter().zip(&b).map(|(a, b)| b / a).collect();
        let paired = Paired::of(&ratios, settings.confidence(), settings.seed)?;
        Some(MetricEstimate {
            metric,
            runs: paired.pairs,
            baseline: median(&a)?,
            value: median(&b)?,
            ratio: paired.median_ratio,
            interval: paired.interval,
            p_value: paired.p_value,
            evidence: Evidence::Pairs(ratios),
        })
    });
    contrast(baseline, side, measured.collect(), settings)
}

/// Compares sides whose runs are two groups. A metric with fewer than
/// [`SAMPLES_MIN`](crate::statistics::SAMPLES_MIN) runs on either side is left out.
pub fn unpaired(baseline: &Side, side: &Side, settings: &Settings) -> Contrast {
    let measured = settings.metrics.iter().filter_map(|&metric| {
        let known = |side: &Side| side.by_run(metric).iter().flatten().copied().collect();
        let (a, b): (Vec<f64>, Vec<f64>) = (known(baseline), known(side));
        let unpaired = Unpaired::of(&a, &b, settings.confidence(), settings.seed)?;
        Some(MetricEstimate {
            metric,
            runs: a.len().min(b.len()),
            baseline: unpaired.median_a,
            value: unpaired.median_b,
            ratio: unpaired.ratio,
            interval: unpaired.interval,
            p_value: unpaired.p_value,
            evidence: Evidence::Groups(a, b),
        })
    });
    contrast(baseline, side, measured.collect(), settings)
}

/// A metric before its verdict, which depends on the others.
struct MetricEstimate {
    metric: Metric,
    runs: usize,
    baseline: f64,
    value: f64,
    ratio: f64,
    interval: ConfidenceInterval,
    p_value: f64,
    evidence: Evidence,
}

/// The samples of a metric.
enum Evidence {
    /// The ratios of the pairs.
    Pairs(Vec<f64>),
    /// The runs of the baseline, and those of the other side.
    Groups(Vec<f64>, Vec<f64>),
}

impl Evidence {
    /// The number of runs that a conclusion takes: to find a ratio at a level, or to have an
    /// interval within `room`.
    fn needed(&self, effect: f64, level: f64, room: Option<f64>, confidence: f64) -> Option<usize> {
        let (to_find, to_rule_out) = match self {
            Self::Pairs(ratios) => (
                pairs_needed(ratios, effect, level, POWER),
                room.and_then(|room| pairs_for_margin(ratios, room, confidence)),
            ),
            // An effect is ruled out with as many runs as would find it.
            Self::Groups(a, b) => (
                runs_needed(a, b, effect, level, POWER),
                room.and_then(|room| runs_needed(a, b, 1.0 + room, 1.0 - confidence, POWER)),
            ),
        };
        to_find.into_iter().chain(to_rule_out).min()
    }

    /// The fewest runs that can find anything at a level.
    fn least(&self, level: f64) -> usize {
        match self {
            Self::Pairs(_) => pairs_min(level),
            Self::Groups(..) => runs_min(level),
        }
    }
}

fn contrast(
    baseline: &Side,
    side: &Side,
    measured: Vec<MetricEstimate>,
    settings: &Settings,
) -> Contrast {
    let p_values: Vec<_> = measured.iter().map(|it| it.p_value).collect();
    let weights: Vec<_> = measured.iter().map(|it| it.metric.weight()).collect();
    let adjusted = adjusted(&p_values, &weights);
    let is_invalid = baseline.invalid + side.invalid > 0;
    let levels = levels(&adjusted, &weights, settings.level);
    let findings: Vec<_> = measured
        .into_iter()
        .zip(adjusted.into_iter().zip(levels))
        .map(|(measured, (adjusted, level))| {
            let finding = finding(&measured, adjusted, level, settings);
            if is_invalid {
                of_invalid(finding)
            } else {
                finding
            }
        })
        .collect();
    Contrast {
        side: side.label.clone(),
        baseline: baseline.label.clone(),
        verdict: overall(&findings, settings),
        findings,
    }
}

/// The level that Holm's procedure leaves to each metric that is not significant: its share of
/// the whole, plus those of the significant ones.
fn levels(adjusted: &[f64], weights: &[f64], level: f64) -> Vec<f64> {
    let open = adjusted.iter().zip(weights).filter(|(p, _)| **p > level);
    let open: f64 = open.map(|(_, weight)| weight).sum();
    let level_of = |(p, weight): (&f64, &f64)| {
        if *p > level {
            level * weight / open
        } else {
            level
        }
    };
    adjusted.iter().zip(weights).map(level_of).collect()
}

/// Invalid runs show nothing of either side, however certain the difference is.
fn of_invalid(mut finding: MetricFinding) -> MetricFinding {
    finding.verdict = ComparisonVerdict::Inconclusive;
    finding.outlook = Some(Outlook::Invalid);
    finding
}

fn finding(
    measured: &MetricEstimate,
    adjusted_p_value: f64,
    level: f64,
    settings: &Settings,
) -> MetricFinding {
    let mut finding = MetricFinding {
        metric: measured.metric,
        runs: measured.runs,
        baseline: measured.baseline,
        value: measured.value,
        ratio: measured.ratio,
        interval: measured.interval,
        p_value: measured.p_value,
        adjusted_p_value,
        margin: settings.margin(measured.metric),
        verdict: ComparisonVerdict::Inconclusive,
        outlook: None,
    };
    finding.verdict = verdict(&finding, settings);
    if finding.verdict == ComparisonVerdict::Inconclusive {
        finding.outlook = Some(outlook(measured, level, settings));
    }
    finding
}

/// Derives the verdicts of a contrast from its stored numbers: those in the file may be of other
/// settings or another version.
pub(super) fn derive_verdicts(contrast: &mut Contrast, settings: &Settings) {
    for finding in &mut contrast.findings {
        finding.margin = settings.margin(finding.metric);
        if finding.outlook != Some(Outlook::Invalid) {
            finding.verdict = verdict(finding, settings);
        }
        if finding.verdict != ComparisonVerdict::Inconclusive {
            finding.outlook = None;
        }
    }
    contrast.verdict = overall(&contrast.findings, settings);
}

/// The number of runs that would settle an inconclusive metric, if its estimate is right.
fn outlook(measured: &MetricEstimate, level: f64, settings: &Settings) -> Outlook {
    let runs = measured.runs;
    if runs < SPREAD_RUNS_MIN {
        let least = measured.evidence.least(level).max(SPREAD_RUNS_MIN);
        return Outlook::AtLeast(least - runs);
    }
    let observed = distance(measured.ratio);
    let effect = 1.0 + observed.max(settings.min_effect);
    let room = (1.0 + settings.margin(measured.metric)) / (1.0 + observed) - 1.0;
    let room = (room > 0.0).then_some(room);
    let confidence = settings.confidence();
    match measured.evidence.needed(effect, level, room, confidence) {
        None => Outlook::TooNoisy,
        // The estimate says that the runs so far suffice, and they did not.
        Some(needed) => Outlook::More(needed.saturating_sub(runs).max(runs.div_ceil(MORE_DIVISOR))),
    }
}

fn verdict(finding: &MetricFinding, settings: &Settings) -> ComparisonVerdict {
    let ratio = finding.ratio;
    let is_found = finding.adjusted_p_value <= settings.level;
    if is_found && distance(ratio) >= settings.min_effect {
        return if (ratio > 1.0) == finding.metric.is_more_better() {
            ComparisonVerdict::Better
        } else {
            ComparisonVerdict::Worse
        };
    }
    if reach(finding.interval) <= finding.margin {
        ComparisonVerdict::NoDifference
    } else {
        ComparisonVerdict::Inconclusive
    }
}

/// The distance of a ratio from 1, as a share, the same for a ratio and its inverse.
fn distance(ratio: f64) -> f64 {
    ratio.max(ratio.recip()) - 1.0
}

/// The largest distance of an interval from 1, as a share.
pub(super) fn reach(interval: ConfidenceInterval) -> f64 {
    distance(interval.low).max(distance(interval.high))
}

fn overall(findings: &[MetricFinding], settings: &Settings) -> ComparisonVerdict {
    let any = |verdict| findings.iter().any(|it| it.verdict == verdict);
    match (
        any(ComparisonVerdict::Better),
        any(ComparisonVerdict::Worse),
    ) {
        (true, true) => return ComparisonVerdict::Mixed,
        (true, false) => return ComparisonVerdict::Better,
        (false, true) => return ComparisonVerdict::Worse,
        (false, false) => {}
    }
    let deciding = settings.deciding(findings);
    let is_clear = |finding: &&MetricFinding| finding.verdict == ComparisonVerdict::NoDifference;
    if !deciding.is_empty() && deciding.iter().all(is_clear) {
        ComparisonVerdict::NoDifference
    } else {
        ComparisonVerdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::super::Values;
    use super::super::fixture::settings;
    use super::super::settings::LEVEL;
    use super::*;
    use crate::fixture;
    use crate::result::ResultFile;

    /// Runs whose CPU time per message is the fixture's times these factors.
    fn side(label: &str, factors: &[f64]) -> Side {
        let runs: Vec<ResultFile> = factors
            .iter()
            .map(|factor| {
                let mut run = fixture::result();
                let cost = run.summary.server.as_mut().expect("the fixture has one");
                cost.cpu_ns_per_message = cost.cpu_ns_per_message.map(|ns| ns * factor);
                run
            })
            .collect();
        Side::of(label, &runs, &settings())
    }

    const CALM: [f64; 6] = [1.0, 1.01, 0.99, 1.003, 0.997, 1.006];

    fn slower(by: f64) -> [f64; 6] {
        CALM.map(|factor| factor * by)
    }

    fn cpu(contrast: &Contrast) -> &MetricFinding {
        contrast
            .finding(Metric::CpuPerMessage)
            .expect("it was measured")
    }

    #[test]
    fn six_pairs_that_point_one_way_are_enough() {
        let contrast = paired(&side("A", &CALM), &side("B", &slower(1.3)), &settings());
        let found = cpu(&contrast);
        assert_eq!(
            (found.verdict, contrast.verdict),
            (ComparisonVerdict::Worse, ComparisonVerdict::Worse)
        );
        assert!((found.p_value - 2.0 / 64.0).abs() < 1e-12, "{found:?}");
        assert!(found.adjusted_p_value <= LEVEL, "{found:?}");
        assert!(contrast.is_regression());
        let five = paired(
            &side("A", &CALM[..5]),
            &side("B", &slower(1.3)[..5]),
            &settings(),
        );
        assert_eq!(cpu(&five).verdict, ComparisonVerdict::Inconclusive);
        assert_eq!(cpu(&five).outlook, Some(Outlook::More(2)));
    }

    #[test]
    fn exchanged_sides_are_better_instead_of_worse() {
        let contrast = paired(&side("A", &slower(1.3)), &side("B", &CALM), &settings());
        assert_eq!(cpu(&contrast).verdict, ComparisonVerdict::Better);
        assert!(!contrast.is_regression());
    }

    #[test]
    fn a_significant_difference_below_min_effect_is_none() {
        let contrast = paired(&side("A", &CALM), &side("B", &slower(1.01)), &settings());
        let found = cpu(&contrast);
        assert!(found.p_value < LEVEL, "{found:?}");
        assert_eq!(found.verdict, ComparisonVerdict::NoDifference);
        assert_eq!(contrast.verdict, ComparisonVerdict::NoDifference);
    }

    #[test]
    fn the_margin_does_not_grow_with_the_noise() {
        let noisy = [0.1, 6.0, 0.9, 3.2, 0.3, 11.0];
        let (a, b) = (side("A", &noisy), side("B", &slower(1.2)));
        for contrast in [paired(&a, &b, &settings()), unpaired(&a, &b, &settings())] {
            let found = cpu(&contrast);
            assert!(
                found.interval.low < 0.5 && found.interval.high > 5.0,
                "{found:?}"
            );
            assert_eq!(found.verdict, ComparisonVerdict::Inconclusive, "{found:?}");
            assert!((found.margin - 0.05).abs() < 1e-12, "{found:?}");
        }
    }

    /// The forecast uses the level that Holm's procedure leaves to the metric, at which fewer
    /// pairs find nothing.
    #[test]
    fn the_forecast_is_at_the_level_that_the_metric_has() {
        let weights = [65.0, 8.0, 8.0, 8.0, 8.0, 3.0];
        let shares = levels(&[1.0; 6], &weights, LEVEL);
        assert!((shares[0] - 0.0325).abs() < 1e-12, "{shares:?}");
        assert!((shares[1] - 0.004).abs() < 1e-12, "{shares:?}");
        // A significant metric passes its share of the level on to the others.
        let shares = levels(&[0.01, 0.2, 0.2, 0.2, 0.2, 0.2], &weights, LEVEL);
        assert!((shares[1] - 0.05 * 8.0 / 35.0).abs() < 1e-12, "{shares:?}");
        let seventy_times: Vec<_> = CALM.iter().map(|factor| factor * 73.0).collect();
        let runs = |factors: &[f64]| {
            let mut side = side("B", factors);
            // The same numbers in a metric with a smaller share, and CPU time alike.
            let cpu = side.values[&Metric::CpuPerMessage].clone();
            side.values.insert(Metric::P99, cpu);
            side.values.insert(
                Metric::CpuPerMessage,
                Values::of(CALM.map(Some).to_vec(), &settings()),
            );
            side
        };
        let contrast = paired(&runs(&CALM), &runs(&seventy_times), &settings());
        let p99 = contrast.finding(Metric::P99).expect("it is there");
        assert_eq!(p99.verdict, ComparisonVerdict::Inconclusive, "{p99:?}");
        assert_eq!(p99.outlook, Some(Outlook::More(9 - 6)), "{p99:?}");
    }

    #[test]
    fn too_few_pairs_give_a_minimum_instead_of_an_estimate() {
        let contrast = paired(
            &side("A", &CALM[..2]),
            &side("B", &slower(1.3)[..2]),
            &settings(),
        );
        assert_eq!(cpu(&contrast).outlook, Some(Outlook::AtLeast(4)));
    }

    #[test]
    fn invalid_runs_are_inconclusive() {
        let mut slow = side("B", &slower(1.3));
        slow.invalid = 1;
        let contrast = paired(&side("A", &CALM), &slow, &settings());
        assert_eq!(contrast.verdict, ComparisonVerdict::Inconclusive);
        let verdicts = contrast
            .findings
            .iter()
            .map(|it| (it.verdict, it.outlook))
            .all(|it| it == (ComparisonVerdict::Inconclusive, Some(Outlook::Invalid)));
        assert!(verdicts, "{contrast:?}");
    }

    #[test]
    fn stored_verdicts_are_derived_again_from_the_numbers() {
        let noisy = [0.8, 1.3, 0.9, 1.2, 0.7, 1.4];
        let open = paired(&side("A", &CALM), &side("B", &noisy), &settings());
        let mut kind = open.clone();
        kind.verdict = ComparisonVerdict::NoDifference;
        for finding in &mut kind.findings {
            (finding.verdict, finding.margin) = (ComparisonVerdict::NoDifference, 9.0);
        }
        derive_verdicts(&mut kind, &settings());
        assert_eq!(kind.verdict, ComparisonVerdict::Inconclusive);
        assert_eq!(cpu(&kind).verdict, ComparisonVerdict::Inconclusive);
    }

    #[test]
    fn an_interval_beyond_the_margin_is_inconclusive() {
        let noisy = [0.8, 1.3, 0.9, 1.2, 0.7, 1.4];
        let strict = Settings {
            margin: Some(0.1),
            ..settings()
        };
        let open = paired(&side("A", &CALM), &side("B", &noisy), &strict);
        assert_eq!(open.verdict, ComparisonVerdict::Inconclusive);
        assert!(matches!(
            cpu(&open).outlook,
            Some(Outlook::More(2..) | Outlook::TooNoisy)
        ));
    }

    #[test]
    fn unpaired_groups_get_the_same_verdicts() {
        let contrast = unpaired(&side("A", &CALM), &side("B", &slower(1.3)), &settings());
        assert_eq!(contrast.verdict, ComparisonVerdict::Worse);
        let contrast = unpaired(&side("A", &CALM), &side("B", &CALM), &settings());
        assert_eq!(contrast.verdict, ComparisonVerdict::NoDifference);
        let few = unpaired(&side("A", &CALM[..3]), &side("B", &CALM), &settings());
        assert_eq!(
            (few.findings.len(), few.verdict),
            (0, ComparisonVerdict::Inconclusive)
        );
    }

    #[test]
    fn one_better_and_one_worse_is_mixed() {
        let finding = |metric, verdict| MetricFinding {
            metric,
            runs: 9,
            baseline: 1.0,
            value: 1.0,
            ratio: 1.0,
            interval: ConfidenceInterval {
                low: 1.0,
                high: 1.0,
            },
            p_value: 1.0,
            adjusted_p_value: 1.0,
            margin: 0.1,
            verdict,
            outlook: None,
        };
        for (cpu, throughput, p99, expected) in [
            (
                ComparisonVerdict::Better,
                ComparisonVerdict::Worse,
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::Mixed,
            ),
            (
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::Worse,
                ComparisonVerdict::Worse,
            ),
            (
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::Inconclusive,
                ComparisonVerdict::NoDifference,
            ),
            (
                ComparisonVerdict::Inconclusive,
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::NoDifference,
                ComparisonVerdict::Inconclusive,
            ),
        ] {
            let findings = [
                finding(Metric::CpuPerMessage, cpu),
                finding(Metric::Throughput, throughput),
                finding(Metric::P99, p99),
            ];
            assert_eq!(overall(&findings, &settings()), expected);
        }
        let only = [finding(Metric::P99, ComparisonVerdict::Inconclusive)];
        assert_eq!(overall(&only, &settings()), ComparisonVerdict::Inconclusive);
        assert_eq!(overall(&[], &settings()), ComparisonVerdict::Inconclusive);
    }
}
