//! Who is best in a metric.

use super::Comparison;
use super::finding::{Finding, Verdict};
use super::side::Side;
use crate::metric::Metric;
use crate::statistics::Interval;

/// A side's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Counted from 1; several may share one. `None` where the metric was not
    /// measured.
    pub(super) rank: Option<usize>,
    /// The side.
    pub(super) side: &'a Side,
    /// What it is to the baseline; `None` for the baseline.
    pub(super) finding: Option<&'a Finding>,
}

/// The sides by their ratio to the baseline, the best first, and those that were
/// not measured last.
///
/// A side whose interval overlaps with that of the first of a rank has the same
/// rank: nothing has shown that it is worse; unless the baseline is of that rank, and
/// the test has. The baseline's interval is 1. The
/// side behind two that share the first rank is the third.
pub(super) fn ranking(comparison: &Comparison, metric: Metric) -> Vec<Place<'_>> {
    let Some((baseline, others)) = comparison.sides.split_first() else {
        return Vec::new();
    };
    let mut ranked = vec![Entry {
        side: baseline,
        finding: None,
    }];
    let mut unranked = Vec::new();
    for (side, contrast) in others.iter().zip(&comparison.contrasts) {
        match contrast.finding(metric) {
            None => unranked.push(side),
            finding => ranked.push(Entry { side, finding }),
        }
    }
    ranked.sort_by(|a, b| {
        let ascending = a.ratio().total_cmp(&b.ratio());
        if metric.is_more_better() {
            ascending.reverse()
        } else {
            ascending
        }
    });
    places(&ranked)
        .chain(unranked.into_iter().map(|side| Place {
            rank: None,
            side,
            finding: None,
        }))
        .collect()
}

#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    side: &'a Side,
    finding: Option<&'a Finding>,
}

impl Entry<'_> {
    fn ratio(&self) -> f64 {
        self.finding.map_or(1.0, |finding| finding.ratio)
    }

    fn interval(&self) -> Interval {
        let itself = Interval {
            low: 1.0,
            high: 1.0,
        };
        self.finding.map_or(itself, |finding| finding.interval)
    }
}

/// Whether a side was found to be better or worse than the baseline, one of both
/// being of a rank and the other next.
fn is_told_apart(rank: &[Entry<'_>], next: &Entry<'_>) -> bool {
    let is = |entry: &Entry<'_>, verdict| entry.finding.is_some_and(|it| it.verdict == verdict);
    let has_baseline = rank.iter().any(|entry| entry.finding.is_none());
    let has_better = rank.iter().any(|entry| is(entry, Verdict::Better));
    (has_baseline && is(next, Verdict::Worse)) || (has_better && next.finding.is_none())
}

/// The places of those that are in order.
fn places<'a>(ranked: &[Entry<'a>]) -> impl Iterator<Item = Place<'a>> {
    let mut first = 0;
    let mut places = Vec::new();
    for (index, entry) in ranked.iter().enumerate() {
        let is_apart = !overlap(ranked[first].interval(), entry.interval());
        if is_apart || is_told_apart(&ranked[first..index], entry) {
            first = index;
        }
        places.push(Place {
            rank: Some(first + 1),
            side: entry.side,
            finding: entry.finding,
        });
    }
    places.into_iter()
}

fn overlap(one: Interval, other: Interval) -> bool {
    one.low <= other.high && other.low <= one.high
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn told(metric: Metric) -> Vec<(Option<usize>, String)> {
        let comparison = fixture::four();
        let places = ranking(&comparison, metric).into_iter();
        places
            .map(|place| (place.rank, place.side.label.clone()))
            .collect()
    }

    fn place(rank: usize, label: &str) -> (Option<usize>, String) {
        (Some(rank), label.to_owned())
    }

    #[test]
    fn the_least_cost_is_best_and_those_that_overlap_share_a_rank() {
        assert_eq!(
            told(Metric::CpuPerMessage),
            [place(1, "C"), place(2, "A"), place(2, "D"), place(4, "B")]
        );
    }

    #[test]
    fn the_most_throughput_is_best_and_the_unknown_is_last() {
        let unknown = (None, "D".to_owned());
        assert_eq!(
            told(Metric::Throughput),
            [place(1, "C"), place(2, "A"), place(3, "B"), unknown]
        );
    }
}
