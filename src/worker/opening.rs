//! What comes before HTTP: a proxy's word on its client, and TLS.

use hyper::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::{Security, Worker};
use crate::http;
use crate::metrics::label::{HandshakeOutcome, RefusalReason, TlsOutcome};
use crate::proxy;
use crate::stream::Stream;
use crate::throttle::{PROXY_FAILS, TLS_FAILS, TOO_SLOW, throttled};
use crate::tls;
use crate::visit::{Handshake, Visit};

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
    pub(super) fn is_from_a_proxy(&self, visit: &Visit) -> bool {
        let peer = visit.peer();
        self.proxies.iter().any(|proxy| proxy.contains(peer))
    }

    /// Reads for whom a proxy speaks; whether the connection goes on.
    pub(super) async fn introduce(&self, stream: &mut Stream, visit: &Visit) -> bool {
        let reading = timeout_at(self.handshake_deadline(visit), proxy::read_header(stream));
        let Some(read) = self.unless_cut_off(visit, false, reading).await else {
            return false;
        };
        let unopened = match read {
            Ok(Ok(client)) => {
                if let Some(client) = client {
                    visit.is_of(client);
                }
                return true;
            }
            Ok(Err(proxy::Failure::Malformed(reason))) => {
                throttled!(debug, PROXY_FAILS, %reason, "a proxy did not say for whom it speaks");
                Unopened::Refused(RefusalReason::Proxy, None)
            }
            Ok(Err(proxy::Failure::Gone)) => Unopened::Gone,
            Err(_elapsed) => {
                throttled!(
                    debug,
                    TOO_SLOW,
                    "a proxy took too long to say for whom it speaks"
                );
                Unopened::TimedOut
            }
        };
        self.count_unopened(unopened, visit, false);
        false
    }

    /// Does the TLS handshake, where one is due.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn open(
        &self,
        stream: Stream,
        visit: &Visit,
        security: Security,
    ) -> Result<Stream, Unopened> {
        let Some(acceptor) = security else {
            return Ok(stream);
        };
        let accepting = timeout_at(self.handshake_deadline(visit), acceptor.accept(stream));
        let (outcome, opened) = match accepting.await {
            Ok(Ok(stream)) => {
                let outcome = if stream.is_newest() {
                    TlsOutcome::Tls13
                } else {
                    TlsOutcome::Tls12
                };
                (outcome, Ok(Stream::Tls(stream)))
            }
            Ok(Err(tls::Failure::Plain(stream))) => {
                throttled!(
                    debug,
                    TLS_FAILS,
                    "a request without TLS came where TLS is spoken"
                );
                let status = http::ask_for_tls(stream).await;
                let refused = Unopened::Refused(RefusalReason::Tls, Some(status));
                (TlsOutcome::Plain, Err(refused))
            }
            Ok(Err(tls::Failure::Refused(stream, error))) => {
                throttled!(debug, TLS_FAILS, %error, "a TLS handshake failed");
                http::see_off(stream).await;
                let refused = Unopened::Refused(RefusalReason::Tls, None);
                (TlsOutcome::Failed, Err(refused))
            }
            Ok(Err(tls::Failure::Gone)) => {
                tracing::trace!("a connection ended in its TLS handshake");
                (TlsOutcome::Abandoned, Err(Unopened::Gone))
            }
            Err(_elapsed) => {
                throttled!(debug, TOO_SLOW, "a TLS handshake took too long");
                (TlsOutcome::TimedOut, Err(Unopened::TimedOut))
            }
        };
        self.settings.counters.tls_handshakes.add(outcome);
        opened
    }

    /// Counts a connection that did not get as far as HTTP.
    pub(super) fn count_unopened(&self, unopened: Unopened, visit: &Visit, was_turned_away: bool) {
        let (outcome, status, refusal) = match unopened {
            Unopened::Refused(reason, status) => (HandshakeOutcome::Refused, status, Some(reason)),
            Unopened::TimedOut => {
                let reason = RefusalReason::Timeout;
                (HandshakeOutcome::TimedOut, None, Some(reason))
            }
            Unopened::Gone => (HandshakeOutcome::Abandoned, None, None),
        };
        let handshake = Handshake {
            outcome,
            status,
            refusal,
        };
        self.count(handshake, visit, was_turned_away);
    }

    fn handshake_deadline(&self, visit: &Visit) -> Instant {
        Instant::from(visit.start()) + self.http.handshake_timeout
    }
}
