//! Reading and writing result files. What is read is checked whole: the file
//! may be cut off, another program's, or edited by hand.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{DecodeError, Format, ResultFile, Status, VERSION, decode, decode_latencies};
use crate::failure::Failure;
use crate::outcome::{Interval, Latencies};
use crate::percentile::Percentile;

/// The largest file that is read, in bytes. A second of a busy run takes some
/// kilobytes.
pub const FILE_LEN_MAX: u64 = 1 << 30;

/// Why a result file could not be read or written: one line.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct ResultError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What can be wrong with a result file.
#[derive(Debug, Error)]
pub enum Problem {
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is longer than [`FILE_LEN_MAX`].
    #[error("over {} MiB is too long for a result", FILE_LEN_MAX >> 20)]
    TooLong,
    /// It ends in the middle.
    #[error("the file is cut off")]
    Truncated,
    /// It is no JSON, or not of this program.
    #[error("this is no result of loadtest ({0})")]
    Foreign(String),
    /// It holds several results.
    #[error("this is an array of results; a file with one is needed")]
    Several,
    /// It has a version that never was.
    #[error("version {0} of the format does not exist")]
    Version(u64),
    /// It is of a later version than this program.
    #[error("version {0} of the format is newer than this loadtest, which reads up to {VERSION}")]
    TooNew(u64),
    /// A field is missing, unknown, or of another type.
    #[error("broken result: {0}")]
    Malformed(String),
    /// The plan is beyond a limit.
    #[error("broken plan: {0}")]
    Plan(String),
    /// A histogram cannot be read.
    #[error("broken result: {0}")]
    Histogram(#[from] DecodeError),
    /// Two parts contradict each other.
    #[error("inconsistent result: {0}")]
    Inconsistent(&'static str),
}

impl From<ResultError> for Failure {
    fn from(error: ResultError) -> Self {
        Self::File(error.to_string())
    }
}

impl ResultFile {
    /// Reads a file and checks everything in it.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        read_bounded(path)
            .and_then(|bytes| Self::from_json(&bytes))
            .map_err(|problem| ResultError {
                path: path.to_owned(),
                problem,
            })
    }

    /// Writes the file; there is all of it, or what was there before. What is
    /// no regular file, such as `/dev/stdout`, is written to as it is.
    ///
    /// # Errors
    /// One line that names the file and the system's error.
    pub fn write(&self, path: &Path) -> Result<(), ResultError> {
        write_atomically(path, self.to_json().as_bytes()).map_err(|error| ResultError {
            path: path.to_owned(),
            problem: error.into(),
        })
    }

    /// Finds out whether a file could be written, before the run that it is to
    /// hold. What is there stays as it is.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn check_writable(path: &Path) -> Result<(), ResultError> {
        let check = || match temporary_beside(path)? {
            None => OpenOptions::new().write(true).open(path).map(drop),
            Some((_, temporary)) => {
                File::create(&temporary)?;
                fs::remove_file(temporary)
            }
        };
        check().map_err(|error| ResultError {
            path: path.to_owned(),
            problem: error.into(),
        })
    }

