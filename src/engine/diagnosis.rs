//! What keeps an `io_uring` engine from working, in words for an operator.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What an operator can do something about, and what that is; `min_kernel` is the
/// version that has everything the engine asks for.
pub(crate) fn explain(error: &io::Error, min_kernel: (u32, u32)) -> String {
    let locked_memory = getrlimit(Resource::Memlock).current;
    explain_with(error, min_kernel, disabled_by_sysctl(), locked_memory)
}

fn explain_with(
    error: &io::Error,
    min_kernel: (u32, u32),
    sysctl: Option<u8>,
    locked_memory: Option<u64>,
) -> String {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => match sysctl {
            Some(level) => format!(
                "io_uring is switched off by kernel.io_uring_disabled={level}; set it to 0, or take --engine epoll"
            ),
            None => format!("io_uring is forbidden here, {SECCOMP}"),
        },
        Some(Errno::NOSYS) => format!("this kernel has no io_uring, or it is hidden, {SECCOMP}"),
        Some(Errno::INVAL) => {
            let (major, minor) = min_kernel;
            format!("this kernel's io_uring is too old: {major}.{minor} is needed")
        }
        Some(Errno::NOMEM) => match locked_memory {
            Some(limit) => format!(
                "rings do not fit into the limit on locked memory, {} KiB for all that this user \
                 runs; raise it (ulimit -l, LimitMEMLOCK= in a unit) to what ringback doctor says, \
                 or take fewer --threads, or --engine epoll",
                limit / 1024
            ),
            None => "there is no memory for a ring".into(),
        },
        Some(Errno::MFILE | Errno::NFILE) => "there are no file descriptors left".into(),
        _ => return error.to_string(),
    };
    format!("{cause} ({error})")
}

/// Docker and containerd say `EPERM`, others `ENOSYS`.
const SECCOMP: &str = "most likely by the seccomp profile of a container runtime; allow \
    io_uring_setup, io_uring_enter and io_uring_register in it, or take --engine epoll";

fn disabled_by_sysctl() -> Option<u8> {
    let level = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    level.trim().parse().ok().filter(|&level| level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_what_is_in_the_way() {
        let explained = |errno: Errno| explain_with(&errno.into(), (6, 0), None, None);
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS] {
            let text = explained(errno);
            for part in ["seccomp", "container", "io_uring_setup", "--engine epoll"] {
                assert!(text.contains(part), "{text}");
            }
        }
        assert!(explained(Errno::NOSYS).contains("no io_uring"));
        assert!(explained(Errno::INVAL).contains("6.0"));
        assert!(explained(Errno::CONNRESET).contains("reset"));
    }

    #[test]
    fn a_limit_is_only_named_where_there_is_one() {
        let explained = |limit| explain_with(&Errno::NOMEM.into(), (6, 0), None, limit);
        let limited = explained(Some(500 << 10));
        for part in [
            "500 KiB",
            "ulimit -l",
            "LimitMEMLOCK=",
            "--threads",
            "--engine epoll",
        ] {
            assert!(limited.contains(part), "{limited}");
        }
        assert!(explained(None).starts_with("there is no memory for a ring"));
    }

    /// The administrator has said so, and not a container runtime.
    #[test]
    fn the_sysctl_is_named_where_it_is_set() {
        for level in [1, 2] {
            let text = explain_with(&Errno::PERM.into(), (6, 0), Some(level), None);
            let setting = format!("kernel.io_uring_disabled={level}");
            assert!(text.contains(&setting), "{text}");
            assert!(!text.contains("seccomp"), "{text}");
        }
    }
}
