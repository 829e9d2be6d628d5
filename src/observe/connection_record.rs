//! One connection from its accept to its end, as the log tells of it.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Instant;

use hyper::{Request, StatusCode};
use tracing::Span;

use crate::config::access_field::AccessField;
use crate::net::peer::Peer;
use crate::observe::access::{self, AccessContext, LoggedRequest};
use crate::observe::metrics::label::{EndReason, HandshakeOutcome, RefusalReason};
use crate::proto::{CloseCode, Step};

/// The target of the access lines.
const ACCESS: &str = "access";

/// What is remembered of a connection, so that lines of the log can name it. If
/// it is to be told of at its end, that is when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    /// No other connection of this process has it.
    id: u64,
    peer: Cell<Peer>,
    /// Who speaks for it.
    proxy: Cell<Option<Peer>>,
    /// The proxy has said that it speaks for itself, or does not know for whom.
    is_proxys_own: Cell<bool>,
    /// Where an access line is to be written.
    access: Option<Rc<AccessContext>>,
    start: Instant,
    handshake: Cell<Handshake>,
    /// By the name of the version, where TLS is spoken.
    tls: Cell<Option<&'static str>>,
    /// The rest is for the access line alone.
    request: OnceCell<Box<LoggedRequest>>,
    subprotocol: OnceCell<Box<str>>,
    messages_in: Tally,
    messages_out: Tally,
    bytes_in: Tally,
    bytes_out: Tally,
    end: Cell<Option<(EndReason, Option<CloseCode>)>>,
}

/// What became of the handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) outcome: HandshakeOutcome,
    /// What was answered; `None` for nothing, or nobody knows how much of it.
    pub(crate) status: Option<StatusCode>,
    pub(crate) refusal: Option<RefusalReason>,
}

/// A number that grows.
#[derive(Debug, Default)]
struct Tally(Cell<u64>);

impl Tally {
    #[inline]
    fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    fn get(&self) -> u64 {
        self.0.get()
    }
}

impl ConnectionRecord {
    /// A connection that was just accepted.
    pub(crate) fn new(id: u64, peer: Peer, access: Option<Rc<AccessContext>>) -> Self {
        Self {
            id,
            peer: Cell::new(peer),
            proxy: Cell::new(None),
            is_proxys_own: Cell::new(false),
            access,
            start: Instant::now(),
            handshake: Cell::new(Handshake {
                outcome: HandshakeOutcome::CutOff,
                status: None,
                refusal: None,
            }),
            tls: Cell::new(None),
            request: OnceCell::new(),
            subprotocol: OnceCell::new(),
            messages_in: Tally::default(),
            messages_out: Tally::default(),
            bytes_in: Tally::default(),
            bytes_out: Tally::default(),
            end: Cell::new(None),
        }
    }

