//! One layer of settings, with the source of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::schema::{Schema, Setting};
use crate::cli::args::Profile;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    /// An environment variable.
    Variable(String),
    Line {
        file: PathBuf,
        line: usize,
    },
    Profile(Profile),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Profile(profile) => write!(f, "profile {}", profile.name()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The value of one setting as text, with its source.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Several for a list. Empty is the default: a layer can reset a weaker one's value.
    pub(crate) values: Vec<String>,
    pub(crate) source: Source,
}

/// The settings that one layer gives, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Given>);

impl Layer {
    /// The settings of a profile.
    ///
    /// # Errors
    /// The profile has an invalid value, which is a mistake in this program.
    pub(crate) fn of_profile(profile: Profile, schema: &Schema) -> Result<Self, String> {
        let mut layer = Self::default();
        for (name, value) in profile.settings() {
            let setting = schema.find(name).expect("a profile names settings");
            let values = vec![(*value).to_owned()];
            let source = Source::Profile(profile);
            layer.add(&setting, Given { values, source })?;
        }
        Ok(layer)
    }

    /// Adds a setting that is already checked.
    pub(super) fn insert(&mut self, setting: &Setting<'_>, given: Given) {
        self.0.insert(setting.name().to_owned(), given);
    }

    /// Checks a setting and adds it.
    ///
    /// # Errors
    /// The value is not valid; the text has its source and the reason.
    pub(crate) fn add(&mut self, setting: &Setting<'_>, given: Given) -> Result<(), String> {
        for value in &given.values {
            setting.check(value).map_err(|reason| {
                let (source, value) = (&given.source, value.escape_debug());
                let name = setting.name();
                format!("{source}: invalid value '{value}' for '{name}': {reason}")
            })?;
        }
        self.insert(setting, given);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_name_and_valid_settings() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
            Layer::of_profile(profile, &Schema::new()).expect("valid");
        }
        assert!("speed".parse::<Profile>().is_err());
    }
}
