//! A server that is started and stopped with the load.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::error::{UnexpectedExit, WatchError};
use super::group::ServerGroup;
use super::guard::Guard;
use super::server_output::ServerOutput;
use crate::cores::AllowedCores;

/// The time that a server has to stop before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that killed processes have to end. They take longer only in an uninterruptible wait.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The interval of polls of a server that starts or stops: the first one, growing to the longest
/// one.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A server that was started from a command line, in a process group of its
/// own. Dropped, it is killed with all the group, and also when this process is
/// killed, see [`guard_if_requested`](super::guard_if_requested).
///
/// A process that leaves the group, as daemons do, is not stopped.
#[derive(Debug)]
pub struct ServerCommand {
    program: String,
    child: Child,
    guard: Option<Guard>,
    group: ServerGroup,
    printed: ServerOutput,
}

/// How a server was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopResult {
    /// The exit status of the process that was started.
    pub status: ExitStatus,
    /// Whether the server, or a process it had started, did not stop within
    /// [`STOP_TIMEOUT`] and was killed.
    pub forced: bool,
}

impl ServerCommand {
    /// Starts a server. The command line is split into words as by a shell, without any
    /// expansion. The server may run on `cores` only, or on this thread's cores if there are
    /// none. Its output, on either stream, is captured.
    ///
    /// # Errors
    /// When the command line is malformed or empty, when the kernel does not grant the cores,
    /// when there is no pipe for the output, or when the program cannot be started.
    pub fn start(
        command: &str,
        cores: &[usize],
        printed: &ServerOutput,
    ) -> Result<Self, WatchError> {
        let words = shell_words::split(command).map_err(|source| WatchError::Quoting {
            command: command.to_owned(),
            source,
        })?;
        let (program, arguments) = words.split_first().ok_or(WatchError::EmptyCommand)?;
        let start_error = |source| WatchError::Start {
            program: program.clone(),
            source,
        };
        let stderr = printed.begin().map_err(start_error)?;
        let stdout = stderr.try_clone().map_err(start_error)?;
        let guard = Guard::start().map_err(start_error)?;
        let group = guard
            .as_ref()
            .map_or(0, |it| it.pid().as_raw_nonzero().get());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // Ctrl-C must reach only the generator, which then stops the server.
            .process_group(group);
        pinned(program, cores, || {
            let child = command.spawn().map_err(start_error)?;
            Ok(Self {
                program: program.clone(),
                group: ServerGroup::of(&child, guard.as_ref()),
                child,
                guard,
                printed: printed.clone(),
            })
        })
    }

    /// Waits until an attempt to use the server succeeds. An attempt gets a function that returns
    /// whether to go on, to be polled; the error of the last one is reported at the timeout.
    /// `false` when interrupted.
    ///
    /// A success proves that this server answers only if the address was free before, see
    /// [`ensure_free`](super::ensure_free).
    ///
    /// # Errors
    /// When the server ends before, or at the timeout.
    pub fn wait_until_ready(
        &mut self,
        mut attempt: impl FnMut(&mut dyn FnMut() -> bool) -> Result<(), String>,
        timeout: Duration,
        mut is_called_off: impl FnMut() -> bool,
    ) -> Result<bool, WatchError> {
        let deadline = Instant::now() + timeout;
        let mut reason = String::new();
        let answer = poll_until(deadline, || {
            let tried = attempt(&mut || {
                self.exited().is_none() && !is_called_off() && Instant::now() < deadline
            });
            // If the server has ended, the attempt has reached another one.
            match (self.exited(), tried) {
                (Some(status), _) => Some(Err(status)),
                (None, Ok(())) => Some(Ok(true)),
                (None, Err(why)) => {
                    reason = why;
                    is_called_off().then_some(Ok(false))
                }
            }
        });
        match answer {
            Some(Ok(is_ready)) => Ok(is_ready),
            Some(Err(status)) => Err(WatchError::Ended {
                program: self.program.clone(),
                ending: self.ended(status),
            }),
            None => Err(WatchError::NotReady {
                program: self.program.clone(),
                timeout,
                reason,
            }),
        }
    }

    /// The exit of the server, or `None` while it runs.
    pub fn ended_itself(&mut self) -> Option<UnexpectedExit> {
        let status = self.exited()?;
        Some(self.ended(status))
    }

    fn ended(&self, status: ExitStatus) -> UnexpectedExit {
        UnexpectedExit {
            status,
            last_line: self.printed.last_line(),
        }
    }

    /// Its output.
    pub fn printed(&self) -> &ServerOutput {
        &self.printed
    }

