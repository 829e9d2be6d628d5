//! From numbers to verdicts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::statistics::{
    Interval, Paired, Unpaired, adjusted, median, pairs_for_margin, pairs_needed, runs_needed,
};

use super::finding::{Contrast, Finding, Outlook, Verdict};
use super::side::Side;

/// How often a comparison of two servers that do not differ may find a
/// difference, all metrics together.
pub const LEVEL: f64 = 0.05;

/// How sure the outlook makes one of finding the least effect of interest.
const POWER: f64 = 0.8;

/// Less than this part of the runs there are is no prospect of a conclusion.
const MORE_DIVISOR: usize = 4;

/// So many of ten successive runs of a server differ by less than the noise.
const NOISE_TENTHS: usize = 9;

/// What is asked of the statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// By what the servers are compared.
    pub metrics: Vec<Metric>,
    /// The least difference that is of interest, as a share.
    pub min_effect: f64,
    /// Up to here servers are called alike, as a share, instead of each metric's
    /// own margin.
    pub margin: Option<f64>,
    /// How often a difference may be found where there is none.
    pub level: f64,
    /// Whether the load leaves the throughput to the servers.
    pub is_closed_loop: bool,
    /// Where the bootstrap's samples come from.
    pub seed: u64,
}

impl Settings {
    /// What intervals are to contain the truth with.
    pub fn confidence(&self) -> f64 {
        1.0 - self.level
    }

    /// Up to where the sides of these runs are alike. Who asks for a margin gets
    /// it. Else nobody is told of a difference that is smaller than what two runs
    /// of one server differ by.
    fn margin(&self, metric: Metric, runs: [&[f64]; 2]) -> f64 {
        let margin = self
            .margin
            .unwrap_or_else(|| metric.margin().max(noise(runs)));
        margin.max(self.min_effect)
    }

    /// The metrics that a comparison stands and falls with: those that the load
    /// leaves to the servers and the machine's noise does not drown.
    pub(super) fn decisive(&self) -> [Metric; 2] {
        if self.is_closed_loop {
            [Metric::CpuPerMessage, Metric::Throughput]
        } else {
            [Metric::CpuPerMessage, Metric::P50]
        }
    }

    /// What was found of those; all findings where none of them was measured.
    pub(super) fn deciding<'a>(&self, findings: &'a [Finding]) -> Vec<&'a Finding> {
        let is_decisive = |finding: &&Finding| self.decisive().contains(&finding.metric);
        let decisive: Vec<_> = findings.iter().filter(is_decisive).collect();
        if decisive.is_empty() {
            findings.iter().collect()
        } else {
            decisive
        }
    }
}

/// Compares sides whose runs belong together one by one. A metric that fewer
/// than two pairs have is left out.
pub fn paired(baseline: &Side, side: &Side, settings: &Settings) -> Contrast {
    let measured = settings.metrics.iter().filter_map(|&metric| {
        let runs = baseline.by_run(metric).iter().zip(side.by_run(metric));
        let pairs = runs.filter_map(|(a, b)| Some((((*a)?), (*b)?)));
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let ratios: Vec<_> = a.iter().zip(&b).map(|(a, b)| b / a).collect();
        let paired = Paired::of(&ratios, settings.confidence(), settings.seed)?;
        Some(Measured {
            metric,
            runs: paired.pairs,
            baseline: median(&a)?,
            value: median(&b)?,
            ratio: paired.median_ratio,
            interval: paired.interval,
            p_value: paired.p_value,
            margin: settings.margin(metric, [&a, &b]),
            evidence: Evidence::Pairs(ratios),
        })
    });
    contrast(baseline, side, measured.collect(), settings)
}

/// Compares sides whose runs are two groups. A metric that fewer than
/// [`SAMPLES_MIN`](crate::statistics::SAMPLES_MIN) runs of either have is left
/// out.
pub fn unpaired(baseline: &Side, side: &Side, settings: &Settings) -> Contrast {
    let measured = settings.metrics.iter().filter_map(|&metric| {
        let known = |side: &Side| side.by_run(metric).iter().flatten().copied().collect();
        let (a, b): (Vec<f64>, Vec<f64>) = (known(baseline), known(side));
        let unpaired = Unpaired::of(&a, &b, settings.confidence(), settings.seed)?;
        Some(Measured {
            metric,
            runs: a.len().min(b.len()),
            baseline: unpaired.median_a,
            value: unpaired.median_b,
            ratio: unpaired.ratio,
            interval: unpaired.interval,
            p_value: unpaired.p_value,
            margin: settings.margin(metric, [&a, &b]),
            evidence: Evidence::Groups(a, b),
        })
    });
    contrast(baseline, side, measured.collect(), settings)
}

/// A metric before its verdict, which depends on the others.
struct Measured {
    metric: Metric,
    runs: usize,
    baseline: f64,
    value: f64,
    ratio: f64,
    interval: Interval,
    p_value: f64,
    margin: f64,
    evidence: Evidence,
}

/// What a metric was judged by.
enum Evidence {
    /// The ratios of the pairs.
    Pairs(Vec<f64>),
    /// The runs of the baseline, and those of the other side.
    Groups(Vec<f64>, Vec<f64>),
}

