//! The peer of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A host, over TCP.
    Tcp(SocketAddr),
    /// A host, named by a proxy without its port.
    Host(IpAddr),
    /// A process of this host, over a Unix-domain socket.
    Local,
}

impl Peer {
    /// The host's address, if it has one; IPv4 that is mapped into IPv6 becomes IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Host(address) => Some(address.to_canonical()),
            Self::Local => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    /// IPv4 that is mapped into IPv6, as on `[::]`, becomes IPv4.
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
            IpAddr::V6(_) => address,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Host(address) => fmt::Display::fmt(address, f),
            Self::Local => f.pad("local"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_displays_its_address() {
        let six: SocketAddr = "[2001:db8::1]:7".parse().expect("an address");
        assert_eq!(Peer::from(six).to_string(), "[2001:db8::1]:7");
        assert_eq!(Peer::Host(six.ip()).to_string(), "2001:db8::1");
        assert_eq!(Peer::Local.to_string(), "local");
    }

    #[test]
    fn mapped_ipv4_becomes_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().expect("an address");
        let plain: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(Peer::from(mapped).ip(), Some(plain));
        assert_eq!(Peer::from(mapped).to_string(), "192.0.2.1:7");
        assert_eq!(Peer::Local.ip(), None);
    }
}
