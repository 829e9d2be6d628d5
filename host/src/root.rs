//! The small files of `/proc` and `/sys`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The root of the kernel's files: `/`, or a tree that looks like it.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The tree of this machine.
    pub fn of_this_machine() -> Self {
        Self::at("/")
    }

    /// A tree of test files.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// A file's text without the white space at its end; `None` if the file does not exist, may
    /// not be read, or is no text. `path` is relative to the root, with or without a leading
    /// slash.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let mut text = fs::read_to_string(self.path(path.as_ref())).ok()?;
        text.truncate(text.trim_end().len());
        Some(text)
    }

    /// The file, to be [read again](read_again) and again.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<File> {
        File::open(self.path(path.as_ref())).ok()
    }

    /// The number a file consists of.
    pub fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The [`field`] of a file.
    pub fn field(&self, path: impl AsRef<Path>, name: &str) -> Option<String> {
        Some(field(&self.text(path)?, name)?.to_owned())
    }

    /// A field of memory, in bytes, as the kernel writes it: `MemTotal: 24684084 kB`.
    pub fn bytes(&self, path: impl AsRef<Path>, name: &str) -> Option<u64> {
        let value = self.field(path, name)?;
        let kib: u64 = value.strip_suffix(" kB")?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// Such a field of `/proc/meminfo`.
    pub fn memory_bytes(&self, name: &str) -> Option<u64> {
        self.bytes("proc/meminfo", name)
    }

    /// A kernel parameter by its name in `sysctl`; white space between its values becomes one
    /// space.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let value = self.text(format!("proc/sys/{}", name.replace('.', "/")))?;
        Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// One of the numbers a kernel parameter consists of.
    pub fn sysctl_number<T: FromStr>(&self, name: &str, index: usize) -> Option<T> {
        self.sysctl(name)?.split(' ').nth(index)?.parse().ok()
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Reads a short file of the kernel from its start again: a file that is kept open can be read
/// when there are no descriptors left.
pub fn read_again(file: &File) -> Option<String> {
    let mut text = [0; 256];
    let len = file.read_at(&mut text, 0).ok()?;
    String::from_utf8(text[..len].to_vec()).ok()
}

/// The value behind a name at the start of a line, as in `/proc/meminfo` and
/// `/proc/cpuinfo`, or in a cgroup's `cpu.stat`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.trim_start_matches([' ', '\t', ':']);
        // A name that continues without a separator is a longer one.
        (value.len() < rest.len()).then(|| value.trim_end())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A tree of files for one test, removed with it.
    pub(crate) struct Tree(TempDir);

    impl Tree {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        pub(crate) fn root(&self) -> Root {
            Root::at(self.0.path())
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("created");
            fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotalHuge: 1 kB\nMemTotal:       24684084 kB\n\
                    model name\t: AMD EPYC \nnr_throttled 7\n";
        assert_eq!(field(text, "MemTotal"), Some("24684084 kB"));
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "nr_throttled"), Some("7"));
        assert_eq!(field(text, "Mem"), None);
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn a_missing_file_or_field_is_none() {
        let tree = Tree::new();
        tree.write("proc/sys/net/core/somaxconn", "4096\n");
        tree.write(
            "proc/meminfo",
            "HugePages_Total: 0\nMemTotal:   24684084 kB\n",
        );
        tree.write("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n");
        let root = tree.root();
        assert_eq!(root.number("/proc/sys/net/core/somaxconn"), Some(4096));
        assert_eq!(root.number::<u8>("proc/sys/net/core/somaxconn"), None);
        let total = root.field("proc/meminfo", "MemTotal");
        assert_eq!(total.as_deref(), Some("24684084 kB"));
        assert_eq!(root.memory_bytes("MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(root.memory_bytes("HugePages_Total"), None);
        assert_eq!(root.memory_bytes("SwapTotal"), None);
        assert_eq!(root.sysctl("net.ipv4.tcp_mem").as_deref(), Some("1 2 3"));
        assert_eq!(root.sysctl_number("net.ipv4.tcp_mem", 2), Some(3));
        assert_eq!(root.sysctl_number::<u64>("net.ipv4.tcp_mem", 3), None);
        assert_eq!(root.sysctl("no.such.parameter"), None);
        for path in ["proc/meminfo", "/proc/meminfo"] {
            let file = root.file(path).expect("it is there");
            assert_eq!(read_again(&file), read_again(&file));
            assert!(read_again(&file).expect("text").starts_with("HugePages"));
        }
        assert_eq!(root.text("proc/no/such/file"), None);
    }
}
