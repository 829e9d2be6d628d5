//! The identity of a run, so that none counts twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use super::ResultFile;
use crate::failure::Failure;

/// Measured values, to the nanosecond: no two runs share them, and a copy of a file has them
/// whatever its name, its label or its layout are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    started_at: String,
    elapsed_ns: u64,
    generator_cpu_ns: u64,
    response_ns: String,
}

/// The runs that were read so far.
#[derive(Debug, Default)]
pub struct KnownRuns {
    paths: HashMap<Identity, PathBuf>,
}

impl KnownRuns {
    /// Adds a run; returns the file that it was read from before, if any.
    pub fn add(&mut self, run: &ResultFile, path: &Path) -> Option<&Path> {
        let identity = Identity {
            started_at: run.started_at.clone(),
            elapsed_ns: run.elapsed_ns,
            generator_cpu_ns: run.generator.usage.cpu_ns,
            response_ns: run.histograms.latencies.response_ns.clone(),
        };
        match self.paths.entry(identity) {
            Entry::Vacant(free) => {
                free.insert(path.to_owned());
                None
            }
            Entry::Occupied(known) => Some(known.into_mut()),
        }
    }

    /// Adds a run that must differ from all before.
    ///
    /// # Errors
    /// One line that names both files.
    pub fn add_new(&mut self, run: &ResultFile, path: &Path) -> Result<(), Failure> {
        match self.add(run, path) {
            None => Ok(()),
            Some(known) if known == path => Err(Failure::File(format!(
                "{} is given twice; a run counts once",
                path.display()
            ))),
            Some(known) => Err(Failure::File(format!(
                "{} is the same run as {}; a run counts once",
                path.display(),
                known.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn why(first: &ResultFile, second: &ResultFile, path: &str) -> String {
        let mut known = KnownRuns::default();
        known.add_new(first, "a.json".as_ref()).expect("the first");
        let second = known.add_new(second, path.as_ref());
        second.map_or_else(|failure| failure.to_string(), |()| String::new())
    }

    #[test]
    fn a_file_and_its_copy_are_the_same_run() {
        let run = fixture::result();
        assert_eq!(
            why(&run, &run, "a.json"),
            "a.json is given twice; a run counts once"
        );
        let mut renamed = run.clone();
        renamed.label = "another name".to_owned();
        assert_eq!(
            why(&run, &renamed, "b.json"),
            "b.json is the same run as a.json; a run counts once"
        );
    }

    #[test]
    fn runs_of_one_plan_are_not_the_same() {
        let run = fixture::result();
        for change in [
            (|run: &mut ResultFile| run.elapsed_ns += 1) as fn(&mut ResultFile),
            |run| run.generator.usage.cpu_ns += 1,
            |run| run.started_at = "2026-11-30T00:00:00.001Z".to_owned(),
        ] {
            let mut other = run.clone();
            change(&mut other);
            assert_eq!(why(&run, &other, "b.json"), "");
        }
    }
}