    /// Whose it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer.get()
    }

    /// The connection is this client's: a proxy has said so. The first proxy is the
    /// one that has connected.
    pub(crate) fn set_client(&self, client: Peer) {
        let before = self.peer.replace(client);
        self.proxy.set(self.proxy.get().or(Some(before)));
    }

    /// The proxy that has connected names no client.
    pub(crate) fn set_proxys_own(&self) {
        self.is_proxys_own.set(true);
    }

    /// Whether the proxy that has connected named no client.
    pub(crate) fn is_proxys_own(&self) -> bool {
        self.is_proxys_own.get()
    }

    /// TLS is spoken, in the version of this name.
    pub(crate) fn set_tls(&self, version: &'static str) {
        self.tls.set(Some(version));
    }

    /// A request has come.
    pub(crate) fn set_request<B>(&self, request: &Request<B>) {
        if let Some(access) = &self.access {
            let logged = LoggedRequest::new(request, &access.fields);
            // There is one request.
            let _ = self.request.set(Box::new(logged));
        }
    }

    /// When it began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// What lines of the log about this connection stand in. Made when there is
    /// such a line, or for a while: one that is kept costs memory.
    pub(crate) fn span(&self) -> Span {
        tracing::debug_span!("connection", id = self.id, peer = %self.peer())
    }

    /// The span of lines that are seen where [`span`](Self::span) is not.
    pub(crate) fn warning_span(&self) -> Span {
        tracing::warn_span!("connection", id = self.id, peer = %self.peer())
    }

    /// Whether a line may still be written that has to do with it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.access.is_some() || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// The handshake is over.
    pub(crate) fn handshake_done(&self, handshake: Handshake) {
        self.handshake.set(handshake);
    }

    /// Why it was refused, as far as that is known.
    pub(crate) fn refusal(&self) -> Option<RefusalReason> {
        self.handshake.get().refusal
    }

    /// A subprotocol was agreed on.
    pub(crate) fn agreed(&self, subprotocol: &str) {
        if self.access.is_some() {
            // There is one handshake.
            let _ = self.subprotocol.set(access::escape(subprotocol.as_bytes()));
        }
    }

    /// Bytes of frames were read.
    #[inline]
    pub(crate) fn read(&self, len: usize) {
        self.bytes_in.add(len as u64);
    }

    /// Bytes of frames were written.
    #[inline]
    pub(crate) fn wrote(&self, len: usize) {
        self.bytes_out.add(len as u64);
    }

    /// Messages were received, or sent.
    #[inline]
    pub(crate) fn count_messages(&self, received: u32, sent: u32) {
        self.messages_in.add(received.into());
        self.messages_out.add(sent.into());
    }

    /// The echo core has answered.
    #[inline]
    pub(crate) fn count_step(&self, step: &Step) {
        self.count_messages(step.messages, step.messages);
    }

    /// It was decided that the connection ends.
    pub(crate) fn ended(&self, reason: EndReason, code: Option<CloseCode>) {
        self.end.set(Some((reason, code)));
    }

    /// The access line. What a connection did not come to is left out.
    fn tell(&self, access: &AccessContext) {
        let Handshake {
            outcome,
            status,
            refusal,
        } = self.handshake.get();
        let was_upgraded = outcome == HandshakeOutcome::Upgraded;
        let tally = |tally: &Tally| was_upgraded.then(|| tally.get());
        // What is left when a drain has no more time is cut without a decision.
        let end = self.end.get().or(Some((EndReason::Drain, None)));
        let (reason, code) = end.filter(|_| was_upgraded).unzip();
        let request = self.request.get();
        let sent = |field| request.and_then(|request| request.get(field));
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: ACCESS,
            parent: None,
            id = self.id,
            peer = %self.peer(),
            proxy = self.proxy.get().map(tracing::field::display),
            listener = access.listener,
            worker = access.worker,
            tls = self.tls.get(),
            outcome = outcome.name(),
            status = status.map(|status| status.as_u16()),
            refusal = refusal.map(RefusalReason::name),
            path = request.map(|request| request.path()),
            query = sent(AccessField::Query),
            host = sent(AccessField::Host),
            origin = sent(AccessField::Origin),
            user_agent = sent(AccessField::UserAgent),
            x_request_id = sent(AccessField::XRequestId),
            traceparent = sent(AccessField::Traceparent),
            x_forwarded_for = sent(AccessField::XForwardedFor),
            forwarded = sent(AccessField::Forwarded),
            sec_websocket_protocol = sent(AccessField::SecWebSocketProtocol),
            sec_websocket_extensions = sent(AccessField::SecWebSocketExtensions),
            subprotocol = self.subprotocol.get().map(|name| &**name),
            compression = was_upgraded.then_some("none"),
            duration_ms,
            messages_in = tally(&self.messages_in),
            messages_out = tally(&self.messages_out),
            bytes_in = tally(&self.bytes_in),
            bytes_out = tally(&self.bytes_out),
            reason = reason.map(EndReason::name),
            code = code.flatten().map(CloseCode::get),
            "connection"
        );
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if let Some(access) = &self.access
            && access.has_room()
        {
            self.tell(access);
        }
    }
}
