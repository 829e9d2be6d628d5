//! Accepts connections, and pauses where that fails.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Listener, Worker};
use crate::limits::admission::Decision;
use crate::observe::log_limit::{ACCEPT_FAILS, ACCEPT_PAUSED, log_limited};
use crate::sys::calls;
use crate::transport::listener::Accepting;

/// The pause after `accept` fails, mostly for lack of file descriptors; the end of a
/// connection ends it sooner.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Number and length of the waits for a free reject slot, while no connection of this
/// worker ends. A slot is in use until its client has sent a request, and 100 ms more.
const REJECT_WAITS: u32 = 100;
const REJECT_WAIT: Duration = Duration::from_millis(10);

/// The most waits if connections end but others take their slots.
const REJECT_WAITS_MAX: u32 = 1000;

/// The time without waits after they were in vain: the clients in the slots send nothing.
const REJECT_WAIT_PAUSE: Duration = Duration::from_secs(10);

pub(super) async fn accept(worker: Rc<Worker>, socket: Accepting, listener: Rc<Listener>) {
    let mut shutdown = worker.shared.shutdown.clone();
    let mut no_wait_before = Instant::now();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.initiated() => break,
            accepted = calls::accept(socket.accept()) => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let decision = worker.enter(&mut no_wait_before).await;
                worker.start_connection(socket, peer, &listener, decision);
            }
            // The next connection may work.
            Err(error) if is_of_the_connection(&error) => {
                log_limited!(debug, ACCEPT_FAILS, %error, "accept failed");
            }
            Err(error) => {
                tokio::select! {
                    () = worker.pause(&error) => {}
                    () = shutdown.initiated() => break,
                }
            }
        }
    }
    if shutdown.is_handed_over() {
        // The replacement accepts the rest of the queue.
        return;
    }
    if let Err(error) = accept_rest(&worker, socket, &listener) {
        log_limited!(debug, ACCEPT_FAILS, %error, "accept failed");
    }
}

/// Accepts the rest of the queue: closing the listener would reset it.
fn accept_rest(worker: &Rc<Worker>, socket: Accepting, listener: &Rc<Listener>) -> io::Result<()> {
    let waiting = socket.into_blocking()?;
    loop {
        match waiting.next() {
            Ok((socket, peer)) => {
                let decision = worker.admission.enter();
                worker.start_connection(socket, peer, listener, decision);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an `accept(2)` error is of the next connection only, and not a lack of
/// descriptors or memory, or permanent.
fn is_of_the_connection(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::AGAIN
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::TIMEDOUT
        )
    )
}

impl Worker {
    /// Decides on an accepted connection. If all reject slots are in use, waits for one, so
    /// that the client gets a response; after waits in vain, not before `not_before`.
    async fn enter(&self, not_before: &mut Instant) -> Decision {
        let decision = self.admission.enter();
        if !matches!(decision, Decision::Drop) || Instant::now() < *not_before {
            return decision;
        }
        // Waits are counted, not timed: other tasks of this worker get their turns
        // even if its thread seldom runs.
        let mut in_vain = 0;
        for _ in 0..REJECT_WAITS_MAX {
            tokio::select! {
                () = self.admission.one_left() => in_vain = 0,
                // A connection of another worker may have ended.
                () = sleep(REJECT_WAIT) => in_vain += 1,
            }
            let decision = self.admission.enter();
            if !matches!(decision, Decision::Drop) || self.shared.shutdown.is_initiated() {
                return decision;
            }
            if in_vain == REJECT_WAITS {
                break;
            }
        }
        *not_before = Instant::now() + REJECT_WAIT_PAUSE;
        Decision::Drop
    }

    /// Waits until `accept` may work again.
    async fn pause(&self, error: &io::Error) {
        let open = self.admission.open();
        log_limited!(warn, ACCEPT_PAUSED, %error, open, "accept paused");
        self.settings.counters.accept_pauses.add(1);
        tokio::select! {
            () = self.admission.one_left() => {}
            () = sleep(ACCEPT_PAUSE) => {}
        }
    }
}
