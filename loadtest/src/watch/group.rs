//! The process group of a server that was started here.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

use super::procfs::{self, Procfs};

/// A handle to a server's process group, to be kept where the server may have to
/// be killed from, for example by the thread that handles signals.
///
/// The group is only ever signalled while its leader was not waited for. Until
/// then the kernel gives the id to nobody else, so no stranger can be hit.
#[derive(Debug, Clone)]
pub struct ServerGroup {
    leader: Arc<Mutex<Option<Pid>>>,
}

impl ServerGroup {
    /// The group whose leader is `child`.
    pub(super) fn led_by(child: &Child) -> Self {
        Self {
            leader: Arc::new(Mutex::new(Some(Pid::from_child(child)))),
        }
    }

    /// Kills every process of the group; none is left to kill once the server
    /// was stopped.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Signals every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = *self.lock() {
            // It fails when all processes run as somebody else, who is then not
            // to be stopped from here.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills what is left of the group and waits for `child`, its leader. From
    /// then on the group is not signalled any more.
    pub(super) fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut leader = self.lock();
        if let Some(leader) = leader.take() {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        child.wait()
    }

    /// Whether the leader was waited for.
    pub fn is_reaped(&self) -> bool {
        self.lock().is_none()
    }

    /// Whether a process of the group has not ended.
    pub(super) fn is_alive(&self) -> bool {
        let Some(leader) = *self.lock() else {
            return false;
        };
        let leader = leader.as_raw_nonzero().get();
        let mut procfs = Procfs::default();
        let mut lives = |pid| {
            procfs
                .process_stat(pid)
                .is_ok_and(|stat| stat.group == leader && stat.is_alive())
        };
        // The leader first: while it lives, the others need not be looked for.
        lives(leader.unsigned_abs())
            || procfs::processes()
                .unwrap_or_default()
                .into_iter()
                .any(lives)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
