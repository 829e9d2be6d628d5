//! The log on stderr: its filter, its format, and panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use ringback::binary::output;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `EnvFilter`'s parser slices at a fixed byte, and panics inside a character.
const NOT_ASCII: &str = "it is not ASCII, as every module's name is";

/// The directive that lets access lines pass the filter.
const ACCESS: &str = "access=info";

/// The target of lines that are written without `tracing`.
const TARGET: &str = "ringback";

/// A panic of the main thread ends the process; its line has this long to be written.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

const EXPECTED: &str = "off, error, warn, info, debug, trace, or directives such as ringback=debug";

/// A valid level, or valid directives such as `ringback=debug`.
#[derive(Clone, Debug)]
pub(crate) struct Directives(String);

impl FromStr for Directives {
    type Err = String;

    /// `EnvFilter` takes any text for a module's name: `--log loud` would silence the log.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_ascii() {
            return Err(format!("{NOT_ASCII}; expected {EXPECTED}"));
        }
        for directive in text.split(',') {
            if !directive.contains('=') && directive.parse::<LevelFilter>().is_err() {
                let directive = directive.escape_debug();
                return Err(format!(
                    "'{directive}' is neither a level nor MODULE=LEVEL; expected {EXPECTED}"
                ));
            }
        }
        EnvFilter::builder()
            .parse(text)
            .map_err(|error| format!("{error}; expected {EXPECTED}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl Directives {
    fn info() -> Self {
        Self("info".to_owned())
    }

    /// The directives in `RUST_LOG`. Other programs share the variable, so an invalid
    /// value is ignored, and the reason returned.
    fn from_environment() -> (Self, Option<String>) {
        let text = env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
        if text.is_empty() {
            return (Self::info(), None);
        }
        let parsed = match text.to_str() {
            Some(text) => text.parse(),
            None => Err(NOT_ASCII.to_owned()),
        };
        match parsed {
            Ok(directives) => (directives, None),
            Err(reason) => (Self::info(), Some(reason)),
        }
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::builder()
            .parse(&self.0)
            .expect("it was parsed before")
    }
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    /// An object with timestamp, level, target, message and fields.
    Json,
}

impl LogFormat {
    /// The format in the arguments or the environment, for errors in the settings.
    pub(crate) fn from_raw_arguments() -> Self {
        let is_json = |value: &str| value.eq_ignore_ascii_case("json");
        let args: Vec<_> = env::args_os()
            .skip(1)
            .filter_map(|arg| arg.into_string().ok())
            .collect();
        let in_args = args.iter().enumerate().rev().find_map(|(at, arg)| {
            let value = arg.strip_prefix("--log-format")?;
            match value.strip_prefix('=') {
                Some(value) => Some(is_json(value)),
                None if value.is_empty() => args.get(at + 1).map(|value| is_json(value)),
                None => None,
            }
        });
        let in_environment = || env::var("RINGBACK_LOG_FORMAT").is_ok_and(|value| is_json(&value));
        if in_args.unwrap_or_else(in_environment) {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// The line for an error that ends the process.
    pub(crate) fn fatal(self, message: &str) -> String {
        let priority = if is_journal() { "<3>" } else { "" };
        match self {
            Self::Text => format!("{priority}ringback: {message}\n"),
            Self::Json => format!("{priority}{}", object(Level::ERROR, message, Map::new())),
        }
    }
}

/// A line of the JSON log.
pub(crate) fn object(level: Level, message: &str, mut fields: Map<String, Value>) -> String {
    let mut timestamp = String::new();
    // Writing into memory does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    for (name, value) in [
        ("timestamp", timestamp),
        ("level", level.to_string()),
        ("message", message.to_owned()),
        ("target", TARGET.to_owned()),
    ] {
        fields.insert(name.to_owned(), value.into());
    }
    format!("{}\n", Value::Object(fields))
}

/// Starts to log, by `RUST_LOG` if `directives` is `None`. Access lines pass any filter.
///
/// # Errors
/// The thread that writes the lines cannot be started.
pub(crate) fn start(
    directives: Option<&Directives>,
    format: LogFormat,
    access_log: bool,
) -> io::Result<()> {
    output::stderr().start()?;
    let (directives, ignored) = match directives {
        Some(directives) => (directives.clone(), None),
        None => Directives::from_environment(),
    };
    let filter = if access_log {
        let access = ACCESS.parse().expect("a directive");
        directives.filter().add_directive(access)
    } else {
        directives.filter()
    };
    let is_journal = is_journal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::stderr)
        // These would bypass the queue to stderr.
        .log_internal_errors(false);
    match format {
        // The journal adds the time.
        LogFormat::Text if is_journal => subscriber
            .with_ansi(false)
            .without_time()
            .map_event_format(|format| Line { format, is_journal })
            .init(),
        LogFormat::Text => subscriber
            .with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none())
            .init(),
        // A connection's span has no parent, so a list of spans would repeat it.
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .map_event_format(|format| Line { format, is_journal })
            .init(),
    }
    log_panics();
    if let Some(reason) = ignored {
        tracing::warn!(
            "RUST_LOG is ignored and the level is info: {reason} \
             (off, error, warn, info, debug, trace, or MODULE=LEVEL)"
        );
    }
    Ok(())
}

