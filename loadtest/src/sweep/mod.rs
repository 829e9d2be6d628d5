//! Many runs at different rates: latency against load, or the highest rate that holds an
//! objective.
//!
//! ```text
//!  agenda, bisection ─ which rate next ─▶ runs ─▶ session ─▶ ResultFile
//!        ▲ (pure)                          │
//!        └──────── was it held? ◀──────────┤
//!                                          ▼
//!                                     SweepFile ─▶ report, file
//! ```

mod bisection;
mod file;
#[cfg(test)]
mod fixture;
mod order;
mod rates;
mod report;
mod runs;

pub use bisection::{Answer, Bisection, Bounds, LOWERINGS_MAX, LOWEST_TRIES, Purpose};
pub use file::{Probe, Search, SweepFile, SweepFormat, SweepPoint, VERSION, holds};
pub use rates::{POINTS_MAX, Rates, Spacing, points};

use std::io;

use crate::args::Sweep;
use crate::failure::Failure;
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::output::{OutputFile, deliver};
use crate::preflight::{check_plan, check_server};
use crate::report::{OutputFormat, color_allowed};
use crate::result::{Document, ResultFile};
use crate::session::{
    EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_OBJECTIVE, EXIT_OK, log, raise_file_limit,
};
use crate::slo::Slo;
use crate::units::format_rate;

use report::SweepReport;
use runs::{Runs, Stop};

/// Makes all runs of a sweep and reports them.
///
/// # Errors
/// A failure before the first measurement, and a file that cannot be written.
pub fn sweep(args: &Sweep, interrupt: &Interrupt) -> Result<u8, Failure> {
    let rates = args.rates()?;
    let bounds = args.bounds();
    let plan = args.plan(rates.first().copied().unwrap_or(bounds.lowest_per_s))?;
    args.server.validate()?;
    check_server(&args.server)?;
    check_plan(&plan, &args.server.pin.0)?;
    let out = args.file.as_deref().map(OutputFile::open).transpose()?;
    raise_file_limit(&plan, 0)?;
    log(&format!("seed {}", plan.seed));
    let objective = args.find_max.as_ref();
    let mut runs = Runs::new(&args.server, plan, objective, interrupt, &args.annotate);
    let mut search = None;
    if let Some(objective) = &args.find_max {
        search = Some(find_max(&mut runs, objective, bounds));
    } else {
        drive_all(&mut runs, &rates, args.repeats());
    }
    let (file, stop) = runs.finish(search);
    if file.runs().next().is_none() {
        return Err(stop.map_or(Failure::Interrupted, Stop::into_failure));
    }
    report(args, &file, stop, out)
}

/// Runs every rate `repeats` times.
fn drive_all(runs: &mut Runs<'_>, rates: &[f64], repeats: u32) {
    runs.expect(rates);
    let order = order::order(rates.len(), repeats, runs.seed());
    let total = order.len();
    for (done, index) in order.into_iter().enumerate() {
        let at = format!("{} of {total}: {}/s", done + 1, format_rate(rates[index]));
        if order::is_beyond(index, runs.points()) {
            log(&format!(
                "run {at} is left out: a lower rate was not reached"
            ));
            runs.skip(index);
            continue;
        }
        log(&format!("run {at}"));
        if runs.drive(rates[index]).is_none() {
            return;
        }
    }
}

/// Searches the highest rate that holds.
fn find_max(runs: &mut Runs<'_>, objective: &Slo, bounds: Bounds) -> Search {
    let mut bisection = Bisection::new(bounds.clone());
    let mut probes = Vec::new();
    while let Some((rate, purpose)) = bisection.next() {
        let what = match purpose {
            Purpose::Explore => "looking at",
            Purpose::Confirm => "confirming",
        };
        let at = format_rate(rate);
        log(&format!("run {}: {what} {at}/s", probes.len() + 1));
        let Some((run, result)) = runs.drive(rate) else {
            break;
        };
        let held = holds(result);
        log(&match held {
            Some(true) => format!("{at}/s holds {objective}"),
            Some(false) => format!("{at}/s does not hold {objective}"),
            None => format!("{at}/s: {}", why_unknown(result)),
        });
        bisection.record(held);
        probes.push(Probe {
            rate_per_s: rate,
            run,
            purpose,
            held,
        });
    }
    Search {
        objective: objective.clone(),
        bounds,
        probes,
        answer: bisection.answer(),
    }
}

/// Why it is unknown whether a run's rate holds.
fn why_unknown(run: &ResultFile) -> String {
    let reason = run.judgement.worst();
    let why = reason.map_or_else(
        || "too few messages for the objective; run longer (-d)".to_owned(),
        |reason| format!("{}: {} ({})", reason.verdict, reason.what, reason.advice),
    );
    format!("unknown whether it holds; {why}")
}

fn report(
    args: &Sweep,
    file: &SweepFile,
    stop: Option<Stop>,
    out: Option<OutputFile>,
) -> Result<u8, Failure> {
    let report = SweepReport {
        file,
        columns: crate::terminal::columns(io::stdout()),
    };
    let text = match args.report.format {
        OutputFormat::Text => report.text(color_allowed(io::stdout())),
        OutputFormat::Json => file.to_json(),
        OutputFormat::Csv => report.csv(),
        OutputFormat::Markdown => report.markdown(),
    };
    let delivered = deliver(&text, out, || file.to_json());
    let code = match stop {
        Some(Stop::Failed(failure)) => {
            log(&failure.to_string());
            EXIT_FAILED
        }
        Some(Stop::Interrupted) => EXIT_INTERRUPTED,
        None => exit_code(file),
    };
    delivered.map(|()| code)
}

/// The exit code of a complete sweep. Rates above the limit are expected.
fn exit_code(file: &SweepFile) -> u8 {
    match file.search.as_ref().map(|search| search.answer) {
        Some(Answer::NothingHolds { .. }) => EXIT_OBJECTIVE,
        Some(Answer::Unconfirmed { .. }) => EXIT_INCONCLUSIVE,
        None if file.runs().all(ResultFile::is_invalid) => EXIT_INVALID,
        Some(Answer::Found { .. }) | None => EXIT_OK,
    }
}
