//! Small files of `/proc` and `/sys`.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// A file's text without the newline at its end, or `None` where there is no
/// such file, it may not be read, or it is no text.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut text = fs::read_to_string(path).ok()?;
    text.truncate(text.trim_end().len());
    Some(text)
}

/// The number a file consists of.
pub(super) fn number<T: FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}

/// A kernel parameter by the name that `sysctl` knows it by; what is between
/// its values becomes one space.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let value = text(format!("/proc/sys/{}", name.replace('.', "/")))?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The value behind a name at the start of a line, as in `/proc/meminfo` and
/// `/proc/cpuinfo`, or in a cgroup's `cpu.stat`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.trim_start_matches([' ', '\t', ':']);
        // What goes on without a separator is a longer name.
        (value.len() < rest.len()).then(|| value.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotalHuge: 1 kB\nMemTotal:       24684084 kB\nmodel name\t: AMD EPYC \nnr_throttled 7\n";
        assert_eq!(field(text, "MemTotal"), Some("24684084 kB"));
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "nr_throttled"), Some("7"));
        assert_eq!(field(text, "Mem"), None);
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        assert_eq!(text("/proc/no/such/file"), None);
        assert_eq!(number::<u64>("/proc/self/comm"), None);
        assert_eq!(sysctl("no.such.parameter"), None);
        assert!(sysctl("kernel.osrelease").is_some());
    }
}
