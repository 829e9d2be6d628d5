//! Axes: the position of values, and their ticks.

use crate::scale::{AxisRange, ROUND, Scale, round_above, round_below};
use crate::units::format_ns;

/// The approximate number of ticks on a linear axis.
const TICKS: f64 = 5.0;

/// The mantissas of the distance between two of them.
const STEPS: [f64; 5] = [1.0, 2.0, 2.5, 5.0, 10.0];

/// The percentiles that are marked, as the share of messages beyond them.
const PERCENTILES: [(f64, &str); 9] = [
    (1.0, "min"),
    (0.5, "p50"),
    (0.1, "p90"),
    (0.01, "p99"),
    (1e-3, "p99.9"),
    (1e-4, "p99.99"),
    (1e-5, "p99.999"),
    (1e-6, "p99.9999"),
    (1e-7, "p99.99999"),
];

/// A value that is marked.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Tick {
    pub(in super::super) value: f64,
    pub(in super::super) label: String,
    /// Whether it has precedence where there is no room for all.
    pub(in super::super) is_major: bool,
}

/// Maps values to the share of a length.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Axis {
    pub(in super::super) title: String,
    span: AxisRange,
    pub(in super::super) ticks: Vec<Tick>,
}

impl Axis {
    /// From 0 to a round value above all of these.
    pub(in super::super) fn from_zero(
        title: &str,
        values: impl IntoIterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let highest = values.into_iter().filter(|it| it.is_finite());
        let highest = highest.fold(0.0, f64::max);
        let high = if highest > 0.0 { highest } else { 1.0 };
        let step = round_above(high / TICKS, &STEPS);
        let high = (high / step - 1e-9).ceil() * step;
        Self::linear(title, 0.0, high, step, format)
    }

    /// From 0 to exactly this value, such as the end of a run.
    pub(in super::super) fn up_to(title: &str, high: f64, format: impl Fn(f64) -> String) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        Self::linear(title, 0.0, high, round_above(high / TICKS, &STEPS), format)
    }

    /// An axis around these values, without 0.
    pub(in super::super) fn around(
        title: &str,
        values: impl IntoIterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let Some((low, high)) = range(values) else {
            return Self::up_to(title, 1.0, format);
        };
        let room = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-9);
        let (low, high) = ((low - room).max(0.0), high + room);
        let step = round_above((high - low) / (TICKS - 1.0), &STEPS);
        Self::linear(title, low, high, step, format)
    }

    fn linear(title: &str, low: f64, high: f64, step: f64, format: impl Fn(f64) -> String) -> Self {
        let span = AxisRange {
            scale: Scale::Linear,
            low,
            high,
        };
        let ticks = span.multiples(step).map(|value| Tick {
            value,
            label: format(value),
            is_major: true,
        });
        Self {
            title: title.to_owned(),
            span,
            ticks: ticks.collect(),
        }
    }

    /// A logarithmic axis around these values, of which those that are not
    /// positive are left out. It begins and ends at 1, 2 or 5 of a decade.
    pub(in super::super) fn log(
        title: &str,
        values: impl IntoIterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let positive = values.into_iter().filter(|&it| it > 0.0);
        let (low, high) = range(positive).unwrap_or((1.0, 10.0));
        let (low, mut high) = (round_below(low), round_above(high, &ROUND));
        if high <= low {
            high = round_above(low * 1.01, &ROUND);
        }
        let span = AxisRange {
            scale: Scale::Log,
            low,
            high,
        };
        let decades = span.decades(&ROUND[..1]);
        let ticks = span.decades(&ROUND[..3]).into_iter().map(|value| Tick {
            value,
            label: format(value),
            is_major: decades.contains(&value),
        });
        Self {
            title: title.to_owned(),
            span,
            ticks: ticks.collect(),
        }
    }

    /// Times in nanoseconds, logarithmic.
    pub(in super::super) fn times(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        Self::log(title, values, compact_ns)
    }

    /// Percentiles as tools around HDR histograms show them: every nine of them has the same
    /// length. A value is the share of messages beyond it, from 1 at the minimum to that of the
    /// slowest of `messages`.
    pub(in super::super) fn percentiles(title: &str, messages: u64) -> Self {
        let least = (messages.max(10) as f64).recip();
        let ticks = PERCENTILES
            .iter()
            .filter(|(beyond, _)| *beyond >= least * (1.0 - 1e-9));
        Self {
            title: title.to_owned(),
            span: AxisRange {
                scale: Scale::Log,
                low: 1.0,
                high: least,
            },
            ticks: ticks
                .map(|&(value, label)| Tick {
                    value,
                    label: label.to_owned(),
                    is_major: true,
                })
                .collect(),
        }
    }

    /// Ratios around 1, logarithmic: half and double are equally far from it.
    pub(in super::super) fn ratios(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        const ENDS: [f64; 12] = [
            1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 2.5, 4.0, 10.0, 30.0, 100.0,
        ];
        let reach = values
            .into_iter()
            .filter(|it| it.is_finite() && *it > 0.0)
            .map(|ratio| ratio.max(ratio.recip()))
            .fold(1.01, f64::max);
        let end = ENDS.iter().position(|&step| step >= reach);
        let end = end.unwrap_or(ENDS.len() - 1);
        let steps = &ENDS[end.saturating_sub(1)..=end];
        let mut ticks: Vec<f64> = steps
            .iter()
            .flat_map(|&step| [step.recip(), step])
            .collect();
        ticks.push(1.0);
        ticks.sort_by(f64::total_cmp);
        Self {
            title: title.to_owned(),
            span: AxisRange {
                scale: Scale::Log,
                low: ENDS[end].recip() / 1.01,
                high: ENDS[end] * 1.01,
            },
            ticks: ticks
                .into_iter()
                .map(|value| Tick {
                    value,
                    label: compact_ratio(value),
                    is_major: (value - 1.0).abs() < 1e-9,
                })
                .collect(),
        }
    }

    /// The position of a value, from 0 at the start to 1 at the end. Values beyond are clamped.
    pub(in super::super) fn place(&self, value: f64) -> f64 {
        let share = self.span.position(value);
        // The logarithm of a value that is not positive.
        if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        }
    }
}

