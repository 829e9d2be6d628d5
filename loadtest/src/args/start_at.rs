//! The start time of a measurement.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::plan::Plan;
use crate::result::{format_utc, parse_utc};
use crate::units::{format_duration, parse_duration};

/// The least time left for connecting, beside the warm-up and the time that `--connect-rate`
/// takes.
pub(super) const CONNECT_TIME_MIN: Duration = Duration::from_millis(200);

/// The furthest start time: a mistyped day is detected at once, and not by waiting for it.
pub(super) const START_AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The digits of a second's fraction.
const FRACTION_DIGITS: usize = 3;

/// When to begin.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub struct Start {
    /// Start the measurement at this time, as other generators do: 2026-11-28T23:10:00Z, or +30s
    /// from now. Connecting and the warm-up come before it
    #[arg(long = "start-at", value_name = "TIME")]
    pub at: Option<StartAt>,
}

impl Start {
    /// The start time of a plan's measurement, if one is given.
    ///
    /// # Errors
    /// A sentence for the user when it is too near or too far.
    pub fn resolve(&self, now: SystemTime, plan: &Plan) -> Result<Option<SystemTime>, String> {
        self.at.map(|at| at.resolve(now, plan)).transpose()
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// By the wall clock.
    Clock(SystemTime),
    /// This long from now.
    In(Duration),
}

impl StartAt {
    fn resolve(self, now: SystemTime, plan: &Plan) -> Result<SystemTime, String> {
        let ahead = match self {
            Self::Clock(at) => at.duration_since(now).unwrap_or_default(),
            Self::In(time) => time,
        };
        let needed = plan.warmup + connect_time(plan);
        if ahead < needed {
            return Err(format!(
                "--start-at: {} from now is too near: connecting and the warm-up need {}",
                format_duration(whole_millis(ahead)),
                format_duration(whole_millis(needed))
            ));
        }
        if ahead > START_AHEAD_MAX {
            return Err("--start-at: more than 24h from now is too far".to_owned());
        }
        Ok(now + ahead)
    }
}

/// The least that connecting takes.
fn connect_time(plan: &Plan) -> Duration {
    let requested_s = plan.sockets() as f64 / plan.connect_pace();
    let requested = Duration::try_from_secs_f64(requested_s).unwrap_or(START_AHEAD_MAX);
    CONNECT_TIME_MIN + requested.min(START_AHEAD_MAX)
}

fn whole_millis(time: Duration) -> Duration {
    Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000)
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(time) = text.strip_prefix('+') {
            return parse_duration(time).map(Self::In);
        }
        parse_rfc3339(text).map(Self::Clock).ok_or_else(|| {
            "write a time in UTC as 2026-11-28T23:10:00Z, or as +30s from now".to_owned()
        })
    }
}

/// Reads a time with any fraction of a second, up to the millisecond.
fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let time = text.strip_suffix('Z')?;
    let (seconds, fraction) = match time.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (time, ""),
    };
    parse_utc(&format!("{seconds}.{fraction:0<FRACTION_DIGITS$}Z"))
}

/// The line that announces a later start.
pub fn announcement(at: SystemTime, now: SystemTime) -> String {
    let ahead = at.duration_since(now).unwrap_or_default();
    format!(
        "the measurement begins at {}, in {}",
        format_utc(at),
        format_duration(whole_millis(ahead))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::time::UNIX_EPOCH;

    fn at(text: &str) -> SystemTime {
        match text.parse() {
            Ok(StartAt::Clock(at)) => at,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn start_times_are_parsed_by_rfc_3339() {
        let ms = Duration::from_millis;
        let expected = UNIX_EPOCH + Duration::from_secs(1_795_907_400);
        assert_eq!(at("2026-11-28T23:10:00Z"), expected);
        assert_eq!(at("2026-11-28T23:10:00.5Z"), expected + ms(500));
        assert_eq!(at("2026-11-28T23:10:00.007Z"), expected + ms(7));
        assert_eq!("+30s".parse(), Ok(StartAt::In(Duration::from_secs(30))));
        assert_eq!("+1.5m".parse(), Ok(StartAt::In(Duration::from_secs(90))));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "+",
            "+30",
            "30s",
            "23:10",
            "2026-11-28",
            "2026-11-28T23:10:00",
            "2026-11-28T23:10:00.Z",
            "2026-11-28T23:10:00.0001Z",
            "2026-11-28T23:10:00+01:00",
            "2026-02-30T23:10:00Z",
        ] {
            assert!(text.parse::<StartAt>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_start_leaves_time_to_connect_and_to_warm_up() {
        let plan = fixture::plan();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let resolve = |ms| StartAt::In(Duration::from_millis(ms)).resolve(now, &plan);
        assert_eq!(resolve(1_300), Ok(now + Duration::from_millis(1_300)));
        assert_eq!(
            resolve(1_299),
            Err(
                "--start-at: 1.299s from now is too near: connecting and the warm-up need 1.3s"
                    .to_owned()
            )
        );
        let at_a_rate = Plan {
            connect_rate: Some(10.0),
            ..plan.clone()
        };
        let start = StartAt::In(Duration::from_secs(11));
        assert!(start.resolve(now, &plan).is_ok());
        assert!(start.resolve(now, &at_a_rate).is_err());
        let past = StartAt::Clock(UNIX_EPOCH).resolve(now, &plan);
        assert!(past.unwrap_err().contains(": 0ns from now is too near"));
    }

    #[test]
    fn a_start_is_within_a_day() {
        let plan = fixture::plan();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let last = now + START_AHEAD_MAX;
        assert_eq!(StartAt::Clock(last).resolve(now, &plan), Ok(last));
        let beyond = StartAt::Clock(last + Duration::from_millis(1)).resolve(now, &plan);
        assert_eq!(
            beyond,
            Err("--start-at: more than 24h from now is too far".to_owned())
        );
        let far = StartAt::In(Duration::MAX).resolve(now, &plan);
        assert_eq!(far, beyond);
    }
}