    /// Reads a document and checks everything in it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Problem> {
        check_header(bytes)?;
        let result: Self =
            serde_json::from_slice(bytes).map_err(|error| Problem::Malformed(one_line(&error)))?;
        result.check()?;
        Ok(result)
    }

    /// The histograms of the messages that were due.
    ///
    /// # Errors
    /// Those of [`decode`]; never for a file that was read.
    pub fn latencies(&self) -> Result<Latencies, DecodeError> {
        decode_latencies(&self.histograms.latencies)
    }

    fn check(&self) -> Result<(), Problem> {
        self.plan.validate().map_err(Problem::Plan)?;
        let counts = &self.counts;
        let due_most = [
            counts.sent,
            counts.unanswered,
            counts.timed_out,
            counts.blocked,
        ];
        if due_most.iter().any(|&count| count > counts.due) || counts.answered > counts.sent {
            return Err(Problem::Inconsistent("more messages than were due"));
        }
        if (self.status == Status::Failed) != self.failure.is_some() {
            return Err(Problem::Inconsistent(
                "the status does not go with the failure",
            ));
        }
        let shares = [self.steal_share, Some(self.generator.busy_max)];
        if shares.iter().flatten().any(|&share| share < 0.0) {
            return Err(Problem::Inconsistent("a share is negative"));
        }
        let latencies = self.latencies()?;
        decode(&self.histograms.handshake_ns)?;
        let p99 = Percentile::P99;
        let told_p99 = self.summary.response_ns.percentiles.get(&p99.to_string());
        if told_p99 != Some(&p99.of(&latencies.response_ns)) {
            return Err(Problem::Inconsistent(
                "the summary is not that of the histograms",
            ));
        }
        if !is_sum_of(&latencies, &self.intervals)? {
            return Err(Problem::Inconsistent(
                "the intervals' histograms do not add up to the whole",
            ));
        }
        Ok(())
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    // The length a file claims to have is not what it gives: `/dev/zero`.
    let mut bounded = File::open(path)?.take(FILE_LEN_MAX + 1);
    bounded.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(Problem::TooLong);
    }
    Ok(bytes)
}

/// What every version of the format begins with, whatever else it has.
#[derive(Deserialize)]
struct Header {
    format: Option<Value>,
    version: Option<u64>,
}

fn check_header(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::Several);
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() || is_cut_off(bytes) {
            Problem::Truncated
        } else {
            Problem::Foreign(one_line(&error))
        }
    })?;
    let is_own = header
        .format
        .is_some_and(|format| Format::deserialize(format).is_ok());
    if !is_own {
        let reason = "its format is not \"ringback-loadtest\"";
        return Err(Problem::Foreign(reason.to_owned()));
    }
    match header.version {
        Some(version) if version == u64::from(VERSION) => Ok(()),
        Some(version) if version > u64::from(VERSION) => Err(Problem::TooNew(version)),
        Some(version) => Err(Problem::Version(version)),
        None => Err(Problem::Malformed("the version is missing".to_owned())),
    }
}

/// An object without its end. The parser tells in most cases, but takes a number
/// that ends in its dot for a wrong one.
fn is_cut_off(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    text.starts_with(b"{") && !text.ends_with(b"}")
}

/// A key or text of the file may be quoted in an error.
fn one_line(error: &impl fmt::Display) -> String {
    error.to_string().replace(char::is_control, " ")
}

fn is_sum_of(whole: &Latencies, intervals: &[Interval]) -> Result<bool, DecodeError> {
    let mut sum = Latencies::new();
    for interval in intervals {
        sum.add(&decode_latencies(&interval.latencies)?);
    }
    Ok(sum.response_ns == whole.response_ns
        && sum.service_ns == whole.service_ns
        && sum.lag_ns == whole.lag_ns)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some((path, temporary)) = temporary_beside(path)? else {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    };
    write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, &path))
        .inspect_err(|_| {
            // It may not even be there, and the first error says more.
            let _ = fs::remove_file(&temporary);
        })
}

/// The file that is meant, and one beside it to write first; `None` for what is
/// no regular file.
fn temporary_beside(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    // A link stays one: what it points at is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        return Ok(None);
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("this is no name of a file"))?
        .to_string_lossy();
    // In the same directory, as a rename does not cross file systems.
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", process::id()));
    Ok(Some((path, temporary)))
}

