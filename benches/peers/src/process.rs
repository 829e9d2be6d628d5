//! A program that is run to its end, which comes within a limit.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use loadtest::interrupt::Interrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a program may take to end after SIGTERM, until it gets a second
/// one, on which loadtest kills the server that it started and ends.
const TERM_GRACE: Duration = Duration::from_secs(15);

/// How long it may take after the second one, until it is killed itself.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How long an interrupt may go unnoticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a program left behind.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Whether it ended by itself, not because it was asked to.
    pub by_itself: bool,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a program. It is asked to end when it has taken as long as `limit`, or
/// on an interrupt.
///
/// # Errors
/// When it cannot be started or watched.
pub fn run(command: &mut Command, limit: Duration, interrupt: &Interrupt) -> io::Result<Ended> {
    // Unlike pipes, memory never keeps a program waiting, nor is its end kept
    // open by whatever the program started.
    let (stdout, mut printed) = memory("stdout")?;
    let (stderr, mut complained) = memory("stderr")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        // A Ctrl-C is for this process, which then asks the other to end.
        .process_group(0)
        .spawn()?;
    let by_itself = ends_within(&mut child, limit, interrupt).inspect_err(|_| {
        let _ = child.kill();
    });
    let status = child.wait()?;
    Ok(Ended {
        status,
        by_itself: by_itself?,
        stdout: contents(&mut printed)?,
        stderr: String::from_utf8_lossy(&contents(&mut complained)?).into_owned(),
    })
}

/// Waits for the end, and sees to it that it comes. `false` when it had to.
fn ends_within(child: &mut Child, limit: Duration, interrupt: &Interrupt) -> io::Result<bool> {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let is_called_off = || interrupt.is_asked();
    if has_ended(&end, limit, &is_called_off)? {
        return Ok(true);
    }
    for grace in [TERM_GRACE, KILL_GRACE] {
        kill_process(Pid::from_child(child), Signal::TERM)?;
        if has_ended(&end, grace, &|| false)? {
            return Ok(false);
        }
    }
    child.kill()?;
    Ok(false)
}

fn has_ended(end: &OwnedFd, limit: Duration, is_called_off: &dyn Fn() -> bool) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(remaining.min(LOOK_INTERVAL)).map_err(io::Error::other)?;
        let events = match poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => 0,
            events => events?,
        };
        if events > 0 {
            return Ok(true);
        }
        if remaining.is_zero() || is_called_off() {
            return Ok(false);
        }
    }
}

/// A file without a name: one end to write to, one to read from.
fn memory(name: &str) -> io::Result<(Stdio, File)> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    Ok((file.try_clone()?.into(), file))
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ended {
        let mut command = Command::new("sh");
        run(command.args(["-c", script]), limit, &Interrupt::default()).unwrap()
    }

    #[test]
    fn what_it_said_is_kept() {
        let ended = sh("echo out; echo err >&2; exit 3", Duration::from_secs(20));
        assert_eq!(ended.stdout, b"out\n");
        assert_eq!(ended.stderr, "err\n");
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.by_itself);
    }

    #[test]
    fn more_than_a_pipe_holds_keeps_nobody_waiting() {
        let ended = sh("head -c 1000000 /dev/zero", Duration::from_secs(20));
        assert_eq!(ended.stdout.len(), 1_000_000);
    }

    #[test]
    fn one_that_takes_too_long_is_asked_to_end() {
        // Until then the shell has to have come to its trap.
        let limit = Duration::from_secs(2);
        let begin = Instant::now();
        let ended = sh(
            "trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done",
            limit,
        );
        assert!(!ended.by_itself);
        assert_eq!(ended.stdout, b"bye\n");
        assert!(begin.elapsed() < limit + TERM_GRACE);
    }

    #[test]
    fn what_it_left_running_keeps_nobody_waiting() {
        let begin = Instant::now();
        let ended = sh("sleep 30 & echo done", Duration::from_secs(20));
        assert_eq!(ended.stdout, b"done\n");
        assert!(ended.by_itself);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let mut command = Command::new("/no/such/program");
        let error = run(&mut command, LOOK_INTERVAL, &Interrupt::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
