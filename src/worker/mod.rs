//! A worker: accept, handshake, then the engine or a handler.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod opening;
mod tcp_eviction;

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use hyper::StatusCode;
use socket2::SockRef;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;

use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::config::forwarded_header::ForwardedHeader;
use crate::config::proxy_source::ProxySource;
use crate::engine::activity::Activity;
use crate::engine::backlog::BacklogRoom;
use crate::engine::encrypted::Encrypted;
use crate::engine::eviction::{EvictionCandidate, largest_first};
use crate::engine::messages::channel::Channel;
use crate::engine::select;
use crate::engine::timers::{self, TimerBudget};
use crate::engine::{Clock, Drain, Engine, SLOW_READER, Settings, Upgraded};
use crate::handler::{Handler, MessageSocket, WorkerHandler};
use crate::http::{self, Accept, HttpOptions, Outcome, Refusal};
use crate::limits::admission::{Admission, Decision, Permit, RejectSlot, Rejection, ServerLimits};
use crate::limits::handshakes::{HandshakeSlot, Handshakes};
use crate::limits::memory_budget::TICK_WHEN_HIGH;
use crate::net::address::Address;
use crate::net::byte_queue;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::access::AccessContext;
use crate::observe::connection_record::{ConnectionRecord, Handshake};
use crate::observe::log_limit::{
    self, ACCEPT_FAILS, ACCEPT_PAUSED, BUFFERED_BYTES, CUT_OFF, ENDED_EARLY, EVICTED,
    HANDLER_PANICS, HANDSHAKE_TIMEOUT, TLS_FAILS, log_limited,
};
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::{EndReason, HandshakeOutcome, RefusalReason};
use crate::proto::{CloseCode, Limits};
use crate::sys::calls;
use crate::sys::shutdown::Shutdown;
use crate::sys::task::{Tasks, catch, panic_message};
use crate::sys::task_kind::TaskKind;
use crate::sys::turn::log_longest;
use crate::transport::listener::{Accepting, UnixOptions};
use crate::transport::stream::Transport;
use crate::transport::tls::{Acceptor, Tls};
use tcp_eviction::TcpEviction;

/// The pause after `accept` fails, mostly for lack of file descriptors; the end of a
/// connection ends it sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Number and length of the waits for a free reject slot, while no connection of this
/// worker ends. A slot is in use until its client has sent a request, and 100 ms more.
const REJECT_WAITS: u32 = 100;
const REJECT_WAIT: Duration = Duration::from_millis(10);

/// The most waits if connections end but others take their slots.
const REJECT_WAITS_MAX: u32 = 1000;

/// The time without waits after they were in vain: the clients in the slots send nothing.
const REJECT_WAIT_PAUSE: Duration = Duration::from_secs(10);

/// The time that a drain leaves to handshakes: enough for requests on their way, but
/// not for browsers that connect in advance.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(500);

/// The input of one worker.
pub(crate) struct Assignment {
    pub(crate) config: Arc<Config>,
    pub(crate) engine: EngineKind,
    /// Its index among the workers.
    pub(crate) index: usize,
    /// The number of workers.
    pub(crate) workers: usize,
    /// The core to pin the worker to.
    pub(crate) core: Option<usize>,
    pub(crate) listeners: Vec<OwnedFd>,
    /// Listeners with TLS; they need `tls`.
    pub(crate) tls_listeners: Vec<OwnedFd>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) server_limits: Arc<ServerLimits>,
    pub(crate) counters: Arc<Counters>,
    /// The start of the server and of the heartbeat's clock.
    pub(crate) epoch: StdInstant,
    pub(crate) shutdown: Shutdown,
    /// Serves the upgraded connections instead of the engine.
    pub(crate) handler: Option<Handler>,
}

