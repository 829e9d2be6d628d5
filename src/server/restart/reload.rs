//! Asks the server that a pid file names to start its successor, and waits for
//! what comes of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use host::Root;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use crate::server::restart::pid_file::{self, Content, Owner, ReloadState, ReloadStatus};
use crate::sys::owned_path::Identity;

/// As long as the server waits for its successor, and some more.
const TIMEOUT: Duration = Duration::from_secs(35);

/// How often files are read.
const INTERVAL: Duration = Duration::from_millis(20);

/// Replaces the server whose pid file this is by a new process, as SIGUSR2 does;
/// returns once that serves, and says who has succeeded whom.
///
/// Nobody is signalled but the process that has locked the file, which is what a
/// server does for as long as it serves.
///
/// # Errors
/// In one line: that no server has locked the file, or why the server has no
/// successor.
pub fn reload(pid_file: &Path) -> Result<String, String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match Running::find(pid_file)? {
            Found::Server(server) => match server.replace(deadline)? {
                Outcome::Replaced(pid) => {
                    return Ok(format!("reloaded: {} is succeeded by {pid}", server.pid));
                }
                Outcome::Superseded => {}
            },
            Found::InTransition => {}
        }
        if Instant::now() > deadline {
            let file = pid_file.display();
            return Err(format!("pid file {file} names no server for {TIMEOUT:?}"));
        }
        sleep(INTERVAL);
    }
}

enum Found {
    Server(Running),
    /// A server is about to write its files, or has just been succeeded.
    InTransition,
}

enum Outcome {
    Replaced(u32),
    /// It had a successor already: that one is to be asked.
    Superseded,
}

/// A server that has locked its pid file.
struct Running {
    pid: Pid,
    /// The same process, whatever becomes of its number.
    process: OwnedFd,
    /// By its own number for itself, which is another one in a container.
    named: u32,
    status_path: PathBuf,
    status: File,
}

impl Running {
    /// # Errors
    /// Why there is none.
    fn find(pid_file: &Path) -> Result<Found, String> {
        let shown = pid_file.display();
        let in_context = |error: io::Error| format!("{shown}: {error}");
        let file = pid_file::open(pid_file, OpenOptions::new().read(true)).map_err(in_context)?;
        let content = pid_file::content(&file).map_err(in_context)?;
        let pid = match pid_file::owner(&file).map_err(in_context)? {
            Some(Owner::Process(pid)) => pid,
            Some(owner @ Owner::Elsewhere) => {
                return Err(format!(
                    "pid file {shown} belongs to {owner}: reload it from there"
                ));
            }
            None if !is_current(pid_file, &file) => return Ok(Found::InTransition),
            None => return Err(format!("pid file {shown} {}", explain_stale(content))),
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(Found::InTransition),
            Err(error) => return Err(format!("cannot open process {pid}: {error}")),
        };
        // Who has the lock after the process was opened, lived then.
        let still = pid_file::owner(&file).map_err(in_context)?;
        if still != Some(Owner::Process(pid)) || !is_current(pid_file, &file) {
            return Ok(Found::InTransition);
        }
        let named = match content {
            Content::Number(number) if names(number, pid) => number.unsigned_abs(),
            _ => {
                return Err(format!(
                    "pid file {shown} is locked by process {pid}, which it does not name"
                ));
            }
        };
        let status_path = pid_file::status_path(pid_file);
        let opened = pid_file::open(&status_path, OpenOptions::new().read(true));
        let status = opened.map_err(|error| {
            let path = status_path.display();
            format!("{path}: {error}; kill -USR2 {pid} reloads the server without it")
        })?;
        Ok(Found::Server(Self {
            pid,
            process,
            named,
            status_path,
            status,
        }))
    }

