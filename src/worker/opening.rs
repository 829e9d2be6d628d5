//! What comes before a request is served: a proxy's word on its client, and TLS.

use std::pin::pin;

use hyper::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::{Listener, Worker, left};
use crate::http::{self, PendingRequest};
use crate::limits::handshakes::HandshakeSlot;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::connection_record::{ConnectionRecord, Handshake};
use crate::observe::log_limit::{FORWARDED_FAILS, PROXY_FAILS, TLS_FAILS, TOO_SLOW, log_limited};
use crate::observe::metrics::label::{HandshakeOutcome, RefusalReason, TlsOutcome};
use crate::transport::proxy;
use crate::transport::stream::Stream;
use crate::transport::tls;

/// Why a connection does not get as far as HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unopened {
    /// The client was told, as far as it can be; with a status, if by HTTP.
    Refused(RefusalReason, Option<StatusCode>),
    TimedOut,
    /// The client has left.
    Gone,
}

impl Worker {
    /// Whether the connection has to say whose it is.
    pub(super) fn is_from_a_proxy(&self, record: &ConnectionRecord) -> bool {
        let peer = record.peer();
        self.proxies.iter().any(|proxy| proxy.contains(peer))
    }

    /// Reads for whom a proxy speaks; whether the connection goes on.
    pub(super) async fn introduce(
        &self,
        socket: &mut Socket,
        record: &ConnectionRecord,
        slot: &HandshakeSlot,
    ) -> bool {
        let header = proxy::read_header(socket, |bytes| slot.hold(bytes));
        let reading = timeout_at(self.handshake_deadline(record), header);
        let Some(read) = self.unless_cut_off(record, slot, pin!(reading)).await else {
            return false;
        };
        slot.hold(0);
        let unopened = match read {
            Ok(Ok(client)) => {
                match client {
                    Some(client) => record.set_client(client),
                    None => record.set_proxys_own(),
                }
                return true;
            }
            Ok(Err(proxy::Failure::Malformed(reason))) => {
                log_limited!(
                    warn,
                    PROXY_FAILS,
                    %reason,
                    "a proxy of --proxy-protocol sent no valid PROXY header; its connection is closed"
                );
                Unopened::Refused(RefusalReason::Proxy, None)
            }
            Ok(Err(proxy::Failure::Gone)) => Unopened::Gone,
            Err(_elapsed) => {
                log_limited!(
                    debug,
                    TOO_SLOW,
                    "a proxy took too long to say for whom it speaks"
                );
                Unopened::TimedOut
            }
        };
        self.count_unopened(unopened, record);
        false
    }

    /// Whether its request may say whose it is.
    pub(super) fn is_from_a_forwarding_proxy(&self, record: &ConnectionRecord) -> bool {
        self.is_forwarding(record.peer())
    }

    fn is_forwarding(&self, peer: Peer) -> bool {
        let mut proxies = self.forwarding_proxies.iter();
        proxies.any(|proxy| proxy.contains(peer))
    }

    /// Finds out for whom a proxy has passed a request on. If that is not known, it is
    /// the proxy's own.
    pub(super) fn find_client(&self, request: &PendingRequest, record: &ConnectionRecord) {
        let headers = request.head().headers();
        let header = self.forwarded_header;
        let forwarded = header.read(headers, |peer| self.is_forwarding(peer));
        if let Some(client) = forwarded.client {
            record.set_client(client);
        }
        // Health checks are plain requests of the proxy itself.
        if let Some(reason) = forwarded.fault.filter(|_| request.is_handshake()) {
            log_limited!(
                warn,
                FORWARDED_FAILS,
                %header,
                %reason,
                "a proxy of --forwarded-from did not name its client; the limits per address \
                 take the proxy for it"
            );
        }
    }

    /// Does the TLS handshake, where one is due.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn open(
        &self,
        socket: Socket,
        record: &ConnectionRecord,
        listener: &Listener,
        slot: &HandshakeSlot,
    ) -> Result<Stream, Unopened> {
        let Some(acceptor) = &listener.acceptor else {
            return Ok(Stream::Plain(socket));
        };
        slot.hold_besides(tls::HANDSHAKE_BYTES);
        let accepting = acceptor.accept(socket, |bytes| slot.hold(bytes));
        let accepting = timeout_at(self.handshake_deadline(record), accepting);
        let (outcome, opened) = match accepting.await {
            Ok(Ok(stream)) => {
                let (outcome, version) = if stream.is_newest() {
                    (TlsOutcome::Tls13, "1.3")
                } else {
                    (TlsOutcome::Tls12, "1.2")
                };
                record.set_tls(version);
                (outcome, Ok(Stream::Tls(stream)))
            }
            Ok(Err(tls::Failure::Plain(socket))) => {
                log_limited!(
                    debug,
                    TLS_FAILS,
                    "a request without TLS came where TLS is spoken"
                );
                let status = http::ask_for_tls(Stream::Plain(socket)).await;
                let refused = Unopened::Refused(RefusalReason::Tls, Some(status));
                (TlsOutcome::Plain, Err(refused))
            }
            Ok(Err(tls::Failure::Refused(socket, error))) => {
                log_limited!(debug, TLS_FAILS, %error, "a TLS handshake failed");
                http::see_off(Stream::Plain(socket)).await;
                let refused = Unopened::Refused(RefusalReason::Tls, None);
                (TlsOutcome::Failed, Err(refused))
            }
            // A health check need not speak TLS.
            Ok(Err(tls::Failure::Gone)) if record.is_proxys_own() => return Err(Unopened::Gone),
            Ok(Err(tls::Failure::Gone)) => {
                tracing::trace!("a connection ended in its TLS handshake");
                (TlsOutcome::Abandoned, Err(Unopened::Gone))
            }
            Err(_elapsed) => {
                log_limited!(debug, TOO_SLOW, "a TLS handshake took too long");
                (TlsOutcome::TimedOut, Err(Unopened::TimedOut))
            }
        };
        self.settings.counters.tls_handshakes.add(outcome);
        opened
    }

    /// Counts a connection that did not get as far as HTTP.
    pub(super) fn count_unopened(&self, unopened: Unopened, record: &ConnectionRecord) {
        let (outcome, status, refusal) = match unopened {
            Unopened::Refused(reason, status) => (HandshakeOutcome::Refused, status, Some(reason)),
            Unopened::TimedOut => {
                let reason = RefusalReason::Timeout;
                (HandshakeOutcome::TimedOut, None, Some(reason))
            }
            Unopened::Gone => (left(record), None, None),
        };
        let handshake = Handshake {
            outcome,
            status,
            refusal,
        };
        self.count(handshake, record);
    }

    fn handshake_deadline(&self, record: &ConnectionRecord) -> Instant {
        Instant::from(record.start()) + self.http.handshake_timeout
    }
}
