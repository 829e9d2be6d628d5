//! Kills a server whose starter has ended without stopping it, as after a SIGKILL.
//!
//! The guard is a second process of this program. It leads the server's process group and reads
//! from a pipe that is never written to, whose other end only the starter has. The kernel
//! closes that end when the starter ends, for whatever reason; then the guard kills the group,
//! itself included. While it leads the group, the group's id is not reused.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_current_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// The name by which this program is called to be a guard.
const NAME: &str = "loadtest-guard";

/// The program itself, even if its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// Whether this program, started by [`NAME`], is a guard. A test's is not.
static IS_AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Runs as a guard if this process was started as one, and then does not return. Enables guards
/// for servers that are started later. Has to be called first.
pub fn guard_if_requested() {
    if env::args_os().next().is_some_and(|name| name == NAME) {
        guard();
    }
    IS_AVAILABLE.store(true, Ordering::Relaxed);
}

fn guard() -> ! {
    // These signals are meant for the server, to end or to reload.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let _ = kill_current_process_group(Signal::KILL);
    process::exit(1);
}

/// The guard of a server that is to be started.
#[derive(Debug)]
pub(super) struct Guard {
    /// Its standard input is the pipe.
    process: Child,
}

impl Guard {
    /// Starts a guard, if this program can be one.
    pub(super) fn start() -> io::Result<Option<Self>> {
        if !IS_AVAILABLE.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let process = Command::new(PROGRAM)
            .arg0(NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Some(Self { process }))
    }

    /// Its process id, and that of the group it leads.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closes the pipe, if the group was not killed already.
        let _ = self.process.wait();
    }
}
