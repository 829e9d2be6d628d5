//! Metrics, the access log, limits on log lines, and output to stdout and stderr.

pub(crate) mod access;
pub(crate) mod connection_record;
pub(crate) mod log_limit;
pub(crate) mod metrics;
pub mod output;

/// The commit of the build, with `-dirty` if the sources had changes; `None` if unknown.
pub const COMMIT: Option<&str> = option_env!("BUILD_COMMIT");
