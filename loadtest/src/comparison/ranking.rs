//! The ranking of the sides in a metric.

use super::Comparison;
use super::finding::{ComparisonVerdict, MetricFinding};
use super::side::Side;
use crate::metric::Metric;
use crate::statistics::ConfidenceInterval;

/// A side's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct RankedSide<'a> {
    /// Counted from 1; several may share one. `None` where the metric was not
    /// measured.
    pub(super) rank: Option<usize>,
    /// The side.
    pub(super) side: &'a Side,
    /// The finding against the baseline; `None` for the baseline.
    pub(super) finding: Option<&'a MetricFinding>,
}

/// The sides, the best first, and those that were not measured last.
///
/// A rank claims no more than the tests. The first rank group has the sides found better than the
/// baseline, the second the baseline and all that were not distinguished from it, which share its
/// rank whatever their ratios are, the third those found worse. Among the better and among the
/// worse, a side whose interval overlaps with that of the first of a rank has the same rank. The
/// side after two that share the first rank is the third.
pub(super) fn ranking(comparison: &Comparison, metric: Metric) -> Vec<RankedSide<'_>> {
    let Some((baseline, others)) = comparison.sides.split_first() else {
        return Vec::new();
    };
    let mut ranked = vec![ComparedSide {
        side: baseline,
        finding: None,
    }];
    let mut unranked = Vec::new();
    for (side, contrast) in others.iter().zip(&comparison.contrasts) {
        match contrast.finding(metric) {
            None => unranked.push(side),
            finding => ranked.push(ComparedSide { side, finding }),
        }
    }
    ranked.sort_by(|a, b| {
        let ascending = a.ratio().total_cmp(&b.ratio());
        let best_first = if metric.is_more_better() {
            ascending.reverse()
        } else {
            ascending
        };
        a.standing().cmp(&b.standing()).then(best_first)
    });
    places(&ranked)
        .chain(unranked.into_iter().map(|side| RankedSide {
            rank: None,
            side,
            finding: None,
        }))
        .collect()
}

/// The test's result of a side against the baseline, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RankGroup {
    Better,
    /// The baseline, and the sides not distinguished from it.
    Undecided,
    Worse,
}

#[derive(Debug, Clone, Copy)]
struct ComparedSide<'a> {
    side: &'a Side,
    finding: Option<&'a MetricFinding>,
}

impl ComparedSide<'_> {
    fn standing(&self) -> RankGroup {
        match self.finding.map(|finding| finding.verdict) {
            Some(ComparisonVerdict::Better) => RankGroup::Better,
            Some(ComparisonVerdict::Worse) => RankGroup::Worse,
            _ => RankGroup::Undecided,
        }
    }

    fn ratio(&self) -> f64 {
        self.finding.map_or(1.0, |finding| finding.ratio)
    }

    /// Whether both can have one rank.
    fn is_level_with(&self, other: &Self) -> bool {
        let is_one = match (self.finding, other.finding) {
            (Some(one), Some(other)) => overlap(one.interval, other.interval),
            _ => true,
        };
        self.standing() == other.standing() && (self.standing() == RankGroup::Undecided || is_one)
    }
}

/// The places of those that are in order.
fn places<'a>(ranked: &[ComparedSide<'a>]) -> impl Iterator<Item = RankedSide<'a>> {
    let mut first = 0;
    let mut places = Vec::new();
    for (index, entry) in ranked.iter().enumerate() {
        if !ranked[first].is_level_with(entry) {
            first = index;
        }
        places.push(RankedSide {
            rank: Some(first + 1),
            side: entry.side,
            finding: entry.finding,
        });
    }
    places.into_iter()
}

fn overlap(one: ConfidenceInterval, other: ConfidenceInterval) -> bool {
    one.low <= other.high && other.low <= one.high
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn ranks(metric: Metric) -> Vec<(Option<usize>, String)> {
        ranks_of(&fixture::four(), metric)
    }

    fn ranks_of(comparison: &Comparison, metric: Metric) -> Vec<(Option<usize>, String)> {
        let places = ranking(comparison, metric).into_iter();
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
            ranks(Metric::CpuPerMessage),
            [place(1, "C"), place(2, "A"), place(2, "D"), place(4, "B")]
        );
    }

    #[test]
    fn the_most_throughput_is_best_and_the_unknown_is_last() {
        let unknown = (None, "D".to_owned());
        assert_eq!(
            ranks(Metric::Throughput),
            [place(1, "C"), place(2, "A"), place(3, "B"), unknown]
        );
    }

    /// Changes the finding of a side in CPU time.
    fn find(comparison: &mut Comparison, side: usize, ratio: f64, interval: (f64, f64)) {
        let findings = &mut comparison.contrasts[side].findings;
        let cpu = findings.last_mut().expect("CPU time");
        cpu.ratio = ratio;
        (cpu.interval.low, cpu.interval.high) = interval;
    }

    /// Six of six pairs with a ratio of 73 and an interval far from 1: inconclusive, where
    /// six pairs are too few for the metric.
    #[test]
    fn sides_not_distinguished_from_the_baseline_share_its_rank() {
        let mut comparison = fixture::four();
        find(&mut comparison, 2, 73.0, (70.0, 76.0));
        assert_eq!(
            ranks_of(&comparison, Metric::CpuPerMessage),
            [place(1, "C"), place(2, "A"), place(2, "D"), place(4, "B")]
        );
        find(&mut comparison, 2, 0.1, (0.05, 0.2));
        assert_eq!(
            ranks_of(&comparison, Metric::CpuPerMessage),
            [place(1, "C"), place(2, "D"), place(2, "A"), place(4, "B")]
        );
    }

    #[test]
    fn better_or_worse_sides_have_another_rank_than_the_baseline() {
        let mut comparison = fixture::four();
        // The signed-rank test uses more information than the interval, which may contain 1.
        find(&mut comparison, 1, 0.97, (0.94, 1.01));
        find(&mut comparison, 0, 1.03, (0.99, 1.06));
        assert_eq!(
            ranks_of(&comparison, Metric::CpuPerMessage),
            [place(1, "C"), place(2, "A"), place(2, "D"), place(4, "B")]
        );
    }

    #[test]
    fn worse_sides_with_overlapping_intervals_share_a_rank() {
        let mut comparison = fixture::four();
        find(&mut comparison, 2, 1.19, (1.1, 1.25));
        let findings = &mut comparison.contrasts[2].findings;
        findings.last_mut().expect("CPU time").verdict = ComparisonVerdict::Worse;
        assert_eq!(
            ranks_of(&comparison, Metric::CpuPerMessage),
            [place(1, "C"), place(2, "A"), place(3, "D"), place(3, "B")]
        );
    }
}
