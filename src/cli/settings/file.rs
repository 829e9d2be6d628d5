//! A TOML file as a layer.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layer::{Given, Layer, Source};
use super::schema::{Kind, SEE_ALL, Schema, nearest};

const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks a file.
///
/// # Errors
/// The first mistake, with its file and line.
pub(crate) fn read(schema: &Schema, path: &Path) -> Result<Layer, String> {
    let bytes =
        bytes_of(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "{}: larger than {FILE_BYTES_MAX} bytes",
            path.display()
        ));
    }
    let text = str::from_utf8(&bytes).map_err(|error| {
        let line = line_of(&bytes, error.valid_up_to());
        format!("{}:{line}: not UTF-8", path.display())
    })?;
    parse(schema, path, text)
}

/// Reads at most one byte more than [`FILE_BYTES_MAX`].
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(schema: &Schema, path: &Path, text: &str) -> Result<Layer, String> {
    let source_at = |at: usize| Source::Line {
        file: path.to_owned(),
        line: line_of(text.as_bytes(), at),
    };
    let table = DeTable::parse(text).map_err(|error| {
        let source = source_at(error.span().map_or(0, |span| span.start));
        let message = error.message().lines().next().unwrap_or_default();
        format!("{source}: not TOML: {message}")
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    // The table is sorted by name; the first mistake in the file is to be reported.
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut layer = Layer::default();
    for (key, value) in entries {
        let name = key.get_ref();
        let Some(setting) = schema.find(name) else {
            return Err(format!(
                "{}: {}",
                source_at(key.span().start),
                unknown(schema, name)
            ));
        };
        let values = values(setting.kind(), value).map_err(|Mistake { at, reason }| {
            format!("{}: invalid value for '{name}': {reason}", source_at(at))
        })?;
        let source = source_at(key.span().start);
        layer.add(&setting, Given { values, source })?;
    }
    Ok(layer)
}

fn unknown(schema: &Schema, name: &str) -> String {
    let hint = match nearest(name, schema.settings().map(|setting| setting.name())) {
        Some(near) => format!("did you mean '{near}'?"),
        None => SEE_ALL.to_owned(),
    };
    format!("unknown key '{}'; {hint}", name.escape_debug())
}

/// A value of the wrong type.
struct Mistake {
    at: usize,
    reason: String,
}

/// The value as text, as a flag has it.
fn values(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Mistake> {
    let text = match (kind, value.get_ref()) {
        (Kind::List, DeValue::Array(items)) => {
            return items.iter().map(|item| scalar(Kind::List, item)).collect();
        }
        _ => scalar(kind, value)?,
    };
    Ok(Some(text)
        .filter(|text| !text.is_empty())
        .into_iter()
        .collect())
}

fn scalar(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<String, Mistake> {
    let expected = match (kind, value.get_ref()) {
        (Kind::Switch, DeValue::Boolean(yes)) => return Ok(yes.to_string()),
        (Kind::Switch, DeValue::String(text)) if text.is_empty() => return Ok(String::new()),
        (Kind::Switch, _) => "true or false",
        (_, DeValue::String(text)) => return Ok(text.clone().into_owned()),
        (Kind::Number, DeValue::Integer(number)) => {
            // A number that does not fit here is too large for every setting.
            return Ok(i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_error| number.to_string(), |number| number.to_string()));
        }
        (Kind::Number, _) => "a number or a string",
        (Kind::Text, _) => "a string",
        (Kind::List, _) => "a string or an array of strings",
    };
    let found = value.get_ref().type_str();
    Err(Mistake {
        at: value.span().start,
        reason: format!("expected {expected}, found {found}"),
    })
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = &bytes[..at.min(bytes.len())];
    before.split(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Layer, String> {
        parse(&Schema::new(), Path::new("x.toml"), text)
    }

    #[track_caller]
    fn values(text: &str, name: &str) -> Vec<String> {
        let layer = parsed(text).expect("valid");
        layer.get(name).expect("given").values.clone()
    }

    #[track_caller]
    fn rejection(text: &str) -> String {
        parsed(text).expect_err("rejected")
    }

    #[test]
    fn each_kind_is_written_in_toml() {
        assert_eq!(values("no-pin = true", "no-pin"), ["true"]);
        assert_eq!(values("threads = 1_0", "threads"), ["10"]);
        assert_eq!(values("threads = '2'", "threads"), ["2"]);
        assert_eq!(values("window = 0x400", "window"), ["1024"]);
        assert_eq!(values("window = \"1k\"", "window"), ["1k"]);
        assert_eq!(values("idle-timeout = 0", "idle-timeout"), ["0"]);
        assert_eq!(values("path = \"/a\"", "path"), ["/a"]);
        assert_eq!(values("origin = 'http://a'", "origin"), ["http://a"]);
        assert_eq!(
            values(
                "listen = [\n  '127.0.0.1:1', # one\n  '[::1]:2',\n]",
                "listen"
            ),
            ["127.0.0.1:1", "[::1]:2"]
        );
    }

    #[test]
    fn an_empty_value_is_the_default() {
        for text in [
            "path = ''",
            "threads = ''",
            "no-pin = ''",
            "listen = ''",
            "listen = []",
        ] {
            let name = text.split(' ').next().expect("a name");
            assert!(values(text, name).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_source_of_a_value_is_its_line() {
        let layer = parsed("\n# more\r\n\nwindow = '1k'\n").expect("valid");
        let given = layer.get("window").expect("given");
        assert_eq!(given.source.to_string(), "x.toml:4");
    }

    #[test]
    fn an_unknown_key_is_rejected_with_the_nearest_name() {
        for (text, expected) in [
            (
                "window = '1k'\nmax_message = 1\na = 1",
                "x.toml:2: unknown key 'max_message'; did you mean 'max-message'?",
            ),
            (
                "colour = 1",
                "x.toml:1: unknown key 'colour'; 'ringback config' shows all there are",
            ),
            (
                "\n[limits]\nwindow = 1",
                "x.toml:2: unknown key 'limits'; 'ringback config' shows all there are",
            ),
            (
                "\"a\\nb\" = 1",
                "x.toml:1: unknown key 'a\\nb'; 'ringback config' shows all there are",
            ),
        ] {
            assert_eq!(rejection(text), expected);
        }
    }

    #[test]
    fn a_wrong_type_is_rejected_with_its_line() {
        for (text, expected) in [
            (
                "no-pin = 1",
                "x.toml:1: invalid value for 'no-pin': expected true or false, found integer",
            ),
            (
                "\nwindow = 1.5",
                "x.toml:2: invalid value for 'window': expected a number or a string, found float",
            ),
            (
                "window = true",
                "x.toml:1: invalid value for 'window': expected a number or a string, found boolean",
            ),
            (
                "window = ['1k']",
                "x.toml:1: invalid value for 'window': expected a number or a string, found array",
            ),
            (
                "path = 5",
                "x.toml:1: invalid value for 'path': expected a string, found integer",
            ),
            (
                "path.a = 5",
                "x.toml:1: invalid value for 'path': expected a string, found table",
            ),
            (
                "log = 2026-01-01",
                "x.toml:1: invalid value for 'log': expected a string, found datetime",
            ),
            (
                "origin = [\n'http://a',\n5]",
                "x.toml:3: invalid value for 'origin': expected a string or an array of strings, found integer",
            ),
        ] {
            assert_eq!(rejection(text), expected);
        }
    }

    #[test]
    fn an_invalid_value_is_rejected_with_its_line() {
        for (text, expected) in [
            (
                "\nmax-message = 'x'",
                "x.toml:2: invalid value 'x' for 'max-message': expected a size such as 4096, 16k or 1m",
            ),
            (
                "idle-timeout = 5",
                "x.toml:1: invalid value '5' for 'idle-timeout': expected a time such as 500ms, 10s or 2m",
            ),
            (
                "engine = 'kqueue'",
                "x.toml:1: invalid value 'kqueue' for 'engine': expected auto, epoll or tokio-uring or ring",
            ),
            (
                "listen = ['']",
                "x.toml:1: invalid value '' for 'listen': it is empty; expected a value",
            ),
        ] {
            assert_eq!(rejection(text), expected);
        }
        for text in [
            "threads = -1",
            "threads = 0",
            "window = 99999999999999999999",
            "log = 'loud'",
        ] {
            assert!(
                rejection(text).starts_with("x.toml:1: "),
                "{}",
                rejection(text)
            );
        }
    }

    #[test]
    fn invalid_toml_is_rejected_in_one_line() {
        for text in ["window", "\nwindow = ", "window = '1k", "= 1", "[", "\u{1}"] {
            let rejected = rejection(text);
            assert!(rejected.starts_with("x.toml:"), "{rejected}");
            assert!(rejected.contains(": not TOML: "), "{rejected}");
            assert_eq!(rejected.lines().count(), 1, "{rejected}");
        }
        assert!(rejection("window = 1024\nwindow = 1024").starts_with("x.toml:2: not TOML: dup"));
    }

    #[test]
    fn the_error_names_a_file_that_cannot_be_read() {
        let rejection = |path: &str| read(&Schema::new(), Path::new(path)).expect_err("rejected");
        assert!(rejection("/nowhere/x.toml").starts_with("cannot read /nowhere/x.toml: No such"));
        assert!(rejection("/proc").starts_with("cannot read /proc: "));
        assert_eq!(
            rejection("/dev/zero"),
            "/dev/zero: larger than 1048576 bytes"
        );
    }
}
