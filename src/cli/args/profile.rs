//! Named tuning: a layer of settings between the file and the defaults.

use std::str::FromStr;

/// A value of `--profile`. `docs/tuning.md` has the effect of each, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Throughput,
    Latency,
    Memory,
}

impl Profile {
    pub(crate) const ALL: [Self; 3] = [Self::Throughput, Self::Latency, Self::Memory];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }

    /// The settings that differ from their defaults.
    pub(crate) const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Throughput => &[("read-size", "256k")],
            Self::Latency => &[("busy-poll", "200us"), ("read-size", "32k")],
            Self::Memory => &[("window", "4k"), ("read-size", "16k")],
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| "expected throughput, latency or memory".to_owned())
    }
}
