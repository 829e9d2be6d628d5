//! The URL of a server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A raw TCP echo, for which there is no standard scheme.
    Tcp,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tcp => "tcp",
        }
    }

    /// The scheme's default port; raw TCP has none.
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            Self::Tcp => None,
        }
    }
}

/// A server's URL, parsed (RFC 6455, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// The root of the server that listens at `address`.
    pub fn at(scheme: Scheme, address: SocketAddr) -> Self {
        Self {
            scheme,
            host: address.ip().to_string(),
            port: address.port(),
            path: "/".to_owned(),
        }
    }

    /// The same server, another path.
    ///
    /// # Errors
    /// A sentence for the user when it is no path.
    pub fn with_path(&self, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        check_characters(path)?;
        Ok(Self {
            path: path.to_owned(),
            ..self.clone()
        })
    }

    /// The same server at another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is an address, and not a name.
    pub fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Whether its host is a loopback name or address.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Path and query, as the request line carries them.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of the `Host` header: an IPv6 address in brackets, the port only if it is not
    /// the scheme's default.
    pub fn host_header(&self) -> String {
        let (open, close) = self.brackets();
        let host = &self.host;
        match self.port {
            port if Some(port) == self.scheme.default_port() => format!("{open}{host}{close}"),
            port => format!("{open}{host}{close}:{port}"),
        }
    }

    /// The addresses of the host, at least one.
    ///
    /// # Errors
    /// The resolver's.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(addresses)
    }

    fn brackets(&self) -> (&'static str, &'static str) {
        if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = self.brackets();
        write!(
            f,
            "{}://{open}{}{close}:{}{}",
            self.scheme.text(),
            self.host,
            self.port,
            self.path
        )
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("write the target as ws://HOST:PORT/PATH".to_owned());
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            "tcp" => Scheme::Tcp,
            _ => return Err(format!("{scheme}:// is not ws:// or wss://")),
        };
        check_characters(rest)?;
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.contains('@') {
            return Err("a WebSocket URL has no user name".to_owned());
        }
        let (host, port) = split_authority(authority)?;
        let port = port
            .or(scheme.default_port())
            .ok_or_else(|| "the port is missing".to_owned())?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// The request line is built from this text as it is.
fn check_characters(text: &str) -> Result<(), String> {
    if text.contains('#') {
        return Err("a WebSocket URL has no #fragment".to_owned());
    }
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err("write spaces and other than ASCII percent-encoded".to_owned());
    }
    Ok(())
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        bracketed
            .split_once(']')
            .ok_or_else(|| "the IPv6 address lacks its ]".to_owned())?
    } else {
        let colon_at = authority.find(':').unwrap_or(authority.len());
        authority.split_at(colon_at)
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        Some(digits) => match digits.parse() {
            Ok(port) if port != 0 => Ok((host, Some(port))),
            _ => Err(format!("{digits:?} is not a port")),
        },
        None => Err(format!("{port:?} is not a port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        for (url, header, shown) in [
            ("ws://h:9001/", "h:9001", "ws://h:9001/"),
            ("WS://h", "h", "ws://h:80/"),
            ("ws://h:80/a/b?c=d", "h", "ws://h:80/a/b?c=d"),
            ("ws://h:1?c=d", "h:1", "ws://h:1/?c=d"),
            ("ws://[::1]:9001/x", "[::1]:9001", "ws://[::1]:9001/x"),
            ("wss://h", "h", "wss://h:443/"),
            ("wss://h:80", "h:80", "wss://h:80/"),
            ("tcp://h:7", "h:7", "tcp://h:7/"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(target.host_header(), header);
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn invalid_urls_are_errors() {
        for url in [
            "",
            "h:1",
            "http://h",
            "tcp://h",
            "ws://",
            "ws://:1",
            "ws://h:0",
            "ws://h:99999",
            "ws://h:x",
            "ws://u@h",
            "ws://h/#f",
            "ws://h/a b",
            "ws://[::1",
            "ws://[::1]9",
            "ws://h/\r\nX:",
        ] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }
}
