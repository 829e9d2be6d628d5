//! Where a WebSocket server is.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A `ws://` URL, taken apart (RFC 6455, section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// The root of the server that listens at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
            path: "/".to_owned(),
        }
    }

    /// Path and query, as the request line carries them.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the `Host` header says: an IPv6 address in brackets, the port only
    /// where it is not 80.
    pub fn host_header(&self) -> String {
        let (open, close) = self.brackets();
        let host = &self.host;
        match self.port {
            80 => format!("{open}{host}{close}"),
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
            "ws://{open}{}{close}:{}{}",
            self.host, self.port, self.path
        )
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("write the target as ws://HOST:PORT/PATH".to_owned());
        };
        match scheme.to_ascii_lowercase().as_str() {
            "ws" => {}
            "wss" => return Err("wss:// is not supported yet".to_owned()),
            _ => return Err(format!("{scheme}:// is not ws://")),
        }
        if rest.contains('#') {
            return Err("a WebSocket URL has no #fragment".to_owned());
        }
        // The request line is built from this text as it is.
        if rest.chars().any(|c| !c.is_ascii_graphic()) {
            return Err("write spaces and other than ASCII percent-encoded".to_owned());
        }
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.contains('@') {
            return Err("a WebSocket URL has no user name".to_owned());
        }
        let (host, port) = split_authority(authority)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }
}

fn split_authority(authority: &str) -> Result<(&str, u16), String> {
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
        None if port.is_empty() => Ok((host, 80)),
        Some(digits) => match digits.parse() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ => Err(format!("{digits:?} is no port")),
        },
        None => Err(format!("{port:?} is no port")),
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
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(target.host_header(), header);
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_websocket_url_is_refused() {
        for url in [
            "",
            "h:1",
            "http://h",
            "wss://h",
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