/// Runs a worker on the current thread until the server has drained. Calls `ready` once
/// all resources are there; accepts connections if that returns true, else ends.
///
/// # Panics
/// If one of its tasks does.
pub(crate) fn run(assignment: Assignment, ready: impl FnOnce() -> bool) -> Result<(), Error> {
    let start = |what| move |source| Error::Start { what, source };
    if let Some(core) = assignment.core {
        host::cores::pin(core).map_err(start("a worker on its core"))?;
    }
    let runtime = select::runtime(assignment.engine)?;
    let ended = runtime.block_on(async {
        let (worker, listeners) = Worker::new(assignment)?;
        let worker = Rc::new(worker);
        if !ready() {
            return Ok(Ok(Ok(())));
        }
        worker.beat();
        let tasks = &worker.settings.tasks;
        let ended = tokio::select! {
            biased;
            panic = tasks.panicked() => Err(panic),
            result = worker.serve(listeners, tasks) => Ok(result),
        };
        log_limit::finish();
        log_longest();
        Ok::<_, Error>(ended)
    })?;
    // Closes the connections before a panic is reported.
    drop(runtime);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Worker {
    engine: Rc<dyn Engine>,
    /// The TLS connections.
    encrypted: Rc<Encrypted>,
    settings: Rc<Settings>,
    http: Rc<HttpOptions>,
    admission: Rc<Admission>,
    handshakes: Rc<Handshakes>,
    handler: Option<WorkerHandler>,
    /// Peers that must begin with a PROXY header.
    proxies: Vec<ProxySource>,
    /// Peers whose `forwarded_header` is trusted.
    forwarding_proxies: Vec<ProxySource>,
    forwarded_header: ForwardedHeader,
    shutdown: Shutdown,
    /// The start of the heartbeat's clock.
    epoch: StdInstant,
    drain_timeout: Duration,
    /// The time over which a drain spreads its Closes.
    drain_spread: Duration,
}

/// The reason of a rejection, and the slot until the client has its response.
type Rejected = (Rejection, RejectSlot);

/// Identifies an upgraded connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    /// The engine's.
    Plain(u32),
    Encrypted(u32),
}

/// The state shared by the connections of one listening socket.
#[derive(Default)]
struct Listener {
    /// Set for TLS.
    acceptor: Option<Rc<Acceptor>>,
    /// Set if access lines are logged.
    access: Option<Rc<AccessContext>>,
}

/// A worker's listening sockets.
type Listeners = Vec<(Accepting, Rc<Listener>)>;

impl Worker {
    fn new(assignment: Assignment) -> Result<(Self, Listeners), Error> {
        let config = &*assignment.config;
        let counters = assignment.counters;
        let settings = Rc::new(settings(config, Arc::clone(&counters)));
        let acceptor = assignment
            .tls
            .map(|tls| Rc::new(Acceptor::new(tls, settings.read_size)));
        let plain = assignment.listeners.into_iter();
        let secure = assignment.tls_listeners.into_iter();
        let unix = UnixOptions {
            send_buffer: config.socket_send_buffer,
        };
        let listeners = plain
            .map(|socket| (socket, None))
            .chain(secure.map(|socket| (socket, acceptor.clone())))
            .map(|(socket, acceptor)| {
                let access = config.access_log.then(|| {
                    Rc::new(AccessContext {
                        worker: assignment.index,
                        listener: name_of(&socket),
                        fields: config.access_log_fields.clone(),
                        limit: assignment.server_limits.access_limit().cloned(),
                    })
                });
                let listener = Rc::new(Listener { acceptor, access });
                Ok((Accepting::new(socket, unix)?, listener))
            })
            .collect::<io::Result<_>>()
            .map_err(|source| Error::Start {
                what: "to accept connections",
                source,
            })?;
        let worker = Self {
            engine: select::engine(assignment.engine, Rc::clone(&settings))?,
            encrypted: Rc::new(Encrypted::new(Rc::clone(&settings))),
            settings,
            http: Rc::new(HttpOptions {
                path: config.path.clone(),
                origins: config.origins.clone(),
                subprotocols: config.subprotocols.clone(),
                max_header_bytes: config.max_header_bytes,
                handshake_timeout: config.handshake_timeout,
                accept: assignment
                    .handler
                    .as_ref()
                    .and_then(Handler::accept)
                    .map(|accept| {
                        let counters = Arc::clone(&counters);
                        guard_accept(accept, counters)
                    }),
                keeps_request: assignment.handler.is_some(),
            }),
            admission: Admission::new(assignment.server_limits, counters),
            handshakes: Handshakes::new(config, assignment.workers),
            handler: assignment.handler.as_ref().map(Handler::for_worker),
            proxies: config.proxy_protocol.clone(),
            forwarding_proxies: config.forwarded_from.clone(),
            forwarded_header: config.forwarded_header,
            shutdown: assignment.shutdown,
            epoch: assignment.epoch,
            drain_timeout: config.drain_timeout,
            drain_spread: config.drain_spread,
        };
        Ok((worker, listeners))
    }

