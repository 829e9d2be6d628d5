//! A directory of a test's own.

use std::path::Path;

use tempfile::TempDir;

/// Removed at the end of the test.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it, as an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }
}
