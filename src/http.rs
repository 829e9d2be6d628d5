//! Serving one accepted socket until it is a WebSocket, or is answered and closed.
//!
//! ```text
//!             ┌─ attempt ──▶ gate ──┬─▶ fastwebsockets builds the 101 ──▶ Handover
//! hyper http1 ┤                     └─▶ refusal ─┐
//!             └─ plain ────▶ page ───────────────┴─▶ farewell: FIN, discard, close
//! ```
//!
//! A socket carries one request. One deadline covers everything from the first
//! byte to the last byte of the answer; the farewell has a short one of its own.
//! Nothing here knows what follows an upgrade: the socket leaves tokio with the
//! bytes that were read past the request.

mod farewell;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gate;
mod page;
mod refusal;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use crate::stream::Stream;
pub(crate) use refusal::Refusal;

/// The least that hyper takes as the bound of its read buffer.
const READ_BUFFER_BYTES_MIN: usize = 8192;

/// What the HTTP side needs to know; made once per worker from the validated
/// configuration.
#[derive(Debug, Clone)]
pub(crate) struct HttpOptions {
    /// The path that is upgraded, compared exactly; `None` takes any path.
    pub(crate) path: Option<String>,
    /// The origins that may connect; empty takes all of them.
    pub(crate) origins: Vec<String>,
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
    Upgraded(Handover),
    /// An upgrade was refused, the request was no HTTP/1.1, or the server was
    /// full: the status that was answered. 431 stands for hyper's 414 as well.
    Refused(StatusCode),
    /// A plain request was answered with this status.
    Served(StatusCode),
    /// The peer was too slow. If no answer had begun, it got a 408.
    TimedOut,
    /// The peer vanished, or left without a request.
    Failed,
}

/// An upgraded socket, the 101 already written.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) stream: Stream,
    /// What arrived behind the request: the client's first frames, which come
    /// before anything that is still in the socket.
    pub(crate) leftover: Bytes,
    /// The subprotocol that was agreed on.
    pub(crate) subprotocol: Option<String>,
}

/// Serves the one request of a socket that was accepted at `since`.
pub(crate) async fn serve(stream: Stream, options: &Rc<HttpOptions>, since: Instant) -> Outcome {
    exchange(stream, options, since, |request| route(request, options)).await
}

/// Turns a socket away that is over a limit: whatever it asks for, it gets this
/// refusal, under the same deadlines as everyone.
pub(crate) async fn turn_away(
    stream: Stream,
    options: &Rc<HttpOptions>,
    since: Instant,
    refusal: Refusal,
) -> Outcome {
    exchange(stream, options, since, |_| refuse(&refusal)).await
}

/// Answers a plain request where TLS is spoken; says with which status.
pub(crate) async fn ask_for_tls(stream: Stream) -> StatusCode {
    let refusal = &refusal::TLS_WANTED;
    farewell::last_words(stream, refusal).await;
    refusal.status
}

/// Ends a connection to which the last word is said, so that it arrives.
pub(crate) async fn see_off(stream: Stream) {
    farewell::linger(stream).await;
}

type Reply = Response<Full<Bytes>>;

/// What was decided about the request.
enum Verdict {
    Upgrade { subprotocol: Option<String> },
    Refused(StatusCode),
    Served(StatusCode),
}

