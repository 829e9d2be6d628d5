//! Reading the head of a request.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::refusal::{self, Refusal};
use super::{HttpOptions, Outcome, PendingRequest, farewell};
use crate::stream::Stream;
use crate::throttle::{REFUSED, throttled};

/// The least that hyper takes as the bound of its read buffer.
const READ_BUFFER_BYTES_MIN: usize = 8192;

/// The type of a TLS record that holds a handshake message, such as a
/// `ClientHello` (RFC 8446, section 5.1). No HTTP method begins with this byte.
const TLS_HANDSHAKE: u8 = 22;

/// The fatal alert `protocol_version` as a record: no version of TLS is spoken here
/// (RFC 8446, section 6.2).
const TLS_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// How a PROXY header begins, of either version. hyper skips empty lines, and the
/// second one begins with two.
const PROXY_HEADERS: [&[u8]; 2] = [b"PROXY ", b"\0\r\nQUIT\n"];

/// Reads the head of the one request of a socket that was accepted at `since`.
///
/// # Errors
/// What became of the socket if no request came. The peer has its answer then.
pub(crate) async fn read_request(
    stream: Stream,
    options: &HttpOptions,
    since: Instant,
) -> Result<PendingRequest, Outcome> {
    let deadline = since + options.handshake_timeout;
    let head = OnceCell::new();
    let service = service_fn(|request: Request<Incoming>| {
        // A body is not read: it is dropped here, and the connection is taken from
        // hyper before it would read on.
        let _ = head.set(request.map(drop));
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    let reader = ReadOnly(TokioIo::new(stream));
    let mut connection = builder(options).serve_connection(reader, service);
    let reading = poll_fn(|cx| {
        let polled = connection.poll_without_shutdown(cx);
        if head.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        polled
    });
    let read = timeout_at(deadline, reading).await;

    let parts = connection.into_parts();
    let (stream, leftover) = (parts.io.0.into_inner(), parts.read_buf);
    match read {
        Ok(Ok(())) => match head.into_inner() {
            Some(head) => Ok(PendingRequest {
                stream,
                head,
                leftover,
                deadline,
            }),
            None => Err(Outcome::Failed),
        },
        Ok(Err(error)) => Err(refuse_unreadable(stream, &leftover, &error).await),
        Err(_elapsed) => {
            farewell::last_words(stream, &refusal::TOO_SLOW.wire()).await;
            Err(Outcome::TimedOut)
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
        // Without half-close hyper looks for an EOF behind the request, and a client
        // that has sent its FIN may go unanswered.
        .half_close(true);
    builder
}

/// Answers a peer whose bytes are no request: `unread` is what hyper could not parse.
async fn refuse_unreadable(stream: Stream, unread: &[u8], error: &hyper::Error) -> Outcome {
    if !error.is_parse() {
        return Outcome::Failed;
    }
    // Within TLS it is nonsense like any other.
    let is_plain = !matches!(stream, Stream::Tls(_));
    if is_plain && unread.first() == Some(&TLS_HANDSHAKE) {
        farewell::last_words(stream, &TLS_ALERT).await;
        return Outcome::RefusedTls;
    }
    let refusal = reason(unread, error);
    throttled!(
        debug,
        REFUSED,
        status = %refusal.status,
        reason = refusal.reason(),
        %error,
        "a request was refused"
    );
    farewell::last_words(stream, &refusal.wire()).await;
    Outcome::Refused(refusal)
}

fn reason(unread: &[u8], error: &hyper::Error) -> Refusal {
    if error.is_parse_version_h2() {
        refusal::HTTP_2
    } else if error.is_parse_too_large() {
        refusal::TOO_LARGE
    } else if PROXY_HEADERS
        .iter()
        .any(|header| unread.starts_with(header))
    {
        refusal::PROXY_HEADER
    } else {
        refusal::MALFORMED
    }
}

/// A socket that hyper reads. What hyper writes goes nowhere: its answers lack a
/// reason, or say `close` where a client does not expect it.
struct ReadOnly(TokioIo<Stream>);

impl Read for ReadOnly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, space)
    }
}

impl Write for ReadOnly {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
