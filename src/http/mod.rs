//! Serving one accepted socket until it is a WebSocket, or is answered and closed.
//!
//! ```text
//!                  ┌─ attempt ──▶ gate ──┬─▶ fastwebsockets builds the 101 ──▶ UpgradedStream
//! hyper reads ─▶ head                    └─▶ refusal ─┐
//!                  └─ plain ────▶ page ───────────────┴─▶ linger: FIN, discard, close
//! ```
//!
//! A socket carries one request. Its head is collected in a buffer of its own size;
//! hyper parses it and writes nothing: hyper's own answers (`close` beside `upgrade` or
//! `keep-alive`, an error without a reason) are discarded, and every byte of an answer
//! comes from [`response`]. One deadline covers everything from the first byte to the last
//! byte of the answer; the lingering close has a short one of its own. After an upgrade,
//! the socket leaves tokio with the bytes that were read after the request.

pub(crate) mod forwarded;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gate;
mod head;
mod linger;
mod page;
mod refusal;
mod request;
mod response;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use hyper::header::{HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tracing::field::display;

use crate::config::origin::Origin;
use crate::limits::handshakes::HandshakeSlot;
use crate::observe::access;
use crate::observe::log_limit::{REFUSED, log_limited};
use crate::sys::calls;
use crate::transport::stream::Stream;
use linger::{LINGER, LINGER_OVER_LIMIT};
pub(crate) use refusal::Refusal;
pub(crate) use request::{read_request, refuse_unreadable};

/// The settings of HTTP, one copy per worker.
#[derive(Clone)]
pub(crate) struct HttpOptions {
    /// The path that is upgraded, compared exactly; `None` takes any path.
    pub(crate) path: Option<String>,
    /// The origins that may connect; empty takes all of them.
    pub(crate) origins: Vec<Origin>,
    /// The subprotocols that are answered when a client offers them.
    pub(crate) subprotocols: Vec<String>,
    /// The bound on request line and headers together.
    pub(crate) max_header_bytes: usize,
    /// The time from accept to the end of the answer.
    pub(crate) handshake_timeout: Duration,
    /// What a handler has to say to a proper handshake.
    pub(crate) accept: Option<Accept>,
    /// A handler wants to know the request of a connection.
    pub(crate) keeps_request: bool,
}

/// Whether a handler accepts a handshake, or with which status it is refused.
pub(crate) type Accept = Arc<dyn Fn(&Request) -> Result<(), StatusCode> + Send + Sync>;

/// The request of a handshake.
#[derive(Clone)]
pub struct Request(hyper::Request<()>);

impl Request {
    /// The path, as it came: what it escapes is escaped.
    pub fn path(&self) -> &str {
        self.0.uri().path()
    }

    /// What stands behind the `?`, as it came.
    pub fn query(&self) -> Option<&str> {
        self.0.uri().query()
    }

    /// The first field of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// All fields.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&self.path()).finish()
    }
}

/// The result of the handshake on an accepted socket.
#[derive(Debug)]
pub(crate) enum Outcome {
    Upgraded(UpgradedStream),
    /// The request was malformed, no valid handshake, or over a limit.
    Refused(Refusal),
    /// The client sent TLS, and got an alert.
    RefusedTls,
    /// A plain request was answered with this status.
    Served(StatusCode),
    /// Over the deadline. If no answer had begun, the peer got a 408.
    TimedOut,
    /// The peer closed without a request, or the connection broke.
    Failed,
}

/// An upgraded socket, the 101 already written.
#[derive(Debug)]
pub(crate) struct UpgradedStream {
    pub(crate) stream: Stream,
    /// Bytes read after the request: the client's first frames.
    pub(crate) leftover: Bytes,
    /// The negotiated subprotocol.
    pub(crate) subprotocol: Option<String>,
    /// What was asked for, where a handler is to know.
    pub(crate) request: Option<Box<Request>>,
}

/// An answer with its whole body.
type Reply = Response<Bytes>;

/// A request whose head was read, not answered yet.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    stream: Stream,
    head: Request,
    /// Bytes read after the head.
    leftover: Bytes,
    /// The deadline of the answer.
    deadline: Instant,
}

impl PendingRequest {
    /// The request line and the fields.
    pub(crate) fn head(&self) -> &hyper::Request<()> {
        &self.head.0
    }

    /// Whether it is an attempt at a handshake, valid or not.
    pub(crate) fn is_handshake(&self) -> bool {
        gate::is_attempt(self.head())
    }