impl Evidence {
    /// How many runs a conclusion takes: to find a ratio, or to have an interval
    /// that reaches as far as there is room, at a level.
    fn needed(&self, effect: f64, room: Option<f64>, level: f64) -> Option<usize> {
        let (to_find, to_rule_out) = match self {
            Self::Pairs(ratios) => (
                pairs_needed(ratios, effect, level, POWER),
                room.and_then(|room| pairs_for_margin(ratios, room, 1.0 - level)),
            ),
            // What can be ruled out is what would have been found.
            Self::Groups(a, b) => (
                runs_needed(a, b, effect, level, POWER),
                room.and_then(|room| runs_needed(a, b, 1.0 + room, level, POWER)),
            ),
        };
        to_find.into_iter().chain(to_rule_out).min()
    }
}

fn contrast(
    baseline: &Side,
    side: &Side,
    measured: Vec<Measured>,
    settings: &Settings,
) -> Contrast {
    let p_values: Vec<_> = measured.iter().map(|it| it.p_value).collect();
    let weights: Vec<_> = measured.iter().map(|it| it.metric.weight()).collect();
    let adjusted = adjusted(&p_values, &weights);
    let findings: Vec<_> = measured
        .into_iter()
        .zip(adjusted)
        .map(|(measured, adjusted)| finding(&measured, adjusted, settings))
        .collect();
    Contrast {
        side: side.label.clone(),
        baseline: baseline.label.clone(),
        verdict: overall(&findings, settings),
        findings,
    }
}

fn finding(measured: &Measured, adjusted_p_value: f64, settings: &Settings) -> Finding {
    let verdict = verdict(measured, adjusted_p_value, settings);
    let outlook = (verdict == Verdict::Inconclusive).then(|| outlook(measured, settings));
    Finding {
        metric: measured.metric,
        runs: measured.runs,
        baseline: measured.baseline,
        value: measured.value,
        ratio: measured.ratio,
        interval: measured.interval,
        p_value: measured.p_value,
        adjusted_p_value,
        margin: measured.margin,
        verdict,
        outlook,
    }
}

/// What it would take to know, if what seems to be so is.
fn outlook(measured: &Measured, settings: &Settings) -> Outlook {
    let seen = distance(measured.ratio);
    let effect = 1.0 + seen.max(settings.min_effect);
    let room = (1.0 + measured.margin) / (1.0 + seen) - 1.0;
    let room = (room > 0.0).then_some(room);
    match measured.evidence.needed(effect, room, settings.level) {
        None => Outlook::TooNoisy,
        // Where as many as there are should have been enough, they were not.
        Some(runs) => Outlook::More(
            runs.saturating_sub(measured.runs)
                .max(measured.runs.div_ceil(MORE_DIVISOR)),
        ),
    }
}

fn verdict(measured: &Measured, adjusted_p_value: f64, settings: &Settings) -> Verdict {
    let ratio = measured.ratio;
    let is_found = adjusted_p_value <= settings.level;
    if is_found && distance(ratio) >= settings.min_effect {
        return if (ratio > 1.0) == measured.metric.is_more_better() {
            Verdict::Better
        } else {
            Verdict::Worse
        };
    }
    if reach(measured.interval) <= measured.margin {
        Verdict::NoDifference
    } else {
        Verdict::Inconclusive
    }
}

/// What successive runs of one server differ by, as a share: all but one of ten
/// differ by less. It does not depend on what the servers differ by.
fn noise(runs: [&[f64]; 2]) -> f64 {
    let successive = runs.into_iter().flat_map(|runs| runs.windows(2));
    let mut apart: Vec<_> = successive.map(|pair| distance(pair[1] / pair[0])).collect();
    apart.sort_by(f64::total_cmp);
    let rank = (apart.len() * NOISE_TENTHS).div_ceil(10);
    rank.checked_sub(1).map_or(0.0, |index| apart[index])
}

/// How far a ratio is from 1, as a share, the same for a ratio and its inverse.
fn distance(ratio: f64) -> f64 {
    ratio.max(ratio.recip()) - 1.0
}

/// How far from 1 an interval reaches, as a share.
pub(super) fn reach(interval: Interval) -> f64 {
    distance(interval.low).max(distance(interval.high))
}

