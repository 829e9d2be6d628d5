//! Serving one accepted socket until it is a WebSocket, or is answered and closed.
//!
//! ```text
//!                  ┌─ attempt ──▶ gate ──┬─▶ fastwebsockets builds the 101 ──▶ Handover
//! hyper reads ─▶ head                    └─▶ refusal ─┐
//!                  └─ plain ────▶ page ───────────────┴─▶ farewell: FIN, discard, close
//! ```
//!
//! A socket carries one request. Its head is collected in a buffer of its own size;
//! hyper parses it and writes nothing: what it would write of its own (`close` beside
//! `upgrade` or `keep-alive`, an error without a reason) is dropped, and every byte of
//! an answer comes from [`response`]. One deadline covers everything from the first
//! byte to the last byte of the answer; the farewell has a short one of its own.
//! Nothing here knows what follows an upgrade: the socket leaves tokio with the bytes
//! that were read past the request.

mod farewell;
pub(crate) mod forwarded;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gate;
mod head;
mod page;
mod refusal;
mod request;
mod response;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use hyper::header::{HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Method, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tracing::field::display;

use crate::config::origin::Origin;
use crate::limits::handshakes::HandshakeSlot;
use crate::observe::access;
use crate::observe::log_limit::{REFUSED, log_limited};
use crate::sys::calls;
use crate::transport::stream::Stream;
use farewell::{LINGER, LINGER_OVER_LIMIT};
pub(crate) use refusal::Refusal;
pub(crate) use request::{read_request, refuse_unreadable};

/// What the HTTP side needs to know; made once per worker from the validated
/// configuration.
#[derive(Debug, Clone)]
pub(crate) struct HttpOptions {
    /// The path that is upgraded, compared exactly; `None` takes any path.
    pub(crate) path: Option<String>,
    /// The origins that may connect; empty takes all of them.
    pub(crate) origins: Vec<Origin>,
    /// The subprotocols that are answered when a client offers them.
    pub(crate) subprotocols: Vec<String>,
    /// The bound on request line and headers together.
    pub(crate) max_header_bytes: usize,
    /// The time a peer has from being accepted to having its answer.
    pub(crate) handshake_timeout: Duration,
}

/// What became of an accepted socket.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It speaks WebSocket from here on.
    Upgraded(UpgradedStream),
    /// An upgrade was refused, the request was no HTTP/1.1, or a limit was reached.
    Refused(Refusal),
    /// The client spoke TLS, and got an alert.
    RefusedTls,
    /// A plain request was answered with this status.
    Served(StatusCode),
    /// The peer was too slow. If no answer had begun, it got a 408.
    TimedOut,
    /// The peer vanished, or left without a request.
    Failed,
}

/// An upgraded socket, the 101 already written.
#[derive(Debug)]
pub(crate) struct UpgradedStream {
    pub(crate) stream: Stream,
    /// What arrived behind the request: the client's first frames, which come
    /// before anything that is still in the socket.
    pub(crate) leftover: Bytes,
    /// The subprotocol that was agreed on.
    pub(crate) subprotocol: Option<String>,
}

/// What is answered, in one piece.
type Reply = Response<Bytes>;

/// A request whose head was read, and that was not answered yet.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    stream: Stream,
    head: hyper::Request<()>,
    /// What was read behind the head.
    leftover: Bytes,
    /// When the answer has to be out.
    deadline: Instant,
}

impl PendingRequest {
    /// The request line and the fields.
    pub(crate) fn head(&self) -> &hyper::Request<()> {
        &self.head
    }

    /// Whether it asks to become a WebSocket, be it badly.
    pub(crate) fn is_handshake(&self) -> bool {
        gate::is_attempt(&self.head)
    }

    /// Answers as the request and the configuration have it. What waits until the peer
    /// takes it is counted in `slot`.
    pub(crate) async fn serve(self, options: &HttpOptions, slot: &HandshakeSlot) -> Outcome {
        self.answer(options).give(slot).await
    }

    /// Answers a client that is over a limit with this refusal, whatever the
    /// request asks for.
    pub(crate) async fn reject_over_limit(
        self,
        refusal: &Refusal,
        slot: &HandshakeSlot,
    ) -> Outcome {
        self.reject(refusal, LINGER_OVER_LIMIT).give(slot).await
    }

