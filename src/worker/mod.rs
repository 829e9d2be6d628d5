//! One core: accept, handshake, then the engine or a handler.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod opening;
mod tcp_eviction;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

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
use crate::engine::select;
use crate::engine::timers::{self, TimerBudget};
use crate::engine::{Clock, Drain, Engine, SLOW_READER, Settings, Upgraded};
use crate::http::{self, HttpOptions, Outcome, Refusal};
use crate::limits::admission::{Admission, Decision, Permit, RejectSlot, Rejection, ServerLimits};
use crate::limits::handshakes::{HandshakeSlot, Handshakes};
use crate::limits::memory_budget::TICK_WHEN_HIGH;
use crate::message::{Handler, HandlerRegistry, MessageSocket};
use crate::net::address::Address;
use crate::net::byte_queue;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::access::AccessContext;
use crate::observe::connection_record::{ConnectionRecord, Handshake};
use crate::observe::log_limit::{
    self, ACCEPT_FAILS, ACCEPT_RESTS, CUT_OFF, ENDED_EARLY, EVICTED, HANDLER_PANICS, HELD_TOO_MUCH,
    TLS_FAILS, TOO_SLOW, log_limited,
};
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::{EndReason, HandshakeOutcome, RefusalReason};
use crate::proto::Limits;
use crate::sys::calls;
use crate::sys::shutdown::Shutdown;
use crate::sys::task::{Tasks, catch, panic_message};
use crate::sys::task_kind::TaskKind;
use crate::sys::turn::log_longest;
use crate::transport::listener::{Accepting, UnixOptions};
use crate::transport::stream::Transport;
use crate::transport::tls::{Acceptor, Tls};
use tcp_eviction::TcpEviction;

/// How long accepting rests when it cannot go on, mostly because there are no file
/// descriptors left, unless a connection ends sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How often, and for how long each time, a full server waits until another
/// connection can be refused with an answer, while none of this worker's leaves. One
/// takes as long as its client takes to send a request, and 100 ms to hang up.
const REJECT_WAITS: u32 = 100;
const REJECT_WAIT: Duration = Duration::from_millis(10);

/// How often it waits where some leave, and others take their places.
const REJECT_WAITS_MAX: u32 = 1000;

/// How long it does not wait where that was in vain: those who are to be told do
/// not say a word.
const REJECT_WAIT_PAUSE: Duration = Duration::from_secs(10);

/// How long a server that stops waits for handshakes: time for requests that
/// are on their way, but not for browsers that connect in advance.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(500);

/// What one worker is given.
pub(crate) struct Assignment {
    pub(crate) config: Arc<Config>,
    pub(crate) engine: EngineKind,
    /// Its index among the workers.
    pub(crate) index: usize,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// The core to be bound to.
    pub(crate) core: Option<usize>,
    pub(crate) listeners: Vec<OwnedFd>,
    /// Those on which TLS is spoken; they need `tls`.
    pub(crate) tls_listeners: Vec<OwnedFd>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) server_limits: Arc<ServerLimits>,
    pub(crate) counters: Arc<Counters>,
    /// When the server was started; the worker's heartbeat counts from here.
    pub(crate) epoch: StdInstant,
    pub(crate) shutdown: Shutdown,
    /// Serves the upgraded connections instead of the engine.
    pub(crate) handler: Option<Handler>,
}

/// Runs a worker on the current thread until the server has drained. Calls
/// `ready` once it has all that it needs; accepts connections if the answer is
/// that it may, and ends if not.
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
    // With it go the connections, before anybody hears of a panic.
    drop(runtime);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Worker {
    engine: Rc<dyn Engine>,
    /// What came over TLS.
    encrypted: Rc<Encrypted>,
    settings: Rc<Settings>,
    http: Rc<HttpOptions>,
    admission: Rc<Admission>,
    handshakes: Rc<Handshakes>,
    handler: Option<Handler>,
    /// The handler's connections.
    handled: Rc<HandlerRegistry>,
    /// Who must say for whom it speaks, before anything else.
    proxies: Vec<ProxySource>,
    /// Who may say so in a request, and in which field.
    forwarding_proxies: Vec<ProxySource>,
    forwarded_header: ForwardedHeader,
    shutdown: Shutdown,
    /// What the heartbeat counts from.
    epoch: StdInstant,
    drain_timeout: Duration,
    /// What the Closes of a drain are spread over.
    drain_spread: Duration,
}

