//! The addresses connections are made from.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses of this machine, used in turn. One address has some 28,000 ports to
/// connect to one server from; loopback has 16 million addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SourceRange {
    first: Ipv4Addr,
    count: u32,
}

impl SourceRange {
    /// The address for the connection with this number.
    pub fn address(&self, connection: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + connection % self.count)
    }

    /// The number of addresses.
    pub fn count(&self) -> u32 {
        self.count
    }
}

impl FromStr for SourceRange {
    type Err = String;

    /// Reads `127.0.0.1`, `127.0.0.1-127.0.0.20` or `127.1.0.0/24`.
    fn from_str(text: &str) -> Result<Self, String> {
        const ADVICE: &str = "write source addresses as 127.0.0.1-127.0.0.20 or 127.1.0.0/24";
        let address = |text: &str| {
            text.parse::<Ipv4Addr>()
                .map_err(|_| format!("{text:?} is not an IPv4 address; {ADVICE}"))
        };
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            let span = u32::from(last)
                .checked_sub(u32::from(first))
                .ok_or_else(|| format!("{last} comes before {first}"))?;
            let count = span
                .checked_add(1)
                .ok_or_else(|| "too many addresses".to_owned())?;
            return Ok(Self { first, count });
        }
        if let Some((base, bits)) = text.split_once('/') {
            let bits: u32 = bits
                .parse()
                .ok()
                .filter(|bits| (1..=32).contains(bits))
                .ok_or_else(|| format!("/{bits} is not a prefix length; {ADVICE}"))?;
            let count = 1u32 << (32 - bits);
            let first = u32::from(address(base)?) & !(count - 1);
            return Ok(Self {
                first: first.into(),
                count,
            });
        }
        Ok(Self {
            first: address(text)?,
            count: 1,
        })
    }
}

impl fmt::Display for SourceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}", self.first),
            count => write!(f, "{}-{}", self.first, self.address(count - 1)),
        }
    }
}

impl TryFrom<String> for SourceRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SourceRange> for String {
    fn from(range: SourceRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_and_used_in_turn() {
        for (text, count, fourth) in [
            ("127.0.0.1", 1, "127.0.0.1"),
            ("127.0.0.1-127.0.0.3", 3, "127.0.0.1"),
            ("127.1.0.7/24", 256, "127.1.0.3"),
            ("127.0.0.254-127.0.1.9", 12, "127.0.1.1"),
        ] {
            let range: SourceRange = text.parse().unwrap();
            assert_eq!(range.count(), count, "{text}");
            assert_eq!(range.address(3).to_string(), fourth, "{text}");
            assert_eq!(range.to_string().parse(), Ok(range));
        }
    }

    #[test]
    fn invalid_ranges_are_errors() {
        for wrong in [
            "",
            "127.0.0",
            "127.0.0.2-127.0.0.1",
            "0.0.0.0-255.255.255.255",
            "127.0.0.0/33",
            "127.0.0.0/0",
            "::1",
        ] {
            assert!(wrong.parse::<SourceRange>().is_err(), "{wrong}");
        }
    }
}
