//! Comparisons for tests.

use std::collections::BTreeMap;

use super::{
    Comparison, ComparisonFormat, ComparisonVerdict, Contrast, Design, LEVEL, MetricFinding,
    Outlook, Settings, Side, VERSION, Values,
};
use crate::machine::Environment;
use crate::metric::Metric;
use crate::statistics::ConfidenceInterval;

const RUNS: usize = 10;

/// A metric of the baseline and another side.
struct MetricValues(Metric, f64, f64);

/// A finding whose ratio is that of the values.
fn finding(
    MetricValues(metric, baseline, value): MetricValues,
    (low, high): (f64, f64),
    (p_value, adjusted_p_value): (f64, f64),
    verdict: ComparisonVerdict,
) -> MetricFinding {
    MetricFinding {
        metric,
        runs: RUNS,
        baseline,
        value,
        ratio: value / baseline,
        interval: ConfidenceInterval { low, high },
        p_value,
        adjusted_p_value,
        margin: metric.margin(),
        verdict,
        outlook: None,
    }
}

fn side(label: &str, values: &[(Metric, f64)]) -> Side {
    let values = values.iter().map(|&(metric, median)| {
        let (low, high) = (median * 0.99, median * 1.01);
        let values = Values {
            by_run: vec![Some(median); RUNS],
            median: Some(median),
            interval: Some(ConfidenceInterval { low, high }),
        };
        (metric, values)
    });
    Side {
        label: label.to_owned(),
        command: Some(format!("server --engine {label}")),
        binary_sha256: None,
        runs: RUNS,
        invalid: 0,
        values: values.collect(),
    }
}

fn contrast(side: &str, verdict: ComparisonVerdict, findings: Vec<MetricFinding>) -> Contrast {
    Contrast {
        side: side.to_owned(),
        baseline: "A".to_owned(),
        findings,
        verdict,
    }
}

/// The default settings, in a closed loop.
pub(super) fn settings() -> Settings {
    Settings {
        metrics: Metric::ALL.to_vec(),
        min_effect: 0.02,
        margin: None,
        level: LEVEL,
        is_closed_loop: true,
        seed: 1,
    }
}

/// One side alone, and its noise.
pub(super) fn one() -> Comparison {
    let values = [(Metric::CpuPerMessage, 1_000.0)];
    Comparison {
        format: ComparisonFormat::Comparison,
        version: VERSION,
        design: Design::Paired,
        settings: settings(),
        args: vec!["ab".to_owned()],
        started_at: "2025-11-25T00:00:00.000Z".to_owned(),
        workload: "closed loop, 50 connections × 16 in flight".to_owned(),
        sides: vec![side("A", &values)],
        noise: Some(contrast(
            "A again",
            ComparisonVerdict::NoDifference,
            vec![finding(
                MetricValues(Metric::CpuPerMessage, 1_000.0, 1_002.0),
                (0.99, 1.011),
                (0.4, 0.8),
                ComparisonVerdict::NoDifference,
            )],
        )),
        contrasts: Vec::new(),
        warnings: Vec::new(),
        environment: Environment::default(),
    }
}

/// Two sides, the second of which is worse.
pub(super) fn two() -> Comparison {
    let numbers = [
        (Metric::Throughput, 2e6, 1.98e6),
        (Metric::CpuPerMessage, 1_000.0, 1_052.0),
        (Metric::P50, 50_000.0, 52_000.0),
        (Metric::P99, 80_000.0, 240_000.0),
    ];
    let [rate, cpu, p50, p99] = numbers.map(|(metric, a, b)| MetricValues(metric, a, b));
    let verdict = ComparisonVerdict::NoDifference;
    let mut findings = vec![
        finding(rate, (0.98, 1.01), (0.2, 0.4), verdict),
        finding(
            cpu,
            (1.041, 1.064),
            (0.002, 0.003),
            ComparisonVerdict::Worse,
        ),
        finding(p50, (0.8, 1.3), (0.3, 0.4), ComparisonVerdict::Inconclusive),
        finding(p99, (1.8, 4.1), (0.0, 0.0004), ComparisonVerdict::Worse),
    ];
    findings[2].outlook = Some(Outlook::More(14));
    let values = |value: fn((Metric, f64, f64)) -> (Metric, f64)| numbers.map(value);
    Comparison {
        sides: vec![
            side("A", &values(|(metric, a, _)| (metric, a))),
            side("B", &values(|(metric, _, b)| (metric, b))),
        ],
        contrasts: vec![contrast("B", ComparisonVerdict::Worse, findings)],
        ..one()
    }
}

/// Four sides, of which one has no throughput.
pub(super) fn four() -> Comparison {
    let (rate, cpu) = (Metric::Throughput, Metric::CpuPerMessage);
    let (better, worse, unknown) = (
        ComparisonVerdict::Better,
        ComparisonVerdict::Worse,
        ComparisonVerdict::Inconclusive,
    );
    let of_cpu = |value, interval, p, verdict| {
        finding(MetricValues(cpu, 1_000.0, value), interval, p, verdict)
    };
    let of_rate =
        |value, interval, p, verdict| finding(MetricValues(rate, 2e6, value), interval, p, verdict);
    let mut last = of_cpu(1_001.0, (0.85, 1.15), (0.8, 1.0), unknown);
    last.outlook = Some(Outlook::TooNoisy);
    let findings: BTreeMap<_, _> = [
        (
            "B",
            (
                worse,
                vec![
                    of_rate(1.8e6, (0.89, 0.92), (0.002, 0.003), worse),
                    of_cpu(1_200.0, (1.18, 1.21), (0.002, 0.003), worse),
                ],
            ),
        ),
        (
            "C",
            (
                better,
                vec![
                    of_rate(2.2e6, (1.05, 1.12), (0.002, 0.003), better),
                    of_cpu(800.0, (0.79, 0.82), (0.002, 0.003), better),
                ],
            ),
        ),
        ("D", (unknown, vec![last])),
    ]
    .into();
    let of_side = |label: &str| {
        let found = &findings[label].1;
        let values: Vec<_> = found.iter().map(|it| (it.metric, it.value)).collect();
        side(label, &values)
    };
    let baseline = side("A", &[(rate, 2e6), (cpu, 1_000.0)]);
    let others = ["B", "C", "D"];
    Comparison {
        sides: [baseline].into_iter().chain(others.map(of_side)).collect(),
        contrasts: findings
            .iter()
            .map(|(label, (verdict, found))| contrast(label, *verdict, found.clone()))
            .collect(),
        noise: None,
        warnings: vec!["2 of 10 runs of B are SUSPECT".to_owned()],
        settings: Settings {
            metrics: vec![rate, cpu],
            ..one().settings
        },
        ..one()
    }
}

/// Two sides without a difference.
pub(super) fn alike() -> Comparison {
    let mut two = two();
    two.contrasts[0].verdict = ComparisonVerdict::NoDifference;
    two.contrasts[0].findings.truncate(2);
    let cpu = &mut two.contrasts[0].findings[1];
    (cpu.ratio, cpu.verdict) = (1.001, ComparisonVerdict::NoDifference);
    cpu.interval = ConfidenceInterval {
        low: 0.99,
        high: 1.02,
    };
    two.noise = None;
    two
}
