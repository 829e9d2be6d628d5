//! The `ringback` binary: parse, run, exit code.

mod cli;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use ringback::binary::{self, Inherited, Probe, output, raise_descriptor_limit};
use ringback::doctor::{self, System};
use ringback::{Address, Config, Error, Handler, Server, Signals};
use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value};
use tracing::Level;

use cli::args::{CommandLine, ReportFormat, Task, possible_values};
use cli::logging::{self, LogFormat};
use cli::settings::{self, Effective};

// A sanitizer checks only its own allocator.
#[cfg(not(asan))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status for wrong arguments, as in shells and clap.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let status = run();
    output::flush();
    status
}

fn run() -> ExitCode {
    let command_line = match CommandLine::parse(env::args_os()) {
        Ok(command_line) => command_line,
        Err(error) => return report_usage(&error),
    };
    let (effective, config) = match configure(&command_line) {
        Ok(configured) => configured,
        Err(message) => return reject(&message),
    };
    let result = match command_line.task() {
        Task::ShowConfig => Ok(settings::show(&effective)),
        Task::Reload => reload(effective.args().pid_file()),
        Task::Doctor(format) => return run_doctor(&config, format),
        Task::Probe(probe, timeout) => run_probe(&config, probe, timeout),
        Task::Serve => return log_and_serve(&effective, &config),
    };
    match result {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(message) => fail(LogFormat::Text, 1, &message),
    }
}

fn configure(command_line: &CommandLine) -> Result<(Effective, Config), String> {
    let effective = Effective::resolve(command_line, env::vars_os())?;
    let config = effective.config()?;
    Ok((effective, config))
}

/// Prints a command's output; returns `status` if that works.
fn print(text: &str, status: ExitCode) -> ExitCode {
    match output::print(text.as_bytes()) {
        Ok(()) => status,
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => fail(
            LogFormat::Text,
            1,
            &format!("cannot write to stdout: {error}"),
        ),
    }
}

/// A problem that the doctor finds sets the exit status; it is no error of the command.
fn run_doctor(config: &Config, format: ReportFormat) -> ExitCode {
    let system = System::read(config);
    let report = doctor::examine(config, &system);
    let text = match format {
        ReportFormat::Text => report.to_string(),
        ReportFormat::Json => report.to_json(),
    };
    print(&text, ExitCode::from(u8::from(report.has_problem())))
}

fn run_probe(config: &Config, probe: Probe, timeout: Duration) -> Result<String, String> {
    let admin = config
        .admin
        .ok_or("--admin is not set: give the server's address")?;
    let answer = binary::ask(admin, probe, timeout)?;
    Ok(format!("{answer}\n"))
}

fn reload(pid_file: Option<&Path>) -> Result<String, String> {
    let pid_file = pid_file.ok_or(
        "reload needs --pid-file: set it for the server and here; \
         without one, kill -USR2 PID does the same",
    )?;
    let reloaded = binary::reload(pid_file)?;
    Ok(format!("{reloaded}\n"))
}

fn log_and_serve(effective: &Effective, config: &Config) -> ExitCode {
    let args = effective.args();
    let format = args.log_format();
    let served = logging::start(args.log(), format, config.access_log)
        .map_err(|error| format!("cannot start the thread that writes the log: {error}"))
        .and_then(|()| {
            let handler = args.print_messages().then(|| printing_handler(format));
            serve(config, format, handler.as_ref()).map_err(|error| error.to_string())
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(format, 1, &message),
    }
}

fn printing_handler(format: LogFormat) -> Handler {
    Handler::new(move |socket| cli::printing::echo_and_print(socket, format))
}

fn serve(config: &Config, format: LogFormat, handler: Option<&Handler>) -> Result<(), Error> {
    let mut inherited = Inherited::from_environment()?;
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let mut signals =
        Signals::catch().inspect_err(|error| inherited.report_failure(&error.to_string()))?;
    let started = Server::start_inheriting(config.clone(), inherited, handler, &mut signals);
    let server = match started {
        Err(error @ Error::Interrupted) => {
            tracing::info!("{error}");
            return Ok(());
        }
        started => started?,
    };
    announce(&server, format);
    log_start(&server, config);
    server.run_until_signal(signals)
}

/// Logs the version, the addresses and the limits; a limit that is not set is left out.
fn log_start(server: &Server, config: &Config) {
    let list = |addresses: &[Address]| {
        let texts: Vec<_> = addresses.iter().map(Address::to_string).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = binary::COMMIT.unwrap_or("unknown"),
        listen = list(server.addresses()),
        tls_listen = list(server.tls_addresses()),
        admin = server.admin_address().map(tracing::field::display),
        engine = %server.engine(),
        threads = server.threads(),
        max_connections = server.max_connections().get(),
        max_message = config.max_message,
        max_held_bytes = config.max_held_bytes.map(NonZeroUsize::get),
        open_files = getrlimit(Resource::Nofile).current,
        "serving"
    );
}

/// Prints one line for each address; scripts wait for them.
fn announce(server: &Server, format: LogFormat) {
    let (engine, threads) = (server.engine(), server.threads());
    let plain = server.addresses().iter().map(|address| ("ws", address));
    let tls = server.tls_addresses().iter();
    for (scheme, address) in plain.chain(tls.map(|address| ("wss", address))) {
        let scheme = match address {
            Address::Tcp(_) => format!("{scheme}://"),
            Address::Unix(_) => String::new(),
        };
        let url = format!("{scheme}{address}");
        let line = match format {
            LogFormat::Text => format!("listening {url} engine={engine} threads={threads}\n"),
            LogFormat::Json => printed_object(
                "listening",
                [
                    ("url", url.into()),
                    ("engine", engine.name().into()),
                    ("threads", threads.into()),
                ],
            ),
        };
        output::stdout().push(line.as_bytes());
    }
    if let Some(address) = server.admin_address() {
        let url = format!("http://{address}");
        let line = match format {
            LogFormat::Text => format!("admin {url}\n"),
            LogFormat::Json => printed_object("admin", [("url", url.into())]),
        };
        output::stdout().push(line.as_bytes());
    }
}

/// A line of stdout in the log's JSON format: both may go to the same file.
fn printed_object<const N: usize>(message: &str, fields: [(&str, Value); N]) -> String {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    logging::object(Level::INFO, message, Map::from_iter(fields))
}

/// Prints help to stdout, or a usage error as one line to stderr.
fn report_usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let text = error.render();
        let text = if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        return print(&text, ExitCode::SUCCESS);
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let hint = match (error.get(ContextKind::SuggestedArg), possible_values(error)) {
        (Some(ContextValue::String(near)), _) => format!("; did you mean '{near}'?"),
        (_, Some(expected)) => format!(": {expected}"),
        _ => String::new(),
    };
    reject(&format!("{line}{hint} (try --help)"))
}

/// Reports wrong arguments to stderr and to the predecessor, if there is one.
fn reject(message: &str) -> ExitCode {
    if let Ok(mut inherited) = Inherited::from_environment() {
        inherited.report_failure(message);
    }
    fail(LogFormat::from_raw_arguments(), USAGE, message)
}

/// Writes `message` to stderr as one line; returns the exit status.
fn fail(format: LogFormat, status: u8, message: &str) -> ExitCode {
    let line = format.fatal(message);
    match output::stderr().start() {
        Ok(()) => output::stderr().push(line.as_bytes()),
        // No thread can be started, which may be the very error.
        Err(_) => drop(io::stderr().write_all(line.as_bytes())),
    }
    ExitCode::from(status)
}