    /// Accepts and serves connections until the server has drained.
    ///
    /// # Errors
    /// The engine's task has ended.
    async fn serve(self: &Rc<Self>, listeners: Listeners, tasks: &Tasks) -> Result<(), Error> {
        let running = tasks.spawn(TaskKind::Engine, Rc::clone(&self.engine).run());
        let ticking = tasks.spawn(TaskKind::Tick, tick(Rc::clone(self)));
        let accepting = listeners.into_iter().map(|(socket, listener)| {
            let accepting = accept(Rc::clone(self), socket, listener);
            tasks.spawn(TaskKind::Accept, accepting)
        });
        let accepting = accepting.collect();
        let running_abort = running.abort_handle();
        let result = tokio::select! {
            () = self.drain_on_shutdown(accepting) => Ok(()),
            ended = running => Err(Error::Start {
                what: "the engine again after it ended",
                source: ended.unwrap_or_else(io::Error::other),
            }),
        };
        running_abort.abort();
        ticking.abort();
        result
    }

    async fn drain_on_shutdown(&self, accepting: Vec<JoinHandle<()>>) {
        self.shutdown.clone().initiated().await;
        self.drain(accepting).await;
    }

    /// Starts a task for a connection's handshake, or closes the connection without a
    /// response.
    fn start_connection(
        self: &Rc<Self>,
        socket: Socket,
        peer: Peer,
        listener: &Rc<Listener>,
        decision: Decision,
    ) {
        let counters = &self.settings.counters;
        counters.accepted.add(1);
        let record = self.admission.record(peer, listener.access.clone());
        if matches!(decision, Decision::Drop) {
            // Closed at once: its descriptor is in no budget.
            let _refused = self.admit(decision, &record, true);
            return;
        }
        let slot = self.handshakes.enter(record.start());
        let serving =
            Rc::clone(self).serve_connection(socket, record, Rc::clone(listener), decision, slot);
        self.settings.tasks.spawn(TaskKind::Connection, serving);
    }

    /// Serves a connection from its accept until it ends, or the engine takes it.
    async fn serve_connection(
        self: Rc<Self>,
        mut socket: Socket,
        record: Rc<ConnectionRecord>,
        listener: Rc<Listener>,
        decision: Decision,
        slot: HandshakeSlot,
    ) {
        if self.is_from_a_proxy(&record) {
            let header = self.read_proxy_header(&mut socket, &record, &slot);
            if !header.instrument(record.span()).await {
                return;
            }
        }
        self.handshake(socket, Rc::clone(&record), &listener, decision, slot)
            .instrument(record.span())
            .await;
        // Writes its access line outside of its span, which has the same fields.
        drop(record);
    }

    async fn handshake(
        &self,
        socket: Socket,
        record: Rc<ConnectionRecord>,
        listener: &Listener,
        decision: Decision,
        slot: HandshakeSlot,
    ) {
        let handshake_done = self
            .answer(socket, &record, listener, decision, &slot)
            .await;
        drop(slot);
        let Some((outcome, permit)) = handshake_done else {
            return;
        };
        self.count_handshake(&outcome, &record);
        match (outcome, permit) {
            (Outcome::Upgraded(handover), Some(permit)) => {
                self.hand_over(handover, record, permit).await;
            }
            (Outcome::Upgraded(_), None) => unreachable!("a rejected connection is not upgraded"),
            // Logged with the request.
            (Outcome::Refused(_), _) => {}
            (Outcome::RefusedTls, _) => {
                log_limited!(debug, TLS_FAILS, "TLS came to an address without TLS");
            }
            (Outcome::TimedOut, _) => {
                log_limited!(debug, HANDSHAKE_TIMEOUT, "a handshake timed out");
            }
            (Outcome::Served(status), _) => {
                tracing::trace!(%status, "a plain request was answered");
            }
            (Outcome::Failed, _) => {
                tracing::trace!("a connection ended without a request");
            }
        }
    }

