//! Short labels of ticks.

const COUNTS: [(f64, &str); 4] = [(1e9, "g"), (1e6, "m"), (1e3, "k"), (1.0, "")];

const TIMES: [(f64, &str); 4] = [(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")];

/// A number as the command line reads it: `50k`.
pub fn short_count(value: f64) -> String {
    short(value, &COUNTS)
}

/// Nanoseconds, with the unit that fits: `200 µs`.
pub fn short_ns(value: f64) -> String {
    short(value, &TIMES)
}

fn short(value: f64, units: &[(f64, &str)]) -> String {
    // A value that rounds up to the next unit is written in that.
    let fits = |unit: &&(f64, &str)| value.abs() >= unit.0 * 0.9995;
    let (scale, unit) = units
        .iter()
        .find(fits)
        .or(units.last())
        .unwrap_or(&(1.0, ""));
    let digits = format!("{:.2}", value / scale);
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_are_left_out() {
        for (value, count, time) in [
            (0.0, "0", "0 ns"),
            (0.5, "0.5", "0.5 ns"),
            (10.0, "10", "10 ns"),
            (1_500.0, "1.5k", "1.5 µs"),
            (50_000.0, "50k", "50 µs"),
            (999_999.0, "1m", "1 ms"),
            (2e9, "2g", "2 s"),
            (3e13, "30000g", "30000 s"),
        ] {
            assert_eq!(short_count(value), count);
            assert_eq!(short_ns(value), time);
        }
    }
}