    /// The exit status of the process that was started, or `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        // It must not be waited for yet: see `ServerGroup`.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let id = WaitId::Pid(Pid::from_child(&self.child));
        let status = retry_on_intr(|| waitid(id.clone(), options)).ok()??;
        Some(exit_status(&status))
    }

    /// Stops the server: SIGTERM to its process group, then SIGKILL to the rest of it after
    /// [`STOP_TIMEOUT`].
    ///
    /// # Errors
    /// When it may not be killed, as it belongs to another user now, or when its exit status is
    /// not available, as this process ignores SIGCHLD.
    pub fn stop(self) -> Result<StopResult, WatchError> {
        self.stop_within(STOP_TIMEOUT)
    }

    fn stop_within(mut self, timeout: Duration) -> Result<StopResult, WatchError> {
        self.group.signal(Signal::TERM);
        let forced = !self.wait_for_group(timeout);
        let status = self.end().map_err(|source| WatchError::Stop {
            program: self.program.clone(),
            source,
        })?;
        Ok(StopResult { status, forced })
    }

    /// Kills what is left of the group and waits for it.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.group.kill();
        if !self.wait_for_group(KILL_TIMEOUT) && self.exited().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it could not be killed",
            ));
        }
        let status = self.group.reap(&mut self.child);
        // The leader is waited for as well, as the group's id may be reused from now on.
        drop(self.guard.take());
        status
    }

    /// Waits until all processes of the group have ended; returns whether they have.
    fn wait_for_group(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        poll_until(deadline, || (!self.group.is_alive()).then_some(())).is_some()
    }

    /// The id of the process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A handle to kill the server's process group.
    pub fn group(&self) -> ServerGroup {
        self.group.clone()
    }
}

impl Drop for ServerCommand {
    fn drop(&mut self) {
        if !self.group.is_reaped() {
            // The exit status does not matter any more.
            let _ = self.end();
        }
    }
}

/// Spawns with this thread pinned to `cores`, if any, as children inherit them, and restores the
/// thread's own cores.
fn pinned(
    program: &str,
    cores: &[usize],
    spawn: impl FnOnce() -> Result<ServerCommand, WatchError>,
) -> Result<ServerCommand, WatchError> {
    if cores.is_empty() {
        return spawn();
    }
    let cannot_pin = |source| WatchError::Pin {
        program: program.to_owned(),
        cores: cores.to_vec(),
        source,
    };
    let own = AllowedCores::of_this_thread().map_err(cannot_pin)?;
    AllowedCores::pin_to(cores).map_err(cannot_pin)?;
    let spawned = spawn();
    own.restore().map_err(cannot_pin)?;
    spawned
}

