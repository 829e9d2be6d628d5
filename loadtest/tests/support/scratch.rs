//! A directory of a test's own.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// Removed at the end of the test.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// The name tells the tests of a process apart.
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("loadtest-flags-{}-{name}", process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, as an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
