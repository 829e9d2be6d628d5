//! Parsers of command line values.

use std::str::FromStr;
use std::time::Duration;

use crate::plan::{
    CONNECTIONS_MAX, FRAGMENTS_MAX, PAYLOAD_LEN_MAX, PHASE_MAX, RATE_MAX, SKIP_MAX, SizeShare,
    THREADS_MAX, TIMEOUT_MAX, WINDOW_MAX,
};
use crate::units::{format_size, parse_count, parse_duration, parse_rate, parse_size};

/// The most runs of a rate, of a search before its confirmation, and of a confirmation.
const RUNS_MAX: u32 = 100;

/// Cores: `0`, `1,3-5`, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<usize>()
                .ok()
                .filter(|core| *core < 1024)
                .ok_or_else(|| format!("write cores as 0 or 1,3-5, not {text:?}"))
        };
        let mut cores = Vec::new();
        if text.is_empty() {
            return Ok(Self(cores));
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("{last} comes before {first}"));
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

/// Payload lengths and their weights: `64`, or `64:9,4k:1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(pub Vec<SizeShare>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(size_share)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn size_share(text: &str) -> Result<SizeShare, String> {
    let (len, weight) = text.split_once(':').unwrap_or((text, "1"));
    let len = match parse_size(len)? {
        len if len <= PAYLOAD_LEN_MAX => len,
        _ => return Err(format!("at most {}", format_size(PAYLOAD_LEN_MAX))),
    };
    let weight = weight
        .parse()
        .ok()
        .filter(|weight| *weight > 0)
        .ok_or_else(|| format!("{weight:?} is not a weight; write sizes as 64 or 64:9,4k:1"))?;
    Ok(SizeShare { len, weight })
}

pub(super) fn connections(text: &str) -> Result<u32, String> {
    count(text, 1, CONNECTIONS_MAX)
}

pub(super) fn extra_connections(text: &str) -> Result<u32, String> {
    count(text, 0, CONNECTIONS_MAX)
}

pub(super) fn skip(text: &str) -> Result<u32, String> {
    count(text, 0, SKIP_MAX)
}

pub(super) fn window(text: &str) -> Result<u32, String> {
    count(text, 1, WINDOW_MAX)
}

pub(super) fn threads(text: &str) -> Result<u32, String> {
    count(text, 1, THREADS_MAX)
}

pub(super) fn fragments(text: &str) -> Result<u32, String> {
    count(text, 1, FRAGMENTS_MAX)
}

pub(super) fn messages(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("at least 1".to_owned()),
        count => Ok(count),
    }
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("write a whole number from 0 to {}", u64::MAX))
}

pub(super) fn pid(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "write the id of a process, a whole number".to_owned())
}

pub(super) fn runs(text: &str) -> Result<u32, String> {
    count(text, 1, RUNS_MAX)
}

fn count(text: &str, min: u32, max: u32) -> Result<u32, String> {
    parse_count(text)
        .ok()
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| (min..=max).contains(count))
        .ok_or_else(|| format!("write a number from {min} to {max}"))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match parse_rate(text)? {
        rate if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err("above 0 and at most 1g per second".to_owned()),
    }
}

pub(super) fn phase(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time <= PHASE_MAX => Ok(time),
        _ => Err("at most 168h".to_owned()),
    }
}

pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match phase(text)? {
        time if time < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        time => Ok(time),
    }
}

pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match positive(text)? {
        time if time <= TIMEOUT_MAX => Ok(time),
        _ => Err("at most 1h".to_owned()),
    }
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("write a header field as 'Name: value', not {text:?}"))?;
    Ok((name.to_owned(), value.trim().to_owned()))
}
