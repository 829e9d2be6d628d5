//! The server's side of the opening handshake (RFC 6455, section 4.2).

use data_encoding::BASE64;

use crate::client::handshake::accept_for;

/// The longest accepted request head, in bytes.
const REQUEST_LEN_MAX: usize = 16 << 10;
/// The most header fields it may have.
const FIELDS_MAX: usize = 64;

/// The response to a request other than an upgrade to WebSocket.
pub(super) const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The state of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// More bytes are needed.
    Partial,
    /// A WebSocket: this is the response, and frames follow the request's head.
    Upgrade { head_len: usize, response: String },
    /// Something else, which gets a [`BAD_REQUEST`].
    Other,
}

impl Request {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST_LEN_MAX => Self::Partial,
            Ok(httparse::Status::Complete(head_len)) => match key(&request) {
                Some(key) => Self::Upgrade {
                    head_len,
                    response: response(key),
                },
                None => Self::Other,
            },
            Ok(httparse::Status::Partial) | Err(_) => Self::Other,
        }
    }
}

/// The key of a request that asks for a WebSocket as it should.
fn key<'a>(request: &httparse::Request<'_, 'a>) -> Option<&'a str> {
    let find = |name: &str| {
        let mut fields = request.headers.iter();
        let found = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(found.value.trim_ascii())
    };
    let lists = |name: &str, wanted: &[u8]| {
        let mut tokens = find(name).unwrap_or_default().split(|&byte| byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    let is_upgrade = request.method == Some("GET")
        && request.version == Some(1)
        && lists("upgrade", b"websocket")
        && lists("connection", b"upgrade")
        && find("sec-websocket-version") == Some(b"13");
    let key = find("sec-websocket-key").filter(|_| is_upgrade)?;
    let nonce = BASE64.decode(key).ok()?;
    str::from_utf8(key).ok().filter(|_| nonce.len() == 16)
}

fn response(key: &str) -> String {
    let accept = accept_for(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\
         \r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the answer of RFC 6455, section 1.3.
    const RIGHT: &str = "GET / HTTP/1.1\r\n\
        Host: localhost\r\n\
        Upgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn a_valid_request_is_answered_once_complete() {
        for end in 0..RIGHT.len() {
            let part = Request::parse(&RIGHT.as_bytes()[..end]);
            assert_eq!(part, Request::Partial, "{end}");
        }
        let Request::Upgrade { head_len, response } = Request::parse(RIGHT.as_bytes()) else {
            panic!("it is right");
        };
        assert_eq!(head_len, RIGHT.len());
        assert!(response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn an_invalid_request_is_rejected() {
        for (from, to) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "SSH-2.0"),
            ("WebSocket", "h2c"),
            ("keep-alive, Upgrade", "close"),
            ("-Version: 13", "-Version: 8"),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Hey"),
            ("dGhl", ""),
            ("dGhl", "!Ghl"),
        ] {
            let request = RIGHT.replacen(from, to, 1);
            assert_eq!(Request::parse(request.as_bytes()), Request::Other, "{to}");
        }
        let endless = format!("GET /{}", "a".repeat(REQUEST_LEN_MAX));
        assert_eq!(Request::parse(endless.as_bytes()), Request::Other);
    }
}
