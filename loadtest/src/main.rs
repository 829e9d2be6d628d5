//! `loadtest`: see `--help`.

use std::io;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::CommandFactory;
use loadtest::ab;
use loadtest::args::{
    Cli, Command, Doctor, DoctorFormat, DocumentKind, Rerun, Run, Start, announcement, reason_of,
};
use loadtest::compare::compare;
use loadtest::comparison::Comparison;
use loadtest::embedded::compare_engines;
use loadtest::export::export;
use loadtest::failure::Failure;
use loadtest::floor;
use loadtest::history::history;
use loadtest::html;
use loadtest::interrupt::Interrupt;
use loadtest::machine::{DoctorReport, Environment, examine};
use loadtest::merge::merge;
use loadtest::output::{self, OutputFile};
use loadtest::plan::Plan;
use loadtest::preflight::{check_plan, check_server};
use loadtest::report::color_allowed;
use loadtest::result::{ResultFile, schema};
use loadtest::selftest;
use loadtest::session::{
    EXIT_FAILED, EXIT_OK, EXIT_USAGE, FinishedRun, ServerProcess, arguments, log, print,
    raise_file_limit,
};
use loadtest::sweep::{SweepFile, sweep};
use loadtest::watch::guard_if_requested;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    guard_if_requested();
    output::prepare();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    exit(execute(&cli))
}

fn exit(ending: Result<u8, Failure>) -> ExitCode {
    ExitCode::from(ending.unwrap_or_else(|failure| {
        log(&failure.to_string());
        match failure {
            Failure::Usage(_) | Failure::File(_) | Failure::Output(_) | Failure::Trust(_) => {
                EXIT_USAGE
            }
            Failure::Interrupted => loadtest::interrupt::EXIT_INTERRUPTED,
            _ => EXIT_FAILED,
        }
    }))
}

fn execute(cli: &Cli) -> Result<u8, Failure> {
    if cli.prints() {
        output::check_stdout()?;
    }
    match &cli.command {
        None => compare_engines(cli, &Interrupt::catch()?),
        Some(Command::Run(args)) => run(args),
        Some(Command::Floor(args)) => floor::measure(args, &Interrupt::catch()?),
        Some(Command::Selftest(args)) => selftest::run(args.quick, &Interrupt::catch()?),
        Some(Command::Rerun(args)) => rerun(args),
        Some(Command::Doctor(args)) => doctor(args),
        Some(Command::Sweep(args)) => sweep(args, &Interrupt::catch()?),
        Some(Command::Merge(args)) => merge(&args.from, &args.output),
        Some(Command::Compare(args)) => compare(args),
        Some(Command::Export(args)) => export(args),
        Some(Command::History(args)) => history(args),
        Some(Command::Ab(args)) => ab::measure(args),
        Some(Command::Report(args)) => html::report(args),
        Some(Command::Schema { of }) => {
            print(&match of {
                DocumentKind::Result => schema::<ResultFile>(),
                DocumentKind::Comparison => schema::<Comparison>(),
                DocumentKind::Sweep => schema::<SweepFile>(),
            })?;
            Ok(EXIT_OK)
        }
        Some(Command::Completions { shell }) => {
            // The generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "loadtest", &mut script);
            print(&String::from_utf8_lossy(&script))?;
            Ok(EXIT_OK)
        }
    }
}

fn run(args: &Run) -> Result<u8, Failure> {
    let plan = args.plan()?;
    drive(&plan, &args.start, &args.server, &args.output)
}

fn rerun(args: &Rerun) -> Result<u8, Failure> {
    let file = ResultFile::read_to_repeat(&args.from)?;
    let mut plan = file.plan;
    if !args.targets.is_empty() {
        plan.targets.clone_from(&args.targets);
        plan.validate()?;
    }
    drive(&plan, &args.start, &args.server, &args.output)
}

fn drive(
    plan: &Plan,
    start: &Start,
    server: &loadtest::args::ServerFlags,
    output: &loadtest::args::OutputFlags,
) -> Result<u8, Failure> {
    server.validate()?;
    check_server(server)?;
    check_plan(plan, &server.pin.0)?;
    let start_at = start_of(start, plan)?;
    let file = output.file.as_deref().map(OutputFile::open).transpose()?;
    let interrupt = Interrupt::catch()?;
    raise_file_limit(plan, 0)?;
    let environment = Environment::capture(plan.is_loopback());
    let environment = output.annotate.annotated(environment);
    log(&format!("seed {}", plan.seed));
    let mut watch = ServerProcess::new(server, plan, &interrupt)?;
    let driven = watch.drive_at(plan, start_at, &interrupt);
    let identity = watch.identity();
    watch.stop();
    FinishedRun {
        label: &plan.label(),
        plan,
        outcome: &driven?,
        identity: &identity,
        environment: &environment,
    }
    .report(output, file)
}

/// The start time, if one is given, and a line that announces it.
#[expect(
    clippy::disallowed_methods,
    reason = "several machines have no other clock in common"
)]
fn start_of(start: &Start, plan: &Plan) -> Result<Option<SystemTime>, Failure> {
    let now = SystemTime::now();
    let start_at = start.resolve(now, plan)?;
    if let Some(at) = start_at {
        log(&announcement(at, now));
    }
    Ok(start_at)
}

fn doctor(args: &Doctor) -> Result<u8, Failure> {
    let findings = examine();
    match args.format {
        DoctorFormat::Text => print(&format!("{}\n", DoctorReport(&findings))),
        DoctorFormat::Json => print(&loadtest::machine::to_json(&findings)),
    }?;
    Ok(EXIT_OK)
}

/// Shows help, or a usage error in one line.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let text = error.render();
        let printed = print(&if color_allowed(io::stdout()) {
            text.ansi().to_string()
        } else {
            text.to_string()
        });
        return exit(printed.map(|()| EXIT_OK));
    }
    let reason = reason_of(error);
    let arguments = arguments();
    let command = arguments
        .first()
        .filter(|first| Cli::command().find_subcommand(first).is_some());
    // Other load generators take a bare URL without a command.
    let is_url = |argument: &String| argument.contains("://");
    let hint = match command {
        Some(name) => format!("see loadtest {name} --help"),
        None if arguments.iter().any(is_url) => {
            format!("write: loadtest run {}", arguments.join(" "))
        }
        None => "see loadtest --help".to_owned(),
    };
    log(&format!("{reason} ({hint})"));
    ExitCode::from(EXIT_USAGE)
}
