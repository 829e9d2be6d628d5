//! A server that is started, and stopped, with the load.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::error::WatchError;
use super::group::ServerGroup;
use super::port::accepts;
use super::printed::Printed;
use crate::cores::Cores;

/// How long a server may take to stop before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long killed processes may take to go. They take longer only where the
/// kernel does not let go of them.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses between looks at a server that starts or stops: the first one,
/// then growing to the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A server that was started from a command line, in a process group of its
/// own. Dropped, it is killed with all the group.
///
/// A process that leaves the group, as daemons do, is not stopped.
#[derive(Debug)]
pub struct ServerCommand {
    program: String,
    child: Child,
    group: ServerGroup,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// What the kernel says about the process that was started.
    pub status: ExitStatus,
    /// Whether the server, or a process it had started, did not stop within
    /// [`STOP_TIMEOUT`] and was killed.
    pub forced: bool,
}

impl ServerCommand {
    /// Starts a server. The command line is split into words as a shell would,
    /// without anything else that shells do. The server may run on `cores` only,
    /// or where this thread may if there are none. What it prints, on either
    /// stream, goes to this process's stderr.
    ///
    /// # Errors
    /// When the command line cannot be split or is empty, when the kernel does
    /// not grant the cores, or when the program cannot be started.
    pub fn start(command: &str, cores: &[usize]) -> Result<Self, WatchError> {
        Self::start_printing(command, cores, io::stderr().into(), Stdio::inherit())
    }

    /// The same for a server whose output is kept.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when there is nothing to keep it in.
    pub fn start_quietly(
        command: &str,
        cores: &[usize],
        printed: &mut Printed,
    ) -> Result<Self, WatchError> {
        let writer = printed
            .begin()
            .and_then(|writer| Ok((writer.try_clone()?, writer)));
        let (stdout, stderr) = writer.map_err(|source| WatchError::Start {
            program: command.to_owned(),
            source,
        })?;
        Self::start_printing(command, cores, stdout.into(), stderr.into())
    }

    fn start_printing(
        command: &str,
        cores: &[usize],
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self, WatchError> {
        let words = shell_words::split(command).map_err(|source| WatchError::Quoting {
            command: command.to_owned(),
            source,
        })?;
        let (program, arguments) = words.split_first().ok_or(WatchError::EmptyCommand)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // A Ctrl-C is for the generator, which then stops the server.
            .process_group(0);
        pinned(program, cores, || {
            let child = command.spawn().map_err(|source| WatchError::Start {
                program: program.clone(),
                source,
            })?;
            Ok(Self {
                program: program.clone(),
                group: ServerGroup::led_by(&child),
                child,
            })
        })
    }

    /// Waits until one of the addresses accepts a TCP connection, which is
    /// closed at once. `false` when it is called off before.
    ///
    /// That it is the server who accepts is only known if nobody did before, see
    /// [`ensure_free`](super::ensure_free).
    ///
    /// # Errors
    /// When the server ends before that, or the timeout does.
    pub fn wait_until_listening(
        &mut self,
        addresses: &[SocketAddr],
        timeout: Duration,
        is_called_off: impl Fn() -> bool,
    ) -> Result<bool, WatchError> {
        let deadline = Instant::now() + timeout;
        let listening = poll_until(deadline, || {
            let remaining = deadline.saturating_duration_since(Instant::now());
            // A connect without any time is refused as an error of the caller's.
            let connect_timeout = remaining.clamp(PAUSE_MIN, PAUSE_MAX);
            let accepted = addresses
                .iter()
                .any(|&address| accepts(address, connect_timeout));
            match self.exited() {
                Some(status) => Some(Err(status)),
                None if accepted => Some(Ok(true)),
                None => is_called_off().then_some(Ok(false)),
            }
        });
        match listening {
            Some(Ok(listening)) => Ok(listening),
            Some(Err(status)) => Err(WatchError::Ended {
                program: self.program.clone(),
                status,
            }),
            None => Err(WatchError::NotListening {
                program: self.program.clone(),
                addresses: addresses.to_vec(),
                timeout,
            }),
        }
    }

    /// How the process that was started ended, or `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        // It must not be waited for yet: see `ServerGroup`.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let id = WaitId::Pid(Pid::from_child(&self.child));
        let status = retry_on_intr(|| waitid(id.clone(), options)).ok()??;
        Some(exit_status(&status))
    }

    /// Stops the server: asks its process group with SIGTERM, and kills what is
    /// left of it after [`STOP_TIMEOUT`].
    ///
    /// # Errors
    /// When it may not be killed, as it has become another user's, or when the
    /// kernel does not tell how it ended, as this process ignores SIGCHLD.
    pub fn stop(self) -> Result<Ending, WatchError> {
        self.stop_within(STOP_TIMEOUT)
    }

    fn stop_within(mut self, timeout: Duration) -> Result<Ending, WatchError> {
        self.group.signal(Signal::TERM);
        let forced = !self.wait_for_group(timeout);
        let status = self.end().map_err(|source| WatchError::Stop {
            program: self.program.clone(),
            source,
        })?;
        Ok(Ending { status, forced })
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
        self.group.reap(&mut self.child)
    }

