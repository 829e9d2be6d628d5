//! The PROXY protocol, version 2, read a second time: haproxy's
//! `proxy-protocol.txt`, section 2.2, over a whole stream at once.
//!
//! What ringback adds to it is that a header has 4096 bytes behind its length at
//! most, and that a checksum, where there is one, is to be right.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What the first twelve bytes are, always.
pub const SIGNATURE: [u8; 12] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
];

/// Bytes up to the addresses.
pub const FIXED: usize = 16;

/// The largest length that is taken.
const LENGTH_MAX: usize = 4096;

/// `PP2_TYPE_CRC32C`.
pub const CHECKSUM: u8 = 3;

/// For whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The proxy itself, or it does not know.
    Itself,
    /// A host.
    Host(SocketAddr),
    /// A process of the proxy's host.
    Local,
}

/// What there is to say of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A header of so many bytes.
    Header(Client, usize),
    /// The name of what is wrong.
    Wrong(&'static str),
    /// It ends before its header.
    Cut,
}

/// Reads the header at the start of `stream`.
pub fn read(stream: &[u8]) -> Verdict {
    if let Some(verdict) = judge_start(stream) {
        return verdict;
    }
    if stream.len() < FIXED {
        return Verdict::Cut;
    }
    let (version, command) = (stream[12] / 16, stream[12] % 16);
    let (family, protocol) = (stream[13] / 16, stream[13] % 16);
    let length = usize::from(stream[14]) * 256 + usize::from(stream[15]);
    if version != 2 {
        return Verdict::Wrong("Version");
    }
    if length > LENGTH_MAX {
        return Verdict::Wrong("TooLong");
    }
    let end = FIXED + length;
    let is_about_nobody = command == 0 || (command == 1 && stream[13] == 0);
    if is_about_nobody {
        // "The receiver must accept this connection", and skip what follows.
        return if stream.len() < end {
            Verdict::Cut
        } else {
            Verdict::Header(Client::Itself, end)
        };
    }
    if command > 1 {
        return Verdict::Wrong("Command");
    }
    let needed = match (family, protocol) {
        (1, 1) => 12,
        (2, 1) => 36,
        (3, 1) => 216,
        _ => return Verdict::Wrong("Family"),
    };
    if length < needed {
        return Verdict::Wrong("TooShort");
    }
    if stream.len() < end {
        return Verdict::Cut;
    }
    if let Some(wrong) = judge_extensions(&stream[..end], FIXED + needed) {
        return Verdict::Wrong(wrong);
    }
    Verdict::Header(client(family, &stream[FIXED..]), end)
}

/// The verdict on the first bytes, where they are enough for one.
fn judge_start(stream: &[u8]) -> Option<Verdict> {
    let text = b"PROXY ";
    let is_binary = SIGNATURE.starts_with(&stream[..stream.len().min(SIGNATURE.len())]);
    let is_text = text.starts_with(&stream[..stream.len().min(text.len())]);
    match (is_binary, is_text) {
        (true, _) => None,
        (false, true) if stream.len() < text.len() => Some(Verdict::Cut),
        (false, true) => Some(Verdict::Wrong("Version1")),
        (false, false) => Some(Verdict::Wrong("NoHeader")),
    }
}

fn client(family: u8, addresses: &[u8]) -> Client {
    let number = |at: usize, len: usize| {
        let bytes = &addresses[at..at + len];
        bytes.iter().fold(0_u128, |n, &b| n * 256 + u128::from(b))
    };
    let host = |ip: IpAddr, port: u128| {
        Client::Host(SocketAddr::new(ip, u16::try_from(port).expect("two bytes")))
    };
    match family {
        1 => {
            let ip = u32::try_from(number(0, 4)).expect("four bytes");
            host(IpAddr::V4(ip.into()), number(8, 2))
        }
        2 => host(IpAddr::V6(Ipv6Addr::from(number(0, 16))), number(32, 2)),
        _ => Client::Local,
    }
}

/// What is wrong with the extensions of `header`, which begin at `at`.
fn judge_extensions(header: &[u8], mut at: usize) -> Option<&'static str> {
    while at < header.len() {
        if header.len() - at < 3 {
            return Some("Tlv");
        }
        let length = usize::from(header[at + 1]) * 256 + usize::from(header[at + 2]);
        let value = at + 3;
        if header.len() - value < length {
            return Some("Tlv");
        }
        if header[at] == CHECKSUM {
            if length != 4 {
                return Some("Tlv");
            }
            let mut zeroed = header.to_vec();
            zeroed[value..value + 4].fill(0);
            if checksum(&zeroed).to_be_bytes() != header[value..value + 4] {
                return Some("Checksum");
            }
        }
        at = value + length;
    }
    None
}

/// CRC-32C by the polynomial as it is written, where the usual way reverses it:
/// here the bytes are reversed, and the sum.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let carry = remainder >> 31 == 1;
            remainder <<= 1;
            if carry {
                remainder ^= 0x1edc_6f41;
            }
        }
    }
    !remainder.reverse_bits()
}
