//! What is logged to stderr.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use clap::ValueEnum;
use ringback::output;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The filter's parser looks for the level at a fixed place, and panics if a
/// character lies across it.
const NOT_ASCII: &str = "it holds more than ASCII, which the name of no module does";

/// A level, or directives such as `ringback=debug`, which are checked.
#[derive(Clone, Debug)]
pub(crate) struct Directives(String);

impl FromStr for Directives {
    type Err = String;

    /// The filter takes any word for the name of a module, and `--log loud`
    /// would silence everything.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_ascii() {
            return Err(NOT_ASCII.to_owned());
        }
        for directive in text.split(',') {
            if !directive.contains('=') && directive.parse::<LevelFilter>().is_err() {
                let directive = directive.escape_debug();
                return Err(format!("'{directive}' is neither a level nor MODULE=LEVEL"));
            }
        }
        EnvFilter::builder()
            .parse(text)
            .map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

/// What makes the access lines pass, which are written only if that is configured.
const ACCESS: &str = "access=info";

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: an object with timestamp, level, target, message, and
    /// what belongs to it.
    Json,
}

/// Starts to log. Without directives it is as `RUST_LOG` says; whatever they say,
/// access lines are written where they were asked for.
///
/// # Errors
/// Why there is no thread that writes the lines.
pub(crate) fn start(
    directives: Option<&Directives>,
    format: Format,
    access_log: bool,
) -> io::Result<()> {
    output::stderr().start()?;
    let filter = match directives {
        Some(Directives(text)) => EnvFilter::new(text),
        None => std::env::var(EnvFilter::DEFAULT_ENV)
            .ok()
            .filter(|text| text.is_ascii())
            .and_then(|text| EnvFilter::try_new(text).ok())
            .unwrap_or_else(|| EnvFilter::new("info")),
    };
    let filter = if access_log {
        filter.add_directive(ACCESS.parse().expect("a directive"))
    } else {
        filter
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::stderr)
        // They would be written to stderr past the queue.
        .log_internal_errors(false);
    match format {
        Format::Text => subscriber
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .init(),
        // A connection's span has no parent, so a list of spans would repeat it.
        Format::Json => subscriber
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .init(),
    }
    Ok(())
}
