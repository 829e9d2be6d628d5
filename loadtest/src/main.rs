//! `loadtest`: see `--help`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use loadtest::args::Args;
use loadtest::driver::drive;
use loadtest::embedded::compare_engines;
use loadtest::failure::Failure;
use loadtest::limits::allow_sockets;
use loadtest::plan::Plan;
use loadtest::report::{Measured, Report, Row};
use loadtest::target::Target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return explain(&error),
    };
    let plan = args.plan();
    say(&format!("seed {}", plan.seed));
    let mut rows = Vec::new();
    let result = match &args.target {
        Some(target) => drive_running(&plan, target, &mut rows),
        None => drive_embedded(&plan, &mut rows),
    };
    for row in &rows {
        say_generator_cost(row);
    }
    if !rows.is_empty() {
        let report = Report {
            plan: &plan,
            rows: &rows,
        };
        // A reader that has seen enough is no failure of the run.
        let _ = write!(io::stdout(), "{report}");
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn drive_embedded(plan: &Plan, rows: &mut Vec<Row>) -> Result<(), Failure> {
    // Both ends of every connection are in this process.
    allow_sockets(2 * u64::from(plan.connections))?;
    compare_engines(plan, rows, &mut say)
}

fn drive_running(plan: &Plan, target: &Target, rows: &mut Vec<Row>) -> Result<(), Failure> {
    allow_sockets(u64::from(plan.connections))?;
    say(&format!("{target}: {plan}"));
    let outcome = drive(plan, target, &mut |_| {})?;
    rows.push(Row {
        server: target.to_string(),
        result: Measured::Echoed {
            outcome,
            server_cpu_ns: None,
        },
    });
    Ok(())
}

/// Shows help, or a usage error in one line.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let reason = first.strip_prefix("error: ").unwrap_or(first);
    say(&format!("{reason} (see loadtest --help)"));
    ExitCode::from(EXIT_USAGE)
}

/// A closed loop measures the slower end: who compares servers has to see that
/// it is not the generator.
fn say_generator_cost(row: &Row) {
    if let Measured::Echoed { outcome, .. } = &row.result
        && let Some(cpu_ns) = outcome.per_message(outcome.generator_cpu_ns)
    {
        say(&format!(
            "{}: the generator used {cpu_ns} ns CPU per message and was busy {:.0} % of the time",
            row.server,
            100.0 * outcome.generator_cpu_ns as f64 / outcome.elapsed.as_nanos() as f64,
        ));
    }
}

/// One line on stderr; nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "loadtest: {line}");
}
