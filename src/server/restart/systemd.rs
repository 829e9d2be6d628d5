//! Notifies systemd of the server's state, if it supervises the process.
//!
//! The protocol is `sd_notify(3)`: datagrams to the socket in `NOTIFY_SOCKET`. Without
//! the variable nothing is sent. The watchdog is that of `sd_watchdog_enabled(3)`:
//! systemd restarts a service that does not notify it for `WATCHDOG_USEC`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

/// Watchdog notifications per timeout. systemd recommends two; the third is for a busy
/// machine.
const NOTIFICATIONS_PER_TIMEOUT: u32 = 3;

/// The supervisor, if there is one.
#[derive(Debug)]
pub(crate) struct Systemd {
    watchdog: Option<Watchdog>,
}

/// When the watchdog is to be notified.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Systemd {
    pub(crate) fn from_environment() -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| Watchdog {
            interval: timeout / NOTIFICATIONS_PER_TIMEOUT,
            next: Instant::now(),
        });
        Self { watchdog }
    }

    /// The server serves.
    pub(crate) fn ready(status: &str) {
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The server starts a replacement; [`ready`](Self::ready) or
    /// [`set_main_pid`](Self::set_main_pid) follows.
    pub(crate) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot notify systemd"),
        }
    }

    /// The replacement is the service from now on, and serves. It notifies the watchdog.
    pub(crate) fn set_main_pid(&mut self, pid: u32) {
        notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
        self.watchdog = None;
    }

    /// The server drains.
    pub(crate) fn stopping(status: &str) {
        notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Waits until the watchdog is to be notified; for ever without one. To be followed by
    /// [`notify_watchdog`](Self::notify_watchdog) or [`skip_watchdog`](Self::skip_watchdog).
    pub(crate) async fn watchdog_due(&self) {
        match &self.watchdog {
            Some(watchdog) => sleep_until(watchdog.next).await,
            None => std::future::pending().await,
        }
    }

    /// The server is healthy.
    pub(crate) fn notify_watchdog(&mut self) {
        notify(&[NotifyState::Watchdog]);
        self.schedule_next();
    }

    /// The server is not healthy: systemd ends it unless the next notification comes in time.
    pub(crate) fn skip_watchdog(&mut self, status: &str) {
        notify(&[NotifyState::Status(status)]);
        self.schedule_next();
    }

    fn schedule_next(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.next = Instant::now() + watchdog.interval;
        }
    }
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
