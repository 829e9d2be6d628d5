//! One connection from its accept to its end, as the log tells of it.

use std::cell::{Cell, OnceCell};
use std::time::Instant;

use hyper::StatusCode;
use tracing::Span;

use crate::metrics::label::{EndReason, HandshakeOutcome, RefusalReason};
use crate::peer::Peer;
use crate::proto::{CloseCode, Step};

/// The target of the access lines.
const ACCESS: &str = "access";

/// What is remembered of a connection, so that lines of the log can name it. If
/// it is to be told of at its end, that is when this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    /// No other connection of this process has it.
    id: u64,
    peer: Cell<Peer>,
    /// Who speaks for it.
    proxy: Cell<Option<Peer>>,
    /// An access line is to be written.
    tells: bool,
    start: Instant,
    handshake: Cell<Handshake>,
    subprotocol: OnceCell<String>,
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

impl Visit {
    /// A connection that was just accepted.
    pub(crate) fn new(id: u64, peer: Peer, tells: bool) -> Self {
        Self {
            id,
            peer: Cell::new(peer),
            proxy: Cell::new(None),
            tells,
            start: Instant::now(),
            handshake: Cell::new(Handshake {
                outcome: HandshakeOutcome::CutOff,
                status: None,
                refusal: None,
            }),
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

    /// Who has connected speaks for this client.
    pub(crate) fn is_of(&self, client: Peer) {
        self.proxy.set(Some(self.peer.replace(client)));
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
        self.tells || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// The handshake is over.
    pub(crate) fn shaken(&self, handshake: Handshake) {
        self.handshake.set(handshake);
    }

    /// Why it was refused, as far as that is known.
    pub(crate) fn refusal(&self) -> Option<RefusalReason> {
        self.handshake.get().refusal
    }

    /// A subprotocol was agreed on.
    pub(crate) fn agreed(&self, subprotocol: &str) {
        // There is one handshake.
        let _ = self.subprotocol.set(subprotocol.to_owned());
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
    fn tell(&self) {
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
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: ACCESS,
            parent: None,
            id = self.id,
            peer = %self.peer(),
            proxy = self.proxy.get().map(tracing::field::display),
            outcome = outcome.name(),
            status = status.map(|status| status.as_u16()),
            refusal = refusal.map(RefusalReason::name),
            subprotocol = self.subprotocol.get(),
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

impl Drop for Visit {
    fn drop(&mut self) {
        if self.tells {
            self.tell();
        }
    }
}
