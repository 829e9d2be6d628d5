//! What systemd is told of the server, where it supervises the process.
//!
//! The protocol is that of `sd_notify(3)`: datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without the variable nothing is sent. The watchdog is
//! that of `sd_watchdog_enabled(3)`: systemd restarts a service that does not
//! speak up for `WATCHDOG_USEC`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

/// How often the watchdog is fed within its time. Twice is what systemd asks
/// for; a third time is for a machine that is busy.
const FEEDS_PER_TIMEOUT: u32 = 3;

/// The supervisor, if there is one.
#[derive(Debug)]
pub(crate) struct Systemd {
    feeding: Option<Feeding>,
}

/// When the watchdog wants to be fed.
#[derive(Debug)]
struct Feeding {
    interval: Duration,
    next: Instant,
}

impl Systemd {
    /// What the environment says.
    pub(crate) fn from_environment() -> Self {
        let feeding = sd_notify::watchdog_enabled().map(|timeout| Feeding {
            interval: timeout / FEEDS_PER_TIMEOUT,
            next: Instant::now(),
        });
        Self { feeding }
    }

    /// The server serves.
    pub(crate) fn ready(status: &str) {
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The server starts a successor; [`ready`](Self::ready) or
    /// [`hand_over`](Self::hand_over) follows.
    pub(crate) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot notify systemd"),
        }
    }

    /// Another process is the service from now on, and serves. It feeds the
    /// watchdog, and this one has nothing more to say.
    pub(crate) fn hand_over(&mut self, pid: u32) {
        notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
        self.feeding = None;
    }

    /// The server drains.
    pub(crate) fn stopping(status: &str) {
        notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Waits until it is time to feed the watchdog; for ever without one. To be
    /// followed by [`feed`](Self::feed) or [`starve`](Self::starve).
    pub(crate) async fn hungry(&self) {
        match &self.feeding {
            Some(feeding) => sleep_until(feeding.next).await,
            None => std::future::pending().await,
        }
    }

    /// The server is well.
    pub(crate) fn feed(&mut self) {
        notify(&[NotifyState::Watchdog]);
        self.postpone();
    }

    /// It is not, and systemd will end it if that goes on.
    pub(crate) fn starve(&mut self, status: &str) {
        notify(&[NotifyState::Status(status)]);
        self.postpone();
    }

    fn postpone(&mut self) {
        if let Some(feeding) = &mut self.feeding {
            feeding.next = Instant::now() + feeding.interval;
        }
    }
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