    /// Reads a request and answers it. `None` if the connection is over, and counted.
    async fn answer(
        &self,
        socket: Socket,
        record: &Rc<ConnectionRecord>,
        listener: &Listener,
        decision: Decision,
        slot: &HandshakeSlot,
    ) -> Option<(Outcome, Option<Permit>)> {
        // The client's address is in the request's header.
        let (decision, admitted) = if self.is_from_a_forwarding_proxy(record) {
            (Some(decision), None)
        } else {
            let is_answered = listener.acceptor.is_none();
            (None, Some(self.admit(decision, record, is_answered)?))
        };
        let handshake = pin!(async {
            let stream = self.open(socket, record, listener, slot).await?;
            let since = record.start().into();
            let request = http::read_request(stream, &self.http, since, slot).await;
            if let Ok(request) = &request {
                record.set_request(request.head());
            }
            let admitted = match (&request, decision) {
                (Ok(request), Some(decision)) => {
                    self.find_client(request, record);
                    match self.admit(decision, record, true) {
                        Some(admitted) => Some(admitted),
                        // Already counted.
                        None => return Ok(None),
                    }
                }
                _ => admitted,
            };
            let (request, admitted) = match (request, admitted) {
                (Ok(request), Some(admitted)) => (request, admitted),
                (Ok(_), None) => unreachable!("admitted before or after its request"),
                (Err(outcome), admitted) => {
                    return Ok(Some((outcome, admitted.and_then(Result::ok))));
                }
            };
            Ok(Some(match admitted {
                Ok(permit) => (request.serve(&self.http, slot).await, Some(permit)),
                Err((rejection, _slot)) => {
                    let refusal = refusal(rejection);
                    (request.reject_over_limit(&refusal, slot).await, None)
                }
            }))
        });
        match self.unless_cut_off(record, slot, handshake).await? {
            Ok(handshake_done) => handshake_done,
            Err(unopened) => {
                self.count_unopened(unopened, record);
                None
            }
        }
    }

    /// Runs a part of a handshake, unless it is evicted or the server stops meanwhile.
    async fn unless_cut_off<T>(
        &self,
        record: &ConnectionRecord,
        slot: &HandshakeSlot,
        part: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let (outcome, refusal) = tokio::select! {
            biased;
            done = part => return Some(done),
            reason = slot.evicted() => {
                log_limited!(debug, EVICTED, reason = reason.name(), "a handshake was evicted");
                (HandshakeOutcome::Refused, Some(reason))
            }
            () = self.handshakes_end() => {
                log_limited!(debug, CUT_OFF, "a handshake was cut off: the server stops");
                (HandshakeOutcome::CutOff, None)
            }
        };
        let handshake = Handshake {
            outcome,
            status: None,
            refusal,
        };
        self.count(handshake, record);
        None
    }

    /// Applies the limits per address, and counts rejections. Called once per connection,
    /// when `record` has the client's address. `None`: closed without a response, as for
    /// the rate limit before a TLS handshake, whose cost it is to bound (`is_answered`).
    fn admit(
        &self,
        decision: Decision,
        record: &Rc<ConnectionRecord>,
        is_answered: bool,
    ) -> Option<Result<Permit, Rejected>> {
        let counters = &self.settings.counters;
        let (reason, rejected) = match self.admission.admit(decision, record) {
            Decision::Accept(permit) => return Some(Ok(permit)),
            Decision::Reject(rejection @ Rejection::Rate { .. }, _) if !is_answered => {
                (rejection.reason(), None)
            }
            Decision::Reject(rejection, slot) => (rejection.reason(), Some((rejection, slot))),
            Decision::Drop => (RefusalReason::Drop, None),
        };
        counters.refusals.add(reason);
        if rejected.is_none() {
            counters.handshakes.add(HandshakeOutcome::Refused);
        }
        record.handshake_done(Handshake {
            outcome: HandshakeOutcome::Refused,
            status: None,
            refusal: Some(reason),
        });
        rejected.map(Err)
    }

