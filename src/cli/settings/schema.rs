//! The names and types of all settings, read from [`Args`], which defines them.

use std::any::TypeId;
use std::error::Error;
use std::num::{NonZeroU32, NonZeroUsize};

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::cli::args::{Args, Size, Span, Switch, possible_values};

/// The least similarity, from 0 to 1, of a name that is suggested for an unknown one.
const SIMILARITY_MIN: f64 = 0.8;

/// The hint if no name is similar.
pub(crate) const SEE_ALL: &str = "'ringback config' shows all there are";

/// All settings.
pub(crate) struct Schema {
    command: Command,
}

/// One setting.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    arg: &'a Arg,
    schema: &'a Schema,
}

/// The TOML type of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Switch,
    /// A number, alone or with a unit.
    Number,
    Text,
    List,
}

impl Schema {
    pub(crate) fn new() -> Self {
        Self {
            command: Args::command().no_binary_name(true),
        }
    }

    /// All settings in the order of their definition.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        let arguments = self.command.get_arguments();
        arguments.map(|arg| Setting { arg, schema: self })
    }

    pub(crate) fn find(&self, name: &str) -> Option<Setting<'_>> {
        self.settings().find(|setting| setting.name() == name)
    }

    /// Parses flags of the form `--name=value`.
    pub(crate) fn parse(&self, flags: &[String]) -> Result<(Args, ArgMatches), clap::Error> {
        let matches = self.command.clone().try_get_matches_from(flags)?;
        Ok((Args::from_arg_matches(&matches)?, matches))
    }
}

impl<'a> Setting<'a> {
    /// The flag without its dashes, and the key in a file.
    pub(crate) fn name(&self) -> &'a str {
        self.arg.get_long().expect("every setting has a flag")
    }

    pub(crate) fn kind(&self) -> Kind {
        let numbers = [
            TypeId::of::<NonZeroU32>(),
            TypeId::of::<NonZeroUsize>(),
            TypeId::of::<u32>(),
            TypeId::of::<usize>(),
            TypeId::of::<Size>(),
            TypeId::of::<Span>(),
        ];
        let value = self.arg.get_value_parser().type_id();
        if matches!(self.arg.get_action(), ArgAction::Append) {
            Kind::List
        } else if value == TypeId::of::<Switch>() {
            Kind::Switch
        } else if numbers.iter().any(|&number| value == number) {
            Kind::Number
        } else {
            Kind::Text
        }
    }

    /// The text of `[default: …]` in the help of a setting without a default value.
    pub(crate) fn described_default(&self) -> Option<String> {
        let help = self.arg.get_help()?.to_string().replace('\n', " ");
        let (_, described) = help.rsplit_once("[default: ")?;
        Some(described.trim_end_matches(']').to_owned())
    }

    /// The values that were given as flags.
    pub(crate) fn flags(&self, matches: &ArgMatches) -> Option<Vec<String>> {
        let id = self.arg.get_id().as_str();
        let is_flag = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        is_flag.then(|| self.values(matches))
    }

    /// The values in `matches`, which may be defaults that depend on other settings.
    pub(crate) fn values(&self, matches: &ArgMatches) -> Vec<String> {
        let values = matches.get_raw(self.arg.get_id().as_str());
        let values = values.into_iter().flatten();
        values
            .map(|value| value.to_string_lossy().into_owned())
            .collect()
    }

    /// Checks a value as its flag does.
    ///
    /// # Errors
    /// The value is not valid; the text has what was expected.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("it is empty; expected a value".to_owned());
        }
        let flag = format!("--{}={value}", self.name());
        match self.schema.command.clone().try_get_matches_from([flag]) {
            Ok(_matches) => Ok(()),
            Err(error) => Err(error
                .source()
                .map(ToString::to_string)
                .or_else(|| possible_values(&error))
                .unwrap_or_else(|| error.kind().to_string())),
        }
    }
}

/// The most similar name, if one is similar enough.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let similarity = |other: &str| {
        let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        strsim::jaro_winkler(&plain(name), &plain(other))
    };
    names
        .map(|other| (similarity(other), other))
        .filter(|&(similarity, _)| similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_value_or_describes_its_default() {
        let schema = Schema::new();
        for setting in schema.settings() {
            let has_value = !setting.arg.get_default_values().is_empty();
            assert_ne!(
                has_value,
                setting.described_default().is_some(),
                "{}",
                setting.name()
            );
        }
    }

    #[test]
    fn the_kind_follows_from_the_type() {
        let schema = Schema::new();
        let kind = |name| schema.find(name).expect("a setting").kind();
        assert_eq!(kind("no-pin"), Kind::Switch);
        for name in ["threads", "backlog", "window", "max-message", "busy-poll"] {
            assert_eq!(kind(name), Kind::Number, "{name}");
        }
        for name in ["listen", "origin", "subprotocol"] {
            assert_eq!(kind(name), Kind::List, "{name}");
        }
        for name in ["engine", "path", "profile", "log"] {
            assert_eq!(kind(name), Kind::Text, "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let schema = Schema::new();
        let nearest = |name| nearest(name, schema.settings().map(|setting| setting.name()));
        assert_eq!(nearest("max_message"), Some("max-message"));
        assert_eq!(nearest("maxmessage"), Some("max-message"));
        assert_eq!(nearest("Windw"), Some("window"));
        assert_eq!(nearest("idle-time"), Some("idle-timeout"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(""), None);
    }
}
