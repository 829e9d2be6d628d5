//! Result files, compared group by group.

mod environment_differences;
mod group;
mod workload;

use std::io;

use crate::args::{Compare, Criteria};
use crate::comparison::{
    self, Comparison, ComparisonVerdict, Contrast, Design, Side, VERSION, too_few_runs, unpaired,
};
use crate::failure::Failure;
use crate::output::{OutputFile, deliver};
use crate::plan::Plan;
use crate::report::{OutputFormat, color_allowed};
use crate::result::Document;
use crate::session::{EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_OBJECTIVE, EXIT_OK, arguments};
use crate::statistics::SAMPLES_MIN;

pub use workload::is_one_workload;

use group::ResultGroup;

/// The bootstrap's seed: the same files give the same intervals.
const SEED: u64 = 1;

/// Compares groups of result files, and prints the result.
///
/// # Errors
/// Files that cannot be read, or cannot be compared.
pub fn compare(args: &Compare) -> Result<u8, Failure> {
    let groups = ResultGroup::read_all(&args.groups)?;
    let plan = check(&groups)?;
    let file = args.file.as_deref().map(OutputFile::open).transpose()?;
    let settings = args.criteria.settings(!plan.is_open_loop(), SEED);
    let sides: Vec<_> = groups
        .iter()
        .map(|group| Side::of(&group.label, &group.runs, &settings))
        .collect();
    let contrasts: Vec<_> = sides[1..]
        .iter()
        .map(|side| unpaired(&sides[0], side, &settings))
        .collect();
    let mut warnings = warnings(&groups);
    let few = sides[1..].iter().zip(&contrasts);
    let few = few.filter_map(|(side, it)| too_few_runs(&sides[0], side, it, settings.level));
    warnings.extend(few);
    let starts = groups.iter().flat_map(|group| &group.runs);
    let comparison = Comparison {
        format: comparison::ComparisonFormat::Comparison,
        version: VERSION,
        design: Design::Unpaired,
        settings,
        args: arguments(),
        started_at: starts
            .map(|run| run.started_at.clone())
            .min()
            .unwrap_or_default(),
        workload: plan.to_string(),
        sides,
        noise: None,
        contrasts,
        warnings,
        environment: groups[0].runs[0].environment.clone(),
    };
    let has_invalid = groups.iter().any(ResultGroup::has_invalid);
    let code = exit_code(&comparison, &args.criteria, has_invalid);
    report(&comparison, args.report.format, file)?;
    Ok(code)
}

/// Prints a comparison, and writes it to its file, if any.
///
/// # Errors
/// [`Failure::Output`] and [`Failure::File`].
pub fn report(
    comparison: &Comparison,
    format: OutputFormat,
    file: Option<OutputFile>,
) -> Result<(), Failure> {
    let text = match format {
        OutputFormat::Text => comparison.text(color_allowed(io::stdout())),
        OutputFormat::Json => comparison.to_json(),
        OutputFormat::Csv => comparison.csv(),
        OutputFormat::Markdown => comparison.markdown(),
    };
    deliver(&text, file, || comparison.to_json())
}

/// The exit code of a comparison. INVALID runs come before a regression.
pub fn exit_code(comparison: &Comparison, criteria: &Criteria, has_invalid: bool) -> u8 {
    let mut contrasts = comparison.contrasts.iter();
    let is_inconclusive = |contrast: &Contrast| contrast.verdict == ComparisonVerdict::Inconclusive;
    if has_invalid {
        EXIT_INVALID
    } else if criteria.fail_on_regression && contrasts.clone().any(Contrast::is_regression) {
        EXIT_OBJECTIVE
    } else if criteria.fail_on_inconclusive && contrasts.any(is_inconclusive) {
        EXIT_INCONCLUSIVE
    } else {
        EXIT_OK
    }
}

/// Checks that the groups can be compared; returns their plan.
fn check(groups: &[ResultGroup]) -> Result<&Plan, Failure> {
    if groups.len() < 2 {
        let why = "there has to be something to compare with: 'A=a*.json' 'B=b*.json'";
        return Err(why.to_owned().into());
    }
    for group in groups {
        let runs = group.runs.len();
        if runs < SAMPLES_MIN {
            let what = if runs == 1 { "run" } else { "runs" };
            let why = format!(
                "{} has {runs} {what}, and fewer than {SAMPLES_MIN} cannot be distinguished from noise; \
                 make more, or use loadtest ab",
                group.label
            );
            return Err(Failure::File(why));
        }
    }
    workload::ensure_one(groups)
}

fn warnings(groups: &[ResultGroup]) -> Vec<String> {
    let mut warnings: Vec<_> = groups.iter().flat_map(ResultGroup::warnings).collect();
    warnings.extend(environment_differences::differences(groups));
    warnings
}
