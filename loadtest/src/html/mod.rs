//! Results as one HTML file: tables, plots, verdicts, environment and commands.
//!
//! The file refers to no other, runs no script, and is the same to the byte whenever it is made
//! from the same files. All text of those files is escaped: markup is written with `maud`,
//! which escapes everything but literals of the source; plots are SVG of this crate's own, in
//! `svg`.

mod commands;
mod comparison;
mod distribution;
mod figure;
mod group;
mod input;
mod machine;
mod overview;
mod page;
mod percentiles;
mod run;
mod seconds;
mod svg;
mod sweep;
mod table;

use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::output::OutputFile;
use crate::session::{EXIT_OK, log};
use crate::terminal::sanitized;

use commands::RepeatCommand;
use input::Inputs;
use machine::NamedEnvironment;
use page::Page;
use run::ReportedRun;
use sweep::RateSweep;

/// Reads documents and writes the page.
///
/// # Errors
/// A document that cannot be read, or a page that cannot be written.
pub fn report(args: &ReportArgs) -> Result<u8, Failure> {
    let inputs = Inputs::read(&args.from)?;
    let file = OutputFile::open(&args.output)?;
    file.write(page(&args.title, inputs)?.as_bytes())?;
    log(&format!("{} is written", args.output.display()));
    Ok(EXIT_OK)
}

fn page(title: &str, inputs: Inputs) -> Result<String, Failure> {
    let places = places(&inputs);
    let repeats = repeats(&inputs);
    let comparisons = inputs.comparisons.into_iter().map(|input| input.document);
    let comparisons: Vec<_> = comparisons.collect();
    let sweeps = inputs
        .sweeps
        .iter()
        .map(|input| RateSweep::of(&input.document));
    let sweeps: Vec<_> = sweeps.collect();
    let runs = ReportedRun::all(inputs.runs).map_err(|error| Failure::File(error.to_string()))?;
    let page = Page {
        title: &sanitized(title),
        runs: &runs,
        comparisons: &comparisons,
        sweeps: &sweeps,
        places: &places,
        repeats: &repeats,
    };
    Ok(page.draw())
}

/// The machines of all documents.
fn places(inputs: &Inputs) -> Vec<NamedEnvironment> {
    let runs = inputs
        .runs
        .iter()
        .map(|input| (input.name(), &input.document.environment));
    let comparisons = inputs.comparisons.iter();
    let comparisons = comparisons.map(|input| (input.name(), &input.document.environment));
    let sweeps = inputs.sweeps.iter();
    let sweeps = sweeps.map(|input| (input.name(), &input.document.environment));
    let places = runs
        .chain(comparisons)
        .chain(sweeps)
        .map(|(name, environment)| NamedEnvironment {
            name,
            environment: environment.clone(),
        });
    places.collect()
}

/// The commands of all documents.
fn repeats(inputs: &Inputs) -> Vec<RepeatCommand> {
    let runs = inputs.runs.iter().map(|input| RepeatCommand {
        name: input.name(),
        args: input.document.args.clone(),
        file: Some(input.path.to_string_lossy().into_owned()),
    });
    let comparisons = inputs.comparisons.iter().map(|input| RepeatCommand {
        name: input.name(),
        args: input.document.args.clone(),
        file: None,
    });
    let sweeps = inputs.sweeps.iter().map(|input| RepeatCommand {
        name: input.name(),
        args: input.document.args.clone(),
        file: None,
    });
    runs.chain(comparisons).chain(sweeps).collect()
}
