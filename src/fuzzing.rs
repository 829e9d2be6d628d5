//! What the fuzz targets in `fuzz/` reach beyond the public interface. Compiled
//! with `--cfg fuzzing` only, and no promise to anyone.

pub use crate::http::fuzzing::{Gate, Verdict};
pub use crate::proxy::fuzzing::{Introduction, read_introduction};
pub use crate::worker::fuzzing::Worker;

use std::ffi::OsString;

use crate::args::CommandLine;
use crate::settings::{Effective, show};

/// What `ringback config` prints, with these arguments and this environment;
/// and the arguments in effect, to be compared.
///
/// # Errors
/// The line on stderr that a start would end with.
pub fn configure(
    arguments: &[String],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(String, String), String> {
    let command_line = CommandLine::parse(arguments).map_err(|error| error.to_string())?;
    let effective = Effective::resolve(&command_line, variables)?;
    effective.config()?;
    Ok((show(&effective), format!("{:?}", effective.args())))
}
