//! The steps of a connection before HTTP: PROXY header, TLS; and the forwarded client.

use std::pin::pin;

use hyper::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::handshake::left;
use super::{Listener, Worker};
use crate::http::{self, PendingRequest};
use crate::limits::handshakes::HandshakeSlot;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::connection_record::{ConnectionRecord, Handshake};
use crate::observe::log_limit::{
    FORWARDED_FAILS, HANDSHAKE_TIMEOUT, PROXY_FAILS, TLS_FAILS, log_limited,
};
use crate::observe::metrics::label::{HandshakeOutcome, RefusalReason, TlsOutcome};
use crate::transport::proxy;
use crate::transport::stream::Stream;
use crate::transport::tls;

/// The reason why a connection does not reach HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unopened {
    /// Rejected; with a status if the client got an HTTP response.
    Refused(RefusalReason, Option<StatusCode>),
    TimedOut,
    /// The client has closed the connection.
    Gone,
}

impl Worker {
    /// Whether the connection must begin with a PROXY header.
    pub(super) fn is_from_a_proxy(&self, record: &ConnectionRecord) -> bool {
        let peer = record.peer();
        let proxies = &self.shared.config.proxy_protocol;
        proxies.iter().any(|proxy| proxy.contains(peer))
    }

    /// Reads the PROXY header; returns whether the connection goes on.
    pub(super) async fn read_proxy_header(
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
            Ok(Err(proxy::HeaderError::Malformed(reason))) => {
                log_limited!(
                    warn,
                    PROXY_FAILS,
                    %reason,
                    "a proxy of --proxy-protocol sent no valid PROXY header; its connection is closed"
                );
                Unopened::Refused(RefusalReason::Proxy, None)
            }
            Ok(Err(proxy::HeaderError::Gone)) => Unopened::Gone,
            Err(_elapsed) => {
                log_limited!(
                    debug,
                    HANDSHAKE_TIMEOUT,
                    "a handshake timed out before the PROXY header"
                );
                Unopened::TimedOut
            }
        };
        self.count_unopened(unopened, record);
        false
    }

    /// Whether the client's address is taken from the request's header.
    pub(super) fn is_from_a_forwarding_proxy(&self, record: &ConnectionRecord) -> bool {
        self.is_forwarding(record.peer())
    }

    fn is_forwarding(&self, peer: Peer) -> bool {
        let mut proxies = self.shared.config.forwarded_from.iter();
        proxies.any(|proxy| proxy.contains(peer))
    }

    /// Sets the client to the one in the forwarding header. Without a valid header the client
    /// is the proxy.
    pub(super) fn find_client(&self, request: &PendingRequest, record: &ConnectionRecord) {
        let headers = request.head().headers();
        let header = self.shared.config.forwarded_header;
        let forwarded = header.read(headers, |peer| self.is_forwarding(peer));
        if let Some(client) = forwarded.client {
            record.set_client(client);
        }
        // Plain requests may be health checks of the proxy.
        if let Some(reason) = forwarded.fault.filter(|_| request.is_handshake()) {
            log_limited!(
                warn,
                FORWARDED_FAILS,
                %header,
                %reason,
                "a proxy of --forwarded-from did not name its client; the limits per address \
                 count the request for the proxy"
            );
        }
    }

    /// Does the TLS handshake on a TLS listener.
    ///
    /// # Errors
    /// The connection does not reach HTTP.
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
            Ok(Err(tls::HandshakeError::Plain(socket))) => {
                log_limited!(
                    debug,
                    TLS_FAILS,
                    "a request without TLS came to a TLS address"
                );
                let status = http::refuse_without_tls(Stream::Plain(socket)).await;
                let refused = Unopened::Refused(RefusalReason::Tls, Some(status));
                (TlsOutcome::Plain, Err(refused))
            }
            Ok(Err(tls::HandshakeError::Refused(socket, error))) => {
                log_limited!(debug, TLS_FAILS, %error, "a TLS handshake failed");
                http::close_lingering(Stream::Plain(socket)).await;
                let refused = Unopened::Refused(RefusalReason::Tls, None);
                (TlsOutcome::Failed, Err(refused))
            }
            // A health check need not use TLS.
            Ok(Err(tls::HandshakeError::Gone)) if record.is_proxys_own() => {
                return Err(Unopened::Gone);
            }
            Ok(Err(tls::HandshakeError::Gone)) => {
                tracing::trace!("a connection ended in its TLS handshake");
                (TlsOutcome::Abandoned, Err(Unopened::Gone))
            }
            Err(_elapsed) => {
                log_limited!(debug, HANDSHAKE_TIMEOUT, "a TLS handshake timed out");
                (TlsOutcome::TimedOut, Err(Unopened::TimedOut))
            }
        };
        self.settings.counters.tls_handshakes.add(outcome);
        opened
    }

    /// Counts a connection that did not reach HTTP.
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
