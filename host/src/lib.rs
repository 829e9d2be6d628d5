//! Access to the machine that ringback and its load generator share: files of `/proc` and
//! `/sys`, cores, limits, and the form of findings.
//!
//! * [`Root`]: the files, each as text, a number or a field
//! * [`cgroup`]: the limits of control groups
//! * [`cores`]: the cores, and the affinity of threads
//! * [`stat`]: the kernel's counters of a process or a thread
//! * [`open_files`]: the limit of open files
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
