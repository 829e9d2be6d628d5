//! Points in time as text.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MILLIS_PER_DAY: i128 = 24 * 60 * 60 * 1_000;

/// Writes a time in UTC, to the millisecond, as RFC 3339 has it:
/// `2026-11-24T23:57:16.000Z`.
pub fn format_utc(time: SystemTime) -> String {
    let since_epoch_ms = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_millis()).unwrap_or(0),
        // Rounded towards the past, as later times are.
        Err(before) => {
            -i128::try_from(before.duration().as_nanos().div_ceil(1_000_000)).unwrap_or(0)
        }
    };
    let (year, month, day) = civil_from_days(since_epoch_ms.div_euclid(MILLIS_PER_DAY));
    let millis = since_epoch_ms.rem_euclid(MILLIS_PER_DAY);
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, milli) = (millis / 1_000 % 60, millis % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads what [`format_utc`] writes, from 1970 on; `None` for anything else.
pub fn parse_utc(text: &str) -> Option<SystemTime> {
    let number = |range: Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute) = (number(11..13)?, number(14..16)?);
    let (second, milli) = (number(17..19)?, number(20..23)?);
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let before_the_year = year.checked_sub(1970)? * 365 + leap_days(year - 1) - leap_days(1969);
    // The month and the day are found by walking: there is no second algorithm
    // that would have to agree with the one below.
    let days = (before_the_year..before_the_year + 366)
        .find(|&days| civil_from_days(days.into()) == (year.into(), month.into(), day.into()))?;
    let millis = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + milli;
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    (format_utc(time) == text).then_some(time)
}

/// The date that is so many days after 1970-01-01, in the Gregorian calendar
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
///
/// Years begin in March here, so that the leap day is a year's last, and come in
/// eras of 400, which all have the same number of days.
fn civil_from_days(days: i128) -> (i128, i128, i128) {
    const DAYS_PER_ERA: i128 = 146_097;
    const DAYS_FROM_MARCH_OF_YEAR_0: i128 = 719_468;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month, day)
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
        assert_eq!(format_utc(before), "1969-12-31T23:59:59.999Z");
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

    #[test]
    fn every_day_of_an_era_follows_the_one_before() {
        let is_leap = |year: i128| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil_from_days(days), expected);
            let (year, month, day) = expected;
            let month_len = match month {
                4 | 6 | 9 | 11 => 30,
                2 => 28 + i128::from(is_leap(year)),
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == month_len => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
