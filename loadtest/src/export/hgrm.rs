//! The percentile distribution that HdrHistogram prints
//! (`outputPercentileDistribution`) and its plotter reads.

use std::fmt::Write;

use crate::outcome::Histogram;

/// The number of lines for each halving of the distance to 100 %, HdrHistogram's default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Nanoseconds per unit written: tools expect milliseconds.
const UNIT_NS: f64 = 1e6;

pub(super) fn text(times_ns: &Histogram) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in times_ns.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / UNIT_NS;
        // A `String` takes everything.
        let _ = write!(text, "{value:12.6} {quantile:2.12} {total:10}");
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (mean, deviation) = (times_ns.mean() / UNIT_NS, times_ns.stdev() / UNIT_NS);
    let max = times_ns.max() as f64 / UNIT_NS;
    let _ = write!(
        text,
        "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]\n\
         #[Max     = {max:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        times_ns.len(),
        times_ns.buckets(),
        SUB_BUCKETS
    );
    text
}

/// Steps within a bucket at three significant digits: the power of two from
/// twice 1,000 on.
const SUB_BUCKETS: u32 = 2_048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::histogram;

    #[test]
    fn it_is_the_table_that_the_plotter_reads() {
        let mut times_ns = histogram();
        times_ns.record_n(50_000, 98).unwrap();
        times_ns.record_n(1_000_000, 2).unwrap();
        let text = text(&times_ns);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert_eq!(lines[1], "");
        assert_eq!(
            lines[2],
            "    0.050015 0.000000000000         98           1.00"
        );
        let last = lines.iter().rfind(|line| !line.starts_with('#')).unwrap();
        assert_eq!(*last, "    1.000447 1.000000000000        100");
        assert!(lines[lines.len() - 2].ends_with("Total count    =          100]"));
        let counts = lines[2..]
            .iter()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .nth(2)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            });
        assert!(counts.is_sorted());
    }

    #[test]
    fn nothing_is_an_empty_table() {
        assert!(text(&histogram()).contains("Total count    =            0]"));
    }
}
