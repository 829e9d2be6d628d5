//! Named tuning: a layer between the file and the defaults.

use std::str::FromStr;

use super::layer::{Given, Layer, Source};
use super::schema::Schema;

/// What a server is tuned for. `docs/tuning.md` has what each measurably
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Throughput,
    Latency,
    Memory,
}

impl Profile {
    const ALL: [Self; 3] = [Self::Throughput, Self::Latency, Self::Memory];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }

    /// The settings that differ from their defaults.
    const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Throughput => &[("read-size", "256k")],
            Self::Latency => &[("busy-poll", "200us"), ("read-size", "32k")],
            Self::Memory => &[("window", "4k"), ("read-size", "16k")],
        }
    }

    /// What it sets.
    ///
    /// # Errors
    /// A value that its flag would not take, which is a mistake in this file.
    pub(crate) fn layer(self, schema: &Schema) -> Result<Layer, String> {
        let mut layer = Layer::default();
        for (name, value) in self.settings() {
            let setting = schema.find(name).expect("a profile names settings");
            let values = vec![(*value).to_owned()];
            let source = Source::Profile(self);
            layer.add(&setting, Given { values, source })?;
        }
        Ok(layer)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_name_and_valid_settings() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
            profile.layer(&Schema::new()).expect("valid");
        }
        assert!("speed".parse::<Profile>().is_err());
    }
}