    /// Waits until all processes of the group have ended; tells whether they
    /// have.
    fn wait_for_group(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        poll_until(deadline, || (!self.group.is_alive()).then_some(())).is_some()
    }

    /// The id of the process that was started, and of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A handle to the server's process group, with which it can be killed.
    pub fn group(&self) -> ServerGroup {
        self.group.clone()
    }
}

impl Drop for ServerCommand {
    fn drop(&mut self) {
        if !self.group.is_reaped() {
            // How it ended is of no interest any more.
            let _ = self.end();
        }
    }
}

/// Spawns with this thread pinned to `cores`, if there are any, and gives the
/// thread its own cores back: children inherit them.
fn pinned(
    program: &str,
    cores: &[usize],
    spawn: impl FnOnce() -> Result<ServerCommand, WatchError>,
) -> Result<ServerCommand, WatchError> {
    if cores.is_empty() {
        return spawn();
    }
    let cannot_pin = |errno: rustix::io::Errno| WatchError::Pin {
        program: program.to_owned(),
        cores: cores.to_vec(),
        source: errno.into(),
    };
    let own = Cores::of_this_thread().map_err(cannot_pin)?;
    Cores::pin_to(cores).map_err(cannot_pin)?;
    let spawned = spawn();
    own.restore().map_err(cannot_pin)?;
    spawned
}

/// Asks again and again until there is an answer, or `None` after the deadline.
/// It asks at least once.
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

/// Encodes what waitid(2) told the way wait(2) tells it.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const CORE_DUMPED: i32 = 0x80;
    let code = (status.exit_status().unwrap_or(0) & 0xff) << 8;
    let signal = status.terminating_signal().unwrap_or(0);
    let dumped = if status.dumped() { CORE_DUMPED } else { 0 };
    ExitStatus::from_raw(code | signal | dumped)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::{fs, process};

    use super::super::port::tests::closed_address;
    use super::super::procfs::Procfs;
    use super::super::{PATIENCE, poll};
    use super::*;

    const SIGTERM: i32 = 15;
    const SIGKILL: i32 = 9;

    /// A server that has started a process of its own, whose id comes second.
    fn parent_and_child() -> (ServerCommand, u32) {
        let server = ServerCommand::start("sh -c 'sleep 30 & wait'", &[]).expect("a shell");
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
        let started = ServerCommand::start(command, cores);
        started.expect_err("it cannot start").to_string()
    }

    #[test]
    fn a_command_that_cannot_start_says_why() {
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
        let own = Cores::of_this_thread().expect("an affinity mask");
        let (first, second) = own.server_and_generator();
        let own_text = format!("{own:?}");
        for core in [first, second] {
            let server = ServerCommand::start("sleep 30", &[core]).expect("it starts");
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
        let after = Cores::of_this_thread().expect("an affinity mask");
        assert_eq!(format!("{after:?}"), own_text);
    }

    #[test]
    fn what_a_server_prints_goes_to_stderr() {
        let server = ServerCommand::start("sleep 30", &[]).expect("it starts");
        let file = |pid, descriptor| {
            let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
            link.expect("an open file")
        };
        let stderr = file(process::id(), 2);
        assert_eq!(file(server.pid(), 1), stderr);
        assert_eq!(file(server.pid(), 2), stderr);
        assert_eq!(file(server.pid(), 0).to_str(), Some("/dev/null"));
    }

    #[test]
    fn a_server_leads_a_group_of_its_own() {
        let server = ServerCommand::start("sleep 30", &[]).expect("it starts");
        let mut procfs = Procfs::default();
        let stat = procfs.process_stat(server.pid()).expect("it sleeps");
        assert_eq!(stat.group, server.pid().cast_signed());
        let own = procfs.process_stat(process::id()).expect("this process");
        assert_ne!(stat.group, own.group);
    }

    #[test]
    fn a_server_that_ends_is_not_waited_for() {
        let mut server = ServerCommand::start("sh -c 'exit 3'", &[]).expect("a shell");
        let (_socket, closed) = closed_address();
        let error = server
            .wait_until_listening(&[closed], PATIENCE, || false)
            .expect_err("it ends");
        assert_eq!(
            error.to_string(),
            "sh ended before it accepted a connection (exit status: 3)"
        );
        assert_eq!(server.exited().and_then(|status| status.code()), Some(3));
        let ending = server.stop().expect("it has ended");
        assert_eq!(ending.status.code(), Some(3));
        assert!(!ending.forced);
    }

    #[test]
    fn a_server_has_time_to_listen_on_one_of_its_addresses() {
        let mut server = ServerCommand::start("sleep 30", &[]).expect("it starts");
        let (_socket, closed) = closed_address();
        let error = server
            .wait_until_listening(&[closed], Duration::from_millis(20), || false)
            .expect_err("it never listens");
        assert_eq!(
            error.to_string(),
            format!("sleep did not accept a connection on {closed} within 20ms")
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let open = listener.local_addr().expect("its address");
        for is_called_off in [false, true] {
            let listening =
                server.wait_until_listening(&[closed, open], PATIENCE, || is_called_off);
            assert!(listening.expect("somebody listens"));
        }
        let listening = server.wait_until_listening(&[closed], PATIENCE, || true);
        assert!(!listening.expect("it is called off"));
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
        let server = ServerCommand::start(command, &[]).expect("a shell");
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
