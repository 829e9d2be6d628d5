//! `FILE.reload` beside a pid file: the result of the last reload.
//!
//! One line: the server's process id, the number of the attempt, and its state.
//! `ringback reload` reads it before it signals the server, and waits for a later
//! attempt. The line is overwritten in place, so that a process that has opened the file
//! can read the last attempt even after the file is removed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::str::FromStr;

use crate::sys::owned_path::OwnedPath;

/// The longest reason: the line fits in a page.
const REASON_BYTES_MAX: usize = 2048;

const LINE_BYTES_MAX: usize = 4096;

/// Attempts to read a line that changes meanwhile.
const READ_ATTEMPTS: usize = 100;

/// The file, for the server that writes it.
#[derive(Debug)]
pub(crate) struct StatusFile {
    name: OwnedPath,
    file: File,
    attempt: u64,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReloadStatus {
    /// The server's process id in its own PID namespace.
    pub(crate) server: u32,
    /// Counted from 1.
    pub(crate) attempt: u64,
    pub(crate) state: ReloadState,
}

/// The state of the last attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReloadState {
    /// No attempt so far.
    Idle,
    Starting,
    /// The reason; the server goes on.
    Failed(String),
    /// The id of the process that serves.
    Replaced(u32),
    /// The server drains; there is no other attempt.
    Stopping,
}

impl StatusFile {
    /// Creates the file, in place of one that a server has left.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o644);
        let file = options.open(path)?;
        let mut status = Self {
            name: OwnedPath::of_file(path, &file)?,
            file,
            attempt: 0,
        };
        status.write(ReloadState::Idle)?;
        Ok(status)
    }

    /// Renames the file to `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn publish(&mut self, path: &Path) -> io::Result<()> {
        self.name.rename(path)
    }

    /// Begins an attempt.
    pub(crate) fn begin(&mut self) {
        self.attempt += 1;
        self.record(ReloadState::Starting);
    }

    /// Ends the attempt.
    pub(crate) fn end(&mut self, outcome: Result<u32, &str>) {
        self.record(match outcome {
            Ok(pid) => ReloadState::Replaced(pid),
            Err(reason) => ReloadState::Failed(line_of(reason)),
        });
    }

    /// Records that there is no other attempt.
    pub(crate) fn stop(&mut self) {
        self.record(ReloadState::Stopping);
    }

    fn record(&mut self, state: ReloadState) {
        if let Err(error) = self.write(state) {
            tracing::warn!(%error, "cannot write the status for ringback reload");
        }
    }

    fn write(&mut self, state: ReloadState) -> io::Result<()> {
        let status = ReloadStatus {
            server: process::id(),
            attempt: self.attempt,
            state,
        };
        self.file.rewind()?;
        // The rest of a longer line stays behind this one's line feed.
        self.file.write_all(format!("{status}\n").as_bytes())
    }
}

impl ReloadStatus {
    /// Reads the status; `None` if there is no valid line.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut last = read_line(file)?;
        for _ in 0..READ_ATTEMPTS {
            // A line that is the same twice was not read during a write.
            let line = read_line(file)?;
            if line == last {
                return Ok(line.and_then(|line| line.parse().ok()));
            }
            last = line;
        }
        Ok(None)
    }
}

fn read_line(file: &File) -> io::Result<Option<String>> {
    let mut text = [0; LINE_BYTES_MAX];
    let len = file.read_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..len]);
    Ok(text.split_once('\n').map(|(line, _)| line.to_owned()))
}

/// A reason on one line, cut to [`REASON_BYTES_MAX`].
fn line_of(reason: &str) -> String {
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut line: String = reason.chars().map(printable).collect();
    let mut end = line.len().min(REASON_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

impl fmt::Display for ReloadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.server, self.attempt)?;
        match &self.state {
            ReloadState::Idle => f.write_str("idle"),
            ReloadState::Starting => f.write_str("starting"),
            ReloadState::Failed(reason) => write!(f, "failed {reason}"),
            ReloadState::Replaced(pid) => write!(f, "replaced {pid}"),
            ReloadState::Stopping => f.write_str("stopping"),
        }
    }
}

impl FromStr for ReloadStatus {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut fields = line.splitn(4, ' ');
        let mut next = || fields.next().ok_or(());
        let server = next()?.parse().map_err(drop)?;
        let attempt = next()?.parse().map_err(drop)?;
        let state = match next()? {
            "idle" => ReloadState::Idle,
            "starting" => ReloadState::Starting,
            "stopping" => ReloadState::Stopping,
            "failed" => ReloadState::Failed(next()?.to_owned()),
            "replaced" => ReloadState::Replaced(next()?.parse().map_err(drop)?),
            _ => return Err(()),
        };
        Ok(Self {
            server,
            attempt,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_written_even_over_a_longer_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("status");
        let mut status = StatusFile::create(&path).expect("created");
        let reader = File::open(&path).expect("opened");
        let read = || {
            let status = ReloadStatus::read(&reader).expect("read").expect("whole");
            assert_eq!(status.server, process::id());
            (status.attempt, status.state)
        };
        assert_eq!(read(), (0, ReloadState::Idle));
        status.begin();
        assert_eq!(read(), (1, ReloadState::Starting));
        status.end(Err("no\nsuch\tfile é"));
        let failed = ReloadState::Failed("no such file é".to_owned());
        assert_eq!(read(), (1, failed));
        status.end(Err(&"é".repeat(5000)));
        let (1, ReloadState::Failed(reason)) = read() else {
            panic!("no failure");
        };
        assert_eq!(reason, "é".repeat(REASON_BYTES_MAX / 2));
        status.begin();
        status.end(Ok(77));
        assert_eq!(read(), (2, ReloadState::Replaced(77)));
        status.stop();
        drop(status);
        assert!(!path.exists());
        assert_eq!(read(), (2, ReloadState::Stopping), "the file is removed");
    }

    #[test]
    fn an_invalid_line_is_no_status() {
        for line in ["", "1", "1 2", "1 2 broken", "x 2 idle", "1 2 replaced x"] {
            assert!(line.parse::<ReloadStatus>().is_err(), "{line:?}");
        }
    }
}
