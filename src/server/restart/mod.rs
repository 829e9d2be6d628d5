//! Hot restart: how this process was started, what its successor inherits, and who is told.

pub(crate) mod inherited;
pub(crate) mod invocation;
pub(crate) mod pid_file;
pub(crate) mod reload;
pub(crate) mod replacement;
pub(crate) mod state;
pub(crate) mod systemd;
