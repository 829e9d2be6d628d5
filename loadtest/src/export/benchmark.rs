//! The JSON that github-action-benchmark reads with its tools
//! `customSmallerIsBetter` and `customBiggerIsBetter`: names, units, values.

use serde::Serialize;

use crate::args::Better;
use crate::failure::Failure;
use crate::metric::Metric;
use crate::result::{ResultFile, to_pretty_json};
use crate::statistics::median;
use crate::units::format_count;

/// An entry of the dashboard.
#[derive(Debug, PartialEq, Serialize)]
struct BenchmarkEntry {
    name: String,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// The medians of runs of one workload.
pub(super) fn json(runs: &[ResultFile], better: Better) -> Result<String, Failure> {
    let workload = runs[0].plan.to_string();
    if let Some(other) = runs.iter().find(|run| run.plan.to_string() != workload) {
        let why = format!(
            "the results are of different workloads: {workload}; {}",
            other.plan
        );
        return Err(Failure::File(why));
    }
    let wanted = |metric: &Metric| metric.is_more_better() == (better == Better::Bigger);
    let entries: Vec<_> = Metric::ALL
        .into_iter()
        .filter(wanted)
        .filter_map(|metric| entry(metric, runs))
        .collect();
    Ok(to_pretty_json(&entries))
}

fn entry(metric: Metric, runs: &[ResultFile]) -> Option<BenchmarkEntry> {
    let values: Vec<_> = runs.iter().filter_map(|run| metric.of(run)).collect();
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    let run = &runs[0];
    Some(BenchmarkEntry {
        name: format!("{}: {}", run.label, metric.title()),
        unit: unit(metric),
        value: median(&values)?,
        range: (values.len() > 1).then(|| format!("{low:.0} to {high:.0}")),
        extra: format!(
            "{}\nmedian of {}, loadtest {}",
            run.plan,
            format_count(values.len() as u64),
            run.environment.version
        ),
    })
}

const fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "messages/s",
        Metric::CpuPerMessage | Metric::P50 | Metric::P99 | Metric::P99_9 => "ns",
        Metric::RssPerConnection => "bytes",
    }
}
