//! `ringback reload`: asks the server that a pid file names to start its
//! successor, and waits until that serves.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringback::read_pid_file;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// As long as the server waits for its successor, and some more.
const PATIENCE: Duration = Duration::from_secs(35);

/// How often the file is read.
const INTERVAL: Duration = Duration::from_millis(20);

/// Says who has succeeded whom.
///
/// # Errors
/// That there is no such server, or that it has no successor.
pub(crate) fn reload(pid_file: Option<&Path>) -> Result<String, String> {
    let path = pid_file.ok_or(
        "reload needs the server's pid-file: set it for the server and here; \
         where there is none, kill -USR2 PID does the same",
    )?;
    let file = path.display();
    let read = || read_pid_file(path).map_err(|error| format!("{file}: {error}"));
    let old = read()?;
    let process = Pid::from_raw(old).ok_or_else(|| format!("{file}: it holds no process id"))?;
    kill_process(process, Signal::USR2)
        .map_err(|error| format!("{file}: no server to be replaced, process {old}: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match read() {
            Ok(new) if new != old => return Ok(format!("reloaded: {old} is succeeded by {new}")),
            // The file is replaced at once and whole; without it nobody serves.
            Ok(_) if test_kill_process(process).is_ok() => sleep(INTERVAL),
            Ok(_) | Err(_) => return Err(format!("process {old} ended without a successor")),
        }
    }
    Err(format!(
        "process {old} goes on: it has no successor after {PATIENCE:?}; its log says why"
    ))
}
