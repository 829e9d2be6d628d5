//! A connection from its accept to the end of its handshake.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::sleep;
use tracing::Instrument;

use super::{Listener, Worker};
use crate::http::{self, Outcome, Refusal};
use crate::limits::admission::{Decision, Permit, RejectSlot, Rejection};
use crate::limits::handshakes::HandshakeSlot;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::observe::connection_record::{ConnectionRecord, Handshake};
use crate::observe::log_limit::{CUT_OFF, EVICTED, HANDSHAKE_TIMEOUT, TLS_FAILS, log_limited};
use crate::observe::metrics::label::{HandshakeOutcome, RefusalReason};
use crate::sys::task_kind::TaskKind;

/// The time that a drain leaves to handshakes: enough for requests on their way, but
/// not for browsers that connect in advance.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(500);

/// The reason of a rejection, and the slot until the client has its response.
type Rejected = (Rejection, RejectSlot);

impl Worker {
    /// Starts a task for a connection's handshake, or closes the connection without a
    /// response.
    pub(super) fn start_connection(
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
    pub(super) async fn unless_cut_off<T>(
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

    /// Waits until the grace of a drain for handshakes is over.
    async fn handshakes_end(&self) {
        self.shared.shutdown.clone().initiated().await;
        sleep(HANDSHAKE_GRACE).await;
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
    pub(super) fn count(&self, handshake: Handshake, record: &ConnectionRecord) {
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
}

/// The outcome of a handshake whose client has closed without a request.
pub(super) fn left(record: &ConnectionRecord) -> HandshakeOutcome {
    if record.is_proxys_own() {
        HandshakeOutcome::HealthCheck
    } else {
        HandshakeOutcome::Abandoned
    }
}

/// The response to a rejected connection.
fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Full => Refusal::FULL,
        Rejection::Address => Refusal::TOO_MANY,
        Rejection::Rate { wait } => Refusal::too_often(wait),
    }
}
