//! The process group of a server that was started here.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

use super::guard::Guard;
use super::procfs::{self, Procfs};

/// A handle to a server's process group, for places that may have to kill the server, such as the
/// thread that handles signals.
///
/// The group is only ever signalled while its leader was not waited for. Until then the kernel
/// does not reuse the id, so no other process can be hit.
#[derive(Debug, Clone)]
pub struct ServerGroup {
    leader: Arc<Mutex<Option<Pid>>>,
    /// The process that was started.
    server: Pid,
}

impl ServerGroup {
    /// The group of `server`, led by its guard, or by itself where it has none.
    pub(super) fn of(server: &Child, guard: Option<&Guard>) -> Self {
        let server = Pid::from_child(server);
        let leader = guard.map_or(server, Guard::pid);
        Self {
            leader: Arc::new(Mutex::new(Some(leader))),
            server,
        }
    }

    /// Kills every process of the group; does nothing once the server was stopped.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Signals every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = *self.lock() {
            // It fails when all processes belong to another user, and cannot be stopped from
            // here.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills the rest of the group and waits for the server. From then on the group is not
    /// signalled any more.
    pub(super) fn reap(&self, server: &mut Child) -> io::Result<ExitStatus> {
        let mut leader = self.lock();
        if let Some(leader) = leader.take() {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        server.wait()
    }

    /// Whether the leader was waited for.
    pub fn is_reaped(&self) -> bool {
        self.lock().is_none()
    }

    /// Whether a process of the group, other than the guard, has not ended.
    pub(super) fn is_alive(&self) -> bool {
        let Some(leader) = *self.lock() else {
            return false;
        };
        let [leader, server] = [leader, self.server].map(|it| it.as_raw_nonzero().get());
        let is_guard = |pid: u32| leader != server && pid == leader.unsigned_abs();
        let mut procfs = Procfs::default();
        let mut lives = |pid| {
            procfs
                .process_stat(pid)
                .is_ok_and(|stat| stat.group == leader && stat.is_alive())
        };
        // The server first: while it lives, the others need not be checked.
        lives(server.unsigned_abs())
            || procfs::processes()
                .unwrap_or_default()
                .into_iter()
                .filter(|&pid| !is_guard(pid))
                .any(lives)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
