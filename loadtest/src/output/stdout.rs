//! Standard output, for results.

use std::io;

use ringback::binary::output;
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use crate::failure::Failure;

/// Checks whether a result can be printed, as far as that can be known before the runs.
///
/// # Errors
/// [`Failure::Output`] when standard output is closed, is open for reading only, or
/// takes nothing.
pub fn check_stdout() -> Result<(), Failure> {
    check().map_err(Failure::Output)
}

/// Prints a result. A closed pipe, as of `head`, is no failure.
///
/// # Errors
/// [`Failure::Output`] when not all of it was written.
pub fn print(text: &str) -> Result<(), Failure> {
    output::print(text.as_bytes())
        .or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        })
        .map_err(Failure::Output)
}

pub(super) fn check() -> io::Result<()> {
    let stdout = output::open_stdout()?;
    match FileType::from_raw_mode(fstat(stdout)?.st_mode) {
        // An empty write is an empty message to some.
        FileType::Socket => Ok(()),
        // An empty write has no effect, or fails as any other: on `/dev/full`, or on a
        // descriptor open for reading only.
        _ => match rustix::io::write(stdout, &[]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::PIPE) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
    }
}
