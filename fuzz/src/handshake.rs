//! Handshake requests with changes, and the rules of a handshake written independently
//! of the gate.

use std::net::Ipv6Addr;

use arbitrary::{Result, Unstructured};
use hyper::Request;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Version};

/// The key of RFC 6455, section 1.2.
const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// The settings of a gate.
pub struct GateConfig {
    /// The only path, if there is one.
    pub path: Option<&'static str>,
    /// Allowed origins; all, if none.
    pub origins: &'static [&'static str],
    /// Subprotocols that are spoken.
    pub subprotocols: &'static [&'static str],
}

/// Gates of all kinds.
pub const GATE_CONFIGS: [GateConfig; 4] = [
    GateConfig {
        path: None,
        origins: &[],
        subprotocols: &[],
    },
    GateConfig {
        path: Some("/chat"),
        origins: &[],
        subprotocols: &["chat", "superchat"],
    },
    GateConfig {
        path: None,
        origins: &["https://a.example", "http://B.example:81"],
        subprotocols: &["chat"],
    },
    GateConfig {
        path: Some("/"),
        origins: &["https://a.example"],
        subprotocols: &["chat", "Chat"],
    },
];

/// A request's head.
#[derive(Clone, Debug)]
pub struct Head {
    method: &'static str,
    path: &'static str,
    version: u8,
    headers: Vec<(&'static str, Vec<u8>)>,
}

/// The expected outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no handshake.
    Plain,
    /// It is refused with this status.
    Refused(u16),
    /// It succeeds, with this subprotocol.
    Upgraded(Option<String>),
}

const METHODS: [&str; 5] = ["GET", "POST", "HEAD", "get", "OPTIONS"];
const PATHS: [&str; 5] = ["/", "/chat", "/chat?x=1", "/Chat", "/chat/"];
const NAMES: [&str; 14] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Key",
    "Origin",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Accept",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
    "Keep-Alive",
    "X",
];
const VALUES: [&[u8]; 30] = [
    b"",
    b"websocket",
    b"WebSocket",
    b"h2c",
    b"h2c, websocket",
    b"upgrade",
    b"keep-alive, Upgrade",
    b"close",
    b"13",
    b"8",
    b"13, 8",
    b" 13",
    KEY,
    b"dGhlIHNhbXBsZSBub25jZR==",
    b"dGhlIHNhbXBsZSBub25jZQ=",
    b"dGhlIHNhbXBsZSBub25jZ===",
    b"dGhlIHNhbXBsZSBub25j*Q==",
    b"localhost:9001",
    b"a.example, b.example",
    b"[::1]:80",
    b"https://a.example",
    b"HTTPS://A.example",
    b"http://b.example:81",
    b"null",
    b"chat",
    b"superchat, chat",
    b"chat, chat",
    b",, chat ,",
    b"0",
    b"chunked",
];

