//! Measures ringback beside its peers: see `--help`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use loadtest::cores::Cores;
use loadtest::interrupt::{EXIT_INTERRUPTED, Interrupt};
use loadtest::machine::Environment;
use loadtest::session::{EXIT_FAILED, EXIT_FINE, EXIT_INVALID, EXIT_USAGE, arguments, print};
use ringback_peers::args::Args;
use ringback_peers::contest::{Contest, Progress};
use ringback_peers::header::Header;
use ringback_peers::report::Report;
use ringback_peers::results::{Results, Run};

fn main() -> ExitCode {
    let args = Args::parse();
    ExitCode::from(match args.contest() {
        Ok(contest) => execute(&args, &contest).unwrap_or_else(|line| {
            say(&line);
            EXIT_FAILED
        }),
        Err(sentence) => {
            say(&format!("{sentence} (see side-by-side --help)"));
            EXIT_USAGE
        }
    })
}

fn execute(args: &Args, contest: &Contest) -> Result<u8, String> {
    let interrupt = Interrupt::catch().map_err(|failure| failure.to_string())?;
    let environment = Environment::capture(true);
    let versions = versions(contest, &interrupt)?;
    if args.check {
        let lines = versions
            .iter()
            .map(|(name, version)| format!("{name}: {version}\n"));
        return Ok(printed(&lines.collect::<String>(), EXIT_FINE));
    }
    if contest.server_core == contest.generator_core {
        say("server and generator share a core: expect both to be slower");
    }
    // What watches beside the generator's threads stays off the server's core.
    Cores::pin_to(&[contest.generator_core])
        .map_err(|error| format!("core {}: {error}", contest.generator_core))?;

    let results = contest.hold(&interrupt, show);
    let header = Header::new(&arguments(), contest, &environment, versions);
    let report = Report {
        header: &header,
        contest,
        results: &results,
    };
    let code = exit_code(&results, &interrupt);
    Ok(printed(&report.render(args.format), code))
}

/// Prints a result, and says how the program ends: what did not arrive is no result.
fn printed(text: &str, code: u8) -> u8 {
    match print(text) {
        Ok(()) => code,
        Err(failure) => {
            say(&failure.to_string());
            EXIT_USAGE
        }
    }
}

/// What everybody is made of, or a line for each server that is missing.
fn versions(contest: &Contest, interrupt: &Interrupt) -> Result<Vec<(String, String)>, String> {
    let mut versions = Vec::new();
    let mut missing = Vec::new();
    for server in &contest.servers {
        match server.version(interrupt) {
            Ok(version) => versions.push((server.name.clone(), version)),
            Err(reason) => missing.push(reason.to_string()),
        }
    }
    if !contest.loadtest.exists() {
        missing.push(format!(
            "{} is missing: run cargo build --release --workspace",
            contest.loadtest.display()
        ));
    }
    let Some(last) = missing.pop() else {
        return Ok(versions);
    };
    for line in missing {
        say(&line);
    }
    Err(last)
}

fn show(progress: &Progress<'_>) {
    let came = match progress.run {
        Run::Measured(run) => format!(
            "{:.1} ns/message, {:.0} messages/s, {}",
            run.cpu_ns_per_message, run.messages_per_s, run.verdict
        ),
        Run::Invalid(reason) => format!("INVALID: {reason}"),
        Run::Failed(reason) => format!("FAILED: {reason}"),
    };
    let Progress {
        done,
        all,
        round,
        shape,
        server,
        ..
    } = progress;
    say(&format!(
        "{done}/{all}: round {round}, {shape}, {server}: {came}"
    ));
}

fn exit_code(results: &Results, interrupt: &Interrupt) -> u8 {
    let any = |kind: fn(&Run) -> bool| results.all().any(kind);
    if any(|run| matches!(run, Run::Failed(_))) {
        EXIT_FAILED
    } else if interrupt.is_asked() {
        EXIT_INTERRUPTED
    } else if any(|run| matches!(run, Run::Invalid(_))) {
        EXIT_INVALID
    } else {
        EXIT_FINE
    }
}

/// One line on stderr; nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "side-by-side: {line}");
}