    fn answer(mut self, options: &HttpOptions) -> Answer {
        calls::request(self.head.uri().path());
        if !self.is_handshake() {
            let reply = page::answer(&self.head, options);
            let served = Outcome::Served(reply.status());
            return self.reply(&reply, Ending::Farewell(served, LINGER));
        }
        match gate::admit(&self.head, options) {
            Ok(subprotocol) => match switching_protocols(&mut self.head, subprotocol.as_deref()) {
                Some(reply) => self.reply(&reply, Ending::Upgrade(subprotocol)),
                None => self.reject(&refusal::BAD_HANDSHAKE, LINGER),
            },
            Err(refusal) => self.reject(&refusal, LINGER),
        }
    }

    fn reject(self, refusal: &Refusal, linger: Duration) -> Answer {
        self.log_refusal(refusal);
        let refused = Outcome::Refused(*refusal);
        self.reply(&refusal.reply(), Ending::Farewell(refused, linger))
    }

    /// The head of the request goes, and hyper's buffer with it.
    fn reply(self, reply: &Reply, ending: Ending) -> Answer {
        let body = match *self.head.method() {
            Method::HEAD => Bytes::new(),
            _ => reply.body().clone(),
        };
        Answer {
            wire: response::head(reply, self.head.version()).chain(body),
            stream: self.stream,
            leftover: self.leftover,
            deadline: self.deadline,
            ending,
        }
    }

    fn log_refusal(&self, refusal: &Refusal) {
        let header = |name| {
            let value = self.head.headers().get(name);
            value.map(|value| display(access::escape(value.as_bytes())))
        };
        log_limited!(
            debug,
            REFUSED,
            status = %refusal.status,
            reason = refusal.reason(),
            path = %access::escape(self.head.uri().path().as_bytes()),
            host = header(HOST),
            origin = header(ORIGIN),
            "a request was refused"
        );
    }
}

/// What is written in answer to a request.
struct Answer {
    stream: Stream,
    wire: Chain<Bytes, Bytes>,
    leftover: Bytes,
    deadline: Instant,
    ending: Ending,
}

/// What follows an answer.
enum Ending {
    /// No HTTP any more, but this subprotocol.
    Upgrade(Option<String>),
    /// The end of the connection, for which the peer has some time.
    Farewell(Outcome, Duration),
}

impl Answer {
    /// Writes it, and does what follows.
    async fn give(mut self, slot: &HandshakeSlot) -> Outcome {
        if let Err(outcome) = self.write(slot).await {
            return outcome;
        }
        match self.ending {
            Ending::Upgrade(subprotocol) => Outcome::Upgraded(UpgradedStream {
                stream: self.stream,
                leftover: self.leftover,
                subprotocol,
            }),
            Ending::Farewell(outcome, time) => {
                slot.hold(self.stream.held());
                farewell::linger(self.stream, time).await;
                outcome
            }
        }
    }

    /// Writes it whole, or says why that failed.
    async fn write(&mut self, slot: &HandshakeSlot) -> Result<(), Outcome> {
        if matches!(self.stream, Stream::Tls(_)) {
            // What is encrypted, in a queue that has doubled. The rest is shared.
            slot.hold(2 * self.wire.remaining());
        }
        let writing = async {
            self.stream.write_all_buf(&mut self.wire).await?;
            self.stream.flush().await
        };
        match timeout_at(self.deadline, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_io)) => Err(Outcome::Failed),
            Err(_elapsed) => Err(Outcome::TimedOut),
        }
    }
}

/// Answers a plain request where TLS is spoken; says with which status.
pub(crate) async fn ask_for_tls(stream: Stream) -> StatusCode {
    let refusal = &refusal::TLS_WANTED;
    farewell::last_words(stream, &refusal.wire()).await;
    refusal.status
}

/// Ends a connection to which the last word is said, so that it arrives.
pub(crate) async fn see_off(stream: Stream) {
    farewell::linger(stream, LINGER).await;
}

/// The 101 of a request that has passed the gate.
fn switching_protocols(
    request: &mut hyper::Request<()>,
    subprotocol: Option<&str>,
) -> Option<Reply> {
    // The socket is at hand, so the future that would yield fastwebsockets' own
    // WebSocket is dropped.
    let (response, _) = fastwebsockets::upgrade::upgrade(request).ok()?;
    let mut reply = response.map(|_empty| Bytes::new());
    if let Some(name) = subprotocol {
        // The gate took it for a token, and every token is a header value.
        let value = HeaderValue::from_str(name).ok()?;
        reply.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Some(reply)
}
