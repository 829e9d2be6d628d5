//! Ctrl-C and similar signals: the first ends the measurement early, the second the program.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use host::Root;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::watch::ServerGroup;

/// A shell's exit code for a program that Ctrl-C ended.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Whether the user wants the run to end.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    /// The servers that must not outlive this program.
    servers: Arc<Mutex<Vec<ServerGroup>>>,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM, SIGQUIT and SIGHUP from now on; the last one not
    /// where it is ignored, as after nohup(1). The second one ends the program at
    /// once, and the servers that it started. A SIGHUP is never a second one: shell
    /// and kernel both send it when a terminal is closed.
    ///
    /// # Errors
    /// [`Failure::Local`] when signals cannot be caught.
    pub fn catch() -> Result<Self, Failure> {
        let local = |source| Failure::Local {
            what: "catching signals",
            source,
        };
        let interrupt = Self::default();
        let mut caught_signals = vec![SIGINT, SIGTERM, SIGQUIT];
        if !is_ignored(SIGHUP) {
            caught_signals.push(SIGHUP);
        }
        let mut signals = Signals::new(caught_signals).map_err(local)?;
        let caught = interrupt.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if caught.requested.swap(true, Ordering::AcqRel) && signal != SIGHUP {
                        caught.kill_servers();
                        process::exit(i32::from(EXIT_INTERRUPTED));
                    }
                }
            })
            .map_err(local)?;
        Ok(interrupt)
    }

    /// Whether an interrupt was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Registers a server to be killed with this program.
    pub fn guard(&self, server: ServerGroup) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| !server.is_reaped());
        servers.push(server);
    }

    fn kill_servers(&self) {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers.iter() {
            server.kill();
        }
    }
}

/// Whether this process was started with a signal ignored, if the kernel exports it.
fn is_ignored(signal: i32) -> bool {
    let mask = Root::of_this_machine().field("proc/self/status", "SigIgn");
    mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
