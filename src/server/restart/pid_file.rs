//! A file that says which process serves, locked for as long as it does.
//!
//! The lock is what counts: a record lock of POSIX (`F_SETLK` of `fcntl(2)`). It
//! ends with its process, however that ends, and the kernel says who holds it,
//! in the numbers of whoever asks. The number in the file is for people and
//! scripts.
//!
//! A server makes a file of its own, `FILE.new`, locks it, and renames it over
//! what has the name once it serves. So the number in a locked file is that of
//! its owner at any time, and a successor that does not start leaves its
//! predecessor's file as it is. The lock on `FILE.new` lets one server start at
//! a time. Beside it lies `FILE.reload`, see [`status`].
//!
//! A process that opens its own pid file and closes it loses the lock: that is
//! how these locks are. Nothing else in a server opens it.

mod status;

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{Access, FlockOperation, access, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

use crate::config::error::Error;
use crate::sys::owned_path::OwnedPath;
pub(crate) use status::{ReloadState, ReloadStatus, StatusFile};

/// How often a server tries to be the one that starts. Another one may just have
/// started, or have given up; several in a row are no coincidence.
const CLAIM_ATTEMPTS: usize = 10;

/// More than a process id and white space take.
const CONTENT_BYTES_MAX: u64 = 64;

/// The file of this process.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    // Its name goes before its lock: while it is locked, nobody else takes it.
    name: OwnedPath,
    status: StatusFile,
    _locked: File,
}

/// Who has locked a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Process(Pid),
    /// A process that has no number here: of another PID namespace, or of
    /// another machine.
    Elsewhere,
}

/// Why the file cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Another server has it.
    Taken(Owner),
    /// It cannot be written, or something else is in its place.
    Unusable(String),
}

