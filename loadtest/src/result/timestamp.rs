//! Points in time as text.

use std::time::{SystemTime, UNIX_EPOCH};

use humantime::{format_rfc3339_millis, parse_rfc3339};

/// Writes a time from 1970 on in UTC, to the millisecond, in RFC 3339 format:
/// `2026-11-24T23:57:16.000Z`. An earlier time is written as 1970.
pub fn format_utc(time: SystemTime) -> String {
    format_rfc3339_millis(time.max(UNIX_EPOCH)).to_string()
}

/// Reads what [`format_utc`] writes; `None` for anything else.
pub fn parse_utc(text: &str) -> Option<SystemTime> {
    let time = parse_rfc3339(text).ok()?;
    (format_utc(time) == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_dates_come_out() {
        for (since_epoch_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (1_798_761_599_000, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(since_epoch_ms);
            assert_eq!(format_utc(time), text);
            assert_eq!(parse_utc(text), Some(time));
        }
        let before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(format_utc(before), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T23:57:16Z",
            "2026-13-24T23:57:16.000Z",
            "2026-02-29T23:57:16.000Z",
            "2026-11-24T24:00:00.000Z",
            "2026-11-24T23:57:16.000+",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "ääääääääääää",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }
}
