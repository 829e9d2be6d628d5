//! One core: accept, handshake, then the engine or a handler.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::admission::{Admission, Entry, House, Permit};
use crate::calls;
use crate::config::Config;
use crate::cores;
use crate::engine::activity::Activity;
use crate::engine::{Clock, Drain, Engine, EngineKind, Settings, Upgraded};
use crate::error::Error;
use crate::http::{self, HttpOptions, Outcome};
use crate::listener::Accepting;
use crate::message::{Handler, MessageSocket};
use crate::metrics::Counters;
use crate::metrics::label::{EndReason, HandshakeOutcome, RefusalReason};
use crate::peer::Peer;
use crate::proto::Limits;
use crate::runtime::{self, Runtime};
use crate::shutdown::Shutdown;
use crate::stream::Stream;

/// How long accepting rests when it cannot go on, mostly because there are no file
/// descriptors left, unless a connection ends sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How often the log says so at most: with each connection that ends, another
/// one is accepted, and accepting rests again.
const PAUSE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long a server that stops waits for handshakes: time for requests that
/// are on their way, but not for browsers that connect in advance.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(500);

/// What one worker is given.
pub(crate) struct Assignment {
    pub(crate) config: Arc<Config>,
    pub(crate) engine: EngineKind,
    /// The core to be bound to.
    pub(crate) core: Option<usize>,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) house: Arc<House>,
    pub(crate) counters: Arc<Counters>,
    /// When the server was started; the worker's heartbeat counts from here.
    pub(crate) epoch: StdInstant,
    pub(crate) shutdown: Shutdown,
    /// Serves the upgraded connections instead of the engine.
    pub(crate) handler: Option<Handler>,
}

/// Runs a worker on the current thread until the server has drained. Calls
/// `ready` once it accepts connections.
pub(crate) fn run(assignment: Assignment, ready: impl FnOnce()) -> Result<(), Error> {
    let start = |what| move |source| Error::Start { what, source };
    if let Some(core) = assignment.core {
        cores::pin(core).map_err(start("a worker on its core"))?;
    }
    let runtime = Runtime::new(assignment.engine).map_err(start("a worker's runtime"))?;
    runtime.block_on(async {
        let mut shutdown = assignment.shutdown.clone();
        let drain_timeout = assignment.config.drain_timeout;
        let (worker, listeners) = Worker::new(assignment).map_err(start("a worker"))?;
        let worker = Rc::new(worker);
        let mut running = spawn_local(Rc::clone(&worker.engine).run());
        worker.beat();
        let ticking = spawn_local(tick(Rc::clone(&worker)));
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| spawn_local(accept(Rc::clone(&worker), listener)))
            .collect();
        ready();
        let result = tokio::select! {
            () = shutdown.begun() => {
                worker.drain(accepting, drain_timeout).await;
                Ok(())
            }
            ended = &mut running => Err(Error::Start {
                what: "the engine again after it ended",
                source: ended.unwrap_or_else(io::Error::other),
            }),
        };
        running.abort();
        ticking.abort();
        result
    })
}

struct Worker {
    engine: Rc<dyn Engine>,
    settings: Rc<Settings>,
    http: Rc<HttpOptions>,
    admission: Rc<Admission>,
    handler: Option<Handler>,
    shutdown: Shutdown,
    /// What the heartbeat counts from.
    epoch: StdInstant,
    /// When the log last said that accepting rests.
    pause_logged_at: Cell<Option<Instant>>,
}

impl Worker {
    fn new(assignment: Assignment) -> io::Result<(Self, Vec<Accepting>)> {
        let config = &*assignment.config;
        let counters = assignment.counters;
        let settings = Rc::new(settings(config, Arc::clone(&counters)));
        let listeners = assignment
            .listeners
            .into_iter()
            .map(Accepting::new)
            .collect::<io::Result<_>>()?;
        let worker = Self {
            engine: runtime::engine(assignment.engine, Rc::clone(&settings))?,
            settings,
            http: Rc::new(HttpOptions {
                path: config.path.clone(),
                origins: config.origins.clone(),
                subprotocols: config.subprotocols.clone(),
                max_header_bytes: config.max_header_bytes,
                handshake_timeout: config.handshake_timeout,
            }),
            admission: Admission::new(assignment.house, counters),
            handler: assignment.handler,
            shutdown: assignment.shutdown,
            epoch: assignment.epoch,
            pause_logged_at: Cell::new(None),
        };
        Ok((worker, listeners))
    }

