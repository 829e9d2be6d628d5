//! The rates of wrong verdicts and of conclusions, by simulated runs of servers whose true
//! ratio is known. It prints the tables of `docs/measuring.md`:
//!
//! ```text
//! LOADTEST_TRIALS=300 cargo test -p loadtest --lib comparison::simulation -- --nocapture
//! ```
//!
//! Half of the variance of a run's logarithms is common to its metrics. The spread is the
//! standard deviation of the ratios between two runs, where it is normal.

use fastrand::Rng;

use super::fixture::settings;
use super::{ComparisonVerdict, Contrast, Design, LEVEL, Settings, Side, Values, paired, unpaired};
use crate::metric::Metric;
use crate::statistics::tests::source::{self, Distribution, error_of};

/// Comparisons of each kind.
fn trials() -> u64 {
    source::trials(50)
}

/// A metric with the least share of the level but for memory, and a wider margin.
const TAIL: Metric = Metric::P99;

/// From runs that hardly differ to runs that differ by more than the servers do.
const NOISE: [(Distribution, f64); 7] = [
    (Distribution::Normal, 0.03),
    (Distribution::Normal, 0.1),
    (Distribution::Normal, 0.3),
    (Distribution::Normal, 1.0),
    (Distribution::Laplace, 0.1),
    (Distribution::Skewed, 0.1),
    (Distribution::Outliers, 0.1),
];

/// Two servers, and how they are measured.
#[derive(Debug, Clone, Copy)]
struct SimulatedServers {
    design: Design,
    distribution: Distribution,
    runs: usize,
    spread: f64,
    /// The metric in which the second differs, and by which ratio.
    effect: (Metric, f64),
}

const ALIKE: SimulatedServers = SimulatedServers {
    design: Design::Paired,
    distribution: Distribution::Normal,
    runs: 20,
    spread: 0.035,
    effect: (Metric::CpuPerMessage, 1.0),
};

impl SimulatedServers {
    fn contrast(self, metrics: &[Metric], seed: u64, random: &mut Rng) -> Contrast {
        let settings = Settings {
            metrics: metrics.to_vec(),
            seed,
            ..settings()
        };
        let baseline = self.side("A", metrics, 1.0, random);
        let side = self.side("B", metrics, self.effect.1, random);
        match self.design {
            Design::Paired => paired(&baseline, &side, &settings),
            Design::Unpaired => unpaired(&baseline, &side, &settings),
        }
    }

    fn side(self, label: &str, metrics: &[Metric], ratio: f64, random: &mut Rng) -> Side {
        let half = self.spread / f64::sqrt(2.0) * f64::sqrt(0.5);
        let shared = self.distribution.logs(self.runs, 0.0, random);
        let values = metrics.iter().map(|&metric| {
            let own = self.distribution.logs(self.runs, 0.0, random);
            let ratio = if metric == self.effect.0 { ratio } else { 1.0 };
            let runs = shared.iter().zip(own);
            let by_run = runs.map(|(shared, own)| Some(ratio * (half * (shared + own)).exp()));
            let values = Values {
                by_run: by_run.collect(),
                median: None,
                interval: None,
            };
            (metric, values)
        });
        Side {
            label: label.to_owned(),
            command: None,
            binary_sha256: None,
            runs: self.runs,
            invalid: 0,
            values: values.collect(),
        }
    }

    /// The share of comparisons of which that is so.
    fn share(self, metrics: &[Metric], is_so: impl Fn(&Contrast) -> bool) -> f64 {
        let mut random = Rng::with_seed(self.runs as u64);
        let trials = trials();
        let count = (0..trials)
            .filter(|&trial| is_so(&self.contrast(metrics, trial, &mut random)))
            .count();
        count as f64 / trials as f64
    }

