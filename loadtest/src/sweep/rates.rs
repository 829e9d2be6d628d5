//! The rates of a sweep, as they are written on a command line.

use std::str::FromStr;

use crate::plan::RATE_MAX;
use crate::units::parse_rate;

/// The most rates of a sweep.
pub const POINTS_MAX: usize = 100;

/// Significant digits of the rates between the ends.
const DIGITS: usize = 3;

const ADVICE: &str = "write rates as 10k:400k:log, 10k:100k:lin:10 or 10k,20k,50k";

/// Rates in messages per second: `10k:400k:log`, with `:8` for 8 of them, or a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Rates {
    /// From one to another.
    Range {
        /// The first.
        low: f64,
        /// The last, above it.
        high: f64,
        /// Their spacing.
        spacing: Spacing,
        /// Their number, if given.
        points: Option<usize>,
    },
    /// These, ascending.
    List(Vec<f64>),
}

/// The spacing of rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// By the same factor.
    Log,
    /// By the same difference.
    Linear,
}

impl Rates {
    /// All rates, ascending; `points` is the number for a range without one.
    ///
    /// # Errors
    /// A sentence for the user when both give the number.
    pub fn all(&self, points: Option<usize>, usual: usize) -> Result<Vec<f64>, String> {
        match (self, points) {
            (
                Self::List(_)
                | Self::Range {
                    points: Some(_), ..
                },
                Some(_),
            ) => Err("--points is for --rates without a number of rates".to_owned()),
            (Self::List(rates), None) => Ok(rates.clone()),
            (
                Self::Range {
                    low,
                    high,
                    spacing,
                    points: own,
                },
                given,
            ) => Ok(spacing.between(*low, *high, own.or(given).unwrap_or(usual))),
        }
    }

    /// The lowest and the highest.
    pub fn ends(&self) -> (f64, f64) {
        match self {
            Self::Range { low, high, .. } => (*low, *high),
            Self::List(rates) => (rates[0], rates[rates.len() - 1]),
        }
    }
}

impl Spacing {
    fn between(self, low: f64, high: f64, points: usize) -> Vec<f64> {
        let last = points.saturating_sub(1).max(1);
        let mut rates: Vec<_> = (0..=last)
            .map(|index| match index as f64 / last as f64 {
                _ if index == 0 => low,
                _ if index == last => high,
                share => rounded(self.at(low, high, share), DIGITS).clamp(low, high),
            })
            .collect();
        // Rounding may have made some equal.
        rates.dedup();
        rates
    }

    fn at(self, low: f64, high: f64, share: f64) -> f64 {
        match self {
            Self::Log => low * (high / low).powf(share),
            Self::Linear => low + (high - low) * share,
        }
    }
}

/// The nearest number with `digits` significant digits.
pub(super) fn rounded(rate: f64, digits: usize) -> f64 {
    let text = format!("{rate:.*e}", digits.saturating_sub(1));
    text.parse().unwrap_or(rate)
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(':') {
            range(text)
        } else {
            list(text)
        }
    }
}

fn range(text: &str) -> Result<Rates, String> {
    let mut parts = text.split(':');
    let mut next = || parts.next().ok_or_else(|| ADVICE.to_owned());
    let (low, high) = (rate(next()?)?, rate(next()?)?);
    let spacing = match next()? {
        "log" => Spacing::Log,
        "lin" => Spacing::Linear,
        other => return Err(format!("{other:?} is neither log nor lin; {ADVICE}")),
    };
    let points = parts.next().map(points).transpose()?;
    if parts.next().is_some() {
        return Err(ADVICE.to_owned());
    }
    if low >= high {
        return Err("the first of two rates has to be below the last".to_owned());
    }
    Ok(Rates::Range {
        low,
        high,
        spacing,
        points,
    })
}

fn list(text: &str) -> Result<Rates, String> {
    let mut rates: Vec<f64> = text.split(',').map(rate).collect::<Result<_, _>>()?;
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    if rates.len() > POINTS_MAX {
        return Err(format!("at most {POINTS_MAX} rates"));
    }
    Ok(Rates::List(rates))
}

fn rate(text: &str) -> Result<f64, String> {
    match parse_rate(text.trim()) {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        Ok(_) => Err("a rate is above 0 and at most 1g per second".to_owned()),
        Err(_) => Err(ADVICE.to_owned()),
    }
}

/// Parses the number of rates.
///
/// # Errors
/// A sentence for the user when that is no number, or out of range.
pub fn points(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|points| (2..=POINTS_MAX).contains(points))
        .ok_or_else(|| format!("write a number of rates from 2 to {POINTS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<f64> {
        text.parse::<Rates>().unwrap().all(None, 4).unwrap()
    }

    #[test]
    fn ranges_go_from_end_to_end() {
        assert_eq!(all("10:10k:log"), [10.0, 100.0, 1e3, 10e3]);
        assert_eq!(all("10k:40k:lin"), [10e3, 20e3, 30e3, 40e3]);
        assert_eq!(all("10k:30k:lin:3"), [10e3, 20e3, 30e3]);
        // In between they are round.
        assert_eq!(all("1234:400k:log"), [1234.0, 8480.0, 58200.0, 400e3]);
        assert_eq!(all("1:1.001:lin"), [1.0, 1.001], "no rate is there twice");
    }

    #[test]
    fn lists_are_sorted() {
        assert_eq!(all("50k,10k, 20k,10k"), [10e3, 20e3, 50e3]);
        assert_eq!(all("7"), [7.0]);
        assert_eq!("3,1".parse::<Rates>().unwrap().ends(), (1.0, 3.0));
    }

    #[test]
    fn the_number_of_rates_is_given_once() {
        let points = |text: &str, points| text.parse::<Rates>().unwrap().all(points, 4);
        assert_eq!(points("1:3:lin", Some(3)).unwrap(), [1.0, 2.0, 3.0]);
        for text in ["1:3:lin:2", "1,2"] {
            assert!(points(text, Some(3)).is_err(), "{text}");
        }
    }

    #[test]
    fn invalid_rates_are_errors() {
        for text in [
            "",
            "x",
            "1,",
            "0,1",
            "2g",
            "10k:",
            "10k:20k",
            "10k:20k:",
            "10k:20k:cubic",
            "20k:10k:log",
            "10k:10k:log",
            "10k:20k:log:1",
            "10k:20k:log:101",
            "10k:20k:log:x",
            "10k:20k:log:3:4",
        ] {
            assert!(text.parse::<Rates>().is_err(), "{text}");
        }
        let many: Vec<_> = (1..=101).map(|rate: u32| rate.to_string()).collect();
        assert!(many.join(",").parse::<Rates>().is_err());
    }
}
