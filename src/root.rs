//! The small files of `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the files of the kernel are: `/`, or a tree that looks like it.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The tree of this machine.
    pub fn of_this_machine() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A file's text without the white space at its end, or `None` where there
    /// is no such file, it may not be read, or it is no text. `path` is taken
    /// from the root on, with or without a slash before it.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let below = path.strip_prefix("/").unwrap_or(path);
        let mut text = fs::read_to_string(self.0.join(below)).ok()?;
        text.truncate(text.trim_end().len());
        Some(text)
    }

    /// The number a file consists of.
    pub(crate) fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The value behind a name at the start of a line: `MemTotal: 24684084 kB`.
    pub(crate) fn field(&self, path: impl AsRef<Path>, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A tree of files for one test, which is gone with it.
    pub(crate) struct Tree(TempDir);

    impl Tree {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        pub(crate) fn root(&self) -> Root {
            Root(self.0.path().to_owned())
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("created");
            fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn what_is_there_is_read_and_the_rest_is_nothing() {
        let tree = Tree::new();
        tree.write("proc/sys/net/core/somaxconn", "4096\n");
        tree.write(
            "proc/meminfo",
            "MemTotalHuge: 1 kB\nMemTotal:   24684084 kB\n",
        );
        let root = tree.root();
        assert_eq!(root.number("/proc/sys/net/core/somaxconn"), Some(4096));
        assert_eq!(root.number::<u8>("proc/sys/net/core/somaxconn"), None);
        let total = root.field("proc/meminfo", "MemTotal");
        assert_eq!(total.as_deref(), Some("24684084 kB"));
        assert_eq!(root.field("proc/meminfo", "Mem"), None);
        assert_eq!(root.text("proc/no/such/file"), None);
    }
}
