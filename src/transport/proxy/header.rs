//! The header, without any I/O: its bounds, and version 2.
//!
//! ```text
//! signature (12) │ version, command │ family, protocol │ length (2) │ addresses │ TLVs
//! └──────────────────────── prefix, 16 bytes ──────────────────────┘ └ length bytes ┘
//! ```

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c;
use crate::net::peer::Peer;

/// The longest line of version 1, with its end.
pub(super) const LINE_BYTES_MAX: usize = 107;

/// Bytes before the addresses.
pub(super) const PREFIX_LEN: usize = 16;

/// The most bytes after the prefix. The largest addresses take 216; the TLVs of proxies,
/// such as the name of a TLS client, take some hundreds.
const REST_BYTES_MAX: usize = 4096;

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The type of the TLV that holds the checksum.
const CRC32C: u8 = 0x03;

/// The fault of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    NoHeader,
    Line,
    LineTooLong,
    Version(u8),
    Command(u8),
    Family(u8),
    TooLong(u16),
    TooShort,
    Tlv,
    Checksum,
}

/// The fixed-length part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    family: Family,
    rest_len: u16,
}

/// The address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// No addresses, or ignored ones: the proxy names no client.
    Unknown,
    Inet,
    Inet6,
    Unix,
}

/// The parsed start of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The least number of missing bytes.
    Incomplete(usize),
    /// A whole header of version 1, with the client if it names one.
    Line(Option<Peer>),
    /// The fixed-length part of version 2.
    Prefix(Prefix),
}

impl Prefix {
    /// Parses the fields after the signature.
    pub(super) fn parse(bytes: &[u8; PREFIX_LEN]) -> Result<Self, Malformed> {
        let [_signature @ .., version_command, family, high, low] = bytes;
        if version_command >> 4 != 2 {
            return Err(Malformed::Version(version_command >> 4));
        }
        let rest_len = u16::from_be_bytes([*high, *low]);
        if usize::from(rest_len) > REST_BYTES_MAX {
            return Err(Malformed::TooLong(rest_len));
        }
        let family = match (version_command & 0x0f, family) {
            // LOCAL: the family is ignored.
            (0, _) | (1, 0x00) => Family::Unknown,
            // Streams; the protocol of the next nibble 2 would be datagrams.
            (1, 0x11) => Family::Inet,
            (1, 0x21) => Family::Inet6,
            (1, 0x31) => Family::Unix,
            (1, &other) => return Err(Malformed::Family(other)),
            (other, _) => return Err(Malformed::Command(other)),
        };
        let prefix = Self { family, rest_len };
        if prefix.rest_len() < prefix.family.address_len() {
            return Err(Malformed::TooShort);
        }
        Ok(prefix)
    }

    /// Bytes of the header after the prefix.
    pub(super) fn rest_len(self) -> usize {
        usize::from(self.rest_len)
    }

    /// Parses the rest, which has [`rest_len`](Self::rest_len) bytes; `bytes` are those of
    /// this prefix.
    pub(super) fn finish(
        self,
        bytes: &[u8; PREFIX_LEN],
        rest: &[u8],
    ) -> Result<Option<Peer>, Malformed> {
        let (addresses, tlvs) = rest
            .split_at_checked(self.family.address_len())
            .ok_or(Malformed::TooShort)?;
        // The bytes after an unknown family need not be TLVs.
        if self.family != Family::Unknown {
            check_tlvs(bytes, addresses, tlvs)?;
        }
        Ok(match self.family {
            Family::Unknown => None,
            Family::Inet => inet(addresses),
            Family::Inet6 => inet6(addresses),
            Family::Unix => Some(Peer::Local),
        })
    }
}

impl Family {
    /// Bytes of both addresses and ports.
    const fn address_len(self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }
}

/// The source of an IPv4 connection: source, destination, source port, ...
fn inet(addresses: &[u8]) -> Option<Peer> {
    let (source, rest) = addresses.split_first_chunk::<4>()?;
    let (_destination, rest) = rest.split_first_chunk::<4>()?;
    let (port, _) = rest.split_first_chunk()?;
    let source = Ipv4Addr::from(*source);
    Some(SocketAddr::from((source, u16::from_be_bytes(*port))).into())
}

