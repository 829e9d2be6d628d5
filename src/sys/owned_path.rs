//! A path that this process has created, and that is removed with its owner.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file's path. Dropping it removes the file, unless the path is another file's by then.
#[derive(Debug)]
pub(crate) struct OwnedPath {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode, which identify a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl OwnedPath {
    /// The file that has this path now.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Identity::at(path)?,
        })
    }

    /// The path at which this file was created.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn of_file(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Identity::of(&file.metadata()?),
        })
    }

    /// Whether the path is still that of the file.
    pub(crate) fn is_current(&self) -> bool {
        Identity::at(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Renames the file, and replaces the one with the new path.
    ///
    /// # Errors
    /// The kernel's error; the file keeps its old path then.
    pub(crate) fn rename(&mut self, new: &Path) -> io::Result<()> {
        fs::rename(&self.path, new)?;
        new.clone_into(&mut self.path);
        Ok(())
    }

    /// Leaves the file to a replacement.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Identity {
    /// The identity of the file with this path; symbolic links are not followed.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::symlink_metadata(path)?))
    }

    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if self.is_current()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, file = %self.path.display(), "cannot remove a file of this server");
        }
    }
}