    /// Gives a connection its place and a task for its handshake.
    fn let_in(self: &Rc<Self>, stream: Stream, peer: Peer) {
        let counters = &self.settings.counters;
        counters.accepted.add(1);
        let entry = self.admission.enter();
        spawn_local(Rc::clone(self).shake_hands(stream, peer, entry));
    }

    async fn shake_hands(self: Rc<Self>, stream: Stream, peer: Peer, entry: Entry) {
        let counters = &self.settings.counters;
        let start = StdInstant::now();
        match entry {
            Entry::Welcome(_) => {}
            Entry::Full(_) => counters.refusals.add(RefusalReason::Full),
            Entry::Overrun => {
                counters.refusals.add(RefusalReason::Overrun);
                counters.handshakes.add(HandshakeOutcome::Refused);
                return;
            }
        }
        let is_full = matches!(entry, Entry::Full(_));
        let handshake = async {
            match entry {
                Entry::Welcome(permit) => Some((http::serve(stream, &self.http).await, permit)),
                Entry::Full(permit) => Some((http::turn_away(stream, &self.http).await, permit)),
                Entry::Overrun => None,
            }
        };
        let shaken = tokio::select! {
            biased;
            shaken = handshake => shaken,
            () = self.handshakes_end() => {
                tracing::debug!(%peer, "a handshake was cut off because the server stops");
                counters.handshakes.add(HandshakeOutcome::CutOff);
                None
            }
        };
        let Some((outcome, permit)) = shaken else {
            return;
        };
        self.count_handshake(&outcome, is_full, start);
        match outcome {
            Outcome::Upgraded(handover) => self.hand_over(handover, peer, permit).await,
            Outcome::Refused(status) => {
                tracing::debug!(%peer, %status, "a request was refused");
            }
            Outcome::TimedOut => {
                tracing::debug!(%peer, "a handshake took too long");
            }
            Outcome::Served(status) => {
                tracing::trace!(%peer, %status, "a plain request was answered");
            }
            Outcome::Failed => {
                tracing::trace!(%peer, "a connection ended without a request");
            }
        }
    }

    /// Counts a handshake that began at `start`. The refusal of a connection
    /// to a full server is counted already, whatever came of it.
    fn count_handshake(&self, outcome: &Outcome, is_full: bool, start: StdInstant) {
        let counters = &self.settings.counters;
        let (ended, reason) = match outcome {
            Outcome::Upgraded(_) => {
                counters.handshake_times.note(start.elapsed());
                (HandshakeOutcome::Upgraded, None)
            }
            Outcome::Refused(status) => {
                (HandshakeOutcome::Refused, Some(RefusalReason::of(*status)))
            }
            Outcome::TimedOut => (HandshakeOutcome::TimedOut, Some(RefusalReason::Timeout)),
            Outcome::Served(_) => (HandshakeOutcome::Served, None),
            Outcome::Failed => (HandshakeOutcome::Abandoned, None),
        };
        counters.handshakes.add(ended);
        if let Some(reason) = reason.filter(|_| !is_full) {
            counters.refusals.add(reason);
        }
    }

    /// Shows that the worker does its work.
    fn beat(&self) {
        let beat_ms = self.epoch.elapsed().as_millis();
        let counters = &self.settings.counters;
        counters
            .beat_ms
            .set(u64::try_from(beat_ms).unwrap_or(u64::MAX));
    }

    /// Waits until the server has been stopping for so long that whoever has
    /// sent no request by then is not waited for.
    async fn handshakes_end(&self) {
        self.shutdown.clone().begun().await;
        sleep(HANDSHAKE_GRACE).await;
    }

