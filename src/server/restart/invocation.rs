//! The command that started this process, to start the same again.
//!
//! The path of the running file is not enough: if a symbolic link names the current
//! release's directory, that path leads to the old release, which may have been removed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::sys::owned_path::Identity;

/// The file that runs, under any name.
const RUNNING: &str = "/proc/self/exe";

/// The command that started this process.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Its first argument, which names the program.
    name: OsString,
    /// The start directory, by the shell's name for it.
    directory: Option<PathBuf>,
    /// The path of the running file, if `name` does not resolve to it.
    fallback: Option<PathBuf>,
}

impl Invocation {
    /// The invocation of this process, which must not have changed its directory.
    ///
    /// # Errors
    /// The path of the running file is unknown.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut invocation = Self {
            name: env::args_os().next().unwrap_or_default(),
            directory: start_directory(),
            fallback: None,
        };
        if !invocation.is_running_as(Path::new(RUNNING)) {
            invocation.fallback = Some(env::current_exe()?);
        }
        Ok(invocation)
    }

    /// The program that the same command starts now.
    ///
    /// # Errors
    /// The program is not in `PATH` any more.
    pub(crate) fn program(&self) -> io::Result<PathBuf> {
        match &self.fallback {
            Some(path) => Ok(path.clone()),
            None => self.resolve(),
        }
    }

    /// The replacement's first argument; `None` if the name does not resolve to the running
    /// file.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.fallback.is_none().then_some(&self.name)
    }

    /// The start directory, if it still exists.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref().filter(|it| it.is_dir())
    }

    fn is_running_as(&self, running: &Path) -> bool {
        let named = self.resolve().and_then(fs::metadata);
        matches!((named, fs::metadata(running)), (Ok(named), Ok(running))
            if Identity::of(&named) == Identity::of(&running))
    }

    /// Resolves the name as a shell does.
    fn resolve(&self) -> io::Result<PathBuf> {
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        if self.name.as_bytes().contains(&b'/') {
            return Ok(directory.join(&self.name));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut candidates = env::split_paths(&path).map(|it| directory.join(it).join(&self.name));
        candidates
            .find(|it| it.is_file() && access(it, Access::EXEC_OK).is_ok())
            .ok_or_else(|| {
                let name = self.name.display();
                io::Error::new(io::ErrorKind::NotFound, format!("{name} is not in PATH"))
            })
    }
}

/// The directory of this process: `PWD` if that names it, since it keeps the symbolic
/// links of the operator's path.
fn start_directory() -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|it| Identity::of(&it)).ok();
    let here = identity(Path::new("."));
    let named = env::var_os("PWD").map(PathBuf::from);
    named
        .filter(|it| it.is_absolute() && here.is_some() && identity(it) == here)
        .or_else(|| env::current_dir().ok())
}
