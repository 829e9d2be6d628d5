//! The files that a report is made of.

use std::fs;
use std::path::{Path, PathBuf};

use crate::comparison::Comparison;
use crate::failure::Failure;
use crate::result::{
    Document, KnownRuns, Problem, ResultFile, format_of, json_files, read_bounded,
};
use crate::session::log;
use crate::sweep::SweepFile;
use crate::terminal::sanitized;

/// Everything that was read, by kind, in the order of the arguments.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) runs: Vec<Input<ResultFile>>,
    pub(super) comparisons: Vec<Input<Comparison>>,
    pub(super) sweeps: Vec<Input<SweepFile>>,
    known: KnownRuns,
}

/// A document and where it came from.
#[derive(Debug)]
pub(super) struct Input<T> {
    pub(super) path: PathBuf,
    pub(super) document: T,
}

impl Inputs {
    /// Reads files, and those of directories.
    ///
    /// # Errors
    /// [`Failure::File`] for the first that cannot be read.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut inputs = Self::default();
        for path in expand(paths)? {
            inputs.add(&path).map_err(|problem| problem.of(&path))?;
        }
        Ok(inputs)
    }

    fn add(&mut self, path: &Path) -> Result<(), Problem> {
        let bytes = read_bounded(path)?;
        let format = format_of(&bytes)?;
        match format.as_deref() {
            Some(ResultFile::FORMAT) => self.add_run(Input::of(path, &bytes)?),
            Some(Comparison::FORMAT) => self.comparisons.push(Input::of(path, &bytes)?),
            Some(SweepFile::FORMAT) => self.sweeps.push(Input::of(path, &bytes)?),
            _ => {
                let why = "its format is not that of a run, a comparison or a sweep";
                return Err(Problem::Foreign {
                    kind: "file",
                    reason: why.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// A copy would weigh twice where runs share a line.
    fn add_run(&mut self, run: Input<ResultFile>) {
        match self.known.add(&run.document, &run.path) {
            None => self.runs.push(run),
            Some(first) => log(&format!(
                "{} is left out: it is the same run as {}",
                run.name(),
                shown(first)
            )),
        }
    }
}

impl<T: Document> Input<T> {
    fn of(path: &Path, bytes: &[u8]) -> Result<Self, Problem> {
        Ok(Self {
            path: path.to_owned(),
            document: T::from_json(bytes)?,
        })
    }
}

impl<T> Input<T> {
    /// The name on the page.
    pub(super) fn name(&self) -> String {
        shown(&self.path)
    }
}

/// A path as text.
pub(super) fn shown(path: &Path) -> String {
    sanitized(&path.to_string_lossy())
}

/// Files as given, and the `.json` files of directories, by name. Duplicates are read once.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut known = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            documents_in(path)?
        } else {
            vec![path.clone()]
        };
        for file in found {
            let whole = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if !known.contains(&whole) {
                known.push(whole);
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn documents_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let files = json_files(directory)?;
    if files.is_empty() {
        let why = format!("{}: there is no .json file in it", directory.display());
        return Err(Failure::File(why));
    }
    Ok(files)
}