fn overall(findings: &[Finding], settings: &Settings) -> Verdict {
    let any = |verdict| findings.iter().any(|it| it.verdict == verdict);
    match (any(Verdict::Better), any(Verdict::Worse)) {
        (true, true) => return Verdict::Mixed,
        (true, false) => return Verdict::Better,
        (false, true) => return Verdict::Worse,
        (false, false) => {}
    }
    let deciding = settings.deciding(findings);
    let is_clear = |finding: &&Finding| finding.verdict == Verdict::NoDifference;
    if !deciding.is_empty() && deciding.iter().all(is_clear) {
        Verdict::NoDifference
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::settings;
    use super::*;
    use crate::fixture;
    use crate::result::ResultFile;

    /// Runs whose CPU time per message is the fixture's times these.
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

    fn cpu(contrast: &Contrast) -> &Finding {
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
            (Verdict::Worse, Verdict::Worse)
        );
        assert!((found.p_value - 2.0 / 64.0).abs() < 1e-12, "{found:?}");
        assert!(found.adjusted_p_value <= LEVEL, "{found:?}");
        assert!(contrast.is_regression());
        let five = paired(
            &side("A", &CALM[..5]),
            &side("B", &slower(1.3)[..5]),
            &settings(),
        );
        assert_eq!(cpu(&five).verdict, Verdict::Inconclusive);
        assert_eq!(cpu(&five).outlook, Some(Outlook::More(2)));
    }

    #[test]
    fn the_other_way_round_it_is_better() {
        let contrast = paired(&side("A", &slower(1.3)), &side("B", &CALM), &settings());
        assert_eq!(cpu(&contrast).verdict, Verdict::Better);
        assert!(!contrast.is_regression());
    }

    #[test]
    fn what_is_found_and_of_no_interest_is_none() {
        let contrast = paired(&side("A", &CALM), &side("B", &slower(1.01)), &settings());
        let found = cpu(&contrast);
        assert!(found.p_value < LEVEL, "{found:?}");
        assert_eq!(found.verdict, Verdict::NoDifference);
        assert_eq!(contrast.verdict, Verdict::NoDifference);
    }

    #[test]
    fn noise_is_what_runs_of_one_server_differ_by() {
        assert!(noise([&[], &[3.0]]).abs() < 1e-12);
        let (calm, restless) = ([1.0; 6], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert!((noise([&calm, &restless]) - 1.0).abs() < 1e-12);
        // One of ten is left out, and what the servers differ by is no part of it.
        let jump = [5.0, 5.0, 5.0, 5.0, 5.0, 9.0];
        assert!(noise([&calm, &jump]).abs() < 1e-12);
    }

    #[test]
    fn what_is_smaller_than_the_noise_is_none_unless_a_margin_says_so() {
        let restless = [1.0, 1.3, 0.9, 1.2, 0.8, 1.3];
        let other = [1.1, 1.2, 1.0, 1.1, 0.9, 1.2];
        let (a, b) = (side("A", &restless), side("B", &other));
        let contrast = paired(&a, &b, &settings());
        assert_eq!(cpu(&contrast).verdict, Verdict::NoDifference);
        assert!(cpu(&contrast).margin > 0.3, "{:?}", cpu(&contrast));
        let strict = Settings {
            margin: Some(0.1),
            ..settings()
        };
        let contrast = paired(&a, &b, &strict);
        assert_eq!(cpu(&contrast).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn an_interval_beyond_the_margin_leaves_it_open() {
        let noisy = [0.8, 1.3, 0.9, 1.2, 0.7, 1.4];
        let strict = Settings {
            margin: Some(0.1),
            ..settings()
        };
        let open = paired(&side("A", &CALM), &side("B", &noisy), &strict);
        assert_eq!(open.verdict, Verdict::Inconclusive);
        assert!(matches!(
            cpu(&open).outlook,
            Some(Outlook::More(2..) | Outlook::TooNoisy)
        ));
    }

    #[test]
    fn groups_are_judged_alike() {
        let contrast = unpaired(&side("A", &CALM), &side("B", &slower(1.3)), &settings());
        assert_eq!(contrast.verdict, Verdict::Worse);
        let contrast = unpaired(&side("A", &CALM), &side("B", &CALM), &settings());
        assert_eq!(contrast.verdict, Verdict::NoDifference);
        let few = unpaired(&side("A", &CALM[..3]), &side("B", &CALM), &settings());
        assert_eq!(
            (few.findings.len(), few.verdict),
            (0, Verdict::Inconclusive)
        );
    }

    #[test]
    fn one_better_and_one_worse_is_mixed() {
        let finding = |metric, verdict| Finding {
            metric,
            runs: 9,
            baseline: 1.0,
            value: 1.0,
            ratio: 1.0,
            interval: Interval {
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
                Verdict::Better,
                Verdict::Worse,
                Verdict::NoDifference,
                Verdict::Mixed,
            ),
            (
                Verdict::NoDifference,
                Verdict::NoDifference,
                Verdict::Worse,
                Verdict::Worse,
            ),
            (
                Verdict::NoDifference,
                Verdict::NoDifference,
                Verdict::Inconclusive,
                Verdict::NoDifference,
            ),
            (
                Verdict::Inconclusive,
                Verdict::NoDifference,
                Verdict::NoDifference,
                Verdict::Inconclusive,
            ),
        ] {
            let findings = [
                finding(Metric::CpuPerMessage, cpu),
                finding(Metric::Throughput, throughput),
                finding(Metric::P99, p99),
            ];
            assert_eq!(overall(&findings, &settings()), expected);
        }
        let only = [finding(Metric::P99, Verdict::Inconclusive)];
        assert_eq!(overall(&only, &settings()), Verdict::Inconclusive);
        assert_eq!(overall(&[], &settings()), Verdict::Inconclusive);
    }
}