    /// Asks for a successor, and waits until it serves.
    ///
    /// # Errors
    /// Why it does not, in the server's words.
    fn replace(&self, deadline: Instant) -> Result<Outcome, String> {
        let mut asked_after = None;
        loop {
            let has_ended = self.wait_for_end(INTERVAL);
            let status = self.read_status()?;
            match (status, asked_after) {
                // It has written no line yet: this one is its predecessor's.
                (None, _) if asked_after.is_none() => return Ok(Outcome::Superseded),
                (Some(status), _) if status.state == ReloadState::Stopping => {
                    return Err(format!("process {} drains, and is not replaced", self.pid));
                }
                (Some(status), None) => match status.state {
                    ReloadState::Replaced(_) => return Ok(Outcome::Superseded),
                    // What is starting may have read other settings.
                    ReloadState::Starting | ReloadState::Stopping => {}
                    ReloadState::Idle | ReloadState::Failed(_) => {
                        self.ask()?;
                        asked_after = Some(status.attempt);
                    }
                },
                (Some(status), Some(before)) if status.attempt > before => match status.state {
                    ReloadState::Replaced(pid) => return Ok(Outcome::Replaced(pid)),
                    ReloadState::Failed(reason) => {
                        let pid = self.pid;
                        return Err(format!(
                            "the reload failed, process {pid} goes on: {reason}"
                        ));
                    }
                    ReloadState::Starting | ReloadState::Idle | ReloadState::Stopping => {}
                },
                _ => {}
            }
            if has_ended {
                return Err(format!("process {} ended without a successor", self.pid));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "process {} goes on: it has no successor after {TIMEOUT:?}; its log says why",
                    self.pid
                ));
            }
        }
    }

    fn ask(&self) -> Result<(), String> {
        match pidfd_send_signal(&self.process, Signal::USR2) {
            // It has ended, which is seen next.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("cannot signal process {}: {error}", self.pid)),
        }
    }

    /// What this server says, if the file is its.
    fn read_status(&self) -> Result<Option<ReloadStatus>, String> {
        let status = ReloadStatus::read(&self.status)
            .map_err(|error| format!("{}: {error}", self.status_path.display()))?;
        Ok(status.filter(|status| status.server == self.named))
    }

    /// Whether it ends within that time, or has ended.
    fn wait_for_end(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).expect("a short time");
        let mut polled = [PollFd::new(&self.process, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(ended) => ended > 0,
            Err(_interrupted) => false,
        }
    }
}

/// Whether the file still has the name.
fn is_current(path: &Path, file: &File) -> bool {
    let identity = file.metadata().map(|metadata| Identity::of(&metadata));
    matches!((Identity::at(path), identity), (Ok(named), Ok(opened)) if named == opened)
}

/// Whether a number is that of a process: here, or in its own PID namespace.
fn names(number: i32, pid: Pid) -> bool {
    let here = pid.as_raw_nonzero().get();
    let in_its_own = || {
        let numbers = Root::of_this_machine().field(format!("proc/{here}/status"), "NSpid")?;
        numbers.split_whitespace().last()?.parse().ok()
    };
    number == here || in_its_own() == Some(number)
}

/// What is wrong with a file that nobody has locked.
fn explain_stale(content: Content) -> String {
    let pid = match content {
        Content::Number(number) if number > 0 => Pid::from_raw(number),
        _ => None,
    };
    match pid {
        None => "holds no process id, and no server has locked it".to_owned(),
        // EPERM is of a process that is there.
        Some(pid) if test_kill_process(pid) == Err(Errno::SRCH) => {
            format!("is left over: it names process {pid}, which has ended")
        }
        Some(pid) => {
            format!("belongs to process {pid}, which is no ringback: it has not locked it")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_no_server_has_locked_names_nobody_to_be_signalled() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let own = std::process::id().to_string();
        for (text, reason) in [
            ("", "holds no process id"),
            ("0\n", "holds no process id"),
            ("-1\n", "holds no process id"),
            ("junk", "holds no process id"),
            ("1\n", "belongs to process 1, which is no ringback"),
            (&own, "which is no ringback"),
            ("2147483647", "names process 2147483647, which has ended"),
        ] {
            fs::write(&path, text).expect("written");
            let refused = reload(&path).expect_err("nobody serves");
            assert!(refused.contains(reason), "{text:?}: {refused}");
            assert!(refused.contains("pid file"), "{refused}");
        }
        let missing = reload(&directory.path().join("none")).expect_err("no file");
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