    /// Counts the outcome of a connection that reached HTTP.
    fn count_handshake(&self, outcome: &Outcome, record: &ConnectionRecord) {
        let (outcome, status, refusal) = match outcome {
            Outcome::Upgraded(_) => {
                let times = &self.settings.counters.handshake_times;
                times.note(record.start().elapsed());
                let status = StatusCode::SWITCHING_PROTOCOLS;
                (HandshakeOutcome::Upgraded, Some(status), None)
            }
            Outcome::Refused(refusal) => {
                let status = refusal.status();
                let reason = if refusal.is_by_handler() {
                    RefusalReason::Other
                } else {
                    RefusalReason::of(status)
                };
                (HandshakeOutcome::Refused, Some(status), Some(reason))
            }
            Outcome::RefusedTls => {
                let reason = RefusalReason::Tls;
                (HandshakeOutcome::Refused, None, Some(reason))
            }
            Outcome::TimedOut => {
                let reason = RefusalReason::Timeout;
                (HandshakeOutcome::TimedOut, None, Some(reason))
            }
            &Outcome::Served(status) => (HandshakeOutcome::Served, Some(status), None),
            Outcome::Failed => (left(record), None, None),
        };
        let handshake = Handshake {
            outcome,
            status,
            refusal,
        };
        self.count(handshake, record);
    }

    /// Counts a handshake. A refusal that `admit` has counted is not counted again.
    fn count(&self, handshake: Handshake, record: &ConnectionRecord) {
        let counters = &self.settings.counters;
        counters.handshakes.add(handshake.outcome);
        let before = record.refusal();
        if before.is_none()
            && let Some(reason) = handshake.refusal
        {
            counters.refusals.add(reason);
        }
        record.handshake_done(Handshake {
            refusal: before.or(handshake.refusal),
            ..handshake
        });
    }

    /// Handles due timeouts, and counts buffered bytes; returns these, and whether the next
    /// tick has to come soon.
    fn tick_connections(&self) -> (usize, bool) {
        self.settings.timers.refill();
        let mut buffered = self.engine.tick();
        buffered.add(self.encrypted.tick());
        let counters = &self.settings.counters;
        let (count, held) = (self.handshakes.count(), self.handshakes.held());
        counters.handshakes_in_progress.set(count as u64);
        buffered.bytes += held;
        counters.held_bytes.set(buffered.bytes as u64);
        counters.slow_readers.set(buffered.slow_readers as u64);
        (buffered.bytes, buffered.paused > 0)
    }

    /// Evicts handshakes, and then the connections with most buffered bytes, until `excess`
    /// bytes are freed.
    fn free(&self, excess: usize) {
        let freed = self.handshakes.evict(excess, StdInstant::now());
        let excess = excess.saturating_sub(freed);
        for key in largest_first(self.eviction_candidates().collect(), excess) {
            self.evict(key, EndReason::HeldBytes);
        }
    }

    fn eviction_candidates(&self) -> impl Iterator<Item = EvictionCandidate<Key>> + use<> {
        let plain = self.engine.eviction_candidates().into_iter();
        let encrypted = self.encrypted.eviction_candidates().into_iter();
        plain
            .map(|candidate| candidate.rename(Key::Plain))
            .chain(encrypted.map(|candidate| candidate.rename(Key::Encrypted)))
    }

    fn evict(&self, key: Key, reason: EndReason) {
        match key {
            Key::Plain(key) => self.engine.evict(key, reason),
            Key::Encrypted(key) => self.encrypted.evict(key, reason),
        }
    }

    /// Sets the worker's heartbeat.
    fn beat(&self) {
        let beat_ms = self.epoch.elapsed().as_millis();
        let counters = &self.settings.counters;
        counters
            .beat_ms
            .set(u64::try_from(beat_ms).unwrap_or(u64::MAX));
    }

    /// Waits until the grace of a drain for handshakes is over.
    async fn handshakes_end(&self) {
        self.shutdown.clone().initiated().await;
        sleep(HANDSHAKE_GRACE).await;
    }

