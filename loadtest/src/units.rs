//! Sizes and durations as text.

use std::time::Duration;

/// Reads a byte count: `32`, `16k`, `1m` (powers of 1024, any case, and a
/// trailing `b` or `ib` is fine).
///
/// # Errors
/// A sentence for the user when the text is no such count or overflows.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = split_number(text);
    let scale: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        _ => return Err("write bytes as 32, 16k or 1m".to_owned()),
    };
    let count: usize = digits
        .parse()
        .map_err(|_| "write bytes as 32, 16k or 1m".to_owned())?;
    count
        .checked_mul(scale)
        .ok_or_else(|| "this many bytes cannot be counted".to_owned())
}

/// Reads a count of other things than bytes: `100`, `50k`, `1.5m` (powers of
/// 1000, any case).
///
/// # Errors
/// A sentence for the user when the text is no such count or overflows.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let count = parse_rate(text)?;
    if count.fract() != 0.0 || count > 1e15 {
        return Err(format!("{text:?} is not a whole number"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, positive and below 2^53"
    )]
    Ok(count as u64)
}

/// Reads a number per second: `0.5`, `100`, `50k`, `1.5m` (powers of 1000, any
/// case).
///
/// # Errors
/// A sentence for the user when the text is no such number.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    const ADVICE: &str = "write a number as 100, 50k or 1m";
    let (digits, unit) = split_number(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return Err(ADVICE.to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| ADVICE.to_owned())?;
    Ok(number * scale)
}

/// Reads a duration: `500ms`, `3s`, `1.5s`, `2m`, `100us`.
///
/// # Errors
/// A sentence for the user when the text has no unit, an unknown one, or is
/// out of range.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const ADVICE: &str = "write a duration as 500ms, 3s or 2m";
    let (digits, unit) = split_number(text);
    let scale_s = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(ADVICE.to_owned()),
    };
    let count: f64 = digits.parse().map_err(|_| ADVICE.to_owned())?;
    Duration::try_from_secs_f64(count * scale_s).map_err(|_| ADVICE.to_owned())
}

/// Writes a byte count in the form that [`parse_size`] reads, with a unit.
pub fn format_size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Writes a measured number of bytes, to a tenth of a fitting unit.
pub fn format_bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes >= 1_048_576.0 => format!("{:.1} MiB", bytes / 1_048_576.0),
        _ if bytes >= 1_024.0 => format!("{:.1} KiB", bytes / 1_024.0),
        _ => format!("{bytes:.0} B"),
    }
}

/// Writes a share of 1 in per cent: `2 %`, `2.5 %`.
pub fn format_percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 && (percent - percent.round()).abs() >= 0.05 {
        return format!("{percent:.1} %");
    }
    format!("{percent:.0} %")
}

/// Reads a share of 1: `2%`, `0.5%`, `2 %`.
///
/// # Errors
/// A sentence for the user when the text is no percentage from 0 to 1000.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end().strip_suffix('%').map(str::trim_end);
    number
        .and_then(|number| number.parse::<f64>().ok())
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "write a share as 2% or 0.5%".to_owned())
}

/// Writes a number per second: whole where it is large, with significant decimals where it is
/// small.
pub fn format_rate(rate: f64) -> String {
    if rate < 10.0 && rate.fract() != 0.0 {
        return format!("{rate:.2}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and far below 2^64"
    )]
    format_count(rate.round() as u64)
}

/// Writes nanoseconds with three significant digits and a fitting unit, which
/// is the precision a latency is recorded with.
pub fn format_ns(ns: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let value = ns as f64;
    // 999.5 would be shown as 1000: such a value belongs to the next unit.
    let (unit, scale) = UNITS
        .into_iter()
        .find(|(_, scale)| value / scale < 999.5)
        .unwrap_or(UNITS[3]);
    let value = value / scale;
    let decimals = match value {
        _ if scale <= 1.0 || value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// Writes a duration as [`parse_duration`] reads it: `500ms`, `3s`.
pub fn format_duration(duration: Duration) -> String {
    // `Duration`'s own `Debug` picks the unit and drops trailing zeros.
    format!("{duration:?}")
}

/// Writes a whole number with its thousands apart: `1,234,567`.
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Splits `12.5ms` into `12.5` and `ms`.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Durations as whole nanoseconds.
pub(crate) mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("32"), Ok(32));
        assert_eq!(parse_size("16k"), Ok(16_384));
        assert_eq!(parse_size("1M"), Ok(1_048_576));
        assert_eq!(parse_size("2KiB"), Ok(2_048));
        for wrong in ["", "k", "-1", "1.5k", "3x", "16 k", "99999999999999999999m"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_size("18446744073709551615m").is_err());
    }

    #[test]
    fn counts_take_decimal_suffixes() {
        assert_eq!(parse_count("0"), Ok(0));
        assert_eq!(parse_count("50k"), Ok(50_000));
        assert_eq!(parse_count("1.5M"), Ok(1_500_000));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!(parse_rate("2g"), Ok(2e9));
        for wrong in [
            "",
            "k",
            "-1",
            "1.5",
            "3x",
            "1kb",
            "1e3",
            "99999999999999999g",
        ] {
            assert!(parse_count(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_rate("-1").is_err());
        assert_eq!(format_rate(0.5), "0.50");
        assert_eq!(format_rate(50_000.0), "50,000");
        assert_eq!(format_rate(1234.5), "1,235");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "3",
            "s",
            "-1s",
            "1d",
            "1..5s",
            "1e3s",
            "99999999999999999999999h",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn shares_are_read_in_per_cent() {
        assert_eq!(parse_percent("2%"), Ok(0.02));
        assert_eq!(parse_percent("0.5 %"), Ok(0.005));
        for wrong in ["", "%", "2", "-1%", "nan%", "1001%", "2%%"] {
            assert!(parse_percent(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(format_ns(0), "0 ns");
        assert_eq!(format_ns(999), "999 ns");
        assert_eq!(format_ns(5_123), "5.12 µs");
        assert_eq!(format_ns(99_960), "100 µs");
        assert_eq!(format_ns(999_700), "1.00 ms");
        assert_eq!(format_ns(60_000_000_000), "60.0 s");
        assert_eq!(format_ns(6_000_000_000_000), "6000 s");
        assert_eq!(format_bytes(512.4), "512 B");
        assert_eq!(format_bytes(2_048.0), "2.0 KiB");
        assert_eq!(format_percent(0.02), "2 %");
        assert_eq!(format_percent(0.025), "2.5 %");
        assert_eq!(format_percent(0.999), "100 %");
        assert_eq!(format_size(32), "32 B");
        assert_eq!(format_size(16_384), "16 KiB");
        assert_eq!(format_size(1_000), "1000 B");
        assert_eq!(format_count(0), "0");
        assert_eq!(format_count(999), "999");
        assert_eq!(format_count(1_234_567), "1,234,567");
    }
}
