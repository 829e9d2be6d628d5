//! The pid file, locked while its server serves.
//!
//! The lock identifies the server: a POSIX record lock (`F_SETLK` of `fcntl(2)`). It
//! ends with its process, and the kernel returns its owner's process id in the PID
//! namespace of the caller. The number in the file is for people and scripts.
//!
//! A server creates `FILE.new`, locks it, and renames it to `FILE` once it serves. So
//! the number in a locked file is always its owner's, and a replacement that does not
//! start leaves its predecessor's file unchanged. The lock on `FILE.new` lets one server
//! start at a time. For `FILE.reload` see [`status`].
//!
//! A process that opens and closes its own pid file loses the lock, by the rules of
//! POSIX. Nothing else in a server opens it.

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

/// Attempts to lock `FILE.new`. Each fails if another server has just started or failed.
const CLAIM_ATTEMPTS: usize = 10;

/// More than a process id and white space need.
const CONTENT_BYTES_MAX: u64 = 64;

/// This process' file.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    // Removed before the lock ends: while it is locked, no other server takes the name.
    name: OwnedPath,
    status: StatusFile,
    _locked: File,
}

/// The owner of a file's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Process(Pid),
    /// A process without an id here: in another PID namespace, or on another machine.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// Another server has locked the file.
    Locked(Owner),
    /// It cannot be written, or is no pid file.
    Unusable(String),
}

impl PidFile {
    /// Creates and locks `FILE.new`; [`publish`](Self::publish) renames it. Until then
    /// `FILE` may be the predecessor's, or left by a process that has ended.
    ///
    /// # Errors
    /// [`Error::PidFile`]: another server has locked it, or it cannot be written.
    pub(crate) fn claim(path: &Path, predecessor: Option<Pid>) -> Result<Self, Error> {
        try_to_claim(path, predecessor).map_err(|reason| Error::PidFile {
            file: path.to_owned(),
            reason,
        })
    }

    /// Renames `FILE.new` to `FILE`.
    ///
    /// # Errors
    /// [`Error::PidFile`] with the kernel's error.
    pub(crate) fn publish(&mut self) -> Result<(), Error> {
        let renamed = self.name.rename(&self.path);
        renamed.map_err(|error| Error::PidFile {
            file: self.path.clone(),
            reason: cannot_write(&error),
        })?;
        if let Err(error) = self.status.publish(&status_path(&self.path)) {
            tracing::warn!(%error, "cannot write the status for ringback reload");
        }
        Ok(())
    }

    /// Publishes the file again, if a replacement that does not serve had taken its name.
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

    /// The file in which `ringback reload` reads the result.
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
                    return Err(format!("is locked by {owner}, which is starting"));
                }
                Ok(None) => continue,
                Err(error) => return Err(cannot_lock(&error)),
            },
            Err(error) => return Err(cannot_lock(&error.into())),
        }
        let name = OwnedPath::of_file(&new, &file).map_err(|error| cannot_write(&error))?;
        if !name.is_current() {
            // Its server has renamed it, or has ended, since it was opened.
            continue;
        }
        check_replaceable(path, predecessor).map_err(|error| error.to_string())?;
        if file.metadata().map_or(0, |it| it.len()) > 0 {
            // A server was killed before it served: dropping `name` removes its file.
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
    Err("is locked by other servers again and again".to_owned())
}

/// Checks whether a server could claim this file; changes nothing.
///
/// # Errors
/// It could not.
pub(crate) fn examine(path: &Path) -> Result<(), ClaimError> {
    check_replaceable(path, None)?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    access(directory, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| ClaimError::Unusable(cannot_write(&error.into())))
}

/// Checks whether the file at `path`, if any, may be replaced.
///
/// # Errors
/// It may not.
fn check_replaceable(path: &Path, predecessor: Option<Pid>) -> Result<(), ClaimError> {
    let unusable = |error: io::Error| ClaimError::Unusable(cannot_write(&error));
    let file = match open(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    let owner = owner(&file).map_err(|error| ClaimError::Unusable(cannot_lock(&error)))?;
    match owner {
        Some(Owner::Process(pid)) if Some(pid) == predecessor => return Ok(()),
        Some(owner) => return Err(ClaimError::Locked(owner)),
        None => {}
    }
    match content(&file).map_err(unusable)? {
        Content::Empty | Content::Number(_) => Ok(()),
        Content::Other => Err(ClaimError::Unusable(
            "is no pid file: its content is no process id. Set another file, or remove it"
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

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(owner) => write!(f, "is locked by {owner}, which serves"),
            Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

/// The owner of a file's lock, if it is another process.
pub(crate) fn owner(file: &File) -> io::Result<Option<Owner>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| match lock.pid {
        Some(pid) if pid.as_raw_nonzero().get() > 0 => Owner::Process(pid),
        _ => Owner::Elsewhere,
    }))
}

/// The content of a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    /// A process id if it is positive.
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

/// Opens a regular file: a symbolic link could lead elsewhere, and a FIFO could block.
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

/// The path of the status file for this pid file.
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

    fn rejection(path: &Path) -> String {
        PidFile::claim(path, None)
            .expect_err("rejected")
            .to_string()
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
    fn publish_creates_the_file_and_drop_removes_it() {
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
    fn a_server_that_does_not_start_leaves_the_file_unchanged() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        fs::write(&path, "4194305\n").expect("written");
        drop(PidFile::claim(&path, None).expect("claimed"));
        assert_eq!(names_in(directory.path()), ["pid"]);
    }

    #[test]
    fn drop_does_not_remove_another_file_of_the_same_name() {
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
    fn restore_replaces_the_file_of_a_failed_replacement() {
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
    fn an_unlocked_file_is_replaced_whatever_number_it_holds() {
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
    fn a_file_that_is_no_pid_file_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let target = directory.path().join("target");
        for (content, reason) in [
            ("key = 'precious'\n", "no process id"),
            ("12 34\n", "no process id"),
        ] {
            fs::write(&path, content).expect("written");
            let rejected = rejection(&path);
            assert!(rejected.contains(reason), "{rejected}");
            assert_eq!(fs::read_to_string(&path).expect("kept"), content);
        }
        fs::rename(&path, &target).expect("renamed");
        symlink(&target, &path).expect("linked");
        assert!(rejection(&path).contains("a symbolic link"));
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("a FIFO");
        assert!(rejection(&path).contains("no regular file"));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a directory");
        assert!(rejection(&path).contains("no regular file"));
        let nowhere = rejection(&directory.path().join("no/pid"));
        assert!(nowhere.contains("No such file"), "{nowhere}");
    }
}