/// Writes the priority before a line of the journal, as in `sd-daemon(3)`.
struct Line<F> {
    format: F,
    is_journal: bool,
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_journal {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// A level's number in `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Whether stderr is the journal (`JOURNAL_STREAM` in `systemd.exec(5)`). A process
/// may have the variable from a service and its stderr from elsewhere.
fn is_journal() -> bool {
    let stream = || {
        File::from(io::stderr().as_fd().try_clone_to_owned().ok()?)
            .metadata()
            .ok()
    };
    env::var_os("JOURNAL_STREAM").is_some_and(|variable| {
        stream().is_some_and(|stream| names(&variable, stream.dev(), stream.ino()))
    })
}

fn names(variable: &OsString, device: u64, inode: u64) -> bool {
    variable.to_str() == Some(&format!("{device}:{inode}"))
}

/// Logs each panic in one line.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        // "panicked at FILE:LINE:COLUMN:", and the message on the next lines.
        let text = panic.to_string().replace('\n', " ");
        let thread = thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured)
            .then(|| tracing::field::debug(backtrace.to_string()));
        if thread == output::LOG_THREAD {
            // This is the thread that would write a pushed line.
            let _ = writeln!(io::stderr(), "ringback: thread {thread} {text}");
        } else if tracing::enabled!(Level::ERROR) {
            tracing::error!(thread, backtrace, "{text}");
        } else {
            let line = format!("ringback: thread {thread} {text}\n");
            output::stderr().push(line.as_bytes());
        }
        // The process may end before the line is written.
        if thread == "main" {
            output::stderr().flush(PANIC_FLUSH_TIMEOUT);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn journal_stream_counts_only_if_it_names_stderr() {
        assert!(names(&"8:12".into(), 8, 12));
        for other in ["8:13", "9:12", "8", "", "8:12:0", "x"] {
            assert!(!names(&other.into(), 8, 12), "{other}");
        }
    }

    #[test]
    fn a_panic_is_logged_on_one_line_at_every_level() {
        for (level, is_object) in [("info", true), ("off", false)] {
            let output = Command::new(env::current_exe().expect("this test"))
                .args([
                    "--exact",
                    "cli::logging::tests::a_thread_that_panics",
                    "--ignored",
                ])
                .args(["--nocapture", "--test-threads=1"])
                .env("RINGBACK_TEST_LEVEL", level)
                .env_remove("RUST_BACKTRACE")
                .stdin(Stdio::null())
                .output()
                .expect("it runs");
            let log = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(log.lines().count(), 1, "{log}");
            let text = if is_object {
                let line: Value = serde_json::from_str(&log).expect("an object");
                assert_eq!(line["level"], "ERROR");
                assert_eq!(line["thread"], "ringback-7");
                line["message"].as_str().expect("a message").to_owned()
            } else {
                assert!(log.contains("thread ringback-7 "), "{log}");
                log
            };
            assert!(text.contains("panicked at src/cli/logging.rs:"), "{text}");
            assert!(text.contains(": first second"), "{text}");
        }
    }

    #[test]
    #[ignore = "the other test runs it, in a process of its own"]
    fn a_thread_that_panics() {
        let Ok(level) = env::var("RINGBACK_TEST_LEVEL") else {
            return;
        };
        let level = level.parse().expect("a level");
        start(Some(&level), LogFormat::Json, false).expect("started");
        let thread = thread::Builder::new().name("ringback-7".into());
        let thread = thread.spawn(|| panic!("first\nsecond")).expect("started");
        thread.join().expect_err("a panic");
        output::flush();
    }
}
