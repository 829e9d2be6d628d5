//! Detection of changes of a metric.
//!
//! Points are taken in order. As long as nothing changes, they are one level, and the fences
//! are Tukey's: the quartiles of all runs of the level so far, and one and a half times their
//! distance beyond them, but at least the smallest relevant change beyond the median. A point
//! beyond them is a change if it has enough runs to be one by itself, or if the next one is
//! beyond them on the same side: a single disturbed run is none. A change begins a new level.

use std::cmp::Ordering;

use crate::metric::Metric;
use crate::statistics::{ConfidenceInterval, SAMPLES_MIN, median};

use super::point::Point;

/// The distance of Tukey's inner fences from the quartiles, in units of the
/// distance between those.
const FENCE: f64 = 1.5;

/// A point, and its relation to those before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MarkedPoint {
    pub(super) point: Point,
    /// The range in which its median is expected; none with too few runs before it.
    pub(super) fences: Option<ConfidenceInterval>,
    pub(super) mark: PointKind,
}

/// The relation of a point to those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PointKind {
    /// Within the fences, or without any.
    Level,
    /// Beyond them, alone.
    Outlier,
    /// The first of a new level: its median over that of the one before.
    Change { ratio: f64, is_better: bool },
}

impl MarkedPoint {
    pub(super) fn is_worse(&self) -> bool {
        matches!(self.mark, PointKind::Change { is_better, .. } if !is_better)
    }
}

/// Finds the changes in points that are in the order of time.
pub(super) fn mark(points: &[Point], metric: Metric, min_effect: f64) -> Vec<MarkedPoint> {
    let mut level: Vec<f64> = Vec::new();
    let mut steps = Vec::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        let fences = fences(&level, min_effect);
        let side = fences.map_or(Ordering::Equal, |fences| side_of(point.median(), fences));
        let next_agrees = points.get(index + 1).is_some_and(|next| {
            fences.is_some_and(|fences| side_of(next.median(), fences) == side)
        });
        let mark = if side == Ordering::Equal {
            PointKind::Level
        } else if point.values.len() >= SAMPLES_MIN || next_agrees {
            let ratio = point.median() / median(&level).unwrap_or(f64::NAN);
            level.clear();
            PointKind::Change {
                ratio,
                is_better: (ratio > 1.0) == metric.is_more_better(),
            }
        } else {
            PointKind::Outlier
        };
        if mark != PointKind::Outlier {
            level.extend(&point.values);
        }
        steps.push(MarkedPoint {
            point: point.clone(),
            fences,
            mark,
        });
    }
    steps
}

/// Compares a value with the fences; on a fence is within.
fn side_of(value: f64, fences: ConfidenceInterval) -> Ordering {
    if value < fences.low {
        Ordering::Less
    } else if value > fences.high {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

fn fences(level: &[f64], min_effect: f64) -> Option<ConfidenceInterval> {
    if level.len() < SAMPLES_MIN {
        return None;
    }
    let mut sorted = level.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Tukey's hinges: the medians of the halves, the middle in both.
    let half = sorted.len().div_ceil(2);
    let (low, high) = (
        median(&sorted[..half])?,
        median(&sorted[sorted.len() - half..])?,
    );
    let (middle, reach) = (median(&sorted)?, FENCE * (high - low));
    Some(ConfidenceInterval {
        low: (low - reach).min(middle / (1.0 + min_effect)),
        high: (high + reach).max(middle * (1.0 + min_effect)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn point(values: &[f64]) -> Point {
        Point {
            name: String::new(),
            day: String::new(),
            values: values.to_vec(),
            annotations: BTreeSet::new(),
        }
    }

    fn marks(points: &[&[f64]]) -> Vec<PointKind> {
        let points: Vec<_> = points.iter().map(|values| point(values)).collect();
        let steps = mark(&points, Metric::CpuPerMessage, 0.02);
        steps.into_iter().map(|step| step.mark).collect()
    }

    const CALM: [f64; 5] = [100.0, 101.0, 99.0, 100.5, 99.5];

    #[test]
    fn fences_are_tukeys() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let fences = fences(&values, 0.0).unwrap();
        // Hinges 2.5 and 6.5.
        assert_eq!((fences.low, fences.high), (-3.5, 12.5));
        assert_eq!(super::fences(&values[..3], 0.0), None);
        let fences = super::fences(&[100.0; 9], 0.25).unwrap();
        assert_eq!((fences.low, fences.high), (80.0, 125.0));
    }

    #[test]
    fn a_change_begins_a_new_level() {
        let slow = CALM.map(|value| value * 1.2);
        let marks = marks(&[&CALM, &CALM, &slow, &slow, &CALM]);
        assert_eq!(marks[..2], [PointKind::Level, PointKind::Level]);
        let PointKind::Change { ratio, is_better } = marks[2] else {
            panic!("{marks:?}");
        };
        assert!((ratio - 1.2).abs() < 1e-9 && !is_better);
        assert_eq!(marks[3], PointKind::Level);
        assert!(matches!(
            marks[4],
            PointKind::Change {
                is_better: true,
                ..
            }
        ));
    }

    #[test]
    fn single_runs_change_nothing_until_the_next_agrees() {
        let marks = marks(&[&CALM, &[120.0], &[100.0], &[120.0], &[121.0]]);
        assert_eq!(
            marks[..3],
            [PointKind::Level, PointKind::Outlier, PointKind::Level]
        );
        assert!(matches!(marks[3], PointKind::Change { .. }), "{marks:?}");
        assert_eq!(marks[4], PointKind::Level);
    }

    #[test]
    fn changes_below_min_effect_are_ignored() {
        let little = CALM.map(|value| value * 1.015);
        assert_eq!(marks(&[&[100.0; 9], &little]), [PointKind::Level; 2]);
    }
}
