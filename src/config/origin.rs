//! Origins of pages, as a configuration lists them and as browsers send them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest hostname (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A page's origin, or a set of origins, that may connect.
///
/// Written as a browser sends it in the `Origin` field (RFC 6454, section 6.2):
/// scheme, host, and the port unless it is the scheme's own. A trailing slash, the
/// scheme's own port and capital letters are normalized away.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Every origin: `*`.
    Any,
    /// `null`, which browsers send for pages without an origin: local files, sandboxed
    /// frames, some redirects. Every site can make such a page.
    Null,
    /// One origin: `https://example.org`.
    Exact(Site),
    /// All hosts below a domain, but not the domain itself: `https://*.example.org`
    /// is `https://a.example.org` and `https://a.b.example.org`. The site's host is the
    /// part after the asterisk and its dot.
    Below(Site),
}

/// Scheme, host and port of an origin, normalized.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    scheme: String,
    host: String,
    /// `None` is the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// Whether a request's `Origin` field matches. Its value is normalized as well.
    pub(crate) fn matches(&self, field: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => field == "null",
            Self::Exact(listed) => Site::parse(field).as_ref() == Ok(listed),
            Self::Below(listed) => Site::parse(field).is_ok_and(|site| site.is_below(listed)),
        }
    }
}

impl Site {
    fn is_below(&self, domain: &Self) -> bool {
        let label = self
            .host
            .strip_suffix(&domain.host)
            .and_then(|rest| rest.strip_suffix('.'));
        self.scheme == domain.scheme
            && self.port == domain.port
            && label.is_some_and(|label| !label.is_empty())
    }

    /// Parses a serialized origin, normalized or not.
    fn parse(text: &str) -> Result<Self, Flaw> {
        let (scheme, rest) = text.split_once("://").ok_or(Flaw::Scheme)?;
        let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(is_scheme_byte)
        {
            return Err(Flaw::Scheme);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(Flaw::Path);
        }
        let scheme = scheme.to_ascii_lowercase();
        // The colons of an IPv6 address stand in brackets.
        let host_end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match rest[host_end..].rfind(':') {
            Some(colon) => {
                let (host, port) = rest.split_at(host_end + colon);
                (host, parse_port(&port[1..], &scheme)?)
            }
            None => (rest, None),
        };
        Ok(Self {
            host: normalize_host(host)?,
            scheme,
            port,
        })
    }
}

fn parse_port(port: &str, scheme: &str) -> Result<Option<u16>, Flaw> {
    if port.is_empty() {
        return Ok(None);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Flaw::Port);
    }
    let port = port.parse().map_err(|_overflow| Flaw::Port)?;
    let is_own = matches!((scheme, port), ("http", 80) | ("https", 443));
    Ok((!is_own).then_some(port))
}

fn normalize_host(host: &str) -> Result<String, Flaw> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or(Flaw::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_not_ipv6| Flaw::Host)?;
        return Ok(format!("[{address}]"));
    }
    if !host.is_ascii() {
        return Err(Flaw::NotAscii);
    }
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let has_labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if host.len() > HOST_BYTES_MAX
        || !host.bytes().all(is_host_byte)
        || has_labels.into_iter().any(str::is_empty)
    {
        return Err(Flaw::Host);
    }
    Ok(host.to_ascii_lowercase())
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Scheme,
    /// It is the address of a WebSocket.
    Socket,
    Path,
    Port,
    Host,
    NotAscii,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|flaw| flaw.advice(text))
    }
}

fn parse(text: &str) -> Result<Origin, Flaw> {
    match text {
        "*" => return Ok(Origin::Any),
        "null" => return Ok(Origin::Null),
        _ => {}
    }
    let (scheme, rest) = text.split_once("://").ok_or(Flaw::Scheme)?;
    if page_scheme(scheme).is_some() {
        return Err(Flaw::Socket);
    }
    match rest.strip_prefix("*.") {
        Some(domain) => Site::parse(&format!("{scheme}://{domain}")).map(Origin::Below),
        None => Site::parse(text).map(Origin::Exact),
    }
}

/// The scheme of pages that belongs to a scheme of WebSockets.
fn page_scheme(scheme: &str) -> Option<&'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Some("http"),
        "wss" => Some("https"),
        _ => None,
    }
}

