//! A server until its end: signals, a replacement, systemd, the drain.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::time::Instant;

use super::Server;
use super::certificate_reload::CertificateReload;
use super::restart::replacement::{self, Replacement};
use super::restart::systemd::Systemd;
use super::signals::{self, Request, Signals};
use super::workers::{Worker, Workers};
use crate::admin::Admin;
use crate::admin::health::{self, Trouble};
use crate::config::error::Error;
use crate::sys::calls;
use crate::sys::shutdown::StopReason;
use crate::sys::task::panic_message;
use crate::sys::task_kind::TaskKind;

impl Server {
    /// Serves until a signal that stops it, such as SIGTERM, SIGINT or SIGQUIT, and
    /// then [`stop`](Self::stop)s. A second one ends the process at once. SIGHUP
    /// reads the certificate again, which is also looked at from time to time
    /// ([`tls_reload`](crate::Config::tls_reload)). SIGUSR1 is ignored.
    ///
    /// SIGUSR2 replaces a server that was started
    /// [inheriting](Self::start_inheriting): the command that started this process is
    /// started again with its arguments, environment and listening sockets, and once that
    /// process serves, this server stops accepting and drains. If it does not serve, this
    /// server goes on. Process 1, with which a container ends, is not replaced.
    ///
    /// If systemd supervises the process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), it is
    /// notified when the server serves and when it drains, and its watchdog for as long
    /// as every worker is alive.
    ///
    /// A panic or an error that ends a worker, or another thread of the server,
    /// drains what is left of it.
    ///
    /// # Errors
    /// [`Error::Worker`] if a worker failed, [`Error::Ended`] if another part did,
    /// [`Error::PidFile`] if the file cannot replace the predecessor's.
    pub fn run_until_signal(mut self, signals: Signals) -> Result<(), Error> {
        let wait = || {
            self.report_ready()?;
            signals.block_on(|signals| self.wait_for_end(signals));
            Ok(())
        };
        let waited = catch_unwind(AssertUnwindSafe(wait)).unwrap_or_else(|panic| {
            Err(Error::Ended {
                what: "the signal handler",
                reason: panic_message(&*panic),
            })
        });
        if waited.is_err() {
            self.begin_drain(StopReason::Stopped);
        }
        waited.and(self.join())
    }

