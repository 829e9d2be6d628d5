//! What keeps an `io_uring` engine from working, in words for an operator.

use std::fs;
use std::io;

use rustix::io::Errno;

/// What an operator can do something about, and what that is; `min_kernel` is the
/// version that has everything the engine asks for.
pub(super) fn explain(error: &io::Error, min_kernel: &str) -> String {
    explain_with(error, min_kernel, disabled_by_sysctl())
}

fn explain_with(error: &io::Error, min_kernel: &str, sysctl: Option<u8>) -> String {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => match sysctl {
            Some(level) => format!(
                "io_uring is switched off by kernel.io_uring_disabled={level}; set it to 0, or take --engine epoll"
            ),
            None => format!("io_uring is forbidden here, {SECCOMP}"),
        },
        Some(Errno::NOSYS) => format!("this kernel has no io_uring, or it is hidden, {SECCOMP}"),
        Some(Errno::INVAL) => {
            format!("this kernel's io_uring is too old: {min_kernel} is needed")
        }
        Some(Errno::NOMEM) => {
            "the ring does not fit into the limit on locked memory (ulimit -l)".into()
        }
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
        let explained = |errno: Errno| explain_with(&io::Error::from(errno), "6.0", None);
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS] {
            let text = explained(errno);
            for part in ["seccomp", "container", "io_uring_setup", "--engine epoll"] {
                assert!(text.contains(part), "{text}");
            }
        }
        assert!(explained(Errno::NOSYS).contains("no io_uring"));
        assert!(explained(Errno::INVAL).contains("6.0"));
        assert!(explained(Errno::NOMEM).contains("ulimit -l"));
        assert!(explained(Errno::CONNRESET).contains("reset"));
    }

    /// The administrator has said so, and not a container runtime.
    #[test]
    fn the_sysctl_is_named_where_it_is_set() {
        for level in [1, 2] {
            let text = explain_with(&Errno::PERM.into(), "6.0", Some(level));
            let setting = format!("kernel.io_uring_disabled={level}");
            assert!(text.contains(&setting), "{text}");
            assert!(!text.contains("seccomp"), "{text}");
        }
    }
}