impl PidFile {
    /// Makes the file, which gets its name by [`publish`](Self::publish). What
    /// has the name until then may be the predecessor's, or that of a process
    /// which has ended.
    ///
    /// # Errors
    /// [`Error::PidFile`]: another server has it, or it cannot be written.
    pub(crate) fn claim(path: &Path, predecessor: Option<Pid>) -> Result<Self, Error> {
        try_to_claim(path, predecessor).map_err(|reason| Error::PidFile {
            file: path.to_owned(),
            reason,
        })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::PidFile`] with what the kernel says.
    pub(crate) fn publish(&mut self) -> Result<(), Error> {
        let renamed = self.name.rename(&self.path);
        renamed.map_err(|error| Error::PidFile {
            file: self.path.clone(),
            reason: cannot_write(&error),
        })?;
        if let Err(error) = self.status.publish(&status_path(&self.path)) {
            tracing::warn!(%error, "ringback reload cannot be told what comes of it");
        }
        Ok(())
    }

    /// Takes the name back from a successor that had it and does not serve.
    ///
    /// # Errors
    /// As [`claim`](Self::claim) and [`publish`](Self::publish).
    pub(crate) fn restore(&mut self) -> Result<(), Error> {
        if !self.name.is_current() {
            *self = Self::claim(&self.path, None)?;
            self.publish()?;
        }
        Ok(())
    }

    /// Where `ringback reload` reads what comes of it.
    pub(crate) fn status(&mut self) -> &mut StatusFile {
        &mut self.status
    }
}

fn try_to_claim(path: &Path, predecessor: Option<Pid>) -> Result<PidFile, String> {
    let new = beside(path, ".new");
    for _ in 0..CLAIM_ATTEMPTS {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o644);
        let mut file = open(&new, &mut options).map_err(|error| cannot_write(&error))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => match owner(&file) {
                Ok(Some(owner)) => {
                    return Err(format!("belongs to {owner}, which starts"));
                }
                Ok(None) => continue,
                Err(error) => return Err(cannot_lock(&error)),
            },
            Err(error) => return Err(cannot_lock(&error.into())),
        }
        let name = OwnedPath::of_file(&new, &file).map_err(|error| cannot_write(&error))?;
        if !name.is_current() {
            // Its maker has renamed it, or has ended, since it was opened.
            continue;
        }
        check_last(path, predecessor).map_err(|obstacle| obstacle.to_string())?;
        if file.metadata().map_or(0, |it| it.len()) > 0 {
            // A server was killed before it served: its file goes with `name`.
            continue;
        }
        let content = format!("{}\n", process::id());
        return file
            .write_all(content.as_bytes())
            .and_then(|()| StatusFile::create(&beside(&status_path(path), ".new")))
            .map(|status| PidFile {
                path: path.to_owned(),
                name,
                status,
                _locked: file,
            })
            .map_err(|error| cannot_write(&error));
    }
    Err("is claimed by other servers all the time".to_owned())
}

/// Whether a server could claim this file; changes nothing.
///
/// # Errors
/// Why not.
pub(crate) fn examine(path: &Path) -> Result<(), Obstacle> {
    check_last(path, None)?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    access(directory, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Obstacle::Unusable(cannot_write(&error.into())))
}

/// Whether what has the name may be replaced.
///
/// # Errors
/// Why not.
fn check_last(path: &Path, predecessor: Option<Pid>) -> Result<(), Obstacle> {
    let unusable = |error: io::Error| Obstacle::Unusable(cannot_write(&error));
    let file = match open(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    let owner = owner(&file).map_err(|error| Obstacle::Unusable(cannot_lock(&error)))?;
    match owner {
        Some(Owner::Process(pid)) if Some(pid) == predecessor => return Ok(()),
        Some(owner) => return Err(Obstacle::Taken(owner)),
        None => {}
    }
    match content(&file).map_err(unusable)? {
        Content::Empty | Content::Number(_) => Ok(()),
        Content::Other => Err(Obstacle::Unusable(
            "is in the way: what is in it is no process id. Name another file, or remove it"
                .to_owned(),
        )),
    }
}

fn cannot_write(error: &io::Error) -> String {
    format!("cannot be written: {error}")
}

fn cannot_lock(error: &io::Error) -> String {
    format!("cannot be locked: {error}")
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Elsewhere => f.write_str("a process of another PID namespace or machine"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(owner) => write!(f, "belongs to {owner}, which serves"),
            Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

/// Who has locked a file, if anybody has: this process never counts.
pub(crate) fn owner(file: &File) -> io::Result<Option<Owner>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| match lock.pid {
        Some(pid) if pid.as_raw_nonzero().get() > 0 => Owner::Process(pid),
        _ => Owner::Elsewhere,
    }))
}

/// What is in a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    /// A process id, if it is one: 0 and what is negative name no process.
    Number(i32),
    Other,
}

pub(crate) fn content(file: &File) -> io::Result<Content> {
    let mut text = Vec::new();
    file.take(CONTENT_BYTES_MAX).read_to_end(&mut text)?;
    // A file system that was not shut down may have left zeros.
    if text.iter().all(|&byte| byte == 0) {
        return Ok(Content::Empty);
    }
    let number = str::from_utf8(&text)
        .ok()
        .and_then(|it| it.trim().parse().ok());
    Ok(number.map_or(Content::Other, Content::Number))
}

/// Opens a regular file: nobody is to be led elsewhere by a link, or kept
/// waiting by a pipe.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let opened = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("it is a symbolic link, which is not followed"),
        _ => error,
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Where a server with this pid file says what comes of a reload.
pub(crate) fn status_path(pid_file: &Path) -> PathBuf {
    beside(pid_file, ".reload")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path) -> String {
        PidFile::claim(path, None).expect_err("refused").to_string()
    }

    fn names_in(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("read").file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_appears_with_publish_and_goes_with_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let mut file = PidFile::claim(&path, None).expect("claimed");
        assert!(!path.exists());
        file.publish().expect("published");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, format!("{}\n", process::id()));
        assert_eq!(names_in(directory.path()), ["pid", "pid.reload"]);
        drop(file);
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn a_server_that_does_not_start_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        fs::write(&path, "4194305\n").expect("written");
        drop(PidFile::claim(&path, None).expect("claimed"));
        assert_eq!(names_in(directory.path()), ["pid"]);
    }

    #[test]
    fn another_file_of_the_same_name_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let mut file = PidFile::claim(&path, None).expect("claimed");
        file.publish().expect("published");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "1\n").expect("written");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("left"), "1\n");
    }

    #[test]
    fn a_name_that_a_failed_successor_took_is_taken_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let mut file = PidFile::claim(&path, None).expect("claimed");
        file.publish().expect("published");
        fs::write(directory.path().join("other"), "4194305\n").expect("written");
        fs::rename(directory.path().join("other"), &path).expect("renamed");
        file.restore().expect("restored");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, format!("{}\n", process::id()));
    }

    #[test]
    fn stale_files_are_replaced_whatever_number_they_hold() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let own = format!("{}\n", process::id());
        for text in ["", "\0\0\0", "1\n", "0", "-1", "4194305\n", &own] {
            fs::write(&path, text).expect("written");
            fs::write(beside(&path, ".new"), text).expect("written");
            let mut file = PidFile::claim(&path, None).expect("claimed");
            file.publish().expect("published");
            assert_eq!(fs::read_to_string(&path).expect("read"), own, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_pid_file_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let target = directory.path().join("target");
        for (content, reason) in [
            ("key = 'precious'\n", "no process id"),
            ("12 34\n", "no process id"),
        ] {
            fs::write(&path, content).expect("written");
            let refused = refusal(&path);
            assert!(refused.contains(reason), "{refused}");
            assert_eq!(fs::read_to_string(&path).expect("kept"), content);
        }
        fs::rename(&path, &target).expect("renamed");
        symlink(&target, &path).expect("linked");
        assert!(refusal(&path).contains("a symbolic link"));
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("a FIFO");
        assert!(refusal(&path).contains("no regular file"));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a directory");
        assert!(refusal(&path).contains("no regular file"));
        let nowhere = refusal(&directory.path().join("no/pid"));
        assert!(nowhere.contains("No such file"), "{nowhere}");
    }
}
