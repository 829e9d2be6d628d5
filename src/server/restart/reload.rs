//! `ringback reload`: makes the server that a pid file names start its replacement, and
//! waits for the result.

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

/// A little longer than the server waits for its replacement.
const TIMEOUT: Duration = Duration::from_secs(35);

/// How often the files are read.
const INTERVAL: Duration = Duration::from_millis(20);

/// Replaces the server with this pid file by a new process, as SIGUSR2 does; returns a
/// line with both process ids once that serves.
///
/// Only the process that has locked the file is signalled: a server keeps the lock while
/// it serves.
///
/// # Errors
/// One line: no server has locked the file, or the reason why it was not replaced.
pub fn reload(pid_file: &Path) -> Result<String, String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match RunningServer::find(pid_file)? {
            Lookup::Server(server) => match server.replace(deadline)? {
                ReloadOutcome::Replaced(pid) => {
                    return Ok(format!("reloaded: {} is replaced by {pid}", server.pid));
                }
                ReloadOutcome::Superseded => {}
            },
            Lookup::InTransition => {}
        }
        if Instant::now() > deadline {
            let file = pid_file.display();
            return Err(format!(
                "pid file {file} own_pid no server within {TIMEOUT:?}"
            ));
        }
        sleep(INTERVAL);
    }
}

enum Lookup {
    Server(RunningServer),
    /// A server is about to write its files, or has just been replaced.
    InTransition,
}

enum ReloadOutcome {
    Replaced(u32),
    /// It has a replacement already: that is the one to reload.
    Superseded,
}

/// A server that has locked its pid file.
struct RunningServer {
    pid: Pid,
    /// Refers to the same process even if its id is reused.
    process: OwnedFd,
    /// Its id in its own PID namespace.
    own_pid: u32,
    status_path: PathBuf,
    status: File,
}

impl RunningServer {
    /// # Errors
    /// No server has locked the file.
    fn find(pid_file: &Path) -> Result<Lookup, String> {
        let shown = pid_file.display();
        let in_context = |error: io::Error| format!("{shown}: {error}");
        let file = pid_file::open(pid_file, OpenOptions::new().read(true)).map_err(in_context)?;
        let content = pid_file::content(&file).map_err(in_context)?;
        let pid = match pid_file::owner(&file).map_err(in_context)? {
            Some(Owner::Process(pid)) => pid,
            Some(owner @ Owner::Elsewhere) => {
                return Err(format!(
                    "pid file {shown} is locked by {owner}: reload it from there"
                ));
            }
            None if !is_current(pid_file, &file) => return Ok(Lookup::InTransition),
            None => return Err(format!("pid file {shown} {}", explain_stale(content))),
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(Lookup::InTransition),
            Err(error) => return Err(format!("cannot open process {pid}: {error}")),
        };
        // If it still has the lock, the opened process is not a later one with its id.
        let still = pid_file::owner(&file).map_err(in_context)?;
        if still != Some(Owner::Process(pid)) || !is_current(pid_file, &file) {
            return Ok(Lookup::InTransition);
        }
        let own_pid = match content {
            Content::Number(number) if is_id_of(number, pid) => number.unsigned_abs(),
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
        Ok(Lookup::Server(Self {
            pid,
            process,
            own_pid,
            status_path,
            status,
        }))
    }

    /// Requests a replacement, and waits until it serves.
    ///
    /// # Errors
    /// The server's reason why it does not.
    fn replace(&self, deadline: Instant) -> Result<ReloadOutcome, String> {
        let mut requested_after = None;
        loop {
            let has_ended = self.wait_for_end(INTERVAL);
            let status = self.read_status()?;
            match (status, requested_after) {
                // The line is its predecessor's.
                (None, _) if requested_after.is_none() => return Ok(ReloadOutcome::Superseded),
                (Some(status), _) if status.state == ReloadState::Stopping => {
                    return Err(format!("process {} drains, and is not replaced", self.pid));
                }
                (Some(status), None) => match status.state {
                    ReloadState::Replaced(_) => return Ok(ReloadOutcome::Superseded),
                    // A replacement that is starting may have read older settings.
                    ReloadState::Starting | ReloadState::Stopping => {}
                    ReloadState::Idle | ReloadState::Failed(_) => {
                        self.signal()?;
                        requested_after = Some(status.attempt);
                    }
                },
                (Some(status), Some(before)) if status.attempt > before => match status.state {
                    ReloadState::Replaced(pid) => return Ok(ReloadOutcome::Replaced(pid)),
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
                return Err(format!("process {} ended without a replacement", self.pid));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "process {} goes on: it has no replacement after {TIMEOUT:?}; see its log",
                    self.pid
                ));
            }
        }
    }

    fn signal(&self) -> Result<(), String> {
        match pidfd_send_signal(&self.process, Signal::USR2) {
            // ESRCH: it has ended; the caller's loop detects that.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("cannot signal process {}: {error}", self.pid)),
        }
    }

    /// This server's status, or `None` if the line is another server's.
    fn read_status(&self) -> Result<Option<ReloadStatus>, String> {
        let status = ReloadStatus::read(&self.status)
            .map_err(|error| format!("{}: {error}", self.status_path.display()))?;
        Ok(status.filter(|status| status.server == self.own_pid))
    }

    /// Whether it ends within `timeout`, or has ended.
    fn wait_for_end(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).expect("a short time");
        let mut polled = [PollFd::new(&self.process, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(ended) => ended > 0,
            Err(_interrupted) => false,
        }
    }
}

/// Whether the path still names this file.
fn is_current(path: &Path, file: &File) -> bool {
    let identity = file.metadata().map(|metadata| Identity::of(&metadata));
    matches!((Identity::at(path), identity), (Ok(at_path), Ok(opened)) if at_path == opened)
}

/// Whether a number is the process' id: in this PID namespace or its own.
fn is_id_of(number: i32, pid: Pid) -> bool {
    let here = pid.as_raw_nonzero().get();
    let in_its_namespace = || {
        let numbers = Root::of_this_machine().field(format!("proc/{here}/status"), "NSpid")?;
        numbers.split_whitespace().last()?.parse().ok()
    };
    number == here || in_its_namespace() == Some(number)
}

/// The reason why an unlocked file is of no use.
fn explain_stale(content: Content) -> String {
    let pid = match content {
        Content::Number(number) if number > 0 => Pid::from_raw(number),
        _ => None,
    };
    match pid {
        None => "holds no process id, and no server has locked it".to_owned(),
        // EPERM: the process exists.
        Some(pid) if test_kill_process(pid) == Err(Errno::SRCH) => {
            format!("is stale: it names process {pid}, which has ended")
        }
        Some(pid) => {
            format!("names process {pid}, which is no ringback: it has not locked the file")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_process_that_has_not_locked_the_file_is_not_signalled() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let own = std::process::id().to_string();
        for (text, reason) in [
            ("", "holds no process id"),
            ("0\n", "holds no process id"),
            ("-1\n", "holds no process id"),
            ("junk", "holds no process id"),
            ("1\n", "names process 1, which is no ringback"),
            (&own, "which is no ringback"),
            ("2147483647", "names process 2147483647, which has ended"),
        ] {
            fs::write(&path, text).expect("written");
            let rejected = reload(&path).expect_err("no server");
            assert!(rejected.contains(reason), "{text:?}: {rejected}");
            assert!(rejected.contains("pid file"), "{rejected}");
        }
        let missing = reload(&directory.path().join("none")).expect_err("no file");
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