/// Without the sync, a crash may leave the new name with nothing behind it.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;
    use crate::result::encode;
    use serde_json::json;
    use std::env;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("loadtest-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What reading the example says after a change to its JSON.
    fn after(change: impl FnOnce(&mut Value)) -> String {
        let mut value = serde_json::to_value(example()).unwrap();
        change(&mut value);
        match ResultFile::from_json(value.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let scratch = Scratch::new("written");
        let path = scratch.0.join("run.json");
        fs::write(&path, "before").unwrap();
        example().write(&path).unwrap();
        assert_eq!(ResultFile::read(&path).unwrap(), example());
        let names: Vec<_> = fs::read_dir(&scratch.0).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
    }

    #[test]
    fn a_link_stays_and_a_device_is_not_replaced() {
        let scratch = Scratch::new("link");
        let (path, link) = (scratch.0.join("run.json"), scratch.0.join("link.json"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        example().write(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(ResultFile::read(&path).unwrap(), example());

        let device = scratch.0.join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        example().write(&device).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn errors_of_files_name_them_in_one_line() {
        let scratch = Scratch::new("errors");
        let missing = scratch.0.join("no/run.json");
        for error in [
            ResultFile::read(&missing).unwrap_err(),
            example().write(&missing).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.starts_with(missing.to_str().unwrap()), "{text}");
            assert!(text.contains("No such file"), "{text}");
        }
        let error = example().write(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
    }

    #[test]
    fn a_cut_off_file_is_told() {
        let text = example().to_json();
        let whole = text.trim_end().len();
        for len in (0..whole).step_by(97).chain([whole - 1]) {
            let problem = ResultFile::from_json(&text.as_bytes()[..len]).unwrap_err();
            assert!(matches!(problem, Problem::Truncated), "{len}: {problem}");
        }
    }

    #[test]
    fn foreign_files_are_told() {
        for text in [
            "PK\u{3}\u{4}",
            "{\"a\": 1}",
            "3",
            "{\"format\": 3}",
            "{\"format\": \"x\"}",
        ] {
            let problem = ResultFile::from_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                problem.starts_with("this is no result of loadtest ("),
                "{problem}"
            );
        }
        assert_eq!(
            ResultFile::from_json(b" [{}]").unwrap_err().to_string(),
            "this is an array of results; a file with one is needed"
        );
        assert_eq!(
            after(|value| value["format"] = json!("wrk")),
            "this is no result of loadtest (its format is not \"ringback-loadtest\")"
        );
    }

    #[test]
    fn other_versions_are_told() {
        assert_eq!(
            after(|value| value["version"] = json!(0)),
            "version 0 of the format does not exist"
        );
        assert_eq!(
            // A later version may have any fields.
            after(|value| *value = json!({"format": "ringback-loadtest", "version": 7})),
            "version 7 of the format is newer than this loadtest, which reads up to 1"
        );
        assert_eq!(
            after(|value| *value = json!({"format": "ringback-loadtest"})),
            "broken result: the version is missing"
        );
    }

    #[test]
    fn broken_fields_are_told() {
        let error = after(|value| value["elapsed_ns"] = json!(-1));
        assert!(error.starts_with("broken result: invalid value"), "{error}");
        let error = after(|value| value["no\nsuch"] = json!(1));
        assert!(error.starts_with("broken result: unknown field"), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
        assert_eq!(
            after(|value| value["plan"]["connections"] = json!(0)),
            "broken plan: connections: 0 is not within 1 and 16777216"
        );
        assert_eq!(
            after(|value| value["histograms"]["handshake_ns"] = json!("*")),
            "broken result: a histogram is not in base64"
        );
    }

    #[test]
    fn contradictions_are_told() {
        assert_eq!(
            after(|value| value["counts"]["answered"] = json!(500_001)),
            "inconsistent result: more messages than were due"
        );
        assert_eq!(
            after(|value| value["status"] = json!("failed")),
            "inconsistent result: the status does not go with the failure"
        );
        assert_eq!(
            after(|value| value["steal_share"] = json!(-0.5)),
            "inconsistent result: a share is negative"
        );
        assert_eq!(
            after(|value| {
                value["summary"]["response_ns"]["percentiles"]["p99"] = json!(1);
            }),
            "inconsistent result: the summary is not that of the histograms"
        );
        let unlike_the_sum = "inconsistent result: the intervals' histograms do not add up to the \
                              whole";
        assert_eq!(
            after(|value| {
                value["intervals"].as_array_mut().unwrap().pop();
            }),
            unlike_the_sum
        );
        let empty = encode(&crate::outcome::histogram());
        assert_eq!(
            after(|value| value["intervals"][3]["latencies"]["lag_ns"] = json!(empty)),
            unlike_the_sum
        );
    }
}
