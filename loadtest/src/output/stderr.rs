//! Standard error, for log lines and progress.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stderr;

use crate::terminal::sanitized;

/// The longest wait for the reader of a line.
const WRITE_TIMEOUT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The number of bytes that a writable pipe accepts without blocking (`PIPE_BUF`).
const PIECE_LEN: usize = 4096;

/// Writes one line to standard error, with control characters replaced. Errors are ignored.
pub fn log(line: &str) {
    let line = format!("loadtest: {}\n", sanitized(line));
    let _ = write(line.as_bytes(), WRITE_TIMEOUT);
}

/// Standard error for progress: bytes that would block are dropped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes, Timespec::default())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the bytes accepted in time, and drops the rest.
fn write(mut bytes: &[u8], timeout: Timespec) -> io::Result<()> {
    while !bytes.is_empty() && is_writable(&timeout) {
        match rustix::io::write(stderr(), &bytes[..bytes.len().min(PIECE_LEN)]) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Waits until standard error is writable or has an error, up to the timeout; returns whether it
/// is.
fn is_writable(timeout: &Timespec) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    match poll(&mut fds, Some(timeout)) {
        Ok(count) => count > 0,
        // The write returns the error.
        Err(_) => true,
    }
}
