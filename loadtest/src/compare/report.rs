//! How a comparison is told, and how the program ends.

use std::io;

use crate::args::Criteria;
use crate::comparison::{Comparison, Contrast, Verdict};
use crate::failure::Failure;
use crate::output::{OutputFile, deliver};
use crate::report::{Format, color_allowed};
use crate::result::Document;
use crate::session::{EXIT_FINE, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_OBJECTIVE};

/// Prints a comparison, and writes it where it is to be kept.
///
/// # Errors
/// [`Failure::Output`] and [`Failure::File`].
pub fn report(
    comparison: &Comparison,
    format: Format,
    file: Option<OutputFile>,
) -> Result<(), Failure> {
    let text = match format {
        Format::Text => comparison.text(color_allowed(io::stdout())),
        Format::Json => comparison.to_json(),
        Format::Csv => comparison.csv(),
        Format::Markdown => comparison.markdown(),
    };
    deliver(&text, file, || comparison.to_json())
}

/// How the program ends after a comparison. What is not valid comes before what it seems to say.
pub fn exit_code(comparison: &Comparison, criteria: &Criteria, has_invalid: bool) -> u8 {
    let mut contrasts = comparison.contrasts.iter();
    let is_inconclusive = |contrast: &Contrast| contrast.verdict == Verdict::Inconclusive;
    if has_invalid {
        EXIT_INVALID
    } else if criteria.fail_on_regression && contrasts.clone().any(Contrast::is_regression) {
        EXIT_OBJECTIVE
    } else if criteria.fail_on_inconclusive && contrasts.any(is_inconclusive) {
        EXIT_INCONCLUSIVE
    } else {
        EXIT_FINE
    }
}
