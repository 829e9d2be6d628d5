//! The effective configuration as TOML, with the source of each value.

use std::fmt::Write;

use super::Effective;
use super::layer::Source;
use super::schema::{Kind, Schema, Setting};

/// The widest assignment that comments are aligned to.
const WIDTH_MAX: usize = 44;

/// One line for each setting, in the format of [`file::read`](super::file::read). A
/// setting without a value that no layer gives is commented out.
pub(crate) fn show(effective: &Effective) -> String {
    let schema = Schema::new();
    let lines: Vec<_> = schema
        .settings()
        .map(|setting| line(&setting, effective))
        .collect();
    let widths = lines
        .iter()
        .map(|(assignment, _)| assignment.chars().count());
    let width = widths
        .filter(|&width| width <= WIDTH_MAX)
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (assignment, source) in lines {
        writeln!(text, "{assignment:width$}  # {source}").expect("a string takes everything");
    }
    text
}

/// The assignment and its comment.
fn line(setting: &Setting<'_>, effective: &Effective) -> (String, String) {
    let given = effective.given(setting.name());
    let source = given.map_or(&Source::Default, |given| &given.source);
    let mut values = given.map_or_else(Vec::new, |given| given.values.clone());
    if values.is_empty() {
        values = effective.default_values(setting);
    }
    let (name, kind) = (setting.name(), setting.kind());
    if values.is_empty() && kind != Kind::List {
        let described = setting.described_default().unwrap_or_default();
        // A setting that is given as empty resets a weaker layer: keep that.
        let comment = if given.is_some() { "" } else { "# " };
        let assignment = format!("{comment}{name} = \"\"");
        return (assignment, format!("{source}: {described}"));
    }
    (
        format!("{name} = {}", literal(kind, &values)),
        source.to_string(),
    )
}

fn literal(kind: Kind, values: &[String]) -> String {
    let first = values.first().map_or("", String::as_str);
    match kind {
        Kind::List => {
            let items: Vec<_> = values.iter().map(|value| quote(value)).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Switch => (first == "true" || first == "1").to_string(),
        Kind::Number if is_plain_integer(first) => first.to_owned(),
        Kind::Number | Kind::Text => quote(first),
    }
}

/// Whether TOML would write this number in the same way.
fn is_plain_integer(text: &str) -> bool {
    text.parse::<i64>()
        .is_ok_and(|number| number.to_string() == text)
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(letter)).expect("a string takes everything");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_parses_as_the_same_string() {
        for text in ["", "plain", "a \"b\" \\ \n\t\u{7f}\u{0}", "Grüße, 🦀"] {
            let document = format!("a = {}", quote(text));
            let table = toml::de::DeTable::parse(&document).expect("TOML");
            let value = table
                .get_ref()
                .get("a")
                .and_then(|value| value.get_ref().as_str());
            assert_eq!(value, Some(text));
        }
    }

    #[test]
    fn a_number_is_quoted_unless_toml_writes_it_the_same() {
        for (value, written) in [
            ("16", "16"),
            ("16k", "\"16k\""),
            ("+5", "\"+5\""),
            ("007", "\"007\""),
            ("18446744073709551615", "\"18446744073709551615\""),
        ] {
            assert_eq!(literal(Kind::Number, &[value.to_owned()]), written);
        }
    }
}
