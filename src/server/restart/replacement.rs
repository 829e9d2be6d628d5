//! The process that replaces a server: the same command is started again, with the
//! listening sockets of this process, so that no connection is refused meanwhile.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::dup;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout_at};

use crate::server::restart::inherited::{Origin, SERVES, VARIABLE, encode};
use crate::server::restart::invocation::Invocation;

/// The time that a replacement has until it serves. It probes its engine and binds new
/// addresses; neither takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often `waitpid` is called, once it has failed.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// More than the longest line that it reports.
const REPORT_BYTES_MAX: usize = 4096;

/// Variables from systemd that are for this process only.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A replacement that is starting.
#[derive(Debug)]
pub(crate) struct Replacement {
    child: Child,
    report: Receiver,
    /// The report so far.
    reported: Vec<u8>,
    deadline: Instant,
}

impl Replacement {
    /// Starts the program of `invocation`, with this process' arguments and environment,
    /// with `sockets`, and with that of the `admin` listener.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn start(
        invocation: &Invocation,
        origin: Origin,
        sockets: &[OwnedFd],
        admin: Option<&OwnedFd>,
    ) -> io::Result<Self> {
        let program = invocation.program()?;
        log_start(invocation, &program);
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A duplicate is not closed on exec; it is closed when this returns. Nothing else
        // here starts processes.
        let inherited: Vec<_> = sockets.iter().map(dup).collect::<Result<_, _>>()?;
        let admin = admin.map(dup).transpose()?;
        let reporter = dup(reporter)?;
        let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(&program);
        if let Some(name) = invocation.name() {
            command.arg0(name);
        }
        if let Some(directory) = invocation.directory() {
            command.current_dir(directory);
        }
        command
            .args(env::args_os().skip(1))
            .env(
                VARIABLE,
                encode(
                    origin,
                    reporter.as_raw_fd(),
                    &numbers,
                    admin.as_ref().map(AsRawFd::as_raw_fd),
                ),
            )
            .stdin(Stdio::null());
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        Ok(Self {
            child: command.spawn().map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", program.display()))
            })?,
            report: Receiver::from_owned_fd(report)?,
            reported: Vec::new(),
            deadline: Instant::now() + START_TIMEOUT,
        })
    }

    /// Waits until it serves; returns its process id. This may be cancelled.
    ///
    /// # Errors
    /// The reason why it does not serve. It has ended then.
    pub(crate) async fn started(&mut self) -> Result<u32, String> {
        let read = timeout_at(self.deadline, self.read_report()).await;
        let reported = String::from_utf8_lossy(&self.reported).trim().to_owned();
        if reported == SERVES {
            return Ok(self.child.id());
        }
        let ended = match read {
            // It has failed, and is about to end.
            Ok(_) => self.ended().await,
            Err(_) => self.kill(),
        };
        Err(match (read, ended) {
            (Err(_elapsed), _) => format!("it did not serve within {START_TIMEOUT:?}"),
            (Ok(_), _) if !reported.is_empty() => reported,
            (Ok(_), Ok(status)) => format!("it ended with {status}; see its log"),
            (Ok(_), Err(error)) => error.to_string(),
        })
    }

    /// Reads one line, or to the end of the pipe. This may be cancelled.
    async fn read_report(&mut self) -> io::Result<()> {
        while self.reported.len() < REPORT_BYTES_MAX && !self.reported.ends_with(b"\n") {
            if self.report.read_buf(&mut self.reported).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Waits until it has ended by itself, or kills it at the deadline.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        while Instant::now() < self.deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(END_INTERVAL).await;
        }
        self.kill()
    }

    /// Kills it: two processes must not serve side by side.
    pub(crate) fn kill(&mut self) -> io::Result<ExitStatus> {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait()
    }
}

/// Logs the program's path, and the file that it resolves to.
fn log_start(invocation: &Invocation, program: &Path) {
    let file = program.canonicalize();
    let file = file.as_deref().unwrap_or(program).display();
    let program = program.display();
    if invocation.name().is_some() {
        tracing::info!(%program, %file, "starting a replacement");
    } else {
        tracing::info!(
            %program,
            %file,
            "starting a replacement by the path of the running file: the command that started this \
             server did not name that file"
        );
    }
    if invocation.directory().is_none() {
        tracing::warn!(
            "the start directory does not exist any more; relative paths will not resolve"
        );
    }
}

/// [`Replacement::started`] of a replacement, if there is one; else pending.
pub(crate) async fn started(replacement: &mut Option<Replacement>) -> Result<u32, String> {
    match replacement {
        Some(replacement) => replacement.started().await,
        None => std::future::pending().await,
    }
}