    /// Answers the request. Bytes that wait for the peer are counted in `slot`.
    pub(crate) async fn serve(self, options: &HttpOptions, slot: &HandshakeSlot) -> Outcome {
        self.answer(options).send(slot).await
    }

    /// Answers any request of a client over a limit with this refusal.
    pub(crate) async fn reject_over_limit(
        self,
        refusal: &Refusal,
        slot: &HandshakeSlot,
    ) -> Outcome {
        self.reject(refusal, LINGER_OVER_LIMIT).send(slot).await
    }

    fn answer(mut self, options: &HttpOptions) -> Answer {
        calls::request(self.head.path());
        if !self.is_handshake() {
            let reply = page::answer(self.head(), options);
            let served = Outcome::Served(reply.status());
            return self.reply(&reply, Ending::Close(served, LINGER));
        }
        let subprotocol = match gate::admit(self.head(), options) {
            Ok(subprotocol) => subprotocol,
            Err(refusal) => return self.reject(&refusal, LINGER),
        };
        let accepted = options.accept.as_ref().map(|accept| accept(&self.head));
        if let Some(Err(status)) = accepted {
            return self.reject(&Refusal::by_handler(status), LINGER);
        }
        let request = options.keeps_request.then(|| Box::new(self.head.clone()));
        match switching_protocols(&mut self.head.0, subprotocol.as_deref()) {
            Some(reply) => self.reply(&reply, Ending::Upgrade(subprotocol, request)),
            None => self.reject(&refusal::BAD_HANDSHAKE, LINGER),
        }
    }

    fn reject(self, refusal: &Refusal, linger: Duration) -> Answer {
        self.log_refusal(refusal);
        let refused = Outcome::Refused(*refusal);
        self.reply(&refusal.reply(), Ending::Close(refused, linger))
    }

    /// Drops the head of the request, and hyper's buffer with it.
    fn reply(self, reply: &Reply, ending: Ending) -> Answer {
        let body = match *self.head().method() {
            Method::HEAD => Bytes::new(),
            _ => reply.body().clone(),
        };
        Answer {
            wire: response::head(reply, self.head().version()).chain(body),
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
            path = %access::escape(self.head.path().as_bytes()),
            host = header(HOST),
            origin = header(ORIGIN),
            "a request was refused"
        );
    }
}

/// The answer to a request, being written.
struct Answer {
    stream: Stream,
    wire: Chain<Bytes, Bytes>,
    leftover: Bytes,
    deadline: Instant,
    ending: Ending,
}

/// The step after an answer.
enum Ending {
    /// A WebSocket with this subprotocol, and the request if a handler is to have it.
    Upgrade(Option<String>, Option<Box<Request>>),
    /// A lingering close, with its timeout.
    Close(Outcome, Duration),
}

impl Answer {
    /// Writes it, and does the next step.
    async fn send(mut self, slot: &HandshakeSlot) -> Outcome {
        if let Err(outcome) = self.write(slot).await {
            return outcome;
        }
        match self.ending {
            Ending::Upgrade(subprotocol, request) => Outcome::Upgraded(UpgradedStream {
                stream: self.stream,
                leftover: self.leftover,
                subprotocol,
                request,
            }),
            Ending::Close(outcome, time) => {
                slot.hold(self.stream.held());
                linger::close(self.stream, time).await;
                outcome
            }
        }
    }

    /// Writes all of it.
    async fn write(&mut self, slot: &HandshakeSlot) -> Result<(), Outcome> {
        if matches!(self.stream, Stream::Tls(_)) {
            // The ciphertext, in a queue whose capacity has doubled. The rest is shared.
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

/// Refuses a plain request on a TLS port; returns the status.
pub(crate) async fn refuse_without_tls(stream: Stream) -> StatusCode {
    let refusal = &refusal::TLS_REQUIRED;
    linger::send_and_close(stream, &refusal.wire()).await;
    refusal.status
}

/// Closes a connection so that the last bytes written to it arrive.
pub(crate) async fn close_lingering(stream: Stream) {
    linger::close(stream, LINGER).await;
}

/// The 101 of a request that has passed the gate.
fn switching_protocols(
    request: &mut hyper::Request<()>,
    subprotocol: Option<&str>,
) -> Option<Reply> {
    // The socket is ours, so fastwebsockets' future of its own WebSocket is dropped.
    let (response, _) = fastwebsockets::upgrade::upgrade(request).ok()?;
    let mut reply = response.map(|_empty| Bytes::new());
    if let Some(name) = subprotocol {
        // The gate has checked that it is a token, and every token is a header value.
        let value = HeaderValue::from_str(name).ok()?;
        reply.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Some(reply)
}
