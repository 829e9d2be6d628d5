//! The opening handshake (RFC 6455, section 4.1).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

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
    /// The server chose what was not offered.
    #[error("the server chose a {0} that was not offered")]
    NotOffered(&'static str),
}

/// Performs the handshake on a blocking socket within `timeout`. Returns the
/// bytes that came behind the response.
///
/// # Errors
/// See [`HandshakeError`].
pub fn shake_hands(
    stream: &TcpStream,
    target: &Target,
    nonce: [u8; 16],
    timeout: Duration,
) -> Result<Vec<u8>, HandshakeError> {
    let deadline = Instant::now() + timeout;
    let key = BASE64.encode(&nonce);
    let mut socket = stream;
    stream.set_write_timeout(Some(timeout))?;
    socket.write_all(request(target, &key).as_bytes())?;

    let mut response = Vec::new();
    loop {
        if let Some(head_len) = check_response(&response, &key)? {
            return Ok(response.split_off(head_len));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HandshakeError::Timeout);
        }
        stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 2048];
        match socket.read(&mut chunk) {
            Ok(0) => return Err(HandshakeError::Eof),
            Ok(count) => response.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a read timeout is called on Unix.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(HandshakeError::Timeout);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn request(target: &Target, key: &str) -> String {
    format!(
        "GET {} HTTP/1.1\r\n\
         Host: {}\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n\
         \r\n",
        target.path(),
        target.host_header(),
    )
}

/// The length of a right response's head, or `None` while it is incomplete.
fn check_response(bytes: &[u8], key: &str) -> Result<Option<usize>, HandshakeError> {
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
    let find = |name: &str| {
        let found = response
            .headers
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
        Some(value) if value != accept_for(key).as_bytes() => {
            return Err(HandshakeError::WrongAccept);
        }
        Some(_) => {}
    }
    if find("sec-websocket-extensions").is_some() {
        return Err(HandshakeError::NotOffered("extension"));
    }
    if find("sec-websocket-protocol").is_some() {
        return Err(HandshakeError::NotOffered("subprotocol"));
    }
    Ok(Some(head_len))
}

fn accept_for(key: &str) -> String {
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

    #[test]
    fn the_right_answer_is_taken_when_it_is_whole() {
        let with_frame = format!("{RIGHT}\u{1}");
        for end in 0..RIGHT.len() {
            let part = check_response(&RIGHT.as_bytes()[..end], KEY);
            assert!(matches!(part, Ok(None)), "{end}");
        }
        let whole = check_response(with_frame.as_bytes(), KEY);
        assert!(matches!(whole, Ok(Some(len)) if len == RIGHT.len()));
    }

    #[test]
    fn wrong_answers_are_told_apart() {
        let told = |from: &str, to: &str| {
            check_response(RIGHT.replace(from, to).as_bytes(), KEY)
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
    }

    #[test]
    fn an_endless_answer_is_bounded() {
        let endless = format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(RESPONSE_LEN_MAX));
        let error = check_response(endless.as_bytes(), KEY).unwrap_err();
        assert!(matches!(error, HandshakeError::TooLong));
    }
}
