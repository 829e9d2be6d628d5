//! The strict gate: the rules for a WebSocket handshake.
//!
//! Pure functions over the request's head. The rules, in the order in which they are
//! checked (RFC 6455, section 4.2.1, if nothing else is named):
//!
//! | rule | else |
//! |---|---|
//! | the method is GET | 405 |
//! | HTTP/1.1 | 400 |
//! | one valid Host (RFC 9112, section 3.2) | 400 |
//! | the target is a path, or an http or https URL (RFC 9112, section 3.2) | 400 |
//! | the path is the configured one, if one is | 404 |
//! | no header that the gate reads holds bytes outside printable ASCII | 400 |
//! | an Upgrade header | 400 |
//! | that lists `websocket` | 426 |
//! | Connection lists `upgrade` | 400 |
//! | one Sec-WebSocket-Version, and it is 13 | 426 |
//! | one Sec-WebSocket-Key, the base64 of 16 bytes | 400 |
//! | no body: no Transfer-Encoding, no Content-Length but 0 | 400 |
//! | Origin, if there is one, is on the list, if there is one | 403 |
//! | Sec-WebSocket-Protocol is a list of different tokens, or empty | 400 |
//!
//! Accepted on purpose:
//! - A request without Origin. Only browsers send one, and only a browser sends its user's
//!   credentials to a URL that a page has chosen.
//! - Sec-WebSocket-Extensions with any value: an offer that is not answered is declined.
//! - An Upgrade to another protocol without any Sec-WebSocket header is no
//!   attempt at all but a plain request, as RFC 9110, section 7.8, allows:
//!   Java's HTTP client and `curl --http2` offer `h2c` with every request. Nor is
//!   `Connection: upgrade` alone, which nginx adds to every request where it is configured
//!   for WebSockets.
//! - A key whose last base64 character has bits beyond the 16th byte. It
//!   decodes to 16 bytes, which is all the RFC asks.
//! - Empty elements in lists (RFC 9110, section 5.6.1.2).

use std::net::Ipv6Addr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, StatusCode, Version};

use super::HttpOptions;
use super::refusal::Refusal;
use crate::config::ANY_SUBPROTOCOL;
use crate::config::origin::Origin;

/// More offers than any client makes; they are compared each with each.
const SUBPROTOCOLS_MAX: usize = 32;

const METHOD: Refusal = Refusal::method("GET", "a WebSocket handshake is a GET request\n");
/// A fault that is mostly a proxy's, with the remedy in nginx' configuration.
macro_rules! through_a_proxy {
    ($fault:literal) => {
        concat!(
            $fault,
            "; a proxy in front must forward it (nginx: proxy_http_version 1.1; ",
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";)\n"
        )
    };
}

const VERSION: Refusal = Refusal::bad(through_a_proxy!("a WebSocket handshake needs HTTP/1.1"));
const NO_SUCH_HOST: Refusal = Refusal::bad("a request needs one Host header with a valid host\n");
const TARGET: Refusal =
    Refusal::bad("the request target must be a path, or an http or https URL with a host\n");
const PATH: Refusal = Refusal::new(StatusCode::NOT_FOUND, "no WebSocket at this path\n");
const NOT_ASCII: Refusal =
    Refusal::bad("a header of the handshake has bytes outside printable ASCII\n");
const NO_UPGRADE: Refusal = Refusal::bad(through_a_proxy!("the Upgrade header is missing"));
const OTHER_UPGRADE: Refusal =
    Refusal::upgrade_required("the only Upgrade protocol here is websocket\n");
const CONNECTION_LACKS_UPGRADE: Refusal =
    Refusal::bad(through_a_proxy!("the Connection header lacks `upgrade`"));
const WEBSOCKET_VERSION: Refusal =
    Refusal::upgrade_required("one Sec-WebSocket-Version header is needed, with the value 13\n");
const KEY: Refusal =
    Refusal::bad("one Sec-WebSocket-Key header is needed, with 16 bytes in base64\n");
const BODY: Refusal = Refusal::bad("a WebSocket handshake has no body\n");
const FOREIGN: Refusal = Refusal::new(
    StatusCode::FORBIDDEN,
    "this Origin may not connect: it is not listed in --origin\n",
);
const SUBPROTOCOLS: Refusal =
    Refusal::bad("Sec-WebSocket-Protocol must list at most 32 tokens, each one once\n");

/// Whether the request is an attempt at a handshake, valid or not.
pub(super) fn is_attempt<B>(request: &Request<B>) -> bool {
    const MARKS: [HeaderName; 5] = [
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_ACCEPT,
    ];
    let headers = request.headers();
    lists(headers, UPGRADE, b"websocket") || MARKS.iter().any(|mark| headers.contains_key(mark))
}

/// Checks every rule; returns the subprotocol for the answer.
pub(super) fn admit<B>(
    request: &Request<B>,
    options: &HttpOptions,
) -> Result<Option<String>, Refusal> {
    if request.method() != Method::GET {
        return Err(METHOD);
    }
    if request.version() != Version::HTTP_11 {
        return Err(VERSION);
    }
    let headers = request.headers();
    address(request)?;
    if let Some(path) = &options.path
        && request.uri().path() != path
    {
        return Err(PATH);
    }
    handshake(headers)?;
    origin(headers, &options.origins)?;
    subprotocol(headers, &options.subprotocols)
}

