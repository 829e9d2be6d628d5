//! Documents on disk: JSON with a format and a version, read and written as a whole. Every
//! field is checked when it is read: the file may be truncated, another program's, or edited by
//! hand.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::DecodeError;
use crate::failure::Failure;
use crate::output::{FileError, write_file};

/// The largest file that is read, in bytes. A second of a busy run takes some
/// kilobytes.
pub const FILE_LEN_MAX: u64 = 1 << 30;

/// Why a document could not be read: one line.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct ResultError {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    #[source]
    pub problem: Problem,
}

/// A problem with a document.
#[derive(Debug, Error)]
pub enum Problem {
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is longer than [`FILE_LEN_MAX`].
    #[error("over {} MiB is too long for a file of loadtest", FILE_LEN_MAX >> 20)]
    TooLong,
    /// The file is truncated.
    #[error("the file is cut off")]
    Truncated,
    /// It is not JSON, or not of this program.
    #[error("this is not a {kind} of loadtest ({reason})")]
    Foreign {
        /// The expected kind.
        kind: &'static str,
        /// The reason.
        reason: String,
    },
    /// It holds several results.
    #[error("this is an array of {0}s; a file with one is needed")]
    Several(&'static str),
    /// A version that does not exist.
    #[error("version {0} of the format does not exist")]
    Version(u64),
    /// A version newer than this program.
    #[error(
        "version {version} of the format is newer than this loadtest, which reads up to \
         {version_max}"
    )]
    TooNew {
        /// Its version.
        version: u64,
        /// The highest that is read.
        version_max: u32,
    },
    /// A field is missing, or of another type.
    #[error("broken {kind}: {reason}")]
    Malformed {
        /// The part that is malformed.
        kind: &'static str,
        /// The field and the error.
        reason: String,
    },
    /// The plan is beyond a limit.
    #[error("broken plan: {0}")]
    Plan(String),
    /// A histogram cannot be read.
    #[error("broken result: {0}")]
    Histogram(#[from] DecodeError),
    /// Two parts contradict each other.
    #[error("inconsistent result: {0}")]
    Inconsistent(&'static str),
    /// Something is wrong with one of the parts.
    #[error("{part}: {problem}")]
    Part {
        /// The part.
        part: String,
        /// The problem.
        problem: Box<Problem>,
    },
}

impl Problem {
    /// Adds the path.
    pub fn of(self, path: &Path) -> ResultError {
        ResultError {
            path: path.to_owned(),
            problem: self,
        }
    }
}

impl From<ResultError> for Failure {
    fn from(error: ResultError) -> Self {
        Self::File(error.to_string())
    }
}

/// A document in a file of its own.
pub trait Document: Serialize + DeserializeOwned {
    /// The kind, in errors.
    const KIND: &'static str;
    /// The value of its `format` field.
    const FORMAT: &'static str;
    /// The version that is written, and the highest that is read.
    const VERSION: u32;

    /// Checks constraints beyond the types of its fields.
    ///
    /// # Errors
    /// The problem, in one line.
    fn check(&self) -> Result<(), Problem>;

    /// Recomputes derived values from the rest, once that is checked, as they may have been
    /// edited or be of another version.
    ///
    /// # Errors
    /// The contradiction, in one line.
    fn recompute(&mut self) -> Result<(), Problem>;

    /// Reads a file and checks everything in it.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    fn read(path: &Path) -> Result<Self, ResultError> {
        read_bounded(path)
            .and_then(|bytes| Self::from_json(&bytes))
            .map_err(|problem| problem.of(path))
    }

    /// Reads a document and checks everything in it.
    ///
    /// # Errors
    /// The problem, in one line.
    fn from_json(bytes: &[u8]) -> Result<Self, Problem> {
        check_header::<Self>(bytes)?;
        let mut document: Self =
            serde_json::from_slice(bytes).map_err(|error| Problem::Malformed {
                kind: Self::KIND,
                reason: one_line(&error),
            })?;
        document.check()?;
        document.recompute()?;
        Ok(document)
    }

    /// Writes the file, completely or not at all. A file that is not regular, such as
    /// `/dev/stdout`, is written as a stream.
    ///
    /// # Errors
    /// One line that names the file and the system's error.
    fn write(&self, path: &Path) -> Result<(), FileError> {
        write_file(path, self.to_json().as_bytes())
    }

    /// The document's text, for people and programs, with a line break at its
    /// end.
    fn to_json(&self) -> String {
        to_pretty_json(self)
    }
}

/// Any value as it is written into files, with a line break at its end.
pub(crate) fn to_pretty_json<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("no map has other keys than text");
    text.push('\n');
    text
}

/// A file's bytes, [`FILE_LEN_MAX`] of them at most.
///
/// # Errors
/// The system's error, or a file that is longer.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    // The length a file claims to have is not what it gives: `/dev/zero`.
    let mut bounded = File::open(path)?.take(FILE_LEN_MAX + 1);
    bounded.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(Problem::TooLong);
    }
    Ok(bytes)
}

/// The `.json` files of a directory, by name.
///
/// # Errors
/// One line that names the directory and the system's error.
pub fn json_files(directory: &Path) -> Result<Vec<PathBuf>, ResultError> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| Problem::from(error).of(directory))?;
    let mut files: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json") && path.is_file())
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// The fields that every document of every version begins with.
#[derive(Deserialize)]
struct Header {
    format: Option<Value>,
    version: Option<u64>,
}

/// The value of a document's `format` field, if it has one.
///
/// # Errors
/// A document that is cut off, or no JSON object.
pub fn format_of(bytes: &[u8]) -> Result<Option<String>, Problem> {
    let format = header(bytes, "result")?.format;
    Ok(format.and_then(|format| format.as_str().map(str::to_owned)))
}

fn header(bytes: &[u8], kind: &'static str) -> Result<Header, Problem> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::Several(kind));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() || is_cut_off(bytes) {
            Problem::Truncated
        } else {
            let reason = one_line(&error);
            Problem::Foreign { kind, reason }
        }
    })
}

fn check_header<D: Document>(bytes: &[u8]) -> Result<(), Problem> {
    let (kind, version_max) = (D::KIND, D::VERSION);
    let header = header(bytes, kind)?;
    if header.format.as_ref().and_then(Value::as_str) != Some(D::FORMAT) {
        let reason = format!("its format is not \"{}\"", D::FORMAT);
        return Err(Problem::Foreign { kind, reason });
    }
    match header.version {
        Some(0) => Err(Problem::Version(0)),
        Some(version) if version > u64::from(version_max) => Err(Problem::TooNew {
            version,
            version_max,
        }),
        Some(_) => Ok(()),
        None => Err(Problem::Malformed {
            kind,
            reason: "the version is missing".to_owned(),
        }),
    }
}

/// Whether an object lacks its end. The parser reports that in most cases, but takes a number
/// that ends in its dot for a wrong one.
fn is_cut_off(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    text.starts_with(b"{") && !text.ends_with(b"}")
}

/// A key or text of the file may be quoted in an error.
fn one_line(error: &impl fmt::Display) -> String {
    error.to_string().replace(char::is_control, " ")
}
