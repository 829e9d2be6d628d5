//! Standard streams, except those that were closed at the start of the program.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::{stderr, stdout};

static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);
static STDERR_IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Checks before Rust's runtime starts, which opens `/dev/null` in place of a closed
/// standard stream. After that, it looks like an inherited `/dev/null`: Python's is open
/// for reading and writing, too.
// SAFETY: the section holds addresses of functions that the C library calls before
// `main`, with arguments that one of the C calling convention may ignore.
// `note_closed` asks the kernel and stores to atomics: it needs neither Rust's
// runtime nor an allocator, and cannot panic.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_THE_RUNTIME: extern "C" fn() = note_closed;

extern "C" fn note_closed() {
    STDOUT_IS_CLOSED.store(fcntl_getfd(stdout()) == Err(Errno::BADF), Relaxed);
    STDERR_IS_CLOSED.store(fcntl_getfd(stderr()) == Err(Errno::BADF), Relaxed);
}

/// Standard output.
///
/// # Errors
/// It was closed when the program was started.
pub fn open_stdout() -> io::Result<BorrowedFd<'static>> {
    unless(&STDOUT_IS_CLOSED, stdout())
}

/// Standard error.
///
/// # Errors
/// It was closed when the program was started.
pub(super) fn open_stderr() -> io::Result<BorrowedFd<'static>> {
    unless(&STDERR_IS_CLOSED, stderr())
}

fn unless(is_closed: &AtomicBool, stream: BorrowedFd<'static>) -> io::Result<BorrowedFd<'static>> {
    if is_closed.load(Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(stream)
}