    /// The share of comparisons with this verdict on the metric with the effect.
    fn share_of(self, verdict: ComparisonVerdict) -> f64 {
        let metric = self.effect.0;
        self.share(&Metric::ALL, |contrast| {
            contrast
                .finding(metric)
                .is_some_and(|it| it.verdict == verdict)
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn is_difference(contrast: &Contrast) -> bool {
    !matches!(
        contrast.verdict,
        ComparisonVerdict::NoDifference | ComparisonVerdict::Inconclusive
    )
}

/// All six metrics of servers that do not differ: any better or worse one is a false alarm.
#[test]
fn false_alarms_are_within_the_level() {
    for (design, counts) in [(Design::Paired, [6, 20]), (Design::Unpaired, [4, 12])] {
        for runs in counts {
            for (distribution, spread) in
                [(Distribution::Normal, 1.0), (Distribution::Outliers, 0.1)]
            {
                let world = SimulatedServers {
                    design,
                    distribution,
                    runs,
                    spread,
                    ..ALIKE
                };
                let share = world.share(&Metric::ALL, is_difference);
                println!(
                    "false alarms, {design:?}, {runs} runs, {distribution:?}, spread {spread}: {}",
                    percent(share)
                );
                let most = LEVEL + error_of(LEVEL, trials());
                assert!(share <= most, "{world:?}: {share}");
            }
        }
    }
}

/// A server whose true ratio is at the margin or beyond it is seldom called no different, however
/// noisy the runs are.
#[test]
fn a_real_difference_is_seldom_called_none_at_any_noise() {
    for (design, counts) in [
        (Design::Paired, [6, 10, 20]),
        (Design::Unpaired, [4, 6, 12]),
    ] {
        for runs in counts {
            for ratio in [1.05, 1.1] {
                let mut worst: f64 = 0.0;
                for (distribution, spread) in NOISE {
                    let world = SimulatedServers {
                        design,
                        distribution,
                        runs,
                        spread,
                        effect: (Metric::CpuPerMessage, ratio),
                    };
                    let share = world.share(&[Metric::CpuPerMessage], |contrast| {
                        contrast.verdict == ComparisonVerdict::NoDifference
                    });
                    assert!(share <= LEVEL, "{world:?}: {share}");
                    worst = worst.max(share);
                }
                println!(
                    "{ratio} called no difference, {design:?}, {runs} runs, worst of all noise: {}",
                    percent(worst)
                );
            }
        }
    }
}

#[test]
fn the_default_number_of_pairs_has_its_documented_power() {
    for (metric, ratio, spread, runs, least) in [
        (Metric::CpuPerMessage, 1.05, 0.035, 20, 0.95),
        (Metric::CpuPerMessage, 1.05, 0.035, 6, 0.4),
        (Metric::CpuPerMessage, 1.3, 0.1, 6, 0.9),
        (Metric::Throughput, 1.05, 0.035, 20, 0.9),
        (Metric::P50, 1.05, 0.035, 20, 0.9),
        (TAIL, 1.1, 0.07, 20, 0.9),
        (TAIL, 1.5, 0.2, 20, 0.9),
        (TAIL, 73.0, 0.2, 9, 1.0),
    ] {
        let world = SimulatedServers {
            runs,
            spread,
            effect: (metric, ratio),
            ..ALIKE
        };
        let verdict = if metric.is_more_better() {
            ComparisonVerdict::Better
        } else {
            ComparisonVerdict::Worse
        };
        let share = world.share_of(verdict);
        println!(
            "{metric} {ratio} found, {runs} pairs, spread {spread}: {}",
            percent(share)
        );
        assert!(share >= least, "{world:?}: {share}");
    }
    let eight = SimulatedServers {
        runs: 8,
        spread: 0.2,
        effect: (TAIL, 73.0),
        ..ALIKE
    };
    let share = eight.share_of(ComparisonVerdict::Worse);
    assert!(share < 0.1, "eight pairs are said to be too few: {share}");
}

#[test]
fn equal_servers_are_no_different_at_low_noise() {
    for (runs, spread, least, most) in [
        (20, 0.035, 0.9, 1.0),
        (10, 0.035, 0.5, 0.9),
        (20, 0.1, 0.0, 0.2),
        (20, 0.3, 0.0, 0.05),
        (20, 1.0, 0.0, 0.0),
    ] {
        let world = SimulatedServers {
            runs,
            spread,
            ..ALIKE
        };
        let share = world.share(&[Metric::CpuPerMessage], |contrast| {
            contrast.verdict == ComparisonVerdict::NoDifference
        });
        println!(
            "alike called no difference, {runs} pairs, spread {spread}: {}",
            percent(share)
        );
        assert!((least..=most).contains(&share), "{world:?}: {share}");
    }
}
