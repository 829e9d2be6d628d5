//! How this process was started, and with it what an operator who did the same
//! again would start.
//!
//! The path of the running file does not say that: where releases are directories
//! and a symbolic link names the one to be run, it leads to the old release, which
//! may be gone.

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

/// How this process was started.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Its first argument, which names the program.
    name: OsString,
    /// Where it was started, by the name that the shell has for it.
    directory: Option<PathBuf>,
    /// The path of the running file, where the name does not lead to it.
    fallback: Option<PathBuf>,
}

impl Invocation {
    /// That of this process, which must not have changed its directory.
    ///
    /// # Errors
    /// Nobody knows which program this is.
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

    /// What the same command would start now.
    ///
    /// # Errors
    /// The program is not in `PATH` any more.
    pub(crate) fn program(&self) -> io::Result<PathBuf> {
        match &self.fallback {
            Some(path) => Ok(path.clone()),
            None => self.named(),
        }
    }

    /// The first argument of what is started, `None` where it does not lead to the
    /// file that runs, and only the path of that is known.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.fallback.is_none().then_some(&self.name)
    }

    /// Where it is to be started, if there is such a directory now.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref().filter(|it| it.is_dir())
    }

    fn is_running_as(&self, running: &Path) -> bool {
        let named = self.named().and_then(fs::metadata);
        matches!((named, fs::metadata(running)), (Ok(named), Ok(running))
            if Identity::of(&named) == Identity::of(&running))
    }

    /// Where the name leads, as a shell looks for it.
    fn named(&self) -> io::Result<PathBuf> {
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

/// The directory of this process. `PWD` is its name with the symbolic links that
/// the operator went through, where it is its name at all.
fn start_directory() -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|it| Identity::of(&it)).ok();
    let here = identity(Path::new("."));
    let named = env::var_os("PWD").map(PathBuf::from);
    named
        .filter(|it| it.is_absolute() && here.is_some() && identity(it) == here)
        .or_else(|| env::current_dir().ok())
}
