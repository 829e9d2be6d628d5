//! The environment as a layer: `RINGBACK_MAX_MESSAGE` is `--max-message`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::layer::{Given, Layer, Source};
use super::schema::{Kind, SEE_ALL, Schema, Setting, nearest};

const PREFIX: &str = "RINGBACK_";

/// The path of the file; no setting, since a file cannot name itself.
const CONFIG: &str = "RINGBACK_CONFIG";

/// A variable of the build (`build/commit.rs`), which may still be set at run time.
const COMMIT: &str = "RINGBACK_COMMIT";

/// The variables that begin with [`PREFIX`].
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// The path of the file.
    pub(crate) config: Option<PathBuf>,
    pub(crate) layer: Layer,
}

/// Reads the variables that begin with [`PREFIX`].
///
/// # Errors
/// The first variable that is unknown or has an invalid value.
pub(crate) fn read(
    schema: &Schema,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment, String> {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.as_bytes().starts_with(PREFIX.as_bytes()))
        .collect();
    // The environment has no order; the reported mistake is to be the same each time.
    variables.sort();
    let mut environment = Environment::default();
    for (name, value) in variables {
        if name == CONFIG {
            environment.config = Some(value.into()).filter(|path: &PathBuf| path != "");
            continue;
        }
        if name == COMMIT {
            continue;
        }
        let name = name.to_string_lossy().into_owned();
        let Some(setting) = schema.settings().find(|setting| variable(setting) == name) else {
            return Err(unknown(schema, &name));
        };
        let value = value
            .into_string()
            .map_err(|_bytes| format!("{name}: its value is not UTF-8"))?;
        let values = split(setting.kind(), &value);
        let source = Source::Variable(name);
        environment.layer.add(&setting, Given { values, source })?;
    }
    Ok(environment)
}

/// Compares names without the prefix, which makes all of them similar.
fn unknown(schema: &Schema, name: &str) -> String {
    let names = schema.settings().map(|setting| setting.name());
    let hint = match nearest(&name[PREFIX.len()..], names.chain(["config"])) {
        Some(near) => format!("did you mean '{}'?", in_capitals(near)),
        None => SEE_ALL.to_owned(),
    };
    format!("{}: unknown variable; {hint}", name.escape_debug())
}

fn variable(setting: &Setting<'_>) -> String {
    in_capitals(setting.name())
}

fn in_capitals(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase().replace('-', "_"))
}

fn split(kind: Kind, value: &str) -> Vec<String> {
    if value.is_empty() {
        Vec::new()
    } else if kind == Kind::List {
        value
            .split(',')
            .map(|item| item.trim().to_owned())
            .collect()
    } else {
        vec![value.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<Environment, String> {
        let pairs = pairs
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        read(&Schema::new(), pairs)
    }

    fn rejection(name: &str, value: &str) -> String {
        read_pairs(&[(name, value)]).expect_err("rejected")
    }

    #[test]
    fn a_variable_is_a_setting_in_capitals() {
        let environment = read_pairs(&[
            ("PATH", "/bin"),
            ("RINGBACK_MAX_MESSAGE", "1m"),
            ("RINGBACK_NO_PIN", "1"),
            ("RINGBACK_CONFIG", "x.toml"),
        ])
        .expect("valid");
        let given = environment.layer.get("max-message").expect("given");
        assert_eq!(given.values, ["1m"]);
        assert_eq!(given.source.to_string(), "RINGBACK_MAX_MESSAGE");
        assert_eq!(
            environment.layer.get("no-pin").expect("given").values,
            ["1"]
        );
        assert!(environment.layer.get("path").is_none());
        assert_eq!(environment.config, Some("x.toml".into()));
    }

    #[test]
    fn a_list_is_split_at_commas() {
        let environment =
            read_pairs(&[("RINGBACK_LISTEN", "127.0.0.1:1, [::1]:2")]).expect("valid");
        let given = environment.layer.get("listen").expect("given");
        assert_eq!(given.values, ["127.0.0.1:1", "[::1]:2"]);
    }

    #[test]
    fn an_empty_variable_is_the_default() {
        let environment = read_pairs(&[("RINGBACK_WINDOW", ""), ("RINGBACK_CONFIG", "")]);
        let environment = environment.expect("valid");
        assert!(
            environment
                .layer
                .get("window")
                .expect("given")
                .values
                .is_empty()
        );
        assert_eq!(environment.config, None);
    }

    #[test]
    fn an_unknown_or_invalid_variable_is_rejected_by_name() {
        assert_eq!(
            rejection("RINGBACK_MAX_MESAGE", "1m"),
            "RINGBACK_MAX_MESAGE: unknown variable; did you mean 'RINGBACK_MAX_MESSAGE'?"
        );
        assert_eq!(
            rejection("RINGBACK_window", "1m"),
            "RINGBACK_window: unknown variable; did you mean 'RINGBACK_WINDOW'?"
        );
        assert_eq!(
            rejection("RINGBACK_PORT", "tcp://"),
            "RINGBACK_PORT: unknown variable; 'ringback config' shows all there are"
        );
        assert_eq!(
            rejection("RINGBACK_MAX_MESSAGE", "x\n"),
            "RINGBACK_MAX_MESSAGE: invalid value 'x\\n' for 'max-message': \
             expected a size such as 4096, 16k or 1m"
        );
        assert!(rejection("RINGBACK_NO_PIN", "yes").ends_with("expected true or false"));
        assert!(rejection("RINGBACK_THREADS", "0").starts_with("RINGBACK_THREADS: invalid value"));
        assert!(rejection("RINGBACK_LISTEN", "127.0.0.1:1,").contains("empty"));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_rejected() {
        let value = OsString::from_vec(vec![0xff]);
        let pairs = [(OsString::from("RINGBACK_PATH"), value)];
        let rejected = read(&Schema::new(), pairs).expect_err("rejected");
        assert_eq!(rejected, "RINGBACK_PATH: its value is not UTF-8");
    }
}