/// Why a connection is turned away, and its place until it is.
type Turned = (Rejection, RejectSlot);

/// Which of a worker's upgraded connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    /// The engine's.
    Plain(u32),
    Encrypted(u32),
    /// A handler's.
    Handled(u32),
}

/// What the connections of one listening socket have in common.
#[derive(Default)]
struct Listener {
    /// Where TLS is spoken.
    acceptor: Option<Rc<Acceptor>>,
    /// Where access lines are written.
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
            handled: Rc::new(HandlerRegistry::new(Rc::clone(&settings))),
            settings,
            http: Rc::new(HttpOptions {
                path: config.path.clone(),
                origins: config.origins.clone(),
                subprotocols: config.subprotocols.clone(),
                max_header_bytes: config.max_header_bytes,
                handshake_timeout: config.handshake_timeout,
            }),
            admission: Admission::new(assignment.server_limits, counters),
            handshakes: Handshakes::new(config, assignment.workers),
            handler: assignment.handler,
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
    /// Why the engine cannot go on.
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
            () = self.drain_when_told(accepting) => Ok(()),
            ended = running => Err(Error::Start {
                what: "the engine again after it ended",
                source: ended.unwrap_or_else(io::Error::other),
            }),
        };
        running_abort.abort();
        ticking.abort();
        result
    }

    async fn drain_when_told(&self, accepting: Vec<JoinHandle<()>>) {
        self.shutdown.clone().initiated().await;
        self.drain(accepting).await;
    }

    /// Gives a connection a task for its handshake, if it gets an answer.
    fn let_in(
        self: &Rc<Self>,
        socket: Socket,
        peer: Peer,
        listener: &Rc<Listener>,
        entry: Decision,
    ) {
        let counters = &self.settings.counters;
        counters.accepted.add(1);
        let record = self.admission.record(peer, listener.access.clone());
        if matches!(entry, Decision::Drop) {
            // Closed at once: its descriptor is in no budget.
            let _refused = self.admit(entry, &record, true);
            return;
        }
        let slot = self.handshakes.enter(record.start());
        let meeting = Rc::clone(self).meet(socket, record, Rc::clone(listener), entry, slot);
        self.settings.tasks.spawn(TaskKind::Connection, meeting);
    }

    /// A connection from its accept until it is over, or the engine has it.
    async fn meet(
        self: Rc<Self>,
        mut socket: Socket,
        record: Rc<ConnectionRecord>,
        listener: Rc<Listener>,
        entry: Decision,
        slot: HandshakeSlot,
    ) {
        if self.is_from_a_proxy(&record) {
            let introduction = self.introduce(&mut socket, &record, &slot);
            if !introduction.instrument(record.span()).await {
                return;
            }
        }
        self.shake_hands(socket, Rc::clone(&record), &listener, entry, slot)
            .instrument(record.span())
            .await;
        // Told of outside of its span, which says the same.
        drop(record);
    }

    async fn shake_hands(
        &self,
        socket: Socket,
        record: Rc<ConnectionRecord>,
        listener: &Listener,
        entry: Decision,
        slot: HandshakeSlot,
    ) {
        let handshake_done = self.answer(socket, &record, listener, entry, &slot).await;
        drop(slot);
        let Some((outcome, permit)) = handshake_done else {
            return;
        };
        self.count_handshake(&outcome, &record);
        match (outcome, permit) {
            (Outcome::Upgraded(handover), Some(permit)) => {
                self.hand_over(handover, record, permit).await;
            }
            (Outcome::Upgraded(_), None) => unreachable!("who is turned away is not upgraded"),
            // It is logged where the request is known.
            (Outcome::Refused(_), _) => {}
            (Outcome::RefusedTls, _) => {
                log_limited!(debug, TLS_FAILS, "TLS came where none is spoken");
            }
            (Outcome::TimedOut, _) => {
                log_limited!(debug, TOO_SLOW, "a handshake took too long");
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
        entry: Decision,
        slot: &HandshakeSlot,
    ) -> Option<(Outcome, Option<Permit>)> {
        // Whose request it is shows in its head, where a proxy passes it on.
        let (entry, admitted) = if self.is_from_a_forwarding_proxy(record) {
            (Some(entry), None)
        } else {
            let is_told = listener.acceptor.is_none();
            (None, Some(self.admit(entry, record, is_told)?))
        };
        let handshake = pin!(async {
            let stream = self.open(socket, record, listener, slot).await?;
            let since = record.start().into();
            let request = http::read_request(stream, &self.http, since, slot).await;
            if let Ok(request) = &request {
                record.set_request(request.head());
            }
            let admitted = match (&request, entry) {
                (Ok(request), Some(entry)) => {
                    self.find_client(request, record);
                    match self.admit(entry, record, true) {
                        Some(admitted) => Some(admitted),
                        // It is counted.
                        None => return Ok(None),
                    }
                }
                _ => admitted,
            };
            let (request, admitted) = match (request, admitted) {
                (Ok(request), Some(admitted)) => (request, admitted),
                (Ok(_), None) => unreachable!("it is admitted before or behind its request"),
                (Err(outcome), admitted) => {
                    return Ok(Some((outcome, admitted.and_then(Result::ok))));
                }
            };
            Ok(Some(match admitted {
                Ok(permit) => (request.serve(&self.http, slot).await, Some(permit)),
                Err((rejection, _place)) => {
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

    /// Does what belongs to a handshake, unless it is evicted or the server stops
    /// meanwhile.
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
                log_limited!(debug, CUT_OFF, "a handshake was cut off because the server stops");
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

    /// Applies the limits per address, and counts who is not let in. To be called
    /// once for each connection, when it is known whose it is: from there on its
    /// `record` has the right peer. `None` is for who is not even told: not where that
    /// takes a TLS handshake first, which is what the rate is to bound.
    fn admit(
        &self,
        entry: Decision,
        record: &Rc<ConnectionRecord>,
        is_told: bool,
    ) -> Option<Result<Permit, Turned>> {
        let counters = &self.settings.counters;
        let (reason, turned) = match self.admission.admit(entry, record) {
            Decision::Accept(permit) => return Some(Ok(permit)),
            Decision::Reject(rejection @ Rejection::Rate { .. }, _) if !is_told => {
                (rejection.reason(), None)
            }
            Decision::Reject(rejection, place) => (rejection.reason(), Some((rejection, place))),
            Decision::Drop => (RefusalReason::Drop, None),
        };
        counters.refusals.add(reason);
        if turned.is_none() {
            counters.handshakes.add(HandshakeOutcome::Refused);
        }
        record.handshake_done(Handshake {
            outcome: HandshakeOutcome::Refused,
            status: None,
            refusal: Some(reason),
        });
        turned.map(Err)
    }

    /// Counts what became of a connection that got as far as HTTP.
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
                let reason = RefusalReason::of(status);
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

    /// Counts a handshake. The refusal of a connection that was turned away is counted
    /// already, whatever came of it.
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

    /// Sees to the timeouts, and counts the bytes that the connections hold. Answers
    /// how many, and whether this has to be done again soon.
    fn look_after_connections(&self) -> (usize, bool) {
        self.settings.timers.refill();
        let mut buffered = self.engine.tick();
        buffered.add(self.encrypted.tick());
        buffered.add(self.handled.tick());
        let counters = &self.settings.counters;
        let (count, held) = (self.handshakes.count(), self.handshakes.held());
        counters.handshakes_in_progress.set(count as u64);
        buffered.bytes += held;
        counters.held_bytes.set(buffered.bytes as u64);
        counters.slow_readers.set(buffered.slow_readers as u64);
        (buffered.bytes, buffered.paused > 0)
    }

    /// Ends handshakes, and then the connections that hold most, over TLS or not, until
    /// `excess` bytes are let go of.
    fn shed(&self, excess: usize) {
        let leaving = self.handshakes.evict(excess, StdInstant::now());
        let excess = excess.saturating_sub(leaving);
        for key in largest_first(self.eviction_candidates().collect(), excess) {
            self.evict(key, EndReason::HeldBytes);
        }
    }

    /// What each connection holds that holds something.
    fn eviction_candidates(&self) -> impl Iterator<Item = EvictionCandidate<Key>> + use<> {
        let plain = self.engine.eviction_candidates().into_iter();
        let encrypted = self.encrypted.eviction_candidates().into_iter();
        let handled = self.handled.eviction_candidates().into_iter();
        plain
            .map(|candidate| candidate.rename(Key::Plain))
            .chain(encrypted.map(|candidate| candidate.rename(Key::Encrypted)))
            .chain(handled.map(|candidate| candidate.rename(Key::Handled)))
    }

    fn evict(&self, key: Key, reason: EndReason) {
        match key {
            Key::Plain(key) => self.engine.evict(key, reason),
            Key::Encrypted(key) => self.encrypted.evict(key, reason),
            Key::Handled(key) => self.handled.evict(key, reason),
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
        self.shutdown.clone().initiated().await;
        sleep(HANDSHAKE_GRACE).await;
    }

    async fn hand_over(
        &self,
        handover: http::UpgradedStream,
        record: Rc<ConnectionRecord>,
        mut permit: Permit,
    ) {
        let subprotocol = handover.subprotocol.as_deref();
        tracing::trace!(subprotocol, "upgraded");
        if let Some(subprotocol) = subprotocol {
            record.agreed(subprotocol);
        }
        if let Some(handler) = &self.handler {
            let settings = Rc::clone(&self.settings);
            let registry = Rc::clone(&self.handled);
            let socket = MessageSocket::new(handover, record, settings, registry);
            let handler = Arc::clone(handler);
            // The call may panic as well as what it returns.
            if let Err(panic) = catch(Box::pin(async move { handler(socket).await })).await {
                self.settings.counters.handler_panics.add(1);
                let reason = panic_message(&*panic);
                log_limited!(warn, HANDLER_PANICS, %reason, "a handler's panic ended its connection");
            }
            drop(permit);
            return;
        }
        match handover.stream.into_transport() {
            Ok(transport) => {
                permit.forget_record_if_unwanted();
                drop(record);
                let leftover = handover.leftover;
                match transport {
                    Transport::Socket(socket) => Rc::clone(&self.engine).adopt(Upgraded {
                        socket,
                        leftover,
                        permit,
                    }),
                    Transport::Tls(stream) => self.encrypted.adopt(stream, leftover, permit),
                }
            }
            Err(error) => {
                log_limited!(debug, ENDED_EARLY, %error, "a connection ended before it began");
                let counters = &self.settings.counters;
                counters.count_end(EndReason::Gone, None);
                record.ended(EndReason::Gone, None);
            }
        }
    }

    /// Stops accepting and closes every connection, politely while there is
    /// time.
    async fn drain(&self, accepting: Vec<JoinHandle<()>>) {
        let timeout = self.drain_timeout;
        let start = Instant::now();
        // They end by themselves, after a last look at who has come already.
        for accepting in accepting {
            let _ = accepting.await;
        }
        self.tell(Drain::WhenQuiet, self.drain_spread);
        if self.all_left_by(start + timeout / 2).await {
            return;
        }
        self.tell(Drain::Now, Duration::ZERO);
        if !self.all_left_by(start + timeout).await {
            let open = self.admission.open();
            self.settings.counters.cut_off.add(open as u64);
            tracing::warn!(
                open,
                "connections are cut off at the end of the drain timeout"
            );
        }
    }

    /// Tells whatever serves connections how far the drain has come.
    fn tell(&self, drain: Drain, spread: Duration) {
        self.engine.drain(drain, spread);
        self.encrypted.drain(drain, spread);
        self.handled.drain(drain, spread);
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

    /// Gives an accepted connection its place. Where it would be closed without an
    /// answer, since as many are being refused as may be, it waits for one of them
    /// to leave; not again until `not_before` where that was in vain.
    async fn enter(&self, not_before: &mut Instant) -> Decision {
        let entry = self.admission.enter();
        if !matches!(entry, Decision::Drop) || Instant::now() < *not_before {
            return entry;
        }
        // Counted rather than timed: whatever is due in this worker gets its turn,
        // however seldom the worker itself gets one.
        let mut in_vain = 0;
        for _ in 0..REJECT_WAITS_MAX {
            tokio::select! {
                () = self.admission.one_left() => in_vain = 0,
                // One of another worker may have left.
                () = sleep(REJECT_WAIT) => in_vain += 1,
            }
            let entry = self.admission.enter();
            if !matches!(entry, Decision::Drop) || self.shutdown.is_initiated() {
                return entry;
            }
            if in_vain == REJECT_WAITS {
                break;
            }
        }
        *not_before = Instant::now() + REJECT_WAIT_PAUSE;
        Decision::Drop
    }

    /// Rests until accepting may work again.
    async fn pause(&self, error: &io::Error) {
        let open = self.admission.open();
        log_limited!(warn, ACCEPT_RESTS, %error, open, "accepting rests");
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
        max_backlog: config.effective_max_backlog(),
        idle_timeout: config.idle_timeout,
        pong_timeout: config.pong_timeout,
        write_timeout: config.write_timeout,
        close_timeout: config.close_timeout,
        busy_poll: config.busy_poll,
        activity: Activity::new(!config.busy_poll.is_zero()),
        backlog_begun: Notify::new(),
        // The first tick says how much.
        backlog_room: BacklogRoom::new(0),
        timers: TimerBudget::default(),
        counters,
        clock: Clock::start(),
        tasks: Tasks::default(),
    }
}

/// How a handshake ended whose client left without a request.
fn left(record: &ConnectionRecord) -> HandshakeOutcome {
    if record.is_proxys_own() {
        HandshakeOutcome::HealthCheck
    } else {
        HandshakeOutcome::Abandoned
    }
}

/// The address that is listened on.
fn name_of(socket: &OwnedFd) -> String {
    let address = SockRef::from(socket).local_addr().ok();
    let address = address.as_ref().and_then(Address::from_kernel);
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// What is said to a connection that is not let in.
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
                let entry = worker.enter(&mut no_wait_before).await;
                worker.let_in(socket, peer, &listener, entry);
            }
            // The next may be fine.
            Err(error) if is_of_the_connection(&error) => {
                log_limited!(debug, ACCEPT_FAILS, %error, "accept");
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
        // The queue is the successor's as well.
        return;
    }
    if let Err(error) = accept_rest(&worker, socket, &listener) {
        log_limited!(debug, ACCEPT_FAILS, %error, "accept");
    }
}

/// Lets those in who wait to be accepted: closing the listener would reset
/// them.
fn accept_rest(worker: &Rc<Worker>, socket: Accepting, listener: &Rc<Listener>) -> io::Result<()> {
    let waiting = socket.into_blocking()?;
    loop {
        match waiting.next() {
            Ok((socket, peer)) => {
                let entry = worker.admission.enter();
                worker.let_in(socket, peer, listener, entry);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

async fn tick(worker: Rc<Worker>) -> Infallible {
    let interval = worker.settings.tick_interval();
    let held = worker.admission.held();
    held.join();
    worker.settings.backlog_room.set(held.room());
    let (mut reported, mut is_soon) = (0, false);
    let mut tcp_eviction = TcpEviction::default();
    loop {
        let wait = match (held.is_high(), is_soon) {
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
                // What is over by then is seen by then, and no sooner.
                sleep_until(start + wait.min(start.elapsed() + SLOW_READER)).await;
            }
        }
        let now;
        (now, is_soon) = worker.look_after_connections();
        let excess = held.report(reported, now);
        reported = now - excess;
        if excess > 0 {
            log_limited!(warn, HELD_TOO_MUCH, excess, "more is held than may be");
            worker.shed(excess);
        }
        tcp_eviction.look(&worker);
        // What dropped backlogs have left is memory still.
        let room = held.room().saturating_sub(byte_queue::free_some());
        worker.settings.backlog_room.set(room);
        worker.beat();
        log_limit::reschedule();
    }
}

/// Sleeps, but for freeing what dropped backlogs have left.
async fn sleep_and_free(time: Duration) {
    let end = Instant::now() + time;
    while byte_queue::free_some() > 0 && Instant::now() < end {
        sleep(timers::PAUSE).await;
    }
    sleep_until(end).await;
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
