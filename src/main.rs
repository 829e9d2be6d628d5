//! The `ringback` binary: parse, run, exit code.

mod args;
mod printing;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use mimalloc::MiMalloc;
use ringback::{Error, Server, Signals, raise_descriptor_limit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::Args;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Wrong arguments, as shells and clap have it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return explain_usage(&error),
    };
    if let Err(message) = start_logging(args.log()) {
        return fail(USAGE, &message);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Config(_)) => fail(USAGE, &error.to_string()),
        Err(error) => fail(1, &error.to_string()),
    }
}

fn run(args: Args) -> Result<(), Error> {
    let print_messages = args.print_messages();
    let config = args.into_config()?;
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let signals = Signals::catch()?;
    let server = if print_messages {
        Server::start_with(config, printing::echo_and_print)?
    } else {
        Server::start(config)?
    };
    if let Err(error) = announce(&server) {
        tracing::warn!(%error, "cannot say on stdout where the server listens");
    }
    server.run_until_signal(signals)
}

/// One line for each address; scripts wait for them.
fn announce(server: &Server) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in server.addresses() {
        writeln!(
            stdout,
            "listening ws://{address} engine={} threads={}",
            server.engine(),
            server.threads()
        )?;
    }
    stdout.flush()
}

fn start_logging(directives: Option<&str>) -> Result<(), String> {
    let filter = match directives {
        Some(directives) => parse_log(directives)
            .map_err(|error| format!("invalid value '{directives}' for '--log': {error}"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    Ok(())
}

/// The filter takes any word for the name of a module, and `--log loud` would
/// silence everything.
fn parse_log(directives: &str) -> Result<EnvFilter, String> {
    for directive in directives.split(',') {
        if !directive.contains('=') && directive.parse::<LevelFilter>().is_err() {
            return Err(format!("'{directive}' is neither a level nor MODULE=LEVEL"));
        }
    }
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| error.to_string())
}

/// Help goes to stdout in full; a mistake gets one line on stderr.
fn explain_usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Nobody to tell if stdout is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    fail(USAGE, &format!("{line} (try --help)"))
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("ringback: {message}");
    ExitCode::from(code)
}
