//! The opening handshake (RFC 6455, section 4.1).

use std::io;

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::excerpt::excerpt;
use super::fields::{members, values};
use super::refusal::Refusal;
use super::violation::Violation;
use crate::target::Target;

/// The longest accepted response, in bytes, interim responses included.
const RESPONSE_LEN_MAX: usize = 16 << 10;
/// The most header fields a response may have.
const FIELDS_MAX: usize = 128;

const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why the handshake failed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The socket's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No whole response in time.
    #[error("no answer to the handshake within the timeout")]
    Timeout,
    /// The connection ended before the response did.
    #[error("the connection was closed during the handshake")]
    Eof,
    /// The response is no HTTP.
    #[error("the answer is not an HTTP response; it begins with {begin}{}", or_tls(.begin))]
    NotHttp {
        /// Its first bytes, quoted.
        begin: String,
    },
    /// The response is too long.
    #[error("the answer's head is over {RESPONSE_LEN_MAX} bytes or {FIELDS_MAX} fields")]
    TooLong,
    /// The server did not switch protocols.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// HTTP/1.0 has no 101.
    #[error("status 101 in HTTP/1.0, which cannot switch protocols")]
    Version,
    /// `Upgrade: websocket` is missing, or something else is chosen as well.
    #[error("the answer lacks \"Upgrade: websocket\"")]
    Upgrade,
    /// `Connection: Upgrade` is missing.
    #[error("the answer lacks \"Connection: Upgrade\"")]
    Connection,
    /// The proof that the server read the key is missing.
    #[error("the answer lacks Sec-WebSocket-Accept")]
    NoAccept,
    /// The proof that the server read the key is wrong.
    #[error("wrong Sec-WebSocket-Accept")]
    WrongAccept,
    /// A field that must not appear more than once (RFC 6455, section 11.3).
    #[error("the answer has {0} twice")]
    Twice(&'static str),
    /// Subprotocols were offered, and the server chose none.
    #[error("the server chose none of the subprotocols")]
    NoSubprotocol,
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server chose what was not offered.
    #[error("the server chose the {what} {chosen}, which was not offered")]
    NotOffered {
        /// The kind of value.
        what: &'static str,
        /// The chosen value, quoted.
        chosen: String,
    },
    /// The messages that the server is to send first did not come.
    #[error("only {came} of the {skip} messages came that --skip awaits before the load")]
    NoGreeting {
        /// Messages that came.
        came: u32,
        /// Messages that were awaited.
        skip: u32,
    },
    /// The bytes before the first reply are no sequence of messages.
    #[error("a message that --skip awaits: {0}")]
    Greeting(Violation),
}

/// The client's side of one opening handshake.
#[derive(Debug)]
pub struct Handshake {
    key: String,
    subprotocols: Vec<String>,
}

impl Handshake {
    /// The handshake, and its request. The nonce makes the key.
    pub fn new(
        target: &Target,
        headers: &[(String, String)],
        subprotocols: &[String],
        nonce: [u8; 16],
    ) -> (Self, Vec<u8>) {
        let key = BASE64.encode(&nonce);
        let mut request = format!("GET {} HTTP/1.1\r\n", target.path());
        let mut field = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        let is_given = |name: &str| {
            headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        // The one field of ours that tests of virtual hosts want to replace.
        if !is_given("host") {
            field("Host", &target.host_header());
        }
        field("Upgrade", "websocket");
        field("Connection", "Upgrade");
        field("Sec-WebSocket-Key", &key);
        field("Sec-WebSocket-Version", "13");
        if !subprotocols.is_empty() {
            field("Sec-WebSocket-Protocol", &subprotocols.join(", "));
        }
        for (name, value) in headers {
            field(name, value);
        }
        request.push_str("\r\n");
        let handshake = Self {
            key,
            subprotocols: subprotocols.to_vec(),
        };
        (handshake, request.into_bytes())
    }

    /// The length of a right response, interim ones before it included; `None` while it is
    /// incomplete. `is_over`: no more bytes will come. A rejection is read to its end, for the
    /// reason in its body.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn check(&self, bytes: &[u8], is_over: bool) -> Result<Option<usize>, HandshakeError> {
        let mut at = 0;
        loop {
            let mut fields = [EMPTY_HEADER; FIELDS_MAX];
            let mut response = httparse::Response::new(&mut fields);
            let rest = &bytes[at..];
            let Some(head_len) = parse_head(&mut response, rest)? else {
                return incomplete(bytes, is_over);
            };
            match (response.code, response.version) {
                (Some(101), Some(1)) => {
                    self.check_fields(response.headers)?;
                    return Ok(Some(at + head_len));
                }
                (Some(101), _) => return Err(HandshakeError::Version),
                // Interim responses (RFC 9110, section 15.2) come before the final one.
                (Some(100..=199), _) => at += head_len,
                _ => {
                    let is_over = is_over || bytes.len() >= RESPONSE_LEN_MAX;
                    return match Refusal::read(&response, &rest[head_len..], is_over) {
                        Some(refusal) => Err(HandshakeError::Refused(Box::new(refusal))),
                        None => Ok(None),
                    };
                }
            }
        }
    }

