//! The order of the rates. Pure.

use fastrand::Rng;

use super::file::SweepPoint;
use crate::result::ResultFile;
use crate::verdict::Verdict;

/// The order of the runs, as indices into the rates: every rate once, shuffled, and that
/// `repeats` times. Drift during a sweep, such as the clock of a machine that gets warm, then
/// does not look like an effect of the rate.
pub(super) fn order(rates: usize, repeats: u32, seed: u64) -> Vec<usize> {
    let mut random = Rng::with_seed(seed);
    let mut order = Vec::with_capacity(rates * repeats as usize);
    for _ in 0..repeats {
        let mut round: Vec<_> = (0..rates).collect();
        random.shuffle(&mut round);
        order.extend(round);
    }
    order
}

/// Whether a rate need not be run again, or at all: a lower one was not reached
/// in any run, and none above that was.
pub(super) fn is_beyond(index: usize, points: &[SweepPoint]) -> bool {
    let is_always_saturated =
        |point: &SweepPoint| !point.runs.is_empty() && point.runs.iter().all(is_saturated);
    let is_reached = |point: &SweepPoint| point.runs.iter().any(|run| !is_saturated(run));
    let lowest = points.iter().position(is_always_saturated);
    lowest.is_some_and(|lowest| lowest < index && !points[lowest + 1..].iter().any(is_reached))
}

/// Whether the rate was not reached. A run that had no message to send is
/// INVALID as well.
fn is_saturated(run: &ResultFile) -> bool {
    run.judgement.verdict == Verdict::Invalid && run.counts.due > 0
}

#[cfg(test)]
mod tests {
    use super::super::fixture::run;
    use super::*;

    fn points(runs: &[&[bool]]) -> Vec<SweepPoint> {
        let point = |(index, reached): (usize, &&[bool])| {
            let rate_per_s = 1_000.0 * (index + 1) as f64;
            SweepPoint {
                rate_per_s,
                runs: reached
                    .iter()
                    .map(|&reached| run(rate_per_s, reached))
                    .collect(),
                skipped: 0,
            }
        };
        runs.iter().enumerate().map(point).collect()
    }

    fn beyond(runs: &[&[bool]]) -> Vec<usize> {
        let points = points(runs);
        (0..points.len())
            .filter(|&index| is_beyond(index, &points))
            .collect()
    }

    #[test]
    fn every_round_has_every_rate_once() {
        let order = order(8, 3, 7);
        assert_eq!(order.len(), 24);
        for round in order.chunks(8) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert_ne!(order[..8], order[8..16], "or it would not be at random");
        assert_eq!(order, super::order(8, 3, 7));
        assert_ne!(order, super::order(8, 3, 8));
    }

    #[test]
    fn rates_above_a_saturated_one_are_left_out() {
        assert_eq!(beyond(&[&[], &[], &[]]), [0; 0]);
        assert_eq!(beyond(&[&[true], &[false], &[], &[]]), [2, 3]);
        assert_eq!(beyond(&[&[false], &[], &[false]]), [1, 2]);
    }

    #[test]
    fn a_rate_reached_once_is_not_saturated() {
        assert_eq!(beyond(&[&[true], &[false, true], &[], &[]]), [0; 0]);
        assert_eq!(beyond(&[&[false], &[], &[true], &[]]), [0; 0]);
    }

    #[test]
    fn a_run_without_messages_is_not_saturated() {
        let mut points = points(&[&[false], &[]]);
        points[0].runs[0].counts.due = 0;
        assert!(!is_beyond(1, &points));
    }
}
