//! The client of a forwarded request: the fields `X-Forwarded-For`, and `Forwarded`
//! (RFC 7239).
//!
//! Each proxy appends the address that it got the request from. The elements before may
//! be forged by the client. So the list is read from its end, as far as trusted proxies
//! have written it: the client is the last address that is no trusted proxy's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::forwarded_header::ForwardedHeader;
use crate::net::peer::Peer;

/// The most proxies in a row, which is the number of elements that are read.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client that trusted proxies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// `None` if it is unknown; then the client is the proxy that has connected.
    pub(crate) client: Option<Peer>,
    /// Why no further element was read.
    pub(crate) fault: Option<Fault>,
}

/// The fault of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Malformed,
    TooLong,
}

/// An element of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Known(Peer),
    /// The proxy does not name its client.
    Unknown,
}

impl ForwardedHeader {
    /// Reads the client of a request from a trusted proxy.
    pub(crate) fn read(self, headers: &HeaderMap, is_trusted: impl Fn(Peer) -> bool) -> Forwarded {
        let mut client = None;
        let mut hops = 0;
        for element in self.elements(headers) {
            hops += 1;
            let fault = match element.and_then(|element| self.parse(element)) {
                _ if hops > HOPS_MAX => Some(Fault::TooLong),
                Some(Hop::Known(peer)) => {
                    client = Some(peer);
                    if is_trusted(peer) {
                        continue;
                    }
                    None
                }
                Some(Hop::Unknown) => None,
                None => Some(Fault::Malformed),
            };
            return Forwarded { client, fault };
        }
        let fault = (hops == 0).then_some(Fault::Missing);
        Forwarded { client, fault }
    }

    /// The elements of all fields of the name, the last one first; `None` for a malformed
    /// one.
    fn elements(self, headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
        let (name, has_quotes) = match self {
            Self::XForwardedFor => (X_FORWARDED_FOR, false),
            Self::Forwarded => (FORWARDED, true),
        };
        let values = headers.get_all(name).iter().rev();
        values
            .flat_map(move |value| Backwards {
                rest: Some(value.as_bytes()),
                has_quotes,
            })
            .filter(|element| *element != Some(""))
    }

    fn parse(self, element: &str) -> Option<Hop> {
        match self {
            Self::XForwardedFor => parse_node(element),
            Self::Forwarded => parse_element(element),
        }
    }
}

/// The elements of one field, the last one first.
struct Backwards<'v> {
    /// The part before the last returned element.
    rest: Option<&'v [u8]>,
    has_quotes: bool,
}

impl<'v> Iterator for Backwards<'v> {
    type Item = Option<&'v str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let mut is_quoted = false;
        for (at, byte) in rest.iter().enumerate().rev() {
            match byte {
                b'"' if self.has_quotes && !is_escaped(rest, at) => is_quoted = !is_quoted,
                b',' if !is_quoted => {
                    self.rest = Some(&rest[..at]);
                    return Some(text_of(&rest[at + 1..]));
                }
                _ => {}
            }
        }
        Some(text_of(rest).filter(|_| !is_quoted))
    }
}

/// Whether the byte at `at` follows a backslash that is not escaped itself.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev();
    before.take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

fn text_of(element: &[u8]) -> Option<&str> {
    let text = str::from_utf8(element).ok()?;
    Some(text.trim_matches([' ', '\t']))
}

/// An element of `Forwarded`: parameters, of which `for` may be one (RFC 7239,
/// section 4).
fn parse_element(element: &str) -> Option<Hop> {
    let mut hop = None;
    let mut rest = element;
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=')?;
        let (value, behind) = take_value(value)?;
        if name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for")
            && hop.replace(parse_node(&value)?).is_some()
        {
            return None;
        }
        let behind = behind.trim_start_matches([' ', '\t']);
        rest = match behind.strip_prefix(';') {
            Some(next) => next,
            None if behind.is_empty() => behind,
            None => return None,
        };
    }
    Some(hop.unwrap_or(Hop::Unknown))
}

/// A token, or the value of a quoted string; and the text after it.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((
            text[..end].trim_end_matches([' ', '\t']).to_owned(),
            &text[end..],
        ));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

