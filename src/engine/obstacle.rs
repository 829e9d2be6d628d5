//! What keeps an `io_uring` engine from working, in words for an operator.

use std::fs;
use std::io;

use rustix::io::Errno;

/// What an operator can do something about; `min_kernel` is the version that
/// has everything the engine asks for.
pub(super) fn explain(error: &io::Error, min_kernel: &str) -> String {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => match disabled_by_sysctl() {
            Some(level) => format!("io_uring is switched off by kernel.io_uring_disabled={level}"),
            None => "io_uring is forbidden here, most likely by a seccomp filter (container runtimes have one)".into(),
        },
        Some(Errno::NOSYS) => "this kernel has no io_uring".into(),
        Some(Errno::INVAL) => {
            format!("this kernel's io_uring is too old: {min_kernel} is needed")
        }
        Some(Errno::NOMEM) => "the ring does not fit into the limit on locked memory (ulimit -l)".into(),
        Some(Errno::MFILE | Errno::NFILE) => "there are no file descriptors left".into(),
        _ => return error.to_string(),
    };
    format!("{cause} ({error})")
}

fn disabled_by_sysctl() -> Option<u8> {
    let level = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    level.trim().parse().ok().filter(|&level| level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_what_is_in_the_way() {
        let explained = |errno: Errno| explain(&io::Error::from(errno), "6.0");
        assert!(explained(Errno::PERM).contains("io_uring"));
        assert!(explained(Errno::NOSYS).contains("no io_uring"));
        assert!(explained(Errno::INVAL).contains("6.0"));
        assert!(explained(Errno::NOMEM).contains("ulimit -l"));
        assert!(explained(Errno::CONNRESET).contains("reset"));
    }
}