    async fn hand_over(&self, handover: http::Handover, peer: Peer, permit: Permit) {
        tracing::trace!(%peer, subprotocol = handover.subprotocol, "upgraded");
        if let Some(handler) = &self.handler {
            let settings = Rc::clone(&self.settings);
            let shutdown = self.shutdown.clone();
            handler(MessageSocket::new(handover, peer, settings, shutdown)).await;
            drop(permit);
            return;
        }
        match handover.stream.into_socket() {
            Ok(socket) => Rc::clone(&self.engine).adopt(Upgraded {
                socket,
                leftover: handover.leftover,
                permit,
            }),
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection ended before it began");
                let counters = &self.settings.counters;
                counters.count_end(EndReason::Gone, None);
            }
        }
    }

    /// Stops accepting and closes every connection, politely while there is
    /// time.
    async fn drain(&self, accepting: Vec<JoinHandle<()>>, timeout: Duration) {
        let start = Instant::now();
        // They end by themselves, after a last look at who has come already.
        for accepting in accepting {
            let _ = accepting.await;
        }
        self.engine.drain(Drain::WhenQuiet);
        if self.all_left_by(start + timeout / 2).await {
            return;
        }
        self.engine.drain(Drain::Now);
        if !self.all_left_by(start + timeout).await {
            let open = self.admission.open();
            tracing::warn!(
                open,
                "connections are cut off at the end of the drain timeout"
            );
        }
    }

    /// Waits until no connection is left; whether that came before `deadline`.
    async fn all_left_by(&self, deadline: Instant) -> bool {
        while self.admission.open() > 0 {
            tokio::select! {
                () = self.admission.one_left() => {}
                () = sleep_until(deadline) => return false,
            }
        }
        true
    }

    /// Rests until accepting may work again.
    async fn pause(&self, error: &io::Error) {
        let logged_at = self.pause_logged_at.get();
        if logged_at.is_none_or(|at| at.elapsed() > PAUSE_LOG_INTERVAL) {
            self.pause_logged_at.set(Some(Instant::now()));
            tracing::warn!(%error, open = self.admission.open(), "accepting rests");
        }
        self.settings.counters.accept_pauses.add(1);
        tokio::select! {
            () = self.admission.one_left() => {}
            () = sleep(ACCEPT_PAUSE) => {}
        }
    }
}

/// What an engine, or a handler, has to know of the configuration.
fn settings(config: &Config, counters: Arc<Counters>) -> Settings {
    Settings {
        limits: Limits {
            message_bytes: config.max_message.unwrap_or(u64::MAX),
            fragments: config.max_fragments.get(),
            window: config.window,
        },
        read_size: config.effective_read_size(),
        idle_timeout: config.idle_timeout,
        pong_timeout: config.pong_timeout,
        write_timeout: config.write_timeout,
        close_timeout: config.close_timeout,
        busy_poll: config.busy_poll,
        activity: Activity::new(!config.busy_poll.is_zero()),
        counters,
        clock: Clock::start(),
    }
}

async fn accept(worker: Rc<Worker>, listener: Accepting) {
    let mut shutdown = worker.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.begun() => break,
            accepted = calls::accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                worker.let_in(stream, peer);
            }
            // The next may be fine.
            Err(error) if is_of_the_connection(&error) => tracing::debug!(%error, "accept"),
            Err(error) => {
                tokio::select! {
                    () = worker.pause(&error) => {}
                    () = shutdown.begun() => break,
                }
            }
        }
    }
    if shutdown.is_handed_over() {
        // The queue is the successor's as well.
        return;
    }
    if let Err(error) = accept_rest(&worker, listener) {
        tracing::debug!(%error, "accept");
    }
}

/// Lets those in who wait to be accepted: closing the listener would reset
/// them.
fn accept_rest(worker: &Rc<Worker>, listener: Accepting) -> io::Result<()> {
    let waiting = listener.into_blocking()?;
    loop {
        match waiting.next() {
            Ok((stream, peer)) => worker.let_in(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

async fn tick(worker: Rc<Worker>) {
    let interval = worker.settings.tick_interval();
    loop {
        sleep(interval).await;
        let holdings = worker.engine.tick();
        // A handler's connections count what they hold by themselves.
        if worker.handler.is_none() {
            let counters = &worker.settings.counters;
            counters.held_bytes.set(holdings.bytes as u64);
            counters.slow_readers.set(holdings.slow_readers as u64);
        }
        worker.beat();
    }
}

/// Whether accepting failed because of the connection that was next, as accept(2)
/// has it, and not for want of descriptors or memory, or for good.
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

#[cfg(test)]
mod tests;
