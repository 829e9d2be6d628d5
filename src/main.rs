//! The `ringback` binary: parse, run, exit code.

mod args;
mod logging;
mod printing;
mod reload;
mod settings;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use mimalloc::MiMalloc;
use ringback::message::handler;
use ringback::{Config, Error, Inherited, Server, Signals, raise_descriptor_limit};

use args::{CommandLine, Task};
use settings::Effective;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Wrong arguments, as shells and clap have it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command_line = match CommandLine::parse(env::args_os()) {
        Ok(command_line) => command_line,
        Err(error) => return explain_usage(&error),
    };
    let (effective, config) = match configure(&command_line) {
        Ok(configured) => configured,
        Err(message) => return fail(USAGE, &message),
    };
    let result = match command_line.task() {
        Task::ShowConfig => {
            show(&effective).map_err(|error| format!("cannot write the configuration: {error}"))
        }
        Task::Reload => match reload::reload(effective.args().pid_file()) {
            Ok(done) => {
                println!("{done}");
                Ok(())
            }
            Err(reason) => Err(reason),
        },
        Task::Serve => {
            let args = effective.args();
            logging::start(args.log(), args.log_format(), config.access_log);
            serve(config, args.print_messages()).map_err(|error| error.to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

fn configure(command_line: &CommandLine) -> Result<(Effective, Config), String> {
    let effective = Effective::resolve(command_line, env::vars_os())?;
    let config = effective.config()?;
    Ok((effective, config))
}

fn show(effective: &Effective) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(settings::show(effective).as_bytes())?;
    stdout.flush()
}

fn serve(config: Config, print_messages: bool) -> Result<(), Error> {
    let inherited = Inherited::from_environment()?;
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let signals = Signals::catch()?;
    let handler = print_messages.then(|| handler(printing::echo_and_print));
    let server = Server::start_inheriting(config, inherited, handler.as_ref())?;
    if let Err(error) = announce(&server) {
        tracing::warn!(%error, "cannot say on stdout where the server listens");
    }
    server.run_until_signal(signals)
}

/// One line for each address; scripts wait for them.
fn announce(server: &Server) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in server.addresses() {
        let scheme = if address.internet().is_some() {
            "ws://"
        } else {
            ""
        };
        writeln!(
            stdout,
            "listening {scheme}{address} engine={} threads={}",
            server.engine(),
            server.threads()
        )?;
    }
    if let Some(address) = server.admin_address() {
        writeln!(stdout, "admin http://{address}")?;
    }
    stdout.flush()
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
    let hint = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(near)) => format!("; did you mean '{near}'?"),
        _ => String::new(),
    };
    fail(USAGE, &format!("{line}{hint} (try --help)"))
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("ringback: {message}");
    ExitCode::from(code)
}