    /// Gives an upgraded connection to the engine, and runs its handler, if it has one.
    async fn hand_over(
        &self,
        handover: http::UpgradedStream,
        record: Rc<ConnectionRecord>,
        permit: Permit,
    ) {
        let subprotocol = handover.subprotocol.as_deref();
        tracing::trace!(subprotocol, "upgraded");
        if let Some(subprotocol) = subprotocol {
            record.agreed(subprotocol);
        }
        let peer = record.peer();
        match handover.stream.into_transport() {
            Ok(transport) => {
                drop(record);
                let channel = self.adopt(transport, handover.leftover, permit);
                if let (Some(channel), Some(request)) = (channel, handover.request) {
                    let subprotocol = handover.subprotocol;
                    let socket =
                        MessageSocket::new(Rc::clone(&channel), peer, request, subprotocol);
                    self.run_handler(&channel, socket).await;
                }
            }
            Err(error) => {
                log_limited!(debug, ENDED_EARLY, %error, "a connection ended before it was served");
                let counters = &self.settings.counters;
                counters.count_end(EndReason::Gone, None);
                record.ended(EndReason::Gone, None);
            }
        }
    }

    /// Gives a connection to the engine; the way to it, where there is a handler.
    fn adopt(
        &self,
        transport: Transport,
        leftover: Bytes,
        mut permit: Permit,
    ) -> Option<Rc<Channel>> {
        permit.forget_record_if_unwanted();
        let (permit, handler) = if self.handler.is_some() {
            (permit.companion(), Some(Channel::new(permit)))
        } else {
            (permit, None)
        };
        let channel = handler.clone();
        match transport {
            Transport::Socket(socket) => Rc::clone(&self.engine).adopt(Upgraded {
                socket,
                leftover,
                permit,
                handler,
            }),
            Transport::Tls(stream) => self.encrypted.adopt(stream, leftover, permit, handler),
        }
        channel
    }

    /// Runs the handler of a connection, which keeps its place until the handler returns.
    async fn run_handler(&self, channel: &Channel, socket: MessageSocket) {
        let Some(handler) = self.handler.clone() else {
            return;
        };
        // The call may panic as well as what it returns.
        if let Err(panic) = catch(Box::pin(async move { handler(socket).await })).await {
            report_handler_panic(&self.settings.counters, &*panic);
            channel.close(CloseCode::INTERNAL_ERROR, "");
        }
    }

    /// Stops accepting and closes every connection, with a Close while there is time.
    async fn drain(&self, accepting: Vec<JoinHandle<()>>) {
        let timeout = self.drain_timeout;
        let start = Instant::now();
        // They end by themselves, after they have accepted the rest of the queue.
        for accepting in accepting {
            let _ = accepting.await;
        }
        self.start_drain(Drain::WhenQuiet, self.drain_spread);
        if self.all_closed_by(start + timeout / 2).await {
            return;
        }
        self.start_drain(Drain::Now, Duration::ZERO);
        if !self.all_closed_by(start + timeout).await {
            let open = self.admission.open();
            self.settings.counters.cut_off.add(open as u64);
            tracing::warn!(
                open,
                "connections are cut off at the end of the drain timeout"
            );
        }
    }

    fn start_drain(&self, drain: Drain, spread: Duration) {
        self.engine.drain(drain, spread);
        self.encrypted.drain(drain, spread);
    }

