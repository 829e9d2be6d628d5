//! All output of this program: results to standard output, log lines and progress to standard
//! error, documents into files.
//!
//! A result that cannot be written is a failure ([`print()`], [`OutputFile`]), except to a pipe
//! whose reader has left. A log line that cannot be written is dropped, and none waits for
//! long: a blocked terminal does not stop a run.

mod file;
mod stderr;
mod stdout;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;

use crate::failure::Failure;

pub use file::{FileError, OutputFile, write_file};
pub use stderr::{Stderr, log};
pub use stdout::{check_stdout, print};

/// Makes a write beyond `ulimit -f` an error, instead of a signal that ends the program.
pub fn prepare() {
    // If it fails, the signal ends the program as before.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Prints a result, and writes its document, if it has a file. Each is written whether or not the
/// other can be.
///
/// # Errors
/// [`Failure::Output`] and [`Failure::File`]: the first is returned, the second logged.
pub fn deliver(
    text: &str,
    file: Option<OutputFile>,
    document: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let printed = print(text);
    let kept = file.map_or(Ok(()), |file| file.write(document().as_bytes()));
    first_failure(printed, kept.map_err(Failure::from))
}

/// Returns the first failure; a second one is logged.
///
/// # Errors
/// The first failure.
pub fn first_failure<T>(
    first: Result<(), Failure>,
    second: Result<T, Failure>,
) -> Result<T, Failure> {
    if first.is_err()
        && let Err(failure) = &second
    {
        log(&failure.to_string());
    }
    first.and(second)
}
