//! What an operator sees: metrics, the access log, and lines whose number is limited.

pub(crate) mod access;
pub(crate) mod connection_record;
pub(crate) mod log_limit;
pub(crate) mod metrics;
pub mod output;

/// The commit that this was built from, with `-dirty` if the sources are no longer
/// its; `None` if the build did not know.
pub const COMMIT: Option<&str> = option_env!("BUILD_COMMIT");
