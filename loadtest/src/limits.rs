//! How many files this process may open.

use host::open_files::raise_limit;

use crate::failure::Failure;

/// Files beside the sockets: standard streams, epoll instances, the embedded
/// server's listeners and rings, `/proc` while it is read.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files to the hard limit, for `sockets` sockets.
///
/// # Errors
/// [`Failure::OpenFiles`] when the hard limit is too low for them.
pub fn allow_sockets(sockets: u64) -> Result<(), Failure> {
    let needed = sockets + OTHER_FILES;
    let limit = raise_limit().map_err(|source| Failure::Local {
        what: "raising the limit of open files",
        source,
    })?;
    match limit {
        Some(limit) if limit < needed => Err(Failure::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}