    fn check_fields(&self, fields: &[Header<'_>]) -> Result<(), HandshakeError> {
        let is_websocket = |token: &[u8]| token.eq_ignore_ascii_case(b"websocket");
        let mut upgrades = members(fields, "upgrade").peekable();
        if upgrades.peek().is_none() || !upgrades.all(is_websocket) {
            return Err(HandshakeError::Upgrade);
        }
        let is_upgrade = |token: &[u8]| token.eq_ignore_ascii_case(b"upgrade");
        if !members(fields, "connection").any(is_upgrade) {
            return Err(HandshakeError::Connection);
        }
        match only(fields, "Sec-WebSocket-Accept")? {
            None => return Err(HandshakeError::NoAccept),
            Some(value) if value != accept_for(&self.key).as_bytes() => {
                return Err(HandshakeError::WrongAccept);
            }
            Some(_) => {}
        }
        let not_offered = |what, chosen: &[u8]| HandshakeError::NotOffered {
            what,
            chosen: excerpt(chosen),
        };
        if let Some(chosen) = members(fields, "sec-websocket-extensions").next() {
            return Err(not_offered("extension", chosen));
        }
        let is_offered = |chosen: &[u8]| {
            let mut offered = self.subprotocols.iter();
            offered.any(|offered| offered.as_bytes() == chosen)
        };
        let chosen = only(fields, "Sec-WebSocket-Protocol")?.filter(|chosen| !chosen.is_empty());
        match chosen {
            None if !self.subprotocols.is_empty() => Err(HandshakeError::NoSubprotocol),
            Some(chosen) if !is_offered(chosen) => Err(not_offered("subprotocol", chosen)),
            _ => Ok(()),
        }
    }
}

/// A TLS record that is an alert: the server's answer to what is no TLS.
fn or_tls(excerpt: &str) -> &'static str {
    if excerpt.starts_with("0x1503") {
        ": it speaks TLS, use wss://"
    } else {
        ""
    }
}

/// The length of a response's head, or `None` while it is incomplete.
fn parse_head<'b>(
    response: &mut httparse::Response<'_, 'b>,
    bytes: &'b [u8],
) -> Result<Option<usize>, HandshakeError> {
    let mut config = ParserConfig::default();
    // A client unfolds them (RFC 9112, section 5.2).
    config.allow_obsolete_multiline_headers_in_responses(true);
    match config.parse_response(response, bytes) {
        Ok(Status::Complete(head_len)) => Ok(Some(head_len)),
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(HandshakeError::TooLong),
        Err(_) => Err(HandshakeError::NotHttp {
            begin: excerpt(bytes),
        }),
    }
}

/// An incomplete head: an error if no more bytes will come.
fn incomplete(bytes: &[u8], is_over: bool) -> Result<Option<usize>, HandshakeError> {
    if bytes.len() >= RESPONSE_LEN_MAX {
        Err(HandshakeError::TooLong)
    } else if is_over {
        Err(HandshakeError::Eof)
    } else {
        Ok(None)
    }
}

/// The value of a field that must not be there twice.
fn only<'a>(
    fields: &'a [Header<'a>],
    name: &'static str,
) -> Result<Option<&'a [u8]>, HandshakeError> {
    let mut values = values(fields, name);
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(HandshakeError::Twice(name)),
    }
}