/// An address with or without a port, or an identifier without one (RFC 7239, section 6).
/// An IPv6 address may lack its brackets, as most proxies write it.
fn parse_node(node: &str) -> Option<Hop> {
    if node.eq_ignore_ascii_case("unknown") || node.starts_with('_') || node == "unix:" {
        return Some(Hop::Unknown);
    }
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(Hop::Known(Peer::Host(address)));
    }
    let (address, port): (IpAddr, _) = if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let (address, port) = node.split_at(node.find(':')?);
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    if port.is_empty() {
        return Some(Hop::Known(Peer::Host(address)));
    }
    let port = port.strip_prefix(':')?;
    if port.starts_with('_') {
        return Some(Hop::Known(Peer::Host(address)));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    Some(Hop::Known(SocketAddr::new(address, port).into()))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the field is missing",
            Self::Malformed => "an element is no address",
            Self::TooLong => "more than 32 proxies in a row",
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// Reads these fields with 10.0.0.0/8 trusted.
    fn read(header: ForwardedHeader, fields: &[&[u8]]) -> Forwarded {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_bytes(field).unwrap();
            headers.append(header.name(), value);
        }
        let trusted = "10.0.0.0/8"
            .parse::<crate::config::proxy_source::ProxySource>()
            .unwrap();
        header.read(&headers, |peer| trusted.contains(peer))
    }

    /// The host of an address, with its port or without one.
    fn peer(address: &str) -> Option<Peer> {
        let socket = address.parse::<SocketAddr>().map(Peer::from).ok();
        socket.or_else(|| address.parse().map(Peer::Host).ok())
    }

    /// Fields, the client and the fault.
    type Case<'f> = (&'f [&'f [u8]], Option<Peer>, Option<Fault>);

    #[track_caller]
    fn check(header: ForwardedHeader, cases: &[Case<'_>]) {
        for (fields, client, fault) in cases {
            let expected = Forwarded {
                client: *client,
                fault: *fault,
            };
            let shown: Vec<_> = fields
                .iter()
                .map(|it| it.escape_ascii().to_string())
                .collect();
            assert_eq!(read(header, fields), expected, "{shown:?}");
        }
    }

    #[test]
    fn client_is_the_last_address_that_is_not_trusted() {
        check(
            ForwardedHeader::XForwardedFor,
            &[
                (&[b"192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"192.0.2.7:443"], peer("192.0.2.7:443"), None),
                (&[b"2001:db8::1"], peer("2001:db8::1"), None),
                (&[b"[2001:db8::1]"], peer("2001:db8::1"), None),
                (&[b"[2001:db8::1]:80"], peer("[2001:db8::1]:80"), None),
                (&[b"::ffff:192.0.2.7"], peer("::ffff:192.0.2.7"), None),
                // The client's elements come first.
                (&[b"198.51.100.1, 192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"\"<garbage>,192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"\xff", b"192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"\xff, 192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"198.51.100.1", b"192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"192.0.2.7, 10.0.0.2"], peer("192.0.2.7"), None),
                (
                    &[b"198.51.100.1, 192.0.2.7 ,\t10.0.0.2, 10.1.2.3:5"],
                    peer("192.0.2.7"),
                    None,
                ),
                (&[b"192.0.2.7", b"10.0.0.2", b""], peer("192.0.2.7"), None),
                (&[b"192.0.2.7,, ,"], peer("192.0.2.7"), None),
                // All of them are proxies.
                (&[b"10.0.0.1, 10.0.0.2"], peer("10.0.0.1"), None),
                // No more is known.
                (&[b"unknown"], None, None),
                (&[b"192.0.2.7, unix:"], None, None),
                (&[b"192.0.2.7, _hidden"], None, None),
                (&[b"Unknown, 10.0.0.2"], peer("10.0.0.2"), None),
            ],
        );
    }

    #[test]
    fn malformed_element_ends_the_search() {
        use Fault::{Malformed, Missing, TooLong};
        check(
            ForwardedHeader::XForwardedFor,
            &[
                (&[], None, Some(Missing)),
                (&[b""], None, Some(Missing)),
                (&[b" , "], None, Some(Missing)),
                (&[b"192.0.2.7, garbage"], None, Some(Malformed)),
                (&[b"192.0.2.7", b"\xff"], None, Some(Malformed)),
                (&[b"garbage, 10.0.0.2"], peer("10.0.0.2"), Some(Malformed)),
                (&[b"192.0.2.256"], None, Some(Malformed)),
                (&[b"192.0.2.07"], None, Some(Malformed)),
                (&[b"192.0.2.7:65536"], None, Some(Malformed)),
                (&[b"192.0.2.7:"], None, Some(Malformed)),
                (&[b"192.0.2.7:+1"], None, Some(Malformed)),
                (&[b"192.0.2.7 192.0.2.8"], None, Some(Malformed)),
                (&[b"[192.0.2.7]"], None, Some(Malformed)),
                (&[b"[2001:db8::1"], None, Some(Malformed)),
                (&[b"[2001:db8::1]x"], None, Some(Malformed)),
                (&[b"fe80::1%eth0"], None, Some(Malformed)),
                (&[b"for=192.0.2.7"], None, Some(Malformed)),
                (
                    &[&b"10.0.0.2,".repeat(HOPS_MAX + 1)],
                    peer("10.0.0.2"),
                    Some(TooLong),
                ),
            ],
        );
        let most = [&b"192.0.2.7,"[..], &b"10.0.0.2,".repeat(HOPS_MAX - 1)].concat();
        check(
            ForwardedHeader::XForwardedFor,
            &[(&[&most], peer("192.0.2.7"), None)],
        );
    }

    #[test]
    fn forwarded_elements_have_parameters_and_quotes() {
        use Fault::{Malformed, Missing};
        check(
            ForwardedHeader::Forwarded,
            &[
                (&[b"for=192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"For=\"192.0.2.7:443\""], peer("192.0.2.7:443"), None),
                (
                    &[b"for=\"[2001:db8::1]:80\""],
                    peer("[2001:db8::1]:80"),
                    None,
                ),
                (&[b"for=\"192.0.2.7:_port\""], peer("192.0.2.7"), None),
                (
                    &[b"proto=http;by=10.0.0.9;for=192.0.2.7"],
                    peer("192.0.2.7"),
                    None,
                ),
                (&[b"for=192.0.2.7 ; proto=https"], peer("192.0.2.7"), None),
                (
                    &[b"for=192.0.2.7;host=\"a,b;for=10.0.0.1\""],
                    peer("192.0.2.7"),
                    None,
                ),
                (
                    &[b"for=192.0.2.7;host=\"a\\\",b\""],
                    peer("192.0.2.7"),
                    None,
                ),
                (
                    &[b"for=192.0.2.7, for=10.0.0.2;by=x"],
                    peer("192.0.2.7"),
                    None,
                ),
                // A quote that the client has not closed.
                (
                    &[b"for=\"198.51.100.1, for=192.0.2.7"],
                    peer("192.0.2.7"),
                    None,
                ),
                (&[b"for=\"a", b"for=192.0.2.7"], peer("192.0.2.7"), None),
                (&[b"for=unknown"], None, None),
                (&[b"for=_SEVKISEK"], None, None),
                (&[b"by=10.0.0.9"], None, None),
                (&[b"for=192.0.2.7;for=192.0.2.8"], None, Some(Malformed)),
                (&[b"192.0.2.7"], None, Some(Malformed)),
                (&[b"for=192.0.2.7;x"], None, Some(Malformed)),
                (&[b"for=\"192.0.2.7"], None, Some(Malformed)),
                (&[b"for=\"192.0.2.7\"x"], None, Some(Malformed)),
                (&[b"for="], None, Some(Malformed)),
                (&[], None, Some(Missing)),
            ],
        );
    }

    #[test]
    fn client_text_cannot_hide_the_element_of_a_proxy() {
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let garbage: Vec<u8> = (0..state as usize % 12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"\",;=\\ for1.[]:_"[(state >> 8) as usize % 15]
                })
                .collect();
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for (header, own) in [
                (ForwardedHeader::XForwardedFor, &b", 192.0.2.7"[..]),
                (ForwardedHeader::Forwarded, b", for=192.0.2.7"),
            ] {
                let field = [&garbage, own].concat();
                let client = read(header, &[&field]).client;
                assert_eq!(client, peer("192.0.2.7"), "{}", field.escape_ascii());
            }
        }
    }
}
