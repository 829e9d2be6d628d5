//! A rate of events.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A count per second, minute or hour: `10/s`, `30/m`, `600/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// A count per second.
    pub const fn per_second(count: NonZeroU32) -> Self {
        let unit = Unit::Second;
        Self { count, unit }
    }

    /// The count per unit of time.
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The unit of time.
    pub const fn unit(self) -> Duration {
        match self.unit {
            Unit::Second => Duration::from_secs(1),
            Unit::Minute => Duration::from_secs(60),
            Unit::Hour => Duration::from_secs(60 * 60),
        }
    }

    /// The time between two evenly spaced events.
    pub fn interval(self) -> Duration {
        self.unit() / self.count.get()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (count, unit) = text.split_once('/')?;
            let unit = match unit {
                "s" => Unit::Second,
                "m" => Unit::Minute,
                "h" => Unit::Hour,
                _ => return None,
            };
            let count = count.parse().ok()?;
            Some(Self { count, unit })
        };
        parse().ok_or_else(|| "expected a rate such as 10/s, 30/m or 600/h".to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_parses_from_count_and_unit() {
        for (text, interval) in [
            ("10/s", Duration::from_millis(100)),
            ("30/m", Duration::from_secs(2)),
            ("600/h", Duration::from_secs(6)),
        ] {
            let rate: Rate = text.parse().expect("a rate");
            assert_eq!(rate.interval(), interval);
            assert_eq!(rate.to_string(), text);
        }
        for wrong in ["", "10", "/s", "0/s", "-1/s", "1.5/s", "10/d", "10/ s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
