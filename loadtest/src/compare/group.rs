//! The result files of one name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::result::{Document, KnownRuns, ResultFile, Status};
use crate::verdict::Verdict;

/// The most files of all groups together: each is in memory.
pub(super) const FILES_MAX: usize = 10_000;

/// The result files of one name.
#[derive(Debug)]
pub(super) struct ResultGroup {
    pub(super) label: String,
    pub(super) paths: Vec<PathBuf>,
    pub(super) runs: Vec<ResultFile>,
}

impl ResultGroup {
    /// Reads what the arguments name.
    pub(super) fn read_all(arguments: &[String]) -> Result<Vec<Self>, Failure> {
        let mut groups = named(arguments)?;
        let mut known = KnownRuns::default();
        for group in &mut groups {
            for path in &group.paths {
                let run = ResultFile::read(path)?;
                run.ensure_not_failed(path)?;
                known.add_new(&run, path)?;
                group.runs.push(run);
            }
        }
        Ok(groups)
    }

    pub(super) fn has_invalid(&self) -> bool {
        self.runs.iter().any(ResultFile::is_invalid)
    }

    /// Warnings about its runs, one for each kind.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut reasons: BTreeMap<_, usize> = BTreeMap::new();
        for run in &self.runs {
            if let Some(worst) = run.judgement.worst() {
                *reasons
                    .entry((worst.verdict, worst.what.as_str()))
                    .or_default() += 1;
            }
        }
        let (label, all) = (&self.label, self.runs.len());
        let mut warnings = Vec::new();
        for verdict in [Verdict::Invalid, Verdict::Suspect] {
            let counted: Vec<_> = reasons
                .iter()
                .filter(|((it, _), _)| *it == verdict)
                .collect();
            let count: usize = counted.iter().map(|(_, count)| **count).sum();
            // The runs' reasons differ in their figures only; the first is quoted.
            if let Some(((_, what), _)) = counted.into_iter().max_by_key(|(_, count)| **count) {
                warnings.push(format!("{label}: {count} of {all} runs {verdict}: {what}"));
            }
        }
        let interrupted = self.count(|run| run.status == Status::Interrupted);
        if interrupted > 0 {
            warnings.push(format!("{label}: {interrupted} of {all} runs interrupted"));
        }
        warnings
    }

    fn count(&self, is_so: impl Fn(&ResultFile) -> bool) -> usize {
        self.runs.iter().filter(|run| is_so(run)).count()
    }
}

/// The groups named by the arguments, without their files' content.
fn named(arguments: &[String]) -> Result<Vec<ResultGroup>, Failure> {
    let mut groups: Vec<ResultGroup> = Vec::new();
    for argument in arguments {
        let pattern = match split(argument) {
            (Some(label), pattern) => {
                if groups.iter().any(|group| group.label == label) {
                    return Err(format!("there are two of the name {label}").into());
                }
                groups.push(ResultGroup {
                    label: label.to_owned(),
                    paths: Vec::new(),
                    runs: Vec::new(),
                });
                pattern
            }
            (None, pattern) => pattern,
        };
        let Some(group) = groups.last_mut() else {
            let why = format!("{argument} belongs to no name; write A={argument}");
            return Err(why.into());
        };
        group.paths.extend(expand(pattern)?);
        if groups.iter().map(|group| group.paths.len()).sum::<usize>() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files cannot be compared").into());
        }
    }
    Ok(groups)
}

/// The name in front of a pattern. A path may have an equals sign, a name no
/// slash.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once('=') {
        Some((label, pattern)) if !label.is_empty() && !label.contains('/') => {
            (Some(label), pattern)
        }
        _ => (None, argument),
    }
}

/// The files of a pattern, in the order of their names.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let file = |why: String| Failure::File(format!("{pattern}: {why}"));
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![pattern.into()]);
    }
    let found = glob::glob(pattern).map_err(|error| file(error.to_string()))?;
    let mut paths = Vec::new();
    for path in found.take(FILES_MAX + 1) {
        paths.push(path.map_err(|error| Failure::File(error.to_string()))?);
    }
    if paths.is_empty() {
        return Err(file("no file has such a name".to_owned()));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Result<Vec<(String, usize)>, String> {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let groups = named(&arguments).map_err(|failure| failure.to_string())?;
        let counted = groups
            .into_iter()
            .map(|group| (group.label, group.paths.len()));
        Ok(counted.collect())
    }

    #[test]
    fn files_without_a_name_belong_to_the_name_before() {
        let groups = names(&["A=a1", "a2", "./x=y", "B=b1"]).unwrap();
        assert_eq!(groups, [("A".to_owned(), 3), ("B".to_owned(), 1)]);
    }

    #[test]
    fn names_are_needed_and_unique() {
        let error = names(&["a1"]).unwrap_err();
        assert!(
            error.starts_with("a1 belongs to no name; write A=a1"),
            "{error}"
        );
        let error = names(&["A=a1", "A=a2"]).unwrap_err();
        assert!(
            error.starts_with("there are two of the name A ("),
            "{error}"
        );
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error() {
        let error = names(&["A=no/such/*.json"]).unwrap_err();
        assert_eq!(error, "no/such/*.json: no file has such a name");
        let error = names(&["A=***"]).unwrap_err();
        assert!(error.starts_with("***: "), "{error}");
        let groups = names(&["A=Cargo.tom?"]).unwrap();
        assert_eq!(groups, [("A".to_owned(), 1)]);
    }
}
