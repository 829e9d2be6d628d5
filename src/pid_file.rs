//! A file that says which process serves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// The file of this process, which goes with it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it. What another process has written there is replaced, at once
    /// and whole.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        fs::write(&new, format!("{}\n", process::id()))?;
        fs::rename(&new, path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

/// The process that a file names.
///
/// # Errors
/// That it cannot be read, or names none.
pub fn read_pid_file(path: &Path) -> io::Result<i32> {
    let text = fs::read_to_string(path)?;
    match text.trim().parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it holds no process id",
        )),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor has written its own.
        let is_ours =
            read_pid_file(&self.path).is_ok_and(|pid| u32::try_from(pid) == Ok(process::id()));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "cannot remove the pid file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_its_process_unless_another_has_written_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let file = PidFile::write(&path).expect("written");
        let pid = read_pid_file(&path).expect("read");
        assert_eq!(u32::try_from(pid), Ok(process::id()));
        drop(file);
        assert!(!path.exists());

        let file = PidFile::write(&path).expect("written");
        fs::write(&path, "1\n").expect("written");
        drop(file);
        assert_eq!(read_pid_file(&path).expect("read"), 1);
    }

    #[test]
    fn a_file_without_a_process_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        for text in ["", "x", "-1", "0"] {
            fs::write(&path, text).expect("written");
            assert!(read_pid_file(&path).is_err(), "{text:?}");
        }
    }
}