/// One Host, and a target that is a path, or the URL that a proxy is sent.
pub(super) fn address<B>(request: &Request<B>) -> Result<(), Refusal> {
    let host = only(request.headers(), HOST).and_then(|host| str::from_utf8(host).ok());
    if !host.is_some_and(is_host_and_port) {
        return Err(NO_SUCH_HOST);
    }
    let uri = request.uri();
    // The methods that have other forms get an answer of their own.
    let is_target = match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path() == "*" => request.method() == Method::OPTIONS,
        (None, None) => uri.path().starts_with('/'),
        (None, Some(_)) => request.method() == Method::CONNECT,
        (Some("http" | "https"), Some(authority)) => is_host_and_port(authority.as_str()),
        _ => false,
    };
    is_target.then_some(()).ok_or(TARGET)
}

/// `uri-host [ ":" port ]` of RFC 9110, section 7.2.
fn is_host_and_port(text: &str) -> bool {
    let (is_host, rest) = if let Some(literal) = text.strip_prefix('[') {
        let Some((address, rest)) = literal.split_once(']') else {
            return false;
        };
        (is_ip_literal(address), rest)
    } else {
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        (!name.is_empty() && is_name(name), rest)
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// The part in brackets (RFC 3986, section 3.2.2), possibly with the zone of a link-local
/// address.
fn is_ip_literal(text: &str) -> bool {
    if let Some(future) = text.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, address)| {
            let is_hexadecimal = version.bytes().all(|byte| byte.is_ascii_hexdigit());
            !version.is_empty()
                && is_hexadecimal
                && !address.is_empty()
                && address.split(':').all(is_name)
        });
    }
    let (address, zone) = text.split_once('%').unwrap_or((text, "none"));
    let is_zone_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_zone_byte)
}

/// The characters of a name in RFC 3986, without the comma: a value with one is two Hosts
/// that a proxy has joined.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte);
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default();
    first.bytes().all(is_plain)
        && parts.all(|part| {
            let is_escape = |escape: &[u8]| escape.iter().all(u8::is_ascii_hexdigit);
            part.as_bytes().get(..2).is_some_and(is_escape) && part.bytes().all(is_plain)
        })
}

fn handshake(headers: &HeaderMap) -> Result<(), Refusal> {
    const READ: [HeaderName; 6] = [
        UPGRADE,
        CONNECTION,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        ORIGIN,
    ];
    let readable = |name: &HeaderName| headers.get_all(name).iter().all(|v| v.to_str().is_ok());
    if !READ.iter().all(readable) {
        return Err(NOT_ASCII);
    }
    if !headers.contains_key(UPGRADE) {
        return Err(NO_UPGRADE);
    }
    if !lists(headers, UPGRADE, b"websocket") {
        return Err(OTHER_UPGRADE);
    }
    if !lists(headers, CONNECTION, b"upgrade") {
        return Err(CONNECTION_LACKS_UPGRADE);
    }
    if only(headers, SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(WEBSOCKET_VERSION);
    }
    if !only(headers, SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(KEY);
    }
    if has_body(headers) {
        return Err(BODY);
    }
    Ok(())
}

/// 16 bytes are 21 base64 characters, 2 bits of a 22nd, and two of padding.
fn is_key(value: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    value.len() == 24 && value[..22].iter().all(is_base64) && value.ends_with(b"==")
}

fn has_body(headers: &HeaderMap) -> bool {
    let is_zero = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(|digit| *digit == b'0')
    };
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(is_zero)
}

/// One Origin that is listed, none at all, or no list.
pub(super) fn origin(headers: &HeaderMap, listed: &[Origin]) -> Result<(), Refusal> {
    if listed.is_empty() || !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let is_listed = |field: &str| listed.iter().any(|listed| listed.matches(field));
    let field = only(headers, ORIGIN).and_then(|field| str::from_utf8(field).ok());
    if field.is_some_and(is_listed) {
        Ok(())
    } else {
        Err(FOREIGN)
    }
}

/// The first of the client's subprotocols, in its order of preference, that is
/// listed; all are where [`ANY_SUBPROTOCOL`] is. Their names are compared with case
/// (RFC 6455, section 4.1).
fn subprotocol(headers: &HeaderMap, listed: &[String]) -> Result<Option<String>, Refusal> {
    let mut offered: Vec<&[u8]> = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for token in elements(value) {
            if !is_token(token) || offered.contains(&token) || offered.len() == SUBPROTOCOLS_MAX {
                return Err(SUBPROTOCOLS);
            }
            offered.push(token);
        }
    }
    let takes_any = listed.iter().any(|name| name == ANY_SUBPROTOCOL);
    let is_listed = |token: &&&[u8]| takes_any || listed.iter().any(|it| it.as_bytes() == **token);
    let chosen = offered.iter().find(is_listed);
    Ok(chosen.map(|token| String::from_utf8_lossy(token).into_owned()))
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(element: &[u8]) -> bool {
    element
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// The value of a header that occurs exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// Whether the lists of all headers of this name, taken as one, have an element.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(elements)
        .any(|element| element.eq_ignore_ascii_case(wanted))
}

/// The elements of a comma-separated list, without the empty ones.
fn elements(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests;
