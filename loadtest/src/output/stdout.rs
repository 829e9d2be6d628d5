//! Standard output, which results go to.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::stdout;

use super::write_all;
use crate::failure::Failure;

/// Whether standard output was closed when the program was started.
static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Has the loader ask before Rust's runtime begins, which opens `/dev/null` in the
/// place of a standard stream that is closed. Afterwards this cannot be told from a
/// `/dev/null` that was handed over: Python's opens it for reading and writing, too.
// SAFETY: the section holds addresses of functions that the C library calls before
// `main`, with arguments that one of the C calling convention may ignore.
// `note_if_closed` asks the kernel and stores to an atomic: it needs neither Rust's
// runtime nor an allocator, and cannot panic.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_THE_RUNTIME: extern "C" fn() = note_if_closed;

extern "C" fn note_if_closed() {
    let is_closed = fcntl_getfd(stdout()) == Err(Errno::BADF);
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Finds out whether a result could be printed, as far as that can be known before
/// the runs that it is to tell of.
///
/// # Errors
/// [`Failure::Output`] when standard output is closed, is open for reading only, or
/// takes nothing.
pub fn check_stdout() -> Result<(), Failure> {
    check().map_err(Failure::Output)
}

/// Prints a result. That a reader has seen enough, as `head` has, is no failure.
///
/// # Errors
/// [`Failure::Output`] when not all of it was taken.
pub fn print(text: &str) -> Result<(), Failure> {
    write(text.as_bytes())
        .or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        })
        .map_err(Failure::Output)
}

pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    check_open()?;
    write_all(stdout(), bytes)
}

pub(super) fn check() -> io::Result<()> {
    check_open()?;
    match FileType::from_raw_mode(fstat(stdout())?.st_mode) {
        // An empty write is an empty message to some.
        FileType::Socket => Ok(()),
        // It does nothing, or fails as another one would: on `/dev/full`, or on what
        // was opened for reading only.
        _ => match rustix::io::write(stdout(), &[]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::PIPE) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
    }
}

fn check_open() -> io::Result<()> {
    if WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(())
}
