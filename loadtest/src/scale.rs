//! Scales: the position of values along a side of a plot, and its ticks.

/// The distance between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Proportional to their difference.
    Linear,
    /// Proportional to the logarithm of their ratio; only positive values can be shown.
    Log,
}

impl Scale {
    /// Whether a value has a place on it.
    pub(crate) fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value >= f64::MIN_POSITIVE)
    }
}

/// The mantissas of round numbers, from 1 to 10.
pub(crate) const ROUND: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// The rounding error of a tick at an end.
const SLACK: f64 = 1e-9;

/// The range of values along a side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AxisRange {
    pub(crate) scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl AxisRange {
    /// The range of the values that the scale shows; `None` without any. A single value gets room
    /// on both sides.
    pub(crate) fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return None;
        }
        let (low, high) = match scale {
            _ if low < high => (low, high),
            Scale::Log => (low / 2.0, high * 2.0),
            Scale::Linear => (low - 1.0, high + 1.0),
        };
        Some(Self { scale, low, high })
    }

    /// Extends the ends to round numbers, for this number of ticks.
    pub(crate) fn widened(self, ticks: usize) -> Self {
        let (low, high) = match self.scale {
            Scale::Log => (round_below(self.low), round_above(self.high, &ROUND)),
            Scale::Linear => {
                let step = self.step(ticks);
                let down = (self.low / step + SLACK).floor() * step;
                let up = (self.high / step - SLACK).ceil() * step;
                (down, up)
            }
        };
        Self { low, high, ..self }
    }

    /// The position of a value, from 0 to 1.
    pub(crate) fn position(self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Round numbers within, at most `most` and at least two, if that many are wanted.
    pub(crate) fn ticks(self, most: usize) -> Vec<f64> {
        if self.scale == Scale::Log {
            for mantissas in [&ROUND[..3], &ROUND[..1]] {
                let ticks = self.decades(mantissas);
                if (2..=most).contains(&ticks.len()) {
                    return ticks;
                }
            }
            let decades = self.decades(&ROUND[..1]);
            if decades.len() > most {
                let apart = decades.len().div_ceil(most.max(1));
                return decades.into_iter().step_by(apart).collect();
            }
        }
        self.even(most)
    }

    /// The mantissas' multiples of powers of ten within.
    pub(crate) fn decades(self, mantissas: &[f64]) -> Vec<f64> {
        let (first, last) = (exponent(self.low), exponent(self.high));
        (first..=last)
            .flat_map(|exponent| mantissas.iter().map(move |one| one * power(exponent)))
            .filter(|&tick| self.holds(tick))
            .collect()
    }

    /// At most `most` multiples of a round number.
    fn even(self, most: usize) -> Vec<f64> {
        self.multiples(self.step(most)).take(most).collect()
    }

    /// The multiples of a step within.
    pub(crate) fn multiples(self, step: f64) -> impl Iterator<Item = f64> {
        // Adding 0 makes a 0 of a -0.
        let first = (self.low / step - SLACK).ceil() + 0.0;
        (0u32..)
            .map(move |index| (first + f64::from(index)) * step)
            .take_while(move |&tick| self.holds(tick))
    }

    /// The round number that divides it into at most `parts` parts.
    fn step(self, parts: usize) -> f64 {
        round_above((self.high - self.low) / parts.max(1) as f64, &ROUND)
    }

    fn holds(self, tick: f64) -> bool {
        let slack = SLACK * (self.high - self.low).max(tick.abs());
        tick >= self.low - slack && tick <= self.high + slack
    }
}

/// The round number that is no more.
pub(crate) fn round_below(value: f64) -> f64 {
    let scale = power(exponent(value));
    let fits = |one: &&f64| **one * scale <= value * (1.0 + SLACK);
    ROUND
        .iter()
        .rev()
        .find(fits)
        .map_or(value, |one| one * scale)
}

/// The least number with one of these mantissas that is not below the value; the last mantissa is
/// 10.
pub(crate) fn round_above(value: f64, mantissas: &[f64]) -> f64 {
    let scale = power(exponent(value));
    let fits = |one: &&f64| **one * scale >= value * (1.0 - SLACK);
    mantissas.iter().find(fits).map_or(value, |one| one * scale)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a double's exponent is small"
)]
fn exponent(value: f64) -> i32 {
    value.log10().floor() as i32
}

fn power(exponent: i32) -> f64 {
    10f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(scale: Scale, low: f64, high: f64) -> AxisRange {
        AxisRange::of(scale, [low, high].into_iter()).expect("two values")
    }

    fn assert_near(values: &[f64], expected: &[f64]) {
        assert_eq!(values.len(), expected.len(), "{values:?}");
        for (value, expected) in values.iter().zip(expected) {
            assert!((value / expected - 1.0).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn a_log_axis_names_round_numbers() {
        let ticks = |low, high, most| span(Scale::Log, low, high).ticks(most);
        assert_near(&ticks(10e3, 400e3, 8), &[10e3, 20e3, 50e3, 100e3, 200e3]);
        assert_near(&ticks(1.0, 1e6, 8), &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
        assert_near(&ticks(1.0, 1e6, 4), &[1.0, 100.0, 1e4, 1e6]);
        // Too narrow for two of them.
        assert_near(&ticks(11.0, 14.0, 4), &[11.0, 12.0, 13.0, 14.0]);
    }

    #[test]
    fn a_linear_axis_names_multiples() {
        let ticks = |low, high, most| span(Scale::Linear, low, high).ticks(most);
        assert_near(&ticks(1.0, 9.0, 5), &[2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(-1.0, 1.0, 4).len(), 4, "and not the fifth");
        assert_near(&ticks(10e3, 50e3, 5), &[10e3, 20e3, 30e3, 40e3, 50e3]);
    }

    #[test]
    fn ends_are_rounded_outwards() {
        let widened = span(Scale::Log, 23.0, 4_300.0).widened(5);
        assert_near(&[widened.low, widened.high], &[20.0, 5_000.0]);
        let same = span(Scale::Log, 20.0, 5_000.0).widened(5);
        assert_near(&[same.low, same.high], &[20.0, 5_000.0]);
        let widened = span(Scale::Linear, 0.3, 9.1).widened(5);
        assert!(widened.low.abs() < 1e-9, "{widened:?}");
        assert_near(&[widened.high], &[10.0]);
    }

    #[test]
    fn positions_go_from_0_to_1() {
        let log = span(Scale::Log, 10.0, 1_000.0);
        let linear = span(Scale::Linear, 10.0, 1_010.0);
        for (span, middle) in [(log, 100.0), (linear, 510.0)] {
            for (value, expected) in [(span.low, 0.0), (middle, 0.5), (span.high, 1.0)] {
                assert!((span.position(value) - expected).abs() < 1e-9, "{span:?}");
            }
        }
    }

    #[test]
    fn one_value_has_room_around_it() {
        for scale in [Scale::Log, Scale::Linear] {
            let alone = AxisRange::of(scale, [7.0].into_iter()).expect("a value");
            let position = alone.position(7.0);
            assert!((0.4..0.6).contains(&position), "{alone:?}");
        }
        assert_eq!(AxisRange::of(Scale::Log, std::iter::empty()), None);
    }
}
