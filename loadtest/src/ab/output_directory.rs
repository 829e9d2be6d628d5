//! The directory that everything is kept in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::output::OutputFile;
use crate::result::{Document, Problem, ResultFile};

/// The file name of the comparison.
const COMPARISON: &str = "comparison.json";

/// A directory that held no comparison before.
#[derive(Debug)]
pub(super) struct OutputDirectory {
    path: PathBuf,
    comparison: OutputFile,
}

impl OutputDirectory {
    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    /// [`Failure::File`] when it cannot be made or written to, or holds files of
    /// another comparison, which would get mixed up with those of this one.
    pub(super) fn claim(path: &Path) -> Result<Self, Failure> {
        let own_files = || {
            fs::create_dir_all(path)?;
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let name = entry?.file_name();
                names.extend(name.to_str().filter(|name| is_own(name)).map(str::to_owned));
            }
            Ok(names)
        };
        let names = own_files().map_err(|error: io::Error| Problem::Io(error).of(path))?;
        if let Some(name) = names.iter().min() {
            return Err(Failure::File(format!(
                "{}: {name} of another comparison is there already; name a new directory",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            comparison: OutputFile::open(&path.join(COMPARISON))?,
        })
    }

    /// Writes the result file of a run, named by the stem.
    ///
    /// # Errors
    /// [`Failure::File`].
    pub(super) fn keep(&self, stem: &str, run: &ResultFile) -> Result<(), Failure> {
        Ok(run.write(&self.path.join(format!("{stem}.json")))?)
    }

    /// The file of the comparison.
    pub(super) fn for_comparison(self) -> OutputFile {
        self.comparison
    }
}

/// Whether a comparison has files that are called so.
fn is_own(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".json") else {
        return false;
    };
    let is_run = |start: &str| {
        let number = stem.strip_prefix(start);
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    name == COMPARISON || is_run("aa-") || is_run("pair-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_comparison_count_as_its_files() {
        for name in ["comparison.json", "pair-03-a.json", "aa-10-2.json"] {
            assert!(is_own(name), "{name}");
        }
        for name in ["notes.txt", "pair-a.json", "pair-03-a.csv", "result.json"] {
            assert!(!is_own(name), "{name}");
        }
    }
}
