//! The machine, as ringback and its load generator see it: both read the same files
//! of `/proc` and `/sys`, stay on the same cores and report what they find in the
//! same form.
//!
//! * [`Root`]: the files, each as text, a number or a field
//! * [`cgroup`]: the limits of control groups
//! * [`cores`]: which there are, and which of them a thread runs on
//! * [`stat`]: what the kernel counts for a process or a thread
//! * [`open_files`]: their limit
//! * [`finding`]: the results of checks
//!
//! A value that the kernel does not export is `None` or empty, not an error.

pub mod cgroup;
pub mod cores;
pub mod finding;
pub mod open_files;
pub mod root;
pub mod stat;

pub use root::Root;
