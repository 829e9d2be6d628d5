//! The flags that annotate results.

use clap::Args;

use crate::machine::Environment;

/// The longest key of a label, in characters.
const KEY_LEN_MAX: usize = 64;

/// The longest value of a label and the longest note, in characters.
const TEXT_LEN_MAX: usize = 1_000;

/// Labels and a note, which every result file records.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct Annotate {
    /// Record a label in the result, such as build=1234; repeatable. compare reports labels in
    /// which runs differ, history shows them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,

    /// Record a note in the result
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub note: Option<String>,
}

impl Annotate {
    /// The environment with the labels and the note. The last value of a repeated key counts.
    pub fn annotated(&self, environment: Environment) -> Environment {
        let mut labels = environment.labels;
        labels.extend(self.labels.iter().cloned());
        Environment {
            labels,
            note: self.note.clone().or(environment.note),
            ..environment
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    const ADVICE: &str = "write a label as KEY=VALUE, the key of letters, digits, '.', '-', '_'";
    let (key, value) = text.split_once('=').ok_or(ADVICE)?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if key.is_empty() || !key.chars().all(is_key) {
        return Err(ADVICE.to_owned());
    }
    if key.len() > KEY_LEN_MAX {
        return Err(format!("a key has {KEY_LEN_MAX} characters at most"));
    }
    Ok((key.to_owned(), note(value)?))
}

fn note(text: &str) -> Result<String, String> {
    if text.chars().count() > TEXT_LEN_MAX {
        return Err(format!("it has {TEXT_LEN_MAX} characters at most"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_key_and_any_value() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("build=12"), pair("build", "12"));
        assert_eq!(label("a.b-c_D=x=y z"), pair("a.b-c_D", "x=y z"));
        assert_eq!(label("empty="), pair("empty", ""));
        for wrong in ["", "build", "=12", "a b=1", "ä=1"] {
            let why = label(wrong).unwrap_err();
            assert!(why.starts_with("write a label as KEY=VALUE"), "{wrong}");
        }
        assert!(label(&format!("{}=1", "k".repeat(65))).is_err());
        assert!(label(&format!("k={}", "v".repeat(1_001))).is_err());
    }

    #[test]
    fn the_last_value_of_a_label_counts() {
        let annotate = Annotate {
            labels: [("k", "1"), ("k", "2")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            note: None,
        };
        let before = Environment {
            note: Some("of before".to_owned()),
            ..Environment::default()
        };
        let environment = annotate.annotated(before);
        assert_eq!(environment.labels["k"], "2");
        assert_eq!(environment.note.as_deref(), Some("of before"));
    }
}
