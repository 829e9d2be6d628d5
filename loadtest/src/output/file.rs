//! Files of documents: written completely, or left unchanged.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tempfile::NamedTempFile;
use thiserror::Error;

use super::{log, stdout};
use crate::failure::Failure;

/// The most symbolic links that are followed, the kernel's limit.
const LINKS_MAX: usize = 40;

/// The number of bytes written to test for free space: a page.
const PROBE_LEN: usize = 4096;

/// Why a file cannot be written: one line.
#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The kernel's error.
    pub source: io::Error,
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error.to_string())
    }
}

/// An output file that was found to be writable.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    method: WriteMethod,
}

/// How a file is written.
#[derive(Debug)]
enum WriteMethod {
    /// Writes a temporary file and renames it.
    Replace(PathBuf),
    /// Overwrites the content: the directory accepts no new file.
    Overwrite(PathBuf),
    /// As a stream: to a pipe, a device, or a descriptor that a shell opened.
    Stream(File),
    /// To standard output.
    Stdout,
}

/// Writes a file.
///
/// # Errors
/// One line that names the file and the system's error.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    OutputFile::open(path)?.write(bytes)
}

impl OutputFile {
    /// Checks whether a file can be written, before the runs whose result it is to hold. Its
    /// content is kept. A file that cannot be opened twice, such as a pipe, stays open from now
    /// on.
    ///
    /// # Errors
    /// One line that names the file and the system's error.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let error = |source| FileError {
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            path: path.to_owned(),
            method: WriteMethod::to(path).map_err(error)?,
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// One line that names the file and the system's error. With overwriting, and on a pipe or
    /// device, a part may have been written.
    pub fn write(self, bytes: &[u8]) -> Result<(), FileError> {
        let written = match self.method {
            WriteMethod::Replace(target) => replace(&target, bytes),
            WriteMethod::Overwrite(target) => overwrite(&target, bytes),
            WriteMethod::Stream(mut file) => file.write_all(bytes),
            WriteMethod::Stdout => ringback::binary::output::print(bytes),
        };
        written.map_err(|source| FileError {
            path: self.path,
            source,
        })
    }
}

impl WriteMethod {
    fn to(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Errno::ISDIR.into());
        }
        let target = resolve(path)?;
        if let Some(descriptor) = target.strip_prefix("/proc").ok().and_then(own_descriptor) {
            return Self::to_descriptor(descriptor, &target);
        }
        let there = match fs::metadata(&target) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                probe_room(beside(&target)?)?;
                return Ok(Self::Replace(target));
            }
            Err(error) => return Err(error),
        };
        if !there.is_file() {
            return stream(&target, &there).map(Self::Stream);
        }
        // A file without write permission is refused as a shell does, though its directory
        // permits to replace it: it was protected on purpose.
        OpenOptions::new().write(true).open(&target)?;
        match beside(&target) {
            Ok(file) => probe_room(file).map(|()| Self::Replace(target)),
            Err(_) => Ok(Self::Overwrite(target)),
        }
    }

    /// `/dev/stdout` and the like: earlier content is kept.
    fn to_descriptor(descriptor: u32, target: &Path) -> io::Result<Self> {
        if descriptor == 1 {
            return stdout::check().map(|()| Self::Stdout);
        }
        let there = fs::metadata(target)?;
        if there.is_file() {
            let file = OpenOptions::new().append(true).open(target)?;
            return Ok(Self::Stream(file));
        }
        stream(target, &there).map(Self::Stream)
    }
}

/// The file of a path, with all links followed, except links of `/proc` to open descriptors:
/// their text may be no path.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("this is not the name of a file"))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => fs::canonicalize(parent)?,
            _ => fs::canonicalize(".")?,
        };
        let target = parent.join(name);
        if parent.starts_with("/proc") {
            return Ok(target);
        }
        match fs::read_link(&target) {
            Ok(link) => path = parent.join(link),
            // It is no link, or does not exist.
            Err(_) => return Ok(target),
        }
    }
    Err(Errno::LOOP.into())
}

/// The number in `PID/fd/NUMBER`, if that is this process.
fn own_descriptor(path: &Path) -> Option<u32> {
    let (directory, number) = (path.parent()?, path.file_name()?);
    let is_own = directory == Path::new(&format!("{}/fd", process::id()));
    is_own.then(|| number.to_str()?.parse().ok()).flatten()
}

/// Opens what is no regular file.
fn stream(target: &Path, there: &Metadata) -> io::Result<File> {
    let nonblocking = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(target);
    let file = match nonblocking {
        Err(error)
            if there.file_type().is_fifo()
                && error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) =>
        {
            log(&format!("waiting for a reader of {}", target.display()));
            OpenOptions::new().write(true).open(target)?
        }
        opened => opened?,
    };
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    // An empty write has no effect, or fails as any other: on `/dev/full`.
    let _ = (&file).write(&[])?;
    Ok(file)
}

/// Finds out whether there is room for more than a file's name.
fn probe_room(mut file: NamedTempFile) -> io::Result<()> {
    file.as_file_mut().write_all(&[0; PROBE_LEN])
}

/// A temporary file in the same directory, which is deleted unless it is renamed.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    // A rename does not cross file systems.
    tempfile::Builder::new()
        .prefix(".loadtest-")
        .make_in(target.parent().unwrap_or(Path::new("/")), |path| {
            OpenOptions::new().write(true).create_new(true).open(path)
        })
}

fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = beside(target)?;
    file.as_file_mut().write_all(bytes)?;
    let there = fs::metadata(target);
    if let Ok(there) = &there {
        file.as_file().set_permissions(there.permissions())?;
        // Only root may change the owner, and only for root can the owner differ.
        let _ = fchown(file.as_file(), Some(there.uid()), Some(there.gid()));
    }
    // Without the sync, a crash may leave the new name without content.
    file.as_file().sync_all()?;
    match file.persist(target) {
        Ok(_) => Ok(()),
        // A file that is itself a mount point, as in containers, cannot be renamed.
        Err(_) if there.is_ok() => overwrite(target, bytes),
        Err(error) => Err(error.error),
    }
}

fn overwrite(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(target)?;
    file.write_all(bytes)?;
    file.sync_all()
}
