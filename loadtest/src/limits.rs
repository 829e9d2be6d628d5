//! How many files this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// Files beside the sockets: standard streams, epoll instances, the embedded
/// server's listeners and rings, `/proc` while it is read.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files to the hard limit, for `sockets` sockets.
///
/// # Errors
/// [`Failure::OpenFiles`] when the hard limit is too low for them.
pub fn allow_sockets(sockets: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = sockets + OTHER_FILES;
    // `None` is "unlimited".
    match limit.maximum {
        Some(maximum) if maximum < needed => {
            return Err(Failure::OpenFiles {
                needed,
                limit: maximum,
            });
        }
        _ => {}
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .map_err(|errno| Failure::Local {
        what: "raising the limit of open files",
        source: errno.into(),
    })
}
