//! One connection from its accept to its end, for the log.

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

/// The identity of a connection for log lines, and the data of its access line, which is
/// written when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    /// Unique in this process.
    id: u64,
    peer: Cell<Peer>,
    /// The proxy that has connected for `peer`.
    proxy: Cell<Option<Peer>>,
    /// The PROXY header names no client.
    is_proxys_own: Cell<bool>,
    /// `None` if no access line is written.
    access: Option<Rc<AccessContext>>,
    start: Instant,
    handshake: Cell<Handshake>,
    /// The version of TLS, if any.
    tls: Cell<Option<&'static str>>,
    /// From here on, fields of the access line.
    request: OnceCell<Box<LoggedRequest>>,
    subprotocol: OnceCell<Box<str>>,
    messages_in: Count,
    messages_out: Count,
    bytes_in: Count,
    bytes_out: Count,
    end: Cell<Option<(EndReason, Option<CloseCode>)>>,
}

/// The result of the handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) outcome: HandshakeOutcome,
    /// `None` if nothing was answered, or an unknown part.
    pub(crate) status: Option<StatusCode>,
    pub(crate) refusal: Option<RefusalReason>,
}

/// A counter of one connection.
#[derive(Debug, Default)]
struct Count(Cell<u64>);

impl Count {
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
            messages_in: Count::default(),
            messages_out: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            end: Cell::new(None),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer.get()
    }

    /// Sets the client that a proxy names. The previous peer is the proxy, unless one is
    /// set already.
    pub(crate) fn set_client(&self, client: Peer) {
        let before = self.peer.replace(client);
        self.proxy.set(self.proxy.get().or(Some(before)));
    }

    /// The PROXY header names no client: the connection is the proxy's own.
    pub(crate) fn set_proxys_own(&self) {
        self.is_proxys_own.set(true);
    }

    /// Whether the PROXY header names no client.
    pub(crate) fn is_proxys_own(&self) -> bool {
        self.is_proxys_own.get()
    }

    pub(crate) fn set_tls(&self, version: &'static str) {
        self.tls.set(Some(version));
    }

    pub(crate) fn set_request<B>(&self, request: &Request<B>) {
        if let Some(access) = &self.access {
            let logged = LoggedRequest::new(request, &access.fields);
            // There is one request.
            let _ = self.request.set(Box::new(logged));
        }
    }

    /// The time of its accept.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// The span of log lines about this connection. It is made per line, as one that is
    /// stored costs memory.
    pub(crate) fn span(&self) -> Span {
        tracing::debug_span!("connection", id = self.id, peer = %self.peer())
    }

    /// As [`span`](Self::span), at the level warn.
    pub(crate) fn warning_span(&self) -> Span {
        tracing::warn_span!("connection", id = self.id, peer = %self.peer())
    }

    /// Whether an access line or a debug line may still need it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.access.is_some() || tracing::enabled!(tracing::Level::DEBUG)
    }

    pub(crate) fn handshake_done(&self, handshake: Handshake) {
        self.handshake.set(handshake);
    }

    /// The reason of the refusal, if it was refused.
    pub(crate) fn refusal(&self) -> Option<RefusalReason> {
        self.handshake.get().refusal
    }

    /// The negotiated subprotocol.
    pub(crate) fn agreed(&self, subprotocol: &str) {
        if self.access.is_some() {
            // There is one handshake.
            let _ = self.subprotocol.set(access::escape(subprotocol.as_bytes()));
        }
    }

    /// Counts bytes of frames that were read.
    #[inline]
    pub(crate) fn read(&self, len: usize) {
        self.bytes_in.add(len as u64);
    }

    /// Counts bytes of frames that were written.
    #[inline]
    pub(crate) fn wrote(&self, len: usize) {
        self.bytes_out.add(len as u64);
    }

    #[inline]
    pub(crate) fn count_messages(&self, received: u32, sent: u32) {
        self.messages_in.add(received.into());
        self.messages_out.add(sent.into());
    }

    /// Counts the messages of a step of the echo.
    #[inline]
    pub(crate) fn count_step(&self, step: &Step) {
        self.count_messages(step.messages, step.messages);
    }

    /// Sets the reason and the Close code of the end.
    pub(crate) fn ended(&self, reason: EndReason, code: Option<CloseCode>) {
        self.end.set(Some((reason, code)));
    }

    /// Writes the access line, without the fields that the connection did not reach.
    fn write_access_line(&self, access: &AccessContext) {
        let Handshake {
            outcome,
            status,
            refusal,
        } = self.handshake.get();
        let was_upgraded = outcome == HandshakeOutcome::Upgraded;
        let count = |count: &Count| was_upgraded.then(|| count.get());
        // Connections that are open at the drain timeout are dropped without `ended`.
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
            messages_in = count(&self.messages_in),
            messages_out = count(&self.messages_out),
            bytes_in = count(&self.bytes_in),
            bytes_out = count(&self.bytes_out),
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
            self.write_access_line(access);
        }
    }
}
