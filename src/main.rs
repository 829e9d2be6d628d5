//! The `ringback` binary: parse, run, exit code.

mod args;
mod logging;
mod printing;
mod reload;
mod settings;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use mimalloc::MiMalloc;
use ringback::doctor::{self, Root, System};
use ringback::message::handler;
use ringback::{
    Address, Config, Error, Inherited, Question, Server, Signals, raise_descriptor_limit,
};

use args::{CommandLine, ReportFormat, Task};
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
        Task::ShowConfig => print(&settings::show(&effective))
            .map_err(|error| format!("cannot write the configuration: {error}")),
        Task::Reload => reload::reload(effective.args().pid_file()).and_then(|done| {
            print(&format!("{done}\n")).map_err(|error| format!("cannot write: {error}"))
        }),
        Task::Examine(format) => return examine(&config, format),
        Task::Ask(question, patience) => ask(&config, question, patience),
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

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A problem is no error of the examination: it gets its status, and no line.
fn examine(config: &Config, format: ReportFormat) -> ExitCode {
    let system = System::read(&Root::of_this_machine(), config);
    let report = doctor::examine(config, &system);
    let text = match format {
        ReportFormat::Text => report.to_string(),
        ReportFormat::Json => report.to_json(),
    };
    match print(&text) {
        Ok(()) => ExitCode::from(u8::from(report.has_problem())),
        Err(error) => fail(1, &format!("cannot write the findings: {error}")),
    }
}

fn ask(config: &Config, question: Question, patience: Duration) -> Result<(), String> {
    let admin = config
        .admin
        .ok_or("there is nobody to ask: no --admin is set")?;
    let answer = ringback::ask(admin, question, patience)?;
    print(&format!("{answer}\n")).map_err(|error| format!("cannot write the answer: {error}"))
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
    let plain = server.addresses().iter().map(|address| ("ws", address));
    let tls = server.tls_addresses().iter();
    for (scheme, address) in plain.chain(tls.map(|address| ("wss", address))) {
        let scheme = match address {
            Address::Internet(_) => format!("{scheme}://"),
            Address::Unix(_) => String::new(),
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