async fn exchange(
    stream: Stream,
    options: &HttpOptions,
    since: Instant,
    decide: impl Fn(&mut Request<Incoming>) -> (Verdict, Reply),
) -> Outcome {
    let verdict = OnceCell::new();
    // The request is dropped before its body is read, which makes hyper give
    // up on the body after what is already there.
    let service = service_fn(|mut request| {
        let (decided, reply) = decide(&mut request);
        // The first answer closes the connection or ends HTTP on it, so there
        // is no second one that could be lost here.
        let _ = verdict.set(decided);
        ready(Ok::<_, Infallible>(reply))
    });
    let mut connection = builder(options).serve_connection(TokioIo::new(stream), service);

    let driven = timeout_at(
        since + options.handshake_timeout,
        poll_fn(|cx| {
            ready!(connection.poll_without_shutdown(cx))?;
            match verdict.get() {
                Some(Verdict::Upgrade { .. }) => Ok(()).into(),
                // `poll_without_shutdown` may be ready while an answer is half
                // flushed; the whole future flushes it and sends the FIN.
                _ => Pin::new(&mut connection).poll(cx),
            }
        }),
    )
    .await;

    let parts = connection.into_parts();
    let (stream, leftover) = (parts.io.into_inner(), parts.read_buf);
    match driven {
        Ok(Ok(())) => match verdict.into_inner() {
            Some(Verdict::Upgrade { subprotocol }) => hand_over(stream, leftover, subprotocol),
            Some(Verdict::Refused(status)) => {
                farewell::linger(stream).await;
                Outcome::Refused(status)
            }
            Some(Verdict::Served(status)) => {
                farewell::linger(stream).await;
                Outcome::Served(status)
            }
            None => Outcome::Failed,
        },
        Ok(Err(error)) if !error.is_timeout() => failed(stream, &error).await,
        _ => {
            if verdict.get().is_none() {
                farewell::last_words(stream, &refusal::TOO_SLOW).await;
            }
            Outcome::TimedOut
        }
    }
}

/// hyper's settings for one connection.
fn builder(options: &HttpOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The deadline over the whole handshake is no longer than any that
        // hyper would keep, and one timer is cheaper than two.
        .header_read_timeout(None)
        .max_header_size(options.max_header_bytes)
        .max_buf_size(options.max_header_bytes.max(READ_BUFFER_BYTES_MIN))
        // Without half-close hyper looks for an EOF between request and answer,
        // and a client that has sent its FIN may go unanswered.
        .half_close(true)
        // Off, it would put `close` into the 101's Connection header. Every
        // other answer carries a `close` of its own.
        .keep_alive(true);
    builder
}

fn route(request: &mut Request<Incoming>, options: &HttpOptions) -> (Verdict, Reply) {
    if !gate::is_attempt(request) {
        let reply = page::answer(request, options.path.as_deref());
        return (Verdict::Served(reply.status()), reply);
    }
    match gate::admit(request, options) {
        Ok(subprotocol) => upgrade(request, subprotocol),
        Err(refusal) => refuse(&refusal),
    }
}

/// Builds the 101 of a request that has passed the gate.
fn upgrade(request: &mut Request<Incoming>, subprotocol: Option<String>) -> (Verdict, Reply) {
    // The socket comes back from `into_parts`, so the future that would yield
    // fastwebsockets' own WebSocket is dropped.
    let Ok((response, _)) = fastwebsockets::upgrade::upgrade(request) else {
        return refuse(&refusal::BAD_HANDSHAKE);
    };
    let mut reply = response.map(|_| Full::default());
    if let Some(name) = &subprotocol {
        // The gate took it for a token, and every token is a header value.
        let Ok(value) = HeaderValue::from_str(name) else {
            return refuse(&refusal::BAD_HANDSHAKE);
        };
        reply.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    (Verdict::Upgrade { subprotocol }, reply)
}

fn refuse(refusal: &Refusal) -> (Verdict, Reply) {
    (Verdict::Refused(refusal.status), refusal.reply())
}

fn hand_over(stream: Stream, leftover: Bytes, subprotocol: Option<String>) -> Outcome {
    // An empty remainder would keep hyper's whole read buffer alive.
    let leftover = if leftover.is_empty() {
        Bytes::new()
    } else {
        leftover
    };
    Outcome::Upgraded(Handover {
        stream,
        leftover,
        subprotocol,
    })
}

/// Ends a connection on which hyper saw no request. It has already answered
/// all that does not parse, but for HTTP/2, which it leaves to its user.
async fn failed(stream: Stream, error: &hyper::Error) -> Outcome {
    if !error.is_parse() {
        return Outcome::Failed;
    }
    if error.is_parse_version_h2() {
        farewell::last_words(stream, &refusal::HTTP_2).await;
        return Outcome::Refused(refusal::HTTP_2.status);
    }
    farewell::linger(stream).await;
    Outcome::Refused(if error.is_parse_too_large() {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    } else {
        StatusCode::BAD_REQUEST
    })
}