    /// Waits for a signal, starts the drain, and waits until the workers have ended.
    /// systemd is notified of each step.
    async fn wait_for_end(&mut self, mut signals: signals::Stream) {
        let mut systemd = Systemd::from_environment();
        let mut certificate =
            CertificateReload::new(self.shared.tls.clone(), self.shared.config.tls_reload);
        let mut replacement = None;
        let mut drain_at = None;
        let reason = loop {
            calls::poll(TaskKind::Signals);
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop(signal) if drain_at.is_some() => signals::exit_at_once(signal),
                    Request::Stop(_) => drain_at = Some(self.announce_drain()),
                    Request::Replace if drain_at.is_some() => {
                        tracing::info!("SIGUSR2: ignored; the server is stopping");
                    }
                    Request::Replace if replacement.is_none() => replacement = self.start_replacement(),
                    Request::Replace => tracing::info!("SIGUSR2: ignored; a replacement is starting already"),
                    Request::Hangup => certificate.request(),
                    Request::ReopenLog => tracing::info!(
                        "SIGUSR1: ignored; the log goes to stderr, so there is no file to reopen"
                    ),
                },
                started = replacement::started(&mut replacement) => {
                    replacement = None;
                    match started {
                        Ok(pid) => {
                            tracing::info!(pid, "the replacement serves; draining");
                            if let Some(pid_file) = &mut self.pid_file {
                                pid_file.status().end(Ok(pid));
                            }
                            systemd.set_main_pid(pid);
                            break StopReason::HandedOver;
                        }
                        Err(reason) => self.abort_reload(&reason),
                    }
                }
                () = certificate.step() => {}
                () = tokio::time::sleep_until(drain_at.unwrap_or_else(Instant::now).into()), if drain_at.is_some() => {
                    tracing::info!("draining; a second signal exits at once");
                    break StopReason::Stopped;
                }
                worker = self.workers.ended.recv() => {
                    tracing::error!(worker, "a worker ended; draining the others");
                    break StopReason::Stopped;
                }
                () = ended(&mut self.admin) => {
                    tracing::error!("the admin thread ended; draining");
                    break StopReason::Stopped;
                }
                () = systemd.watchdog_due() => self.notify_watchdog(&mut systemd),
            }
        };
        if reason == StopReason::Stopped {
            if let Some(mut replacement) = replacement {
                // Its exit status does not matter any more.
                let _ = replacement.kill();
            }
            if let Some(pid_file) = &mut self.pid_file {
                pid_file.status().stop();
            }
            Systemd::stopping("draining");
        }
        let drain = Drain::start(&self.workers);
        self.begin_drain(reason);
        loop {
            tokio::select! {
                request = signals.next() => if let Request::Stop(signal) = request {
                    signals::exit_at_once(signal);
                },
                ended = self.workers.ended.recv() => if ended.is_none() {
                    drain.log(&self.workers);
                    return;
                },
                () = systemd.watchdog_due() => self.notify_watchdog(&mut systemd),
            }
        }
    }

    /// Notifies the predecessor, or else systemd, that the server serves.
    ///
    /// # Errors
    /// [`Error::PidFile`].
    fn report_ready(&mut self) -> Result<(), Error> {
        // systemd takes the notification from its main process only: the predecessor.
        let Some(readiness) = self.readiness.take() else {
            Systemd::ready(&self.status());
            return Ok(());
        };
        match self.publish_pid_file() {
            Ok(()) => readiness.serves(),
            Err(error) => {
                readiness.failed(&error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    fn start_replacement(&mut self) -> Option<Replacement> {
        if let Some(pid_file) = &mut self.pid_file {
            pid_file.status().begin();
        }
        let started = match &self.restart_state {
            None => Err("this program cannot be replaced".to_owned()),
            // A container ends with its first process, and the replacement with it.
            Some(_) if process::id() == 1 => {
                Err("the first process of a container cannot be replaced".to_owned())
            }
            Some(state) => {
                Systemd::reloading();
                Replacement::start(
                    &state.invocation,
                    state.origin,
                    &state.sockets,
                    state.admin.as_ref(),
                )
                .map_err(|error| format!("cannot start a replacement: {error}"))
            }
        };
        started.inspect_err(|reason| self.abort_reload(reason)).ok()
    }

    /// Reports a failed reload, and restores the pid file.
    fn abort_reload(&mut self, reason: &str) {
        tracing::error!("the reload failed, this server goes on: {reason}");
        if let Some(pid_file) = &mut self.pid_file {
            if let Err(error) = pid_file.restore() {
                tracing::error!("{error}");
            }
            pid_file.status().end(Err(reason));
        }
        Systemd::ready(&format!(
            "{}; the last reload failed: {reason}",
            self.status()
        ));
    }

    /// Makes the server not ready, for load balancers; returns when the drain is to begin.
    fn announce_drain(&self) -> Instant {
        let delay = self.shared.config.shutdown_delay;
        if !delay.is_zero() {
            tracing::info!(
                ?delay,
                "not ready; draining after the shutdown delay; a second signal exits at once"
            );
            self.trigger.announce();
            Systemd::stopping("waiting for the shutdown delay");
        }
        Instant::now() + delay
    }

    /// Notifies the watchdog if every worker is alive.
    fn notify_watchdog(&self, systemd: &mut Systemd) {
        match self.workers_are_alive() {
            Ok(()) => systemd.notify_watchdog(),
            Err(trouble) => {
                tracing::error!(%trouble, "the watchdog is not notified");
                systemd.skip_watchdog(&trouble.to_string());
            }
        }
    }

    /// Checks the heartbeat of every worker, except of those that ended without an error.
    pub(super) fn workers_are_alive(&self) -> Result<(), Trouble> {
        let mut workers = self.workers.threads.iter().enumerate();
        workers.try_for_each(|(index, worker)| {
            let has_failed = worker.counters.failed.get() > 0;
            if worker.thread.is_finished() && !has_failed {
                return Ok(());
            }
            health::is_alive(index, &worker.counters, self.shared.epoch)
        })
    }

    /// The status line for systemd.
    fn status(&self) -> String {
        let plain = self.addresses.iter().map(ToString::to_string);
        let tls = self.tls_addresses.iter();
        let addresses: Vec<_> = plain
            .chain(tls.map(|address| format!("{address} (TLS)")))
            .collect();
        format!(
            "serving {} with engine {} on {} threads",
            addresses.join(", "),
            self.workers.engine,
            self.workers.threads.len()
        )
    }
}

/// Start and totals of a drain, for its log line.
struct Drain {
    start: Instant,
    /// Connections closed before it.
    closed_before: u64,
}

impl Drain {
    fn start(workers: &Workers) -> Self {
        Self {
            start: Instant::now(),
            closed_before: closed(workers),
        }
    }

    /// Logs the result, once the workers have ended.
    fn log(&self, workers: &Workers) {
        let cut_off = workers
            .threads
            .iter()
            .map(|worker| worker.counters.cut_off.get());
        let cut_off: u64 = cut_off.sum();
        let closed = closed(workers).saturating_sub(self.closed_before);
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            connections_closed = closed.saturating_sub(cut_off),
            connections_cut_off = cut_off,
            duration_ms,
            "drained"
        );
    }
}

/// The number of connections that were accepted and have been closed.
fn closed(workers: &Workers) -> u64 {
    let closed = workers.threads.iter().map(|Worker { counters, .. }| {
        let accepted = counters.accepted.get();
        accepted.saturating_sub(counters.open.get())
    });
    closed.sum()
}

/// Waits until the admin thread ends by itself; for ever if there is none.
async fn ended(admin: &mut Option<Admin>) {
    match admin {
        Some(admin) => admin.ended().await,
        None => pending().await,
    }
}