impl Head {
    /// A valid handshake with changes; the first byte is their number. A change is three
    /// bytes: its kind, its place, and its value.
    ///
    /// # Errors
    /// None for any input.
    pub fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let mut head = Self {
            method: "GET",
            path: "/chat",
            version: 1,
            headers: vec![
                ("Host", b"server.example.com".to_vec()),
                ("Upgrade", b"websocket".to_vec()),
                ("Connection", b"Upgrade".to_vec()),
                ("Sec-WebSocket-Version", b"13".to_vec()),
                ("Sec-WebSocket-Key", KEY.to_vec()),
            ],
        };
        let changes: u8 = input.arbitrary()?;
        for _ in 0..changes % 16 {
            head.change(input)?;
        }
        Ok(head)
    }

    fn change(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [what, which, with] = input.arbitrary::<[u8; 3]>()?.map(usize::from);
        let value = VALUES[with % VALUES.len()];
        let line = which.checked_rem(self.headers.len());
        match (what % 8, line) {
            (0, _) => self
                .headers
                .push((NAMES[which % NAMES.len()], value.to_vec())),
            (1, Some(line)) => self.headers[line].1 = value.to_vec(),
            (2, Some(line)) => drop(self.headers.remove(line)),
            (3, Some(line)) => self.headers.push(self.headers[line].clone()),
            (4, Some(line)) => {
                let own = input.bytes((with % 32).min(input.len()))?;
                self.headers[line].1.extend(own);
            }
            (5, Some(line)) => {
                let value = &mut self.headers[line].1;
                if let Some(at) = with.checked_rem(value.len()) {
                    value[at] ^= 1 << (what / 8 % 8);
                }
            }
            (6, _) => self.method = METHODS[which % METHODS.len()],
            (7, _) if which % 2 == 0 => self.path = PATHS[with % PATHS.len()],
            _ => self.version = u8::from(with % 2 == 0),
        }
        Ok(())
    }

    /// The head as a parser would hand it over; `None` if a parser would refuse it.
    pub fn request(&self) -> Option<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = self.path.parse().ok()?;
        *request.version_mut() = match self.version {
            0 => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value).ok()?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }

    /// The head on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire =
            format!("{} {} HTTP/1.{}\r\n", self.method, self.path, self.version).into_bytes();
        for (name, value) in &self.headers {
            wire.extend(name.as_bytes());
            wire.extend(b": ");
            wire.extend(value);
            wire.extend(b"\r\n");
        }
        wire.extend(b"\r\n");
        wire
    }

    /// Whether it ends where it is meant to: a value may contain the end of its line.
    pub fn is_one(&self) -> bool {
        let is_end = |byte: &u8| [b'\r', b'\n'].contains(byte);
        self.headers
            .iter()
            .all(|(_, value)| !value.iter().any(is_end))
    }

    /// The head as a parser reads it from the wire: without the spaces and tabs around
    /// values (RFC 9112, section 5.1).
    #[must_use]
    pub fn parsed(&self) -> Self {
        let is_space = |byte: &u8| [b' ', b'\t'].contains(byte);
        let mut head = self.clone();
        for (_, value) in &mut head.headers {
            let start = value.iter().position(|byte| !is_space(byte));
            let end = value.iter().rposition(|byte| !is_space(byte));
            *value = start
                .zip(end)
                .map_or_else(Vec::new, |(start, end)| value[start..=end].to_vec());
        }
        head
    }

    /// Whether a parser takes it as it is, without rules of its own for it.
    pub fn is_plain(&self) -> bool {
        let parsed = ["Content-Length", "Transfer-Encoding", "Expect"];
        self.headers.iter().all(|(name, value)| {
            let is_text = value.iter().all(|byte| (0x20..0x7f).contains(byte));
            is_text && !parsed.contains(name)
        })
    }

    /// The value of the key.
    pub fn key(&self) -> Option<&[u8]> {
        self.values("Sec-WebSocket-Key").next()
    }

    /// The rules of RFC 6455, section 4.2.1, and of the gate as one list; the first that
    /// is broken decides.
    pub fn outcome(&self, config: &GateConfig) -> Outcome {
        if !self.is_attempt() {
            return Outcome::Plain;
        }
        let refusals = [
            (405, self.method == "GET"),
            (400, self.version == 1),
            (400, self.has_one_host()),
            (
                404,
                config
                    .path
                    .is_none_or(|path| self.path.split('?').next() == Some(path)),
            ),
            (400, self.is_readable()),
            (400, self.values("Upgrade").next().is_some()),
            (426, self.has_element("Upgrade", "websocket")),
            (400, self.has_element("Connection", "upgrade")),
            (426, self.one("Sec-WebSocket-Version") == Some(b"13")),
            (400, self.one("Sec-WebSocket-Key").is_some_and(is_key)),
            (400, self.has_no_body()),
            (403, self.is_from(config.origins)),
            (400, self.offers().is_some()),
        ];
        if let Some((status, _)) = refusals.iter().find(|(_, is_kept)| !is_kept) {
            return Outcome::Refused(*status);
        }
        let offers = self.offers().unwrap_or_default();
        let spoken = offers
            .into_iter()
            .find(|offer| config.subprotocols.contains(&&offer[..]));
        Outcome::Upgraded(spoken)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| &value[..])
    }

    fn one(&self, name: &str) -> Option<&[u8]> {
        let values: Vec<_> = self.values(name).collect();
        match values[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// All lists of a header as one (RFC 9110, section 5.3), in lower case or not.
    fn list(&self, name: &str) -> Vec<String> {
        let joined = self.values(name).collect::<Vec<_>>().join(&b',');
        let text: String = joined.iter().copied().map(char::from).collect();
        text.split(',')
            .map(|element| element.trim_matches([' ', '\t']).to_owned())
            .filter(|element| !element.is_empty())
            .collect()
    }

    fn has_element(&self, name: &str, element: &str) -> bool {
        self.list(name)
            .iter()
            .any(|other| other.to_ascii_lowercase() == element)
    }

    fn is_attempt(&self) -> bool {
        let has_mark = self
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("Sec-WebSocket-"));
        has_mark || self.has_element("Upgrade", "websocket")
    }

    fn has_one_host(&self) -> bool {
        let Some(host) = self.one("Host").filter(|host| !host.is_empty()) else {
            return false;
        };
        let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit());
        let (before_port, _) = host.split_at(host.len() - digits.count());
        let name = before_port.strip_suffix(b":").unwrap_or(host);
        match name {
            [b'[', literal @ .., b']'] => is_literal(literal),
            _ => !name.is_empty() && is_name(name),
        }
    }

    fn is_readable(&self) -> bool {
        let read = [
            "Upgrade",
            "Connection",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Protocol",
            "Origin",
        ];
        self.headers
            .iter()
            .filter(|(name, _)| read.contains(name))
            .all(|(_, value)| {
                value
                    .iter()
                    .all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
            })
    }

    fn has_no_body(&self) -> bool {
        let is_zero = |value: &[u8]| !value.is_empty() && value == b"0".repeat(value.len());
        self.values("Transfer-Encoding").next().is_none()
            && self.values("Content-Length").all(is_zero)
    }

    fn is_from(&self, origins: &[&str]) -> bool {
        let mut given = self.values("Origin").peekable();
        if origins.is_empty() || given.peek().is_none() {
            return true;
        }
        self.one("Origin").is_some_and(|origin| {
            let origin = normalized(origin);
            origins
                .iter()
                .any(|allowed| normalized(allowed.as_bytes()) == origin)
        })
    }

    /// The offered subprotocols; `None` if they are no list of up to 32 different
    /// tokens.
    fn offers(&self) -> Option<Vec<String>> {
        let offers = self.list("Sec-WebSocket-Protocol");
        let is_token_char =
            |letter: char| letter.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(letter);
        let are_tokens = offers.iter().all(|offer| offer.chars().all(is_token_char));
        let mut different = offers.clone();
        different.sort();
        different.dedup();
        let is_list = are_tokens && different.len() == offers.len() && offers.len() <= 32;
        is_list.then_some(offers)
    }
}

