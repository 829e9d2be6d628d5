//! The command line: arguments, layers of settings, the log, `--print-messages`.

pub(crate) mod args;
pub(crate) mod logging;
#[cfg(not(fuzzing))]
pub(crate) mod printing;
pub(crate) mod settings;
