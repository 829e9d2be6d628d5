//! The networks of trusted proxies.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::net::peer::Peer;

/// A trusted proxy, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxySource {
    /// All hosts of a network.
    Network {
        /// The first address.
        address: IpAddr,
        /// The length of the prefix in bits.
        prefix: u8,
    },
    /// All processes of this host, over Unix-domain sockets.
    Unix,
}

impl ProxySource {
    /// Whether this peer is in the network.
    pub(crate) fn contains(self, peer: Peer) -> bool {
        match (self, peer.ip()) {
            (Self::Unix, None) => true,
            (Self::Network { address, prefix }, Some(ip)) => match (address, ip) {
                (IpAddr::V4(network), IpAddr::V4(ip)) => {
                    let differing = network.to_bits() ^ ip.to_bits();
                    differing.leading_zeros() >= prefix.into()
                }
                (IpAddr::V6(network), IpAddr::V6(ip)) => {
                    let differing = network.to_bits() ^ ip.to_bits();
                    differing.leading_zeros() >= prefix.into()
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl FromStr for ProxySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let expected = || "expected a network such as 10.0.0.0/8 or fd00::/8, or unix".to_owned();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_address| expected())?;
        let (bits, bit_len) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_prefix| expected())?,
            None => bit_len,
        };
        if prefix > bit_len {
            return Err(format!(
                "the prefix is {prefix}; it must be at most {bit_len}"
            ));
        }
        if bits.checked_shl(prefix.into()).unwrap_or(0) != 0 {
            return Err(format!("the address has bits after the first {prefix}"));
        }
        if address != address.to_canonical() {
            return Err(format!("write {} instead", address.to_canonical()));
        }
        Ok(Self::Network { address, prefix })
    }
}

impl fmt::Display for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, prefix } => write!(f, "{address}/{prefix}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn contains(source: &str, ip: &str) -> bool {
        let source: ProxySource = source.parse().expect("a network");
        let ip: IpAddr = ip.parse().expect("an address");
        source.contains(SocketAddr::from((ip, 7)).into())
    }

    #[test]
    fn network_contains_addresses_with_its_prefix() {
        for (source, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "127.0.0.1"),
            // A dual-stack listener gets IPv4 mapped into IPv6.
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
        ] {
            assert!(contains(source, inside), "{inside} in {source}");
            assert!(!contains(source, outside), "{outside} not in {source}");
            let network: ProxySource = source.parse().expect("a network");
            assert!(!network.contains(Peer::Local));
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        let unix: ProxySource = "unix".parse().expect("a source");
        assert!(unix.contains(Peer::Local));
        assert!(!unix.contains(SocketAddr::from(([127, 0, 0, 1], 7)).into()));
    }

    #[test]
    fn invalid_network_is_refused_with_a_reason() {
        for (wrong, reason) in [
            ("", "expected"),
            ("localhost", "expected"),
            ("10.0.0.0/", "expected"),
            ("10.0.0.0/-1", "expected"),
            ("10.0.0.0/33", "at most 32"),
            ("::/129", "at most 128"),
            ("10.0.0.1/8", "bits after"),
            ("10.0.0.1/0", "bits after"),
            ("fd00::1/64", "bits after"),
            ("::ffff:10.0.0.0/104", "10.0.0.0"),
        ] {
            let refused = wrong.parse::<ProxySource>().expect_err("refused");
            assert!(refused.contains(reason), "{wrong}: {refused}");
        }
    }
}
