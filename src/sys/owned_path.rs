//! A name in the file system that this process has made, and that goes with it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file's name. Dropping it removes the name, unless it is another file's by
/// then.
#[derive(Debug)]
pub(crate) struct OwnedPath {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode: what makes two names those of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl OwnedPath {
    /// The file that has this name now.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Identity::at(path)?,
        })
    }

    /// The name under which this file was made.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn of_file(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Identity::of(&file.metadata()?),
        })
    }

    /// Whether the name is still that of the file.
    pub(crate) fn is_current(&self) -> bool {
        Identity::at(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Renames the file, in the place of what has the new name.
    ///
    /// # Errors
    /// What the kernel says; the file has its old name then.
    pub(crate) fn rename(&mut self, new: &Path) -> io::Result<()> {
        fs::rename(&self.path, new)?;
        new.clone_into(&mut self.path);
        Ok(())
    }

    /// Leaves the file to a successor.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Identity {
    /// That of the file with this name; a symbolic link is a file of its own.
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
