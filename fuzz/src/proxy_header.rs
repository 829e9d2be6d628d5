//! A second parser of the PROXY protocol: haproxy's `proxy-protocol.txt`, section 2,
//! over a whole stream at once.
//!
//! ringback's own rules besides: a header has at most 4096 bytes after its length, and a
//! checksum must be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first twelve bytes.
pub const SIGNATURE: [u8; 12] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
];

/// Bytes up to the addresses.
pub const FIXED: usize = 16;

/// The largest accepted length.
const LENGTH_MAX: usize = 4096;

/// `PP2_TYPE_CRC32C`.
pub const CHECKSUM: u8 = 3;

/// The client of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The proxy itself, or unknown.
    Itself,
    /// A host.
    Host(SocketAddr),
    /// A process of the proxy's host.
    Local,
}

/// The result for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header of this number of bytes.
    Header(Client, usize),
    /// The name of the fault.
    Wrong(&'static str),
    /// The stream ends before its header.
    Cut,
}

/// Reads the header at the start of `stream`.
pub fn read(stream: &[u8]) -> Parsed {
    if let Some(parsed) = check_start(stream) {
        return parsed;
    }
    if stream.len() < FIXED {
        return Parsed::Cut;
    }
    let (version, command) = (stream[12] / 16, stream[12] % 16);
    let (family, protocol) = (stream[13] / 16, stream[13] % 16);
    let length = usize::from(stream[14]) * 256 + usize::from(stream[15]);
    if version != 2 {
        return Parsed::Wrong("Version");
    }
    if length > LENGTH_MAX {
        return Parsed::Wrong("TooLong");
    }
    let end = FIXED + length;
    let is_about_nobody = command == 0 || (command == 1 && stream[13] == 0);
    if is_about_nobody {
        // "The receiver must accept this connection", and skip the rest.
        return if stream.len() < end {
            Parsed::Cut
        } else {
            Parsed::Header(Client::Itself, end)
        };
    }
    if command > 1 {
        return Parsed::Wrong("Command");
    }
    let needed = match (family, protocol) {
        (1, 1) => 12,
        (2, 1) => 36,
        (3, 1) => 216,
        _ => return Parsed::Wrong("Family"),
    };
    if length < needed {
        return Parsed::Wrong("TooShort");
    }
    if stream.len() < end {
        return Parsed::Cut;
    }
    if let Some(wrong) = check_extensions(&stream[..end], FIXED + needed) {
        return Parsed::Wrong(wrong);
    }
    Parsed::Header(client(family, &stream[FIXED..]), end)
}

/// The result for the first bytes, if they are enough for one.
fn check_start(stream: &[u8]) -> Option<Parsed> {
    let text = b"PROXY ";
    let is_binary = SIGNATURE.starts_with(&stream[..stream.len().min(SIGNATURE.len())]);
    let is_text = text.starts_with(&stream[..stream.len().min(text.len())]);
    match (is_binary, is_text) {
        (true, _) => None,
        (false, true) => Some(check_line(stream)),
        (false, false) => Some(Parsed::Wrong("NoHeader")),
    }
}

/// The result for version 1: a line of 107 bytes at most, with its end.
fn check_line(stream: &[u8]) -> Parsed {
    let unknown = b"PROXY UNKNOWN";
    let is_unknown =
        stream.starts_with(unknown) && matches!(stream.get(unknown.len()), Some(b' ' | b'\r'));
    for (at, &byte) in stream.iter().take(107).enumerate() {
        match (byte, stream.get(at + 1)) {
            // It may be the first byte of the line's end.
            (b'\r', Some(b'\n')) if at + 1 < 107 => return check_text(&stream[..at], is_unknown),
            (b'\r', _) if at == 106 => return Parsed::Wrong("LineTooLong"),
            (b'\r', None) => return Parsed::Cut,
            (b'\r' | b'\n', _) => return Parsed::Wrong("Line"),
            (b' '..=b'~', _) => {}
            _ if is_unknown => {}
            _ => return Parsed::Wrong("Line"),
        }
    }
    if stream.len() < 107 {
        Parsed::Cut
    } else {
        Parsed::Wrong("LineTooLong")
    }
}

/// The result for a line without its end.
fn check_text(line: &[u8], is_unknown: bool) -> Parsed {
    let len = line.len() + 2;
    if is_unknown {
        return Parsed::Header(Client::Itself, len);
    }
    let text: String = line.iter().copied().map(char::from).collect();
    let fields: Vec<_> = text.split(' ').collect();
    let [_, protocol, from, to, from_port, to_port] = fields[..] else {
        return Parsed::Wrong("Line");
    };
    let is_ip = |text: &str| match protocol {
        "TCP4" => text.parse::<Ipv4Addr>().is_ok(),
        "TCP6" => text.parse::<Ipv6Addr>().is_ok(),
        _ => false,
    };
    let port = |text: &str| {
        let number: u16 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    };
    match (from.parse(), port(from_port), port(to_port)) {
        (Ok(ip), Some(port), Some(_)) if is_ip(from) && is_ip(to) => {
            Parsed::Header(Client::Host(SocketAddr::new(ip, port)), len)
        }
        _ => Parsed::Wrong("Line"),
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

/// The fault in the extensions of `header`, which begin at `at`.
fn check_extensions(header: &[u8], mut at: usize) -> Option<&'static str> {
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

/// CRC-32C by the polynomial as it is written; the usual way reverses it, here the bytes
/// and the sum are reversed.
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
