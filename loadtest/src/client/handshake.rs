//! The opening handshake (RFC 6455, section 4.1).

use std::io;

use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::target::Target;

/// The longest response head that is taken, in bytes.
const RESPONSE_LEN_MAX: usize = 16 << 10;
/// The most header fields it may have.
const FIELDS_MAX: usize = 64;

const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why there is no WebSocket connection.
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
    #[error("the answer is no HTTP response")]
    NotHttp,
    /// The response's head has no end.
    #[error("the answer's head is over {RESPONSE_LEN_MAX} bytes")]
    TooLong,
    /// The server did not switch protocols.
    #[error("status {0} instead of 101")]
    Status(u16),
    /// `Upgrade: websocket` is missing.
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
    /// Subprotocols were offered, and the server chose none.
    #[error("the server chose none of the subprotocols")]
    NoSubprotocol,
    /// No encrypted connection came about.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server chose what was not offered.
    #[error("the server chose a {0} that was not offered")]
    NotOffered(&'static str),
}

/// One connection's opening handshake: what to send, and what it must bring.
#[derive(Debug)]
pub struct Handshake {
    key: String,
    subprotocols: Vec<String>,
}

impl Handshake {
    /// The handshake, and the request it begins with. The nonce makes the key.
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

    /// The length of a right response's head, or `None` while it is incomplete.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn check(&self, bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let head_len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(head_len)) => head_len,
            Ok(httparse::Status::Partial) if bytes.len() >= RESPONSE_LEN_MAX => {
                return Err(HandshakeError::TooLong);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(HandshakeError::TooLong),
            Err(_) => return Err(HandshakeError::NotHttp),
        };
        match response.code {
            Some(101) => {}
            Some(status) => return Err(HandshakeError::Status(status)),
            None => return Err(HandshakeError::NotHttp),
        }
        self.check_fields(response.headers)?;
        Ok(Some(head_len))
    }

    fn check_fields(&self, fields: &[httparse::Header<'_>]) -> Result<(), HandshakeError> {
        let find = |name: &str| {
            let found = fields
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| field.value.trim_ascii())
        };
        if !find("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(HandshakeError::Upgrade);
        }
        let is_upgrade = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"upgrade");
        let mut connection = find("connection").unwrap_or_default().split(|&b| b == b',');
        if !connection.any(is_upgrade) {
            return Err(HandshakeError::Connection);
        }
        match find("sec-websocket-accept") {
            None => return Err(HandshakeError::NoAccept),
            Some(value) if value != accept_for(&self.key).as_bytes() => {
                return Err(HandshakeError::WrongAccept);
            }
            Some(_) => {}
        }
        if find("sec-websocket-extensions").is_some() {
            return Err(HandshakeError::NotOffered("extension"));
        }
        let is_offered = |chosen: &[u8]| {
            let mut offered = self.subprotocols.iter();
            offered.any(|offered| offered.as_bytes() == chosen)
        };
        match find("sec-websocket-protocol") {
            None if !self.subprotocols.is_empty() => Err(HandshakeError::NoSubprotocol),
            Some(chosen) if !is_offered(chosen) => Err(HandshakeError::NotOffered("subprotocol")),
            _ => Ok(()),
        }
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
mod tests {
    use super::*;

    /// The key and the answer of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn handshake() -> Handshake {
        Handshake {
            key: KEY.to_owned(),
            subprotocols: Vec::new(),
        }
    }

    #[test]
    fn the_right_answer_is_taken_when_it_is_whole() {
        let with_frame = format!("{RIGHT}\u{1}");
        for end in 0..RIGHT.len() {
            let part = handshake().check(&RIGHT.as_bytes()[..end]);
            assert!(matches!(part, Ok(None)), "{end}");
        }
        let whole = handshake().check(with_frame.as_bytes());
        assert!(matches!(whole, Ok(Some(len)) if len == RIGHT.len()));
    }

    #[test]
    fn wrong_answers_are_told_apart() {
        let told = |from: &str, to: &str| {
            let answer = RIGHT.replace(from, to);
            handshake()
                .check(answer.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(told("101", "200"), "status 200 instead of 101");
        assert!(told("HTTP/1.1", "SSH-2.0").contains("no HTTP"));
        assert!(told("Upgrade: WebSocket", "Upgrade: h2c").contains("Upgrade: websocket"));
        assert!(told("keep-alive, Upgrade", "close").contains("Connection: Upgrade"));
        assert!(told("s3p", "S3P").contains("wrong Sec-WebSocket-Accept"));
        assert!(told("-Accept", "-Reject").contains("lacks Sec-WebSocket-Accept"));
        let offer = "Connection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate";
        assert!(told("Connection: keep-alive, Upgrade", offer).contains("extension"));
        let offer = "Connection: Upgrade\r\nSec-WebSocket-Protocol: chat";
        assert!(told("Connection: keep-alive, Upgrade", offer).contains("subprotocol"));
    }

    #[test]
    fn one_of_the_subprotocols_has_to_be_chosen() {
        let offering = Handshake {
            subprotocols: vec!["chat".to_owned(), "echo".to_owned()],
            ..handshake()
        };
        let none = offering.check(RIGHT.as_bytes()).unwrap_err();
        assert!(matches!(none, HandshakeError::NoSubprotocol));
        let with = |name: &str| {
            RIGHT.replace(
                "\r\n\r\n",
                &format!("\r\nSec-WebSocket-Protocol: {name}\r\n\r\n"),
            )
        };
        assert!(offering.check(with("echo").as_bytes()).unwrap().is_some());
        let other = offering.check(with("Echo").as_bytes()).unwrap_err();
        assert!(matches!(other, HandshakeError::NotOffered("subprotocol")));
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
    fn an_endless_answer_is_bounded() {
        let endless = format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(RESPONSE_LEN_MAX));
        let error = handshake().check(endless.as_bytes()).unwrap_err();
        assert!(matches!(error, HandshakeError::TooLong));
    }
}
