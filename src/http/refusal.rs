//! A refusal: the status, and one line with the reason.
//!
//! The lines are constants, so nothing that a peer sent is sent back.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode, Version};

use super::{Reply, response};

pub(super) const TOO_SLOW: Refusal = Refusal::new(
    StatusCode::REQUEST_TIMEOUT,
    "the request did not arrive in time\n",
);

pub(super) const MALFORMED: Refusal = Refusal::bad("this is no well-formed HTTP/1.1 request\n");

pub(super) const TOO_LARGE: Refusal = Refusal::too_large(
    "the request head is larger than --max-header-bytes, or has more than 100 fields\n",
);

pub(super) const PROXY_HEADER: Refusal =
    Refusal::bad("a PROXY header from an address that is not listed in --proxy-protocol\n");

pub(super) const HTTP_2: Refusal = Refusal::bad("this server speaks HTTP/1.1, not HTTP/2\n");

pub(super) const TLS_REQUIRED: Refusal = Refusal::bad("this port needs TLS: use https or wss\n");

pub(super) const BAD_HANDSHAKE: Refusal = Refusal::bad("this is no WebSocket handshake\n");

const HANDLER_LINE: &str = "the request is not accepted here\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) status: StatusCode,
    line: &'static str,
    remedy: Remedy,
}

/// The headers with the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    None,
    Methods(&'static str),
    Handshake,
    /// `Retry-After`, in seconds.
    Wait(u64),
}

impl Refusal {
    /// The server is full.
    pub(crate) const FULL: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the server has reached its limit on connections; try again later\n",
    );

    /// The client's address has too many connections. Not a 503, which is about the
    /// server, and makes balancers take it out of service.
    pub(crate) const TOO_MANY: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        "your address has reached its limit on connections\n",
    );

    /// The client's address connects too often, until `wait` is over (RFC 6585, section
    /// 4; RFC 9110, section 10.2.3).
    pub(crate) fn too_often(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            line: "your address connects too often; try again later\n",
            remedy: Remedy::Wait(seconds.max(1)),
        }
    }

    /// The handler does not accept the handshake, for which it has this status.
    pub(crate) fn by_handler(status: StatusCode) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error {
            status
        } else {
            StatusCode::FORBIDDEN
        };
        Self::new(status, HANDLER_LINE)
    }

    /// Whether a handler has refused.
    pub(crate) fn is_by_handler(&self) -> bool {
        std::ptr::eq(self.line, HANDLER_LINE)
    }

    pub(super) const fn new(status: StatusCode, line: &'static str) -> Self {
        Self {
            status,
            line,
            remedy: Remedy::None,
        }
    }

    pub(super) const fn bad(line: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, line)
    }

    pub(crate) const fn too_large(line: &'static str) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, line)
    }

    pub(super) const fn method(allowed: &'static str, line: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            line,
            remedy: Remedy::Methods(allowed),
        }
    }

    /// A 426, which names the protocol and the version that would be accepted
    /// (RFC 6455, section 4.2.2; RFC 9110, section 15.5.22).
    pub(super) const fn upgrade_required(line: &'static str) -> Self {
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            line,
            remedy: Remedy::Handshake,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason, in a line.
    pub(super) fn reason(&self) -> &'static str {
        self.line.trim_end()
    }

    /// The refusal as an answer.
    pub(super) fn reply(&self) -> Reply {
        let mut reply = Response::new(Bytes::from_static(self.line.as_bytes()));
        *reply.status_mut() = self.status;
        let headers = reply.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self.remedy {
            Remedy::None => {}
            Remedy::Methods(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Remedy::Handshake => {
                // Upgrade must be listed in Connection (RFC 9110, section 7.8).
                headers.insert(CONNECTION, HeaderValue::from_static("close, upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Remedy::Wait(seconds) => {
                headers.insert(RETRY_AFTER, seconds.into());
            }
        }
        reply
    }

    /// The refusal in wire form, for a peer whose request could not be read.
    pub(super) fn wire(&self) -> Vec<u8> {
        let reply = self.reply();
        let head = response::head(&reply, Version::HTTP_11);
        [&head[..], &reply.body()[..]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_a_complete_response() {
        let wire = String::from_utf8(TOO_SLOW.wire()).expect("ASCII");
        let (head, body) = wire.split_once("\r\n\r\n").expect("a head");
        let (head, date) = head.split_once("\r\ndate: ").expect("a date");
        assert!(date.ends_with(" GMT"), "{date}");
        assert_eq!(
            head,
            "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
             content-type: text/plain; charset=utf-8\r\n\
             x-content-type-options: nosniff\r\ncontent-length: 35"
        );
        assert_eq!(body, "the request did not arrive in time\n");
    }
}
