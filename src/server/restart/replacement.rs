//! The process that takes a server's place: the program is started again as it was,
//! with the sockets that its predecessor listens on, so that nobody who
//! connects meanwhile is refused.

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

use crate::server::restart::inherited::{HANDOVER, Origin, SERVES, describe};
use crate::server::restart::invocation::Invocation;

/// The time that a successor has until it serves. It probes its engine and
/// binds what its predecessor does not have; neither takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is asked whether it has ended, once it has given up.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// The longest line that it reports, and more.
const REPORT_BYTES_MAX: usize = 4096;

/// What systemd says to the process that it started, and to nobody else.
const NOT_HANDED_ON: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A successor that is starting.
#[derive(Debug)]
pub(crate) struct Replacement {
    child: Child,
    report: Receiver,
    /// What it has reported so far.
    reported: Vec<u8>,
    /// When it has to serve.
    deadline: Instant,
}

impl Replacement {
    /// Starts what `invocation` leads to now, with this process' arguments and
    /// environment, with `sockets`, and with that of the `admin` listener.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn start(
        invocation: &Invocation,
        origin: Origin,
        sockets: &[OwnedFd],
        admin: Option<&OwnedFd>,
    ) -> io::Result<Self> {
        let program = invocation.program()?;
        log_start(invocation, &program);
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A duplicate is not closed on exec, and goes when this returns. Nothing
        // else here starts processes.
        let handed: Vec<_> = sockets.iter().map(dup).collect::<Result<_, _>>()?;
        let admin = admin.map(dup).transpose()?;
        let reporter = dup(reporter)?;
        let numbers: Vec<RawFd> = handed.iter().map(AsRawFd::as_raw_fd).collect();
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
                HANDOVER,
                describe(
                    origin,
                    reporter.as_raw_fd(),
                    &numbers,
                    admin.as_ref().map(AsRawFd::as_raw_fd),
                ),
            )
            .stdin(Stdio::null());
        for name in NOT_HANDED_ON {
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

    /// Waits until it serves, and says which process it is. This may be
    /// cancelled.
    ///
    /// # Errors
    /// Why it does not. It has ended then.
    pub(crate) async fn outcome(&mut self) -> Result<u32, String> {
        let read = timeout_at(self.deadline, self.read_report()).await;
        let reported = String::from_utf8_lossy(&self.reported).trim().to_owned();
        if reported == SERVES {
            return Ok(self.child.id());
        }
        let ended = match read {
            // It has given up, and has still to end.
            Ok(_) => self.ended().await,
            Err(_) => self.end(),
        };
        Err(match (read, ended) {
            (Err(_elapsed), _) => format!("it did not serve within {START_TIMEOUT:?}"),
            (Ok(_), _) if !reported.is_empty() => reported,
            (Ok(_), Ok(status)) => format!("it ended with {status}; its log says why"),
            (Ok(_), Err(error)) => error.to_string(),
        })
    }

    /// Reads one line, or until there is no more. This may be cancelled.
    async fn read_report(&mut self) -> io::Result<()> {
        while self.reported.len() < REPORT_BYTES_MAX && !self.reported.ends_with(b"\n") {
            if self.report.read_buf(&mut self.reported).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Waits until it has ended by itself, or its time is over.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        while Instant::now() < self.deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(END_INTERVAL).await;
        }
        self.end()
    }

    /// Ends it, whatever it does: it is not to serve beside us.
    pub(crate) fn end(&mut self) -> io::Result<ExitStatus> {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait()
    }
}

/// Which program is started: by its name, and the file that this leads to.
fn log_start(invocation: &Invocation, program: &Path) {
    let file = program.canonicalize();
    let file = file.as_deref().unwrap_or(program).display();
    let program = program.display();
    if invocation.name().is_some() {
        tracing::info!(%program, %file, "starting a successor");
    } else {
        tracing::info!(
            %program,
            %file,
            "starting a successor; the command that started this server did not name its file, so \
             it is the path of the file that runs"
        );
    }
    if invocation.directory().is_none() {
        tracing::warn!(
            "the directory in which this server was started is gone; relative paths lead nowhere"
        );
    }
}

/// The outcome of a successor, if there is one; else never.
pub(crate) async fn outcome(successor: &mut Option<Replacement>) -> Result<u32, String> {
    match successor {
        Some(successor) => successor.outcome().await,
        None => std::future::pending().await,
    }
}
