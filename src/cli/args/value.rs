//! The syntax of values, on the command line, in variables and in the file.

use std::str::FromStr;
use std::time::Duration;

use ringback::Rate;

/// Parses a value by its type; the error is `expected` with `description`, since the
/// standard library's messages are about Rust's types.
pub(crate) fn expected<T: FromStr>(
    description: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.parse()
            .map_err(|_parsers| format!("expected {description}"))
    }
}

/// A limit where 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit(pub(crate) Option<Rate>);

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(None));
        }
        let rate = text.parse::<Rate>().map(|rate| Self(Some(rate)));
        rate.map_err(|expected| format!("{expected}, or 0 for no limit"))
    }
}

/// A number of bytes: `4096`, `16k`, `1m`, `2g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    pub(crate) fn bytes(self) -> usize {
        // A size that does not fit exceeds every limit anyway.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
            Some(digits) if lower.ends_with('k') => (digits, 10),
            Some(digits) if lower.ends_with('m') => (digits, 20),
            Some(digits) => (digits, 30),
            None => (&lower[..], 0),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| "expected a size such as 4096, 16k or 1m".to_owned())
    }
}

/// The permissions of a file: `660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text, 8)
            .map(Self)
            .map_err(|_| "expected an octal mode such as 660".to_owned())
    }
}

/// A length of time: `500ms`, `10s`, `2m`, or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    /// `None` if it is 0.
    pub(crate) fn unless_zero(self) -> Option<Duration> {
        Some(self.0).filter(|time| !time.is_zero())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_humantime| "expected a time such as 500ms, 10s or 2m".to_owned())
    }
}

/// `true` or `1`, `false` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switch(pub(crate) bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!("0".parse(), Ok(Size(0)));
        assert_eq!("16k".parse(), Ok(Size(16_384)));
        assert_eq!("3M".parse(), Ok(Size(3 << 20)));
        assert_eq!("1g".parse(), Ok(Size(1 << 30)));
        for wrong in ["", "k", "1.5k", "-1", "1kb", "0x10"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_is_true_or_1_false_or_0() {
        assert_eq!("true".parse(), Ok(Switch(true)));
        assert_eq!("1".parse(), Ok(Switch(true)));
        assert_eq!("false".parse(), Ok(Switch(false)));
        assert_eq!("0".parse(), Ok(Switch(false)));
        for wrong in ["", "yes", "TRUE", "2"] {
            assert!(wrong.parse::<Switch>().is_err(), "{wrong}");
        }
    }
}