/// A time as a tick's label, without trailing zeros.
pub(in super::super) fn compact_ns(ns: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    let text = format_ns(ns.round() as u64);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{number} {unit}")
        }
        _ => text,
    }
}

fn compact_ratio(ratio: f64) -> String {
    if ratio >= 9.5 {
        return format!("{ratio:.0}×");
    }
    let text = format!("{ratio:.2}");
    format!("{}×", text.trim_end_matches('0').trim_end_matches('.'))
}

fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::format_rate;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    fn majors(axis: &Axis) -> Vec<&str> {
        let majors = axis.ticks.iter().filter(|tick| tick.is_major);
        majors.map(|tick| tick.label.as_str()).collect()
    }

    fn places(axis: &Axis, values: &[f64]) -> Vec<f64> {
        let places = values.iter().map(|&value| axis.place(value));
        places.map(|share| (share * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn an_axis_from_zero_ends_at_a_round_value() {
        let axis = Axis::from_zero("messages/s", [47_300.0, 12.0], format_rate);
        assert_eq!(
            labels(&axis),
            ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]
        );
        assert_eq!(places(&axis, &[0.0, 25_000.0, 50_000.0]), [0.0, 0.5, 1.0]);
        let nothing = Axis::from_zero("messages/s", [], format_rate);
        assert_eq!(places(&nothing, &[0.0, f64::NAN]), [0.0, 0.0]);
    }

    #[test]
    fn an_axis_around_values_leaves_room() {
        let axis = Axis::around("x", [100.0, 110.0], format_rate);
        assert!(
            axis.place(100.0) > 0.0 && axis.place(110.0) < 1.0,
            "{axis:?}"
        );
        assert!(labels(&axis).len() >= 3, "{axis:?}");
        let single = Axis::around("x", [100.0], format_rate);
        assert_eq!(places(&single, &[100.0]), [0.5]);
    }

    #[test]
    fn times_are_marked_at_round_values() {
        let axis = Axis::times("response time", [50_015.0, 999_000.0]);
        assert_eq!(
            labels(&axis),
            ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]
        );
        let wide = Axis::times("response time", [900.0, 4e9]);
        assert_eq!(
            majors(&wide),
            ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]
        );
        let one = Axis::times("response time", [50_000.0]);
        assert_eq!(labels(&one), ["50 µs", "100 µs"]);
        let none = Axis::times("response time", [0.0]);
        assert!(!none.ticks.is_empty());
    }

    #[test]
    fn every_nine_has_the_same_length() {
        let axis = Axis::percentiles("percentile", 100_000);
        assert_eq!(
            labels(&axis),
            ["min", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999"]
        );
        assert_eq!(
            places(&axis, &[1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 0.0]),
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
        );
    }

    #[test]
    fn half_and_double_are_equally_far_from_one() {
        let axis = Axis::ratios("ratio", [0.6, 1.4]);
        assert_eq!(labels(&axis), ["0.5×", "0.67×", "1×", "1.5×", "2×"]);
        let (half, double) = (axis.place(0.5), axis.place(2.0));
        assert!((half + double - 1.0).abs() < 1e-9);
        assert_eq!(places(&axis, &[1.0]), [0.5]);
        assert_eq!(places(&axis, &[0.0, 1e9]), [0.0, 1.0]);
        let far = Axis::ratios("ratio", [1e9]);
        assert_eq!(labels(&far).last(), Some(&"100×"));
    }
}
