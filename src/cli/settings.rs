//! Merges the layers of settings into one [`Config`].
//!
//! ```text
//! flags ▶ environment ▶ file ▶ profile ▶ defaults       stronger ▶ weaker
//!   └──────────┴──────────┴───────┴─▶ text by name ─▶ Args ─▶ Config
//! ```
//!
//! The values of each layer are text, which clap parses: a value has the same meaning
//! and the same error in every layer. A stronger layer replaces the value of a weaker
//! one, lists included.

mod environment;
mod file;
mod layer;
mod schema;
mod show;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::ArgMatches;
use ringback::{Config, Error};

use crate::cli::args::{Args, CommandLine, Profile};
use layer::{Given, Layer, Source};
use schema::{Schema, Setting};

pub(crate) use show::show;

/// The settings in effect.
#[derive(Debug)]
pub(crate) struct Effective {
    args: Args,
    /// `args` as text.
    matches: ArgMatches,
    given: BTreeMap<String, Given>,
}

impl Effective {
    /// Merges the layers.
    ///
    /// # Errors
    /// The first invalid value, with its source.
    pub(crate) fn resolve(
        command_line: &CommandLine,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, String> {
        let schema = Schema::new();
        let environment = environment::read(&schema, variables)?;
        let path = command_line.config().or(environment.config);
        let mut layers = vec![flags(&schema, command_line), environment.layer];
        if let Some(path) = path {
            layers.push(file::read(&schema, &path)?);
        }
        if let Some(profile) = chosen_profile(&layers)? {
            layers.push(Layer::of_profile(profile, &schema)?);
        }
        let given = strongest(&schema, &layers);
        let values = given.iter().flat_map(|(name, given)| {
            given
                .values
                .iter()
                .map(move |value| format!("--{name}={value}"))
        });
        let (args, matches) = schema
            .parse(&values.collect::<Vec<_>>())
            .map_err(|error| error.to_string())?;
        Ok(Self {
            args,
            matches,
            given,
        })
    }

    pub(crate) fn args(&self) -> &Args {
        &self.args
    }

    /// The server's configuration.
    ///
    /// # Errors
    /// The first value that is out of range, with its source.
    pub(crate) fn config(&self) -> Result<Config, String> {
        self.args.config().map_err(|error| match &error {
            Error::Config { setting, .. } => match self.given(setting).map(|given| &given.source) {
                Some(Source::Flag | Source::Default) | None => error.to_string(),
                Some(source) => format!("{source}: {error}"),
            },
            _ => error.to_string(),
        })
    }

    /// The values of a setting that no layer gives.
    fn default_values(&self, setting: &Setting<'_>) -> Vec<String> {
        setting.values(&self.matches)
    }

    fn given(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }
}

fn flags(schema: &Schema, command_line: &CommandLine) -> Layer {
    let mut layer = Layer::default();
    for setting in schema.settings() {
        if let Some(values) = setting.flags(command_line.flags()) {
            let source = Source::Flag;
            layer.insert(&setting, Given { values, source });
        }
    }
    layer
}

fn chosen_profile(layers: &[Layer]) -> Result<Option<Profile>, String> {
    let given = layers.iter().find_map(|layer| layer.get("profile"));
    given
        .and_then(|given| given.values.first())
        .map(|name| name.parse())
        .transpose()
}

fn strongest(schema: &Schema, layers: &[Layer]) -> BTreeMap<String, Given> {
    schema
        .settings()
        .filter_map(|setting| {
            let given = layers.iter().find_map(|layer| layer.get(setting.name()))?;
            Some((setting.name().to_owned(), given.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
