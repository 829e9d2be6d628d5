//! When the certificate is read again: when SIGHUP asks for it, and when its
//! files have changed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::transport::tls::Tls;

/// Reads the files of a certificate, on a thread that a file system may keep
/// waiting.
pub(super) struct Renewal {
    tls: Option<Arc<Tls>>,
    /// How often the files are looked at, if they are.
    interval: Option<Duration>,
    next: Option<Instant>,
    running: Option<JoinHandle<()>>,
    /// SIGHUP has come while they were read.
    is_asked: bool,
}

impl Renewal {
    pub(super) fn new(tls: Option<Arc<Tls>>, interval: Option<Duration>) -> Self {
        let mut renewal = Self {
            interval: interval.filter(|_| tls.is_some()),
            tls,
            next: None,
            running: None,
            is_asked: false,
        };
        renewal.schedule();
        renewal
    }

    /// SIGHUP: the files are read again, whatever they are.
    pub(super) fn ask(&mut self) {
        if self.tls.is_none() {
            tracing::info!("SIGHUP: without TLS there is nothing to read again");
        } else if self.running.is_some() {
            self.is_asked = true;
        } else {
            self.start(read_again);
        }
    }

    /// Waits for what comes next, and does it. This may be cancelled.
    pub(super) async fn step(&mut self) {
        if let Some(running) = &mut self.running {
            if let Err(error) = running.await {
                tracing::error!(%error, "reading the certificate has failed");
            }
            self.running = None;
            self.schedule();
            if std::mem::take(&mut self.is_asked) {
                self.ask();
            }
        } else {
            match self.next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            }
            self.start(look);
        }
    }

    fn start(&mut self, read: fn(&Tls)) {
        self.running = self
            .tls
            .clone()
            .map(|tls| spawn_blocking(move || read(&tls)));
    }

    fn schedule(&mut self) {
        self.next = self.interval.map(|interval| Instant::now() + interval);
    }
}

fn read_again(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("SIGHUP: new connections get the certificate as it is now"),
        Err(error) => tracing::error!(%error, "SIGHUP: the old certificate stays in use"),
    }
}

fn look(tls: &Tls) {
    match tls.check() {
        None => {}
        Some(Ok(())) => tracing::info!(
            "the certificate's files have changed: new connections get the certificate as it is now"
        ),
        Some(Err(error)) => tracing::error!(
            %error,
            "the certificate's files have changed: the old certificate stays in use"
        ),
    }
}
