//! Reading the head of a request.

use tokio::time::{Instant, timeout_at};

use super::head::{HeadBuffer, HeadError};
use super::refusal::{self, Refusal};
use super::{HttpOptions, Outcome, PendingRequest, Request, linger};
use crate::limits::handshakes::HandshakeSlot;
use crate::observe::log_limit::{REFUSED, log_limited};
use crate::transport::stream::Stream;

/// The type of a TLS record that holds a handshake message, such as a
/// `ClientHello` (RFC 8446, section 5.1). No HTTP method begins with this byte.
const TLS_HANDSHAKE: u8 = 22;

/// The fatal alert `protocol_version` as a record (RFC 8446, section 6.2).
const TLS_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// The start of a PROXY header of version 1 and 2. hyper skips empty lines, and version 2
/// begins with two.
const PROXY_HEADERS: [&[u8]; 2] = [b"PROXY ", b"\0\r\nQUIT\n"];

/// Reads the head of the request on a socket that was accepted at `since`. Buffered bytes
/// are counted in `slot`.
///
/// # Errors
/// The outcome without a request. The peer has its answer then.
pub(crate) async fn read_request(
    mut stream: Stream,
    options: &HttpOptions,
    since: Instant,
    slot: &HandshakeSlot,
) -> Result<PendingRequest, Outcome> {
    let deadline = since + options.handshake_timeout;
    let mut buffer = HeadBuffer::new(options.max_header_bytes);
    let read = timeout_at(deadline, buffer.read(&mut stream, slot)).await;
    let fault = match read {
        Ok(Ok((head, leftover))) => {
            return Ok(PendingRequest {
                stream,
                head: Request(head),
                leftover,
                deadline,
            });
        }
        Ok(Err(HeadError::Gone)) => return Err(Outcome::Failed),
        // Within TLS, a `ClientHello` is only a malformed request.
        Ok(Err(HeadError::Unreadable(error))) => {
            let is_plain = !matches!(stream, Stream::Tls(_));
            Fault::of(buffer.bytes(), &error, is_plain, refusal::TOO_LARGE)
        }
        Err(_elapsed) => Fault::TooSlow,
    };
    drop(buffer);
    slot.hold(stream.held());
    linger::send_and_close(stream, &fault.answer()).await;
    Err(fault.outcome())
}

/// Answers a peer on a plain socket whose bytes hyper could not parse; `too_large` is
/// for a head over its bound.
pub(crate) async fn refuse_unreadable(
    stream: Stream,
    unread: &[u8],
    error: &hyper::Error,
    too_large: Refusal,
) {
    if error.is_parse() {
        let fault = Fault::of(unread, error, true, too_large);
        linger::send_and_close(stream, &fault.answer()).await;
    }
}

/// Why a peer's bytes are no request.
enum Fault {
    /// TLS on a plain port.
    Tls,
    TooSlow,
    Refused(Refusal),
}

impl Fault {
    /// The fault of bytes that hyper could not parse.
    fn of(unread: &[u8], error: &hyper::Error, is_plain: bool, too_large: Refusal) -> Self {
        if is_plain && unread.first() == Some(&TLS_HANDSHAKE) {
            return Self::Tls;
        }
        let refusal = reason(unread, error, too_large);
        log_limited!(
            debug,
            REFUSED,
            status = %refusal.status,
            reason = refusal.reason(),
            %error,
            "a request was refused"
        );
        Self::Refused(refusal)
    }

    fn answer(&self) -> Vec<u8> {
        match self {
            Self::Tls => TLS_ALERT.to_vec(),
            Self::TooSlow => refusal::TOO_SLOW.wire(),
            Self::Refused(refusal) => refusal.wire(),
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Tls => Outcome::RefusedTls,
            Self::TooSlow => Outcome::TimedOut,
            Self::Refused(refusal) => Outcome::Refused(refusal),
        }
    }
}

fn reason(unread: &[u8], error: &hyper::Error, too_large: Refusal) -> Refusal {
    if error.is_parse_version_h2() {
        refusal::HTTP_2
    } else if error.is_parse_too_large() {
        too_large
    } else if PROXY_HEADERS
        .iter()
        .any(|header| unread.starts_with(header))
    {
        refusal::PROXY_HEADER
    } else {
        refusal::MALFORMED
    }
}