fn inet6(addresses: &[u8]) -> Option<Peer> {
    let (source, rest) = addresses.split_first_chunk::<16>()?;
    let (_destination, rest) = rest.split_first_chunk::<16>()?;
    let (port, _) = rest.split_first_chunk()?;
    let source = Ipv6Addr::from(*source);
    Some(SocketAddr::from((source, u16::from_be_bytes(*port))).into())
}

/// Checks that TLVs fill the rest, and verifies the checksum if there is one.
fn check_tlvs(prefix: &[u8], addresses: &[u8], tlvs: &[u8]) -> Result<(), Malformed> {
    let mut rest = tlvs;
    while !rest.is_empty() {
        let [kind, high, low, after @ ..] = rest else {
            return Err(Malformed::Tlv);
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = after.split_at_checked(len).ok_or(Malformed::Tlv)?;
        if *kind == CRC32C {
            let sum = u32::from_be_bytes(value.try_into().map_err(|_length| Malformed::Tlv)?);
            // The checksum's own bytes count as zero.
            let before = &tlvs[..tlvs.len() - next.len() - value.len()];
            if crc32c::of([prefix, addresses, before, &[0; 4], next]) != sum {
                return Err(Malformed::Checksum);
            }
        }
        rest = next;
    }
    Ok(())
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no PROXY header"),
            Self::Line => f.write_str("not a line of version 1"),
            Self::LineTooLong => write!(f, "a line of more than {LINE_BYTES_MAX} bytes"),
            Self::Version(version) => write!(f, "version {version} instead of 2"),
            Self::Command(command) => write!(f, "unknown command {command}"),
            Self::Family(family) => write!(f, "family and protocol {family:#04x} are no stream"),
            Self::TooLong(len) => write!(f, "{len} bytes exceed {REST_BYTES_MAX}"),
            Self::TooShort => f.write_str("too short for its addresses"),
            Self::Tlv => f.write_str("a TLV does not fit"),
            Self::Checksum => f.write_str("the checksum is wrong"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with this rest, and its length.
    fn header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[version_command, family][..], &len, rest].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Option<Peer>, Malformed> {
        let (prefix, rest) = bytes.split_first_chunk().expect("a prefix");
        let parsed = match crate::transport::proxy::parse(prefix)? {
            Header::Prefix(prefix) => prefix,
            other => panic!("{other:?}"),
        };
        assert_eq!(parsed.rest_len(), rest.len());
        parsed.finish(prefix, rest)
    }

    fn peer(address: &str) -> Peer {
        let address: SocketAddr = address.parse().expect("an address");
        address.into()
    }

    const FOUR: &[u8] = b"\xc0\0\x02\x01\xc6\x33\x64\x07\x30\x39\x01\xbb";

    fn six() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        [&source.octets()[..], &[9; 16], b"\x30\x39\x01\xbb"].concat()
    }

    #[test]
    fn each_family_yields_its_peer() {
        for (command, family, rest, named) in [
            (0x21, 0x11, FOUR.to_vec(), Some(peer("192.0.2.1:12345"))),
            (0x21, 0x21, six(), Some(peer("[2001:db8::1]:12345"))),
            (0x21, 0x31, vec![b'x'; 216], Some(Peer::Local)),
            (0x21, 0x00, vec![], None),
            (0x21, 0x00, b"whatever".to_vec(), None),
            (0x20, 0x00, vec![], None),
            // LOCAL: the family and the rest are ignored.
            (0x20, 0x11, FOUR.to_vec(), None),
            (0x20, 0xff, vec![1, 2, 3], None),
        ] {
            assert_eq!(parse(&header(command, family, &rest)), Ok(named));
        }
    }

    #[test]
    fn anything_but_a_stream_of_version_2_is_malformed() {
        use Malformed::{Command, Family, NoHeader, TooShort, Version};
        for low in 0..16 {
            let version = header(0x11 | low, 0x11, FOUR);
            assert_eq!(parse(&version), Err(Version(1)));
        }
        for command in 2..16 {
            assert_eq!(
                parse(&header(0x20 | command, 0x11, FOUR)),
                Err(Command(command))
            );
        }
        for family in 1..=0xff {
            if ![0x11, 0x21, 0x31].contains(&family) {
                let wrong = header(0x21, family, &[0; 216]);
                assert_eq!(parse(&wrong), Err(Family(family)));
            }
        }
        for (family, len) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
            for short in 0..len {
                let cut = header(0x21, family, &vec![0; short]);
                assert_eq!(parse(&cut), Err(TooShort), "{family:#x}, {short} bytes");
            }
        }
        let good = header(0x21, 0x11, FOUR);
        for at in 0..SIGNATURE.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert_eq!(parse(&wrong), Err(NoHeader), "byte {at}");
        }
    }

    #[test]
    fn other_bytes_are_an_error_at_the_first_wrong_one() {
        let parse = crate::transport::proxy::parse;
        assert_eq!(parse(b""), Ok(Header::Incomplete(15)));
        for len in 1..=SIGNATURE.len() {
            let missing = Header::Incomplete(PREFIX_LEN - len);
            assert_eq!(parse(&SIGNATURE[..len]), Ok(missing));
        }
        assert_eq!(parse(b"PROXY"), Ok(Header::Incomplete(10)));
        for other in [&b"G"[..], b"POST /", b"PROXY\r", b"\r\n\r\nGET"] {
            assert_eq!(parse(other), Err(Malformed::NoHeader));
        }
    }

    #[test]
    fn length_is_bounded() {
        let tlv = |len: usize| {
            let len_bytes = u16::try_from(len).expect("short").to_be_bytes();
            [FOUR, &[0x04], &len_bytes, &vec![0; len]].concat()
        };
        let fits = REST_BYTES_MAX - FOUR.len() - 3;
        assert!(parse(&header(0x21, 0x11, &tlv(fits))).is_ok());
        let long = header(0x21, 0x11, &tlv(fits + 1));
        assert_eq!(parse(&long), Err(Malformed::TooLong(4097)));
        let mut longest = header(0x20, 0x00, &[]);
        longest[14..].fill(0xff);
        assert_eq!(parse(&longest), Err(Malformed::TooLong(0xffff)));
    }

    #[test]
    fn tlvs_are_skipped_and_must_fit() {
        let with = |tlvs: &[u8]| parse(&header(0x21, 0x11, &[FOUR, tlvs].concat()));
        let named = Ok(Some(peer("192.0.2.1:12345")));
        assert_eq!(with(b"\x01\0\x02h2\x04\0\0\xee\0\x01x"), named);
        for wrong in [
            &b"\x01"[..],
            b"\x01\0",
            b"\x01\0\x03h2",
            b"\x04\0\0\x01\xff\xff",
        ] {
            assert_eq!(with(wrong), Err(Malformed::Tlv), "{wrong:x?}");
        }
    }

    #[test]
    fn checksum_is_verified() {
        let with = |sum: &[u8]| {
            let tlvs = [b"\x03\0\x04", sum, b"\x04\0\x01x"].concat();
            header(0x21, 0x11, &[FOUR, &tlvs].concat())
        };
        let sum = crc32c::of([&with(&[0; 4])[..]]).to_be_bytes();
        let good = with(&sum);
        assert_eq!(parse(&good), Ok(Some(peer("192.0.2.1:12345"))));
        for at in PREFIX_LEN..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 0x10;
            // This change makes it another TLV.
            let is_kind = at == PREFIX_LEN + FOUR.len();
            assert!(is_kind || parse(&wrong).is_err(), "byte {at}");
        }
        let short = header(0x21, 0x11, &[FOUR, b"\x03\0\x02ab"].concat());
        assert_eq!(parse(&short), Err(Malformed::Tlv));
    }

    #[test]
    fn random_headers_do_not_panic() {
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut bytes = header(0x21, [0x11, 0x21, 0x31][state as usize % 3], &[7; 230]);
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 16 + (state >> 8) as usize % 230;
                bytes[at] = state.to_be_bytes()[0];
            }
            let _ = parse(&bytes);
        }
    }
}