impl Flaw {
    /// The correction of `text`.
    fn advice(self, text: &str) -> String {
        let example = "https://example.org, https://*.example.org, null or *";
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let scheme = page_scheme(scheme).unwrap_or(scheme);
        let corrected = format!("{scheme}://{host}");
        let is_origin = parse(&corrected).is_ok();
        match self {
            Self::Scheme if is_origin => format!("the scheme is missing: write {corrected}"),
            Self::Path if is_origin => format!("an origin has no path: write {corrected}"),
            Self::Socket if is_origin => {
                format!("an origin is that of a page, not of a WebSocket: write {corrected}")
            }
            Self::Port => "the port must be a number from 0 to 65535".to_owned(),
            Self::NotAscii => {
                "the host must be written as browsers send it, in ASCII: xn--…".to_owned()
            }
            Self::Host if host.contains('*') => {
                format!("an asterisk stands for whole labels at the start: expected {example}")
            }
            _ => format!("expected {example}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (site, below) = match self {
            Self::Any => return f.write_str("*"),
            Self::Null => return f.write_str("null"),
            Self::Exact(site) => (site, ""),
            Self::Below(site) => (site, "*."),
        };
        write!(f, "{}://{below}{}", site.scheme, site.host)?;
        site.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn listed_origin_is_normalized() {
        for (written, normalized) in [
            ("https://example.org", "https://example.org"),
            ("https://example.org/", "https://example.org"),
            ("https://example.org:443", "https://example.org"),
            ("https://example.org:443/", "https://example.org"),
            ("https://example.org:", "https://example.org"),
            ("HTTPS://Example.ORG:0443", "https://example.org"),
            ("http://example.org:80", "http://example.org"),
            ("http://example.org:443", "http://example.org:443"),
            ("https://example.org:8443", "https://example.org:8443"),
            ("https://*.Example.org:443/", "https://*.example.org"),
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("http://[0:0::1]:9001/", "http://[::1]:9001"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://a_b.example.", "http://a_b.example."),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            (
                "https://xn--mnchen-3ya.example",
                "https://xn--mnchen-3ya.example",
            ),
            ("null", "null"),
            ("*", "*"),
        ] {
            assert_eq!(origin(written).to_string(), normalized, "{written}");
            assert_eq!(origin(normalized), origin(written), "{written}");
        }
    }

    #[test]
    fn invalid_origin_is_refused_with_a_correction() {
        for (wrong, advice) in [
            ("", "expected https://example.org"),
            ("example.org", "write https://example.org"),
            ("*.example.org", "write https://*.example.org"),
            ("example.org:8443", "write https://example.org:8443"),
            ("https://example.org/app", "write https://example.org"),
            ("https://example.org/?x=1", "write https://example.org"),
            ("https://example.org?x", "write https://example.org"),
            ("http://example.org:81//", "write http://example.org:81"),
            ("wss://example.org", "write https://example.org"),
            ("ws://example.org:9001", "write http://example.org:9001"),
            ("https://m\u{fc}nchen.example", "xn--"),
            ("https://example.org:65536", "0 to 65535"),
            ("https://example.org:x", "0 to 65535"),
            ("https://*", "asterisk"),
            ("https://ex*mple.org", "asterisk"),
            ("https://a.*.example.org", "asterisk"),
            ("https://**.example.org", "asterisk"),
            ("https://", "expected https://example.org"),
            ("https://a..b", "expected"),
            ("https://user@example.org", "expected"),
            ("https://[::1", "expected"),
            ("https://[::g]", "expected"),
            ("https://a b", "expected"),
            ("://example.org", "expected"),
            ("1a://example.org", "expected"),
        ] {
            let refused = wrong.parse::<Origin>().expect_err(wrong);
            assert!(refused.contains(advice), "{wrong}: {refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
        let long = format!("https://{}", "a.".repeat(200));
        assert!(long.parse::<Origin>().is_err());
    }

    #[test]
    fn origin_field_is_compared_normalized() {
        for (listed, same, other) in [
            (
                "https://a.example",
                &[
                    "https://a.example",
                    "HTTPS://A.example",
                    "https://a.example:443",
                    "https://a.example/",
                ][..],
                &[
                    "http://a.example",
                    "https://a.example.evil",
                    "https://b.a.example",
                    "https://a.example:444",
                    "null",
                    "",
                    "https://a.example/x",
                    "https://*.example",
                ][..],
            ),
            (
                "https://a.example:8443",
                &["https://a.example:8443"],
                &["https://a.example", "https://a.example:443"],
            ),
            (
                "https://*.a.example",
                &[
                    "https://x.a.example",
                    "https://x.y.a.example",
                    "https://X.A.example:443",
                ],
                &[
                    "https://a.example",
                    "https://.a.example",
                    "https://xa.example",
                    "https://x.a.example:8443",
                    "http://x.a.example",
                    "https://x.a.example.evil",
                    "https://*.a.example",
                    "null",
                ],
            ),
            (
                "null",
                &["null"],
                &["NULL", "https://null", "", "null, null"],
            ),
            ("*", &["null", "https://a.example", "", "anything"], &[]),
            (
                "http://[::1]:9001",
                &["http://[0::1]:9001"],
                &["http://[::2]:9001", "http://[::1]"],
            ),
        ] {
            let listed = origin(listed);
            for field in same {
                assert!(listed.matches(field), "{field} is of {listed}");
            }
            for field in other {
                assert!(!listed.matches(field), "{field} is not of {listed}");
            }
        }
    }
}