    /// Waits until no connection is left; returns whether that was before `deadline`.
    async fn all_closed_by(&self, deadline: Instant) -> bool {
        while self.admission.open() > 0 {
            tokio::select! {
                () = self.admission.one_left() => {}
                () = sleep_until(deadline) => return false,
            }
        }
        true
    }

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
            if !matches!(decision, Decision::Drop) || self.shutdown.is_initiated() {
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

/// The settings of engines and handlers.
fn settings(config: &Config, counters: Arc<Counters>) -> Settings {
    Settings {
        limits: Limits {
            message_bytes: config.max_message.unwrap_or(u64::MAX),
            fragments: config.max_fragments.get(),
            window: config.window,
        },
        read_size: config.effective_read_size(),
        max_backlog: config.effective_max_backlog(),
        idle_timeout: config.idle_timeout,
        pong_timeout: config.pong_timeout,
        write_timeout: config.write_timeout,
        close_timeout: config.close_timeout,
        busy_poll: config.busy_poll,
        activity: Activity::new(!config.busy_poll.is_zero()),
        backlog_begun: Notify::new(),
        // Set by the first tick.
        backlog_room: BacklogRoom::new(0),
        timers: TimerBudget::default(),
        counters,
        clock: Clock::start(),
        tasks: Tasks::default(),
    }
}

/// The outcome of a handshake whose client has closed without a request.
fn left(record: &ConnectionRecord) -> HandshakeOutcome {
    if record.is_proxys_own() {
        HandshakeOutcome::HealthCheck
    } else {
        HandshakeOutcome::Abandoned
    }
}

/// The address of a listening socket.
fn name_of(socket: &OwnedFd) -> String {
    let address = SockRef::from(socket).local_addr().ok();
    let address = address.as_ref().and_then(Address::from_kernel);
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// The response to a rejected connection.
fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Full => Refusal::FULL,
        Rejection::Address => Refusal::TOO_MANY,
        Rejection::Rate { wait } => Refusal::too_often(wait),
    }
}

async fn accept(worker: Rc<Worker>, socket: Accepting, listener: Rc<Listener>) {
    let mut shutdown = worker.shutdown.clone();
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

async fn tick(worker: Rc<Worker>) -> Infallible {
    let interval = worker.settings.tick_interval();
    let budget = worker.admission.held();
    budget.join();
    worker.settings.backlog_room.set(budget.room());
    let (mut reported, mut is_soon) = (0, false);
    let mut tcp_eviction = TcpEviction::default();
    loop {
        let wait = match (budget.is_high(), is_soon) {
            (true, _) => interval.min(TICK_WHEN_HIGH),
            (false, true) => interval.min(SLOW_READER),
            (false, false) => interval,
        };
        let wait = if worker.settings.timers.was_short() {
            wait.min(timers::PAUSE)
        } else {
            wait
        };
        let start = Instant::now();
        tokio::select! {
            () = sleep_and_free(wait) => {}
            () = worker.settings.timers.wanted() => {}
            () = worker.handshakes.grown() => {
                sleep_until(start + wait.min(start.elapsed() + TICK_WHEN_HIGH)).await;
            }
            () = worker.settings.backlog_begun.notified() => {
                // A reader counts as slow only after that time.
                sleep_until(start + wait.min(start.elapsed() + SLOW_READER)).await;
            }
        }
        let now;
        (now, is_soon) = worker.tick_connections();
        let excess = budget.report(reported, now);
        reported = now - excess;
        if excess > 0 {
            log_limited!(
                warn,
                BUFFERED_BYTES,
                excess,
                "buffered bytes exceed max-held-bytes"
            );
            worker.free(excess);
        }
        tcp_eviction.check(&worker);
        // Memory of dropped backlogs is not yet freed.
        let room = budget.room().saturating_sub(byte_queue::free_some());
        worker.settings.backlog_room.set(room);
        worker.beat();
        log_limit::report_suppressed();
    }
}

/// Sleeps, and frees memory of dropped backlogs meanwhile.
async fn sleep_and_free(time: Duration) {
    let end = Instant::now() + time;
    while byte_queue::free_some() > 0 && Instant::now() < end {
        sleep(timers::PAUSE).await;
    }
    sleep_until(end).await;
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

/// Refuses with 500 where `accept` panics.
fn guard_accept(accept: Accept, counters: Arc<Counters>) -> Accept {
    Arc::new(move |request| {
        catch_unwind(AssertUnwindSafe(|| accept(request))).unwrap_or_else(|panic| {
            report_handler_panic(&counters, &*panic);
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        })
    })
}

fn report_handler_panic(counters: &Counters, panic: &(dyn Any + Send)) {
    counters.handler_panics.add(1);
    let reason = panic_message(panic);
    log_limited!(warn, HANDLER_PANICS, %reason, "a handler's panic ended its connection");
}

#[cfg(test)]
mod tests;
