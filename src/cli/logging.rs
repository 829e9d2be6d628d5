//! What is logged to stderr, and in which form.

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
use ringback::output;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The filter's parser looks for the level at a fixed place, and panics if a
/// character lies across it.
const NOT_ASCII: &str = "it holds more than ASCII, which the name of no module does";

/// What makes the access lines pass, which are written only if that is configured.
const ACCESS: &str = "access=info";

/// The target of lines that are not made by `tracing`, as that of those that are.
const TARGET: &str = "ringback";

/// How long a panic of the main thread, with which the process ends, waits for its
/// line to be written.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

const EXPECTED: &str = "off, error, warn, info, debug, trace, or directives such as ringback=debug";

/// A level, or directives such as `ringback=debug`, which are checked.
#[derive(Clone, Debug)]
pub(crate) struct Directives(String);

impl FromStr for Directives {
    type Err = String;

    /// The filter takes any word for the name of a module, and `--log loud`
    /// would silence everything.
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
    /// What is logged where nobody says otherwise.
    fn usual() -> Self {
        Self("info".to_owned())
    }

    /// What `RUST_LOG` says. It is not ours alone: a value that is not valid is
    /// ignored, and the reason returned.
    fn from_environment() -> (Self, Option<String>) {
        let text = env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
        if text.is_empty() {
            return (Self::usual(), None);
        }
        let parsed = match text.to_str() {
            Some(text) => text.parse(),
            None => Err(NOT_ASCII.to_owned()),
        };
        match parsed {
            Ok(directives) => (directives, None),
            Err(reason) => (Self::usual(), Some(reason)),
        }
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::builder()
            .parse(&self.0)
            .expect("it was parsed before")
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: an object with timestamp, level, target, message, and
    /// what belongs to it.
    Json,
}

impl Format {
    /// As the arguments and the environment say, where the settings are not known
    /// since they are wrong.
    pub(crate) fn asked_for() -> Self {
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

    /// The line for what ends the process.
    pub(crate) fn fatal(self, message: &str) -> String {
        let priority = if is_journal() { "<3>" } else { "" };
        match self {
            Self::Text => format!("{priority}ringback: {message}\n"),
            Self::Json => format!("{priority}{}", object(Level::ERROR, message, Map::new())),
        }
    }
}

/// A line as those of a log for programs are.
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
        // They would be written to stderr past the queue.
        .log_internal_errors(false);
    match format {
        // The journal has a time of its own.
        Format::Text if is_journal => subscriber
            .with_ansi(false)
            .without_time()
            .map_event_format(|format| Line { format, is_journal })
            .init(),
        Format::Text => subscriber
            .with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none())
            .init(),
        // A connection's span has no parent, so a list of spans would repeat it.
        Format::Json => subscriber
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .map_event_format(|format| Line { format, is_journal })
            .init(),
    }
    log_panics();
    if let Some(reason) = ignored {
        tracing::warn!(
            "RUST_LOG is ignored, the level is info: {reason} \
             (off, error, warn, info, debug, trace, or MODULE=LEVEL)"
        );
    }
    Ok(())
}

/// A line, and in the journal its priority before it, as `sd-daemon(3)` has it.
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

/// A level as `syslog(3)` numbers it.
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

/// Has each panic logged in one line. What comes of it is not decided here.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        // "panicked at FILE:LINE:COLUMN:", and what it says on the lines after that.
        let text = panic.to_string().replace('\n', " ");
        let thread = thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured)
            .then(|| tracing::field::debug(backtrace.to_string()));
        if thread == output::LOG_THREAD {
            // Nothing that is pushed is written any more.
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
    fn a_variable_that_does_not_name_stderr_makes_no_journal() {
        assert!(names(&"8:12".into(), 8, 12));
        for other in ["8:13", "9:12", "8", "", "8:12:0", "x"] {
            assert!(!names(&other.into(), 8, 12), "{other}");
        }
    }

    /// Whatever the level, and on one line.
    #[test]
    fn a_panic_is_one_line_of_the_log() {
        for (level, is_object) in [("info", true), ("off", false)] {
            let output = Command::new(env::current_exe().expect("this test"))
                .args([
                    "--exact",
                    "logging::tests::a_thread_that_panics",
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
            assert!(text.contains("panicked at src/logging.rs:"), "{text}");
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
        start(Some(&level), Format::Json, false).expect("started");
        let thread = thread::Builder::new().name("ringback-7".into());
        let thread = thread.spawn(|| panic!("first\nsecond")).expect("started");
        thread.join().expect_err("a panic");
        output::flush();
    }
}
