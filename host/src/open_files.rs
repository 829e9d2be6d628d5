//! The limit on open files of this process.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit; returns it, `None` if there is none.
///
/// # Errors
/// The kernel's, if it refuses a limit within the hard limit.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.maximum)
}

/// Advice on how to raise the limit to `needed` descriptors.
#[must_use]
pub fn how_to_raise(needed: u64) -> String {
    format!(
        "LimitNOFILE={needed} in the unit, docker run --ulimit nofile={needed}, \
         or ulimit -Hn {needed} as root"
    )
}

/// The limit in effect; `None` if there is none.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The number of descriptors this process has open; `None` without `/proc`.
#[must_use]
pub fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 their number is the size of this directory; before,
    // it was 0, and they had to be counted.
    const DESCRIPTORS: &str = "/proc/self/fd";
    match fs::metadata(DESCRIPTORS).ok()?.len() {
        0 => {
            let with_the_directorys_own = fs::read_dir(DESCRIPTORS).ok()?.count() as u64;
            Some(with_the_directorys_own - 1)
        }
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        let raised = raise_limit().expect("allowed");
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(limit.current, raised);
    }

    #[test]
    fn descriptors_are_counted_as_they_are_listed() {
        // Other tests open and close some at the same time.
        let counted = (0..1000).any(|_| {
            let listed = fs::read_dir("/proc/self/fd").expect("readable").count() as u64 - 1;
            open_descriptors() == Some(listed)
        });
        assert!(counted);
    }
}
