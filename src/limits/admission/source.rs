//! The unit of the limits per address.

use std::net::IpAddr;

use crate::net::peer::Peer;

/// The prefix of an IPv6 address that identifies a client: a site has at least a /64
/// (RFC 6177), and may connect from every address in it.
const IPV6_PREFIX_BITS: u32 = 64;

/// An IPv4 address, or the network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    /// `None` for a peer without an address, which has no such limit.
    pub(crate) fn of(peer: Peer) -> Option<Self> {
        Some(match peer.ip()? {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let prefix = address.to_bits() >> (u128::BITS - IPV6_PREFIX_BITS);
                Self::V6(u64::try_from(prefix).expect("64 bits"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn source(address: &str) -> Option<Source> {
        let address: SocketAddr = address.parse().expect("an address");
        Source::of(address.into())
    }

    #[test]
    fn source_is_the_address_without_the_port() {
        assert_eq!(source("192.0.2.1:1"), source("192.0.2.1:2"));
        assert_ne!(source("192.0.2.1:1"), source("192.0.2.2:1"));
        assert_eq!(source("[::ffff:192.0.2.1]:1"), source("192.0.2.1:1"));
    }

    #[test]
    fn an_ipv6_site_is_one_client() {
        let site = source("[2001:db8:0:1::1]:1");
        assert_eq!(site, source("[2001:db8:0:1:ffff:ffff:ffff:ffff]:1"));
        assert_ne!(site, source("[2001:db8:0:2::1]:1"));
    }

    #[test]
    fn a_process_of_this_host_has_no_address() {
        assert_eq!(Source::of(Peer::Local), None);
    }
}
