//! The process that takes a server's place: the same program, started again
//! with the sockets that its predecessor listens on, so that nobody who
//! connects meanwhile is refused.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::dup;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout_at};

use crate::listener::inherited::{HANDOVER, Origin, describe};

/// The time that a successor has until it serves. It probes its engine and
/// binds what its predecessor does not have; neither takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is asked whether it has ended, once it has given up.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// What it writes when it serves.
pub(crate) const SERVES: &[u8] = b"serves\n";

/// What systemd says to the process that it started, and to nobody else.
const NOT_HANDED_ON: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A successor that is starting.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Child,
    report: Receiver,
    /// When it has to serve.
    deadline: Instant,
}

impl Successor {
    /// Starts `program` with this process' arguments and environment, with
    /// `sockets`, and with that of the `admin` listener.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn start(
        program: &Path,
        origin: Origin,
        sockets: &[OwnedFd],
        admin: Option<&OwnedFd>,
    ) -> io::Result<Self> {
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A duplicate is not closed on exec, and goes when this returns. Nothing
        // else here starts processes.
        let handed: Vec<_> = sockets.iter().map(dup).collect::<Result<_, _>>()?;
        let admin = admin.map(dup).transpose()?;
        let reporter = dup(reporter)?;
        let numbers: Vec<RawFd> = handed.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(program);
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
            child: command.spawn()?,
            report: Receiver::from_owned_fd(report)?,
            deadline: Instant::now() + START_TIMEOUT,
        })
    }

    /// Waits until it serves, and says which process it is. This may be
    /// cancelled.
    ///
    /// # Errors
    /// Why it does not. It has ended then.
    pub(crate) async fn outcome(&mut self) -> Result<u32, String> {
        let mut said = Vec::new();
        let mut report = (&mut self.report).take(SERVES.len() as u64);
        let read = timeout_at(self.deadline, report.read_to_end(&mut said)).await;
        if said == SERVES {
            return Ok(self.child.id());
        }
        let ended = match read {
            // It has given up, and still has to say why.
            Ok(_) => self.ended().await,
            Err(_) => self.end(),
        };
        Err(match (read, ended) {
            (Err(_elapsed), _) => format!("it did not serve within {START_TIMEOUT:?}"),
            (Ok(_), Ok(status)) => format!("it ended with {status}; its log says why"),
            (Ok(_), Err(error)) => error.to_string(),
        })
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

/// The outcome of a successor, if there is one; else never.
pub(crate) async fn outcome(successor: &mut Option<Successor>) -> Result<u32, String> {
    match successor {
        Some(successor) => successor.outcome().await,
        None => std::future::pending().await,
    }
}