/// The `Sec-WebSocket-Accept` for a key.
pub(crate) fn accept_for(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_GUID);
    BASE64.encode(&hash.finalize())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The key and the answer of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    pub(in super::super) fn handshake() -> Handshake {
        Handshake {
            key: KEY.to_owned(),
            subprotocols: Vec::new(),
        }
    }

    #[test]
    fn a_valid_response_is_accepted_once_complete() {
        let with_frame = format!("{RIGHT}\u{1}");
        for end in 0..RIGHT.len() {
            let part = handshake().check(&RIGHT.as_bytes()[..end], false);
            assert!(matches!(part, Ok(None)), "{end}");
            let over = handshake().check(&RIGHT.as_bytes()[..end], true);
            assert!(matches!(over, Err(HandshakeError::Eof)), "{end}");
        }
        let whole = handshake().check(with_frame.as_bytes(), false);
        assert!(matches!(whole, Ok(Some(len)) if len == RIGHT.len()));
    }

    /// Other forms that RFC 9110 or RFC 9112 allows.
    #[test]
    fn fields_are_parsed_by_rfc_9110() {
        for (from, to) in [
            (
                "Connection: keep-alive, Upgrade",
                "Connection: keep-alive\r\nConnection: Upgrade",
            ),
            ("Connection: keep-alive, Upgrade", "cOnNeCtIoN:,, uPGRADE ,"),
            (
                "Connection: keep-alive, Upgrade",
                "Connection: keep-alive,\r\n\tUpgrade",
            ),
            ("Upgrade: WebSocket", "UPGRADE:websocket"),
            ("Upgrade: WebSocket", "Upgrade: , websocket\r\nUpgrade: "),
            ("s3p", " \t s3p"),
            ("Accept: s3p", "Accept:\r\n s3p"),
            ("HTTP/1.1 101 Switching Protocols", "HTTP/1.1 101"),
            ("Upgrade: W", "Sec-WebSocket-Extensions:\r\nUpgrade: W"),
            ("Upgrade: W", "Sec-WebSocket-Protocol: \r\nUpgrade: W"),
            ("\r\n", "\n"),
            ("HTTP/1.1 101", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101"),
            (
                "HTTP/1.1 101",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 X\r\n\r\nHTTP/1.1 101",
            ),
        ] {
            let answer = RIGHT.replace(from, to);
            for end in 0..answer.len() {
                let part = handshake().check(&answer.as_bytes()[..end], false);
                assert!(matches!(part, Ok(None)), "{end} {answer}");
            }
            let whole = handshake().check(answer.as_bytes(), false);
            assert!(
                matches!(whole, Ok(Some(len)) if len == answer.len()),
                "{answer}: {whole:?}"
            );
        }
    }

    #[test]
    fn each_wrong_response_has_its_own_error() {
        let error_after = |from: &str, to: &str| {
            let answer = RIGHT.replace(from, to);
            handshake()
                .check(answer.as_bytes(), true)
                .unwrap_err()
                .to_string()
        };
        assert!(error_after("101", "200").starts_with("status 200 "));
        assert!(error_after("HTTP/1.1", "HTTP/1.0").contains("101 in HTTP/1.0"));
        let other = error_after("HTTP/1.1", "SSH-2.0");
        assert!(
            other.contains("not an HTTP response; it begins with \"SSH-2.0 101"),
            "{other}"
        );
        assert!(error_after("Upgrade: WebSocket", "Upgrade: websocket, h2c").contains("websocket"));
        for name in ["Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"] {
            let field = format!("{name}: a\r\n");
            let twice = error_after("Upgrade: W", &format!("{field}{field}Upgrade: W"));
            assert_eq!(twice, format!("the answer has {name} twice"));
        }
        assert!(error_after("Upgrade: WebSocket", "Upgrade: h2c").contains("Upgrade: websocket"));
        assert!(error_after("keep-alive, Upgrade", "close").contains("Connection: Upgrade"));
        assert!(error_after("s3p", "S3P").contains("wrong Sec-WebSocket-Accept"));
        assert!(error_after("-Accept", "-Reject").contains("lacks Sec-WebSocket-Accept"));
        let offer = "Connection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate";
        assert!(
            error_after("Connection: keep-alive, Upgrade", offer)
                .contains("the extension \"permessage-deflate\"")
        );
        let offer = "Connection: Upgrade\r\nSec-WebSocket-Protocol: chat";
        assert!(error_after("Connection: keep-alive, Upgrade", offer).contains("subprotocol"));
    }

    #[test]
    fn one_of_the_subprotocols_has_to_be_chosen() {
        let offering = Handshake {
            subprotocols: vec!["chat".to_owned(), "echo".to_owned()],
            ..handshake()
        };
        let none = offering.check(RIGHT.as_bytes(), false).unwrap_err();
        assert!(matches!(none, HandshakeError::NoSubprotocol));
        let with = |name: &str| {
            RIGHT.replace(
                "\r\n\r\n",
                &format!("\r\nSec-WebSocket-Protocol: {name}\r\n\r\n"),
            )
        };
        let check = |name| offering.check(with(name).as_bytes(), false);
        assert!(check("echo").unwrap().is_some());
        let other = check("Echo").unwrap_err();
        assert!(matches!(
            other,
            HandshakeError::NotOffered {
                what: "subprotocol",
                ..
            }
        ));
    }

    #[test]
    fn requests_carry_what_was_asked_for() {
        let target: Target = "ws://h:9001/a?b=c".parse().unwrap();
        let headers = [("X-A".to_owned(), "1".to_owned())];
        let (_, plain) =
            Handshake::new(&target, &headers, &["chat".into(), "echo".into()], [0; 16]);
        let text = String::from_utf8(plain).unwrap();
        assert!(
            text.starts_with("GET /a?b=c HTTP/1.1\r\nHost: h:9001\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nSec-WebSocket-Protocol: chat, echo\r\nX-A: 1\r\n\r\n"),
            "{text}"
        );
        let host = [("host".to_owned(), "other".to_owned())];
        let (_, other) = Handshake::new(&target, &host, &[], [0; 16]);
        let text = String::from_utf8(other).unwrap();
        assert!(
            text.contains("host: other\r\n") && !text.contains("h:9001"),
            "{text}"
        );
    }

    #[test]
    fn the_response_length_is_bounded() {
        for endless in [
            format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(RESPONSE_LEN_MAX)),
            "HTTP/1.1 100 X\r\n\r\n".repeat(RESPONSE_LEN_MAX / 8),
            format!("HTTP/1.1 101 X\r\n{}", "A: b\r\n".repeat(FIELDS_MAX + 2)),
        ] {
            let error = handshake().check(endless.as_bytes(), false).unwrap_err();
            assert!(matches!(error, HandshakeError::TooLong), "{error}");
        }
    }
}