/// RFC 3986, section 3.2.2, without the comma of `sub-delims`.
fn is_name(name: &[u8]) -> bool {
    match name {
        [] => true,
        [b'%', first, second, rest @ ..] => {
            first.is_ascii_hexdigit() && second.is_ascii_hexdigit() && is_name(rest)
        }
        [byte, rest @ ..] => {
            (byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte)) && is_name(rest)
        }
    }
}

/// An address of IPv6, with a zone or without, or of a later version.
fn is_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', later @ ..] = literal {
        let version = later.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (version, rest) = later.split_at(version.count());
        let [b'.', address @ ..] = rest else {
            return false;
        };
        let mut parts = address.split(|&byte| byte == b':');
        return !version.is_empty() && !address.is_empty() && parts.all(is_name);
    }
    let address = literal.split(|&byte| byte == b'%').next();
    let address = address.and_then(|address| str::from_utf8(address).ok());
    let Some(address) = address.filter(|address| address.parse::<Ipv6Addr>().is_ok()) else {
        return false;
    };
    match &literal[address.len()..] {
        [] => true,
        [_percent, zone @ ..] => {
            let is_zone_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
            !zone.is_empty() && zone.iter().all(is_zone_byte)
        }
    }
}

/// An origin in lower case, without a slash at its end and without its scheme's port.
/// The origins of the gates need no more than that.
fn normalized(origin: &[u8]) -> Vec<u8> {
    let mut text = origin.to_ascii_lowercase();
    if text.ends_with(b"/") {
        text.pop();
    }
    let port = text.iter().rposition(|&byte| byte == b':').unwrap_or(0);
    let digits = text.get(port + 1..).unwrap_or_default();
    let own: &[u8] = if text.starts_with(b"https://") {
        b"443"
    } else {
        b"80"
    };
    let significant = digits
        .iter()
        .position(|&digit| digit != b'0')
        .unwrap_or(digits.len());
    if digits.is_empty() || &digits[significant..] == own {
        text.truncate(port);
    } else {
        text.drain(port + 1..port + 1 + significant);
    }
    text
}

/// The base64 of 16 bytes: 22 of its digits, and two of padding.
fn is_key(value: &[u8]) -> bool {
    let Some(digits) = value.strip_suffix(b"==") else {
        return false;
    };
    digits.len() == 22
        && digits
            .iter()
            .all(|digit| matches!(digit, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/'))
}