/// Polls until there is a value; `None` after the deadline. Polls at least once.
pub(super) fn poll_until<T>(deadline: Instant, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return None;
        }
        thread::sleep(pause.min(remaining));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Encodes a status of waitid(2) as wait(2) does.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const CORE_DUMPED: i32 = 0x80;
    let code = (status.exit_status().unwrap_or(0) & 0xff) << 8;
    let signal = status.terminating_signal().unwrap_or(0);
    let dumped = if status.dumped() { CORE_DUMPED } else { 0 };
    ExitStatus::from_raw(code | signal | dumped)
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::super::procfs::Procfs;
    use super::super::{WAIT_TIMEOUT, poll};
    use super::*;

    const SIGTERM: i32 = 15;
    const SIGKILL: i32 = 9;

    fn started(command: &str, cores: &[usize]) -> Result<ServerCommand, WatchError> {
        ServerCommand::start(command, cores, &ServerOutput::default())
    }

    /// A server with a child process, whose id is second.
    fn parent_and_child() -> (ServerCommand, u32) {
        let server = started("sh -c 'sleep 30 & wait'", &[]).expect("a shell");
        let pid = server.pid();
        let child = poll(|| {
            let children = Procfs::default().children(pid, pid.cast_signed());
            children.expect("it waits").first().copied()
        });
        (server, child)
    }

    fn is_alive(pid: u32) -> bool {
        Procfs::default()
            .process_stat(pid)
            .is_ok_and(|stat| stat.is_alive())
    }

    fn status_line(pid: u32, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.expect("a line with this name").trim().to_owned()
    }

    fn start_error(command: &str, cores: &[usize]) -> String {
        let started = started(command, cores);
        started.expect_err("it cannot start").to_string()
    }

    #[test]
    fn a_command_that_cannot_start_is_an_error() {
        assert_eq!(
            start_error("server 'a", &[]),
            "missing closing quote in the server's command line: server 'a"
        );
        assert_eq!(start_error(" ", &[]), "the server's command line is empty");
        assert_eq!(
            start_error("/no/such/server --port 1", &[]),
            "cannot start /no/such/server: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_server_has_its_cores_and_this_thread_keeps_its_own() {
        let own = AllowedCores::of_this_thread().expect("an affinity mask");
        let (first, second) = own.server_and_generator();
        let own_text = format!("{own:?}");
        for core in [first, second] {
            let server = started("sleep 30", &[core]).expect("it starts");
            assert_eq!(
                status_line(server.pid(), "Cpus_allowed_list"),
                core.to_string()
            );
        }
        for cores in [&[first, 1_000_000][..], &[first, 1023]] {
            let error = start_error("sleep 30", cores);
            assert!(error.starts_with("cannot pin sleep to cores "), "{error}");
        }
        start_error("/no/such/server", &[second]);
        let after = AllowedCores::of_this_thread().expect("an affinity mask");
        assert_eq!(format!("{after:?}"), own_text);
    }

    #[test]
    fn server_output_is_captured() {
        let server = started("sh -c 'echo one; echo two >&2; sleep 30'", &[]);
        let server = server.expect("a shell");
        poll(|| (server.printed().lines() == ["one", "two"]).then_some(()));
        let stdin = fs::read_link(format!("/proc/{}/fd/0", server.pid()));
        assert_eq!(stdin.expect("an open file").to_str(), Some("/dev/null"));
    }

    #[test]
    fn a_server_leads_a_group_of_its_own() {
        let server = started("sleep 30", &[]).expect("it starts");
        let mut procfs = Procfs::default();
        let stat = procfs.process_stat(server.pid()).expect("it sleeps");
        assert_eq!(stat.group, server.pid().cast_signed());
        let own = procfs.process_stat(process::id()).expect("this process");
        assert_ne!(stat.group, own.group);
    }

    #[test]
    fn waiting_ends_when_the_server_ends() {
        let mut server = started("sh -c 'echo reason >&2; exit 3'", &[]).expect("a shell");
        let refused = |_: &mut dyn FnMut() -> bool| Err("refused".to_owned());
        let error = server
            .wait_until_ready(refused, WAIT_TIMEOUT, || false)
            .expect_err("it ends");
        assert_eq!(
            error.to_string(),
            "sh ended before it completed a handshake (exit status: 3; it printed last: reason)"
        );
        assert_eq!(server.exited().and_then(|status| status.code()), Some(3));
        let ending = server.stop().expect("it has ended");
        assert_eq!(ending.status.code(), Some(3));
        assert!(!ending.forced);
    }

    #[test]
    fn an_attempt_that_waits_ends_with_the_server() {
        let mut server = started("sh -c 'exit 3'", &[]).expect("a shell");
        let waits = |goes_on: &mut dyn FnMut() -> bool| {
            poll(|| (!goes_on()).then_some(()));
            Err("it waited in vain".to_owned())
        };
        let error = server.wait_until_ready(waits, WAIT_TIMEOUT, || false);
        let error = error.expect_err("it ends").to_string();
        assert!(error.ends_with("(exit status: 3)"), "{error}");
    }

    #[test]
    fn waiting_ends_at_the_timeout() {
        let mut server = started("sleep 30", &[]).expect("it starts");
        let refused = |_: &mut dyn FnMut() -> bool| Err("refused".to_owned());
        let error = server
            .wait_until_ready(refused, Duration::from_millis(20), || false)
            .expect_err("it is never ready");
        assert_eq!(
            error.to_string(),
            "sleep completed no handshake within 20ms: refused"
        );
        let mut tries = 0;
        let ready = |_: &mut dyn FnMut() -> bool| {
            tries += 1;
            if tries == 3 {
                Ok(())
            } else {
                Err(String::new())
            }
        };
        let is_ready = server.wait_until_ready(ready, WAIT_TIMEOUT, || false);
        assert!(is_ready.expect("it is ready"));
        let is_ready = server.wait_until_ready(refused, WAIT_TIMEOUT, || true);
        assert!(!is_ready.expect("it is called off"));
        assert_eq!(server.exited(), None);
    }

    #[test]
    fn a_server_is_stopped_with_its_children() {
        let (server, child) = parent_and_child();
        let pid = server.pid();
        let ending = server.stop().expect("it stops");
        assert_eq!(ending.status.signal(), Some(SIGTERM));
        assert!(!ending.forced);
        assert!(!is_alive(pid) && !is_alive(child));
    }

    #[test]
    fn a_dropped_server_is_killed_with_its_children() {
        let (server, child) = parent_and_child();
        let pid = server.pid();
        drop(server);
        assert!(!is_alive(pid) && !is_alive(child));
    }

    #[test]
    fn a_server_that_ignores_sigterm_is_killed() {
        let command = "sh -c 'trap \"\" TERM; while :; do sleep 30; done'";
        let server = started(command, &[]).expect("a shell");
        poll(|| {
            let ignored = u64::from_str_radix(&status_line(server.pid(), "SigIgn"), 16);
            let mask = 1 << (SIGTERM - 1);
            (ignored.expect("hexadecimal digits") & mask != 0).then_some(())
        });
        let ending = server.stop_within(PAUSE_MIN).expect("it is killed");
        assert_eq!(ending.status.signal(), Some(SIGKILL));
        assert!(ending.forced);
    }

    #[test]
    fn a_group_can_be_killed_from_elsewhere_until_it_has_ended() {
        let (mut server, child) = parent_and_child();
        let group = server.group();
        let killer = thread::spawn({
            let group = group.clone();
            move || group.kill()
        });
        killer.join().expect("it kills");
        let status = poll(|| server.exited());
        assert_eq!(status.signal(), Some(SIGKILL));
        assert_eq!(server.stop().expect("it has ended").status, status);
        assert!(!is_alive(child));
        assert!(group.is_reaped());
        group.kill();
    }
}
