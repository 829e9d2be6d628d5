//! Where everything goes that this program writes: results to standard output,
//! notes and live views to standard error, documents into files.
//!
//! A result that does not arrive is a failure ([`print()`], [`OutputFile`]), but for
//! a pipe whose reader has seen enough. A note that does not arrive is none, and no
//! note waits for long: a run does not stand still because a terminal does.

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

/// Has a file that would grow beyond `ulimit -f` be an error of the write, instead of
/// a signal that ends the program.
pub fn prepare() {
    // Without it, that signal ends the program, as it would without this call.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Prints a result, and writes its document where one is to be kept. Each is written
/// whether or not the other can be.
///
/// # Errors
/// [`Failure::Output`] and [`Failure::File`]: the first is returned, a second one is
/// said.
pub fn deliver(
    text: &str,
    file: Option<OutputFile>,
    document: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let printed = print(text);
    let kept = file.map_or(Ok(()), |file| file.write(document().as_bytes()));
    first_failure(printed, kept.map_err(Failure::from))
}

/// What went wrong first; what went wrong besides is said.
///
/// # Errors
/// That of the one or the other.
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
