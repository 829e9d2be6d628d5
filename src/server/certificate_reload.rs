//! Reloads the certificate, on SIGHUP and when its files change.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::transport::tls::Tls;

/// Reads the files on a blocking thread, since a file system may hang.
pub(super) struct CertificateReload {
    tls: Option<Arc<Tls>>,
    /// How often the files are checked for changes, if they are.
    interval: Option<Duration>,
    next: Option<Instant>,
    running: Option<JoinHandle<()>>,
    /// SIGHUP came while they were read.
    is_requested: bool,
}

impl CertificateReload {
    pub(super) fn new(tls: Option<Arc<Tls>>, interval: Option<Duration>) -> Self {
        let mut this = Self {
            interval: interval.filter(|_| tls.is_some()),
            tls,
            next: None,
            running: None,
            is_requested: false,
        };
        this.schedule();
        this
    }

    /// Handles SIGHUP: reads the files again, even if they have not changed.
    pub(super) fn request(&mut self) {
        if self.tls.is_none() {
            tracing::info!("SIGHUP: ignored; there is no TLS certificate to reload");
        } else if self.running.is_some() {
            self.is_requested = true;
        } else {
            self.start(reload);
        }
    }

    /// Waits for the end of a read or for the next check. This may be cancelled.
    pub(super) async fn step(&mut self) {
        if let Some(running) = &mut self.running {
            if let Err(error) = running.await {
                tracing::error!(%error, "the certificate could not be read");
            }
            self.running = None;
            self.schedule();
            if std::mem::take(&mut self.is_requested) {
                self.request();
            }
        } else {
            match self.next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            }
            self.start(check);
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

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("SIGHUP: new connections get the certificate as it is now"),
        Err(error) => tracing::error!(%error, "SIGHUP: the old certificate stays in use"),
    }
}

fn check(tls: &Tls) {
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
