//! Files in memory, which are read through their paths.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

/// An empty one, and its path for as long as it is open.
///
/// # Panics
/// If the kernel refuses to make one.
pub fn in_memory() -> (File, PathBuf) {
    // SAFETY: the name is a C string, and the call takes no other pointer.
    let descriptor = unsafe { libc::memfd_create(c"fuzz".as_ptr(), 0) };
    assert!(descriptor >= 0, "memfd_create");
    // SAFETY: the descriptor was just made, and nothing else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, path.into())
}
