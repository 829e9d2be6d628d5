//! Hot restart: start the replacement with this process' listening sockets, and report
//! the result to the pid file and systemd.

pub(crate) mod inherited;
pub(crate) mod invocation;
pub(crate) mod pid_file;
pub(crate) mod reload;
pub(crate) mod replacement;
pub(crate) mod state;
pub(crate) mod systemd;
