//! The header of version 1, a line of text, without any I/O (section 2.1).
//!
//! ```text
//! PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\r\n
//! PROXY UNKNOWN whatever\r\n
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{Header, LINE_BYTES_MAX, Malformed};
use crate::net::peer::Peer;

/// The start of a line.
pub(super) const START: &[u8] = b"PROXY ";

/// The start of a line without a client.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

const END: &[u8] = b"\r\n";

/// The shortest line, with its end.
pub(super) const BYTES_MIN: usize = UNKNOWN.len() + END.len();

/// Fields of a line with addresses.
const FIELDS: usize = 6;

/// Parses the first bytes of a line.
pub(super) fn parse(start: &[u8]) -> Result<Header, Malformed> {
    let is_unknown = start
        .strip_prefix(UNKNOWN)
        .and_then(<[u8]>::first)
        .is_some_and(|byte| b" \r".contains(byte));
    let (text, is_whole) = match start.strip_suffix(END) {
        Some(text) => (text, true),
        // Half of the CRLF may have arrived.
        None => (start.strip_suffix(b"\r").unwrap_or(start), false),
    };
    // Any bytes after UNKNOWN are ignored.
    let is_text = |byte: &u8| match byte {
        b'\r' | b'\n' => false,
        b' '..=b'~' => true,
        _ => is_unknown,
    };
    if !text.iter().all(is_text) {
        return Err(Malformed::Line);
    }
    if !is_whole {
        let room = LINE_BYTES_MAX - start.len().min(LINE_BYTES_MAX);
        return match bytes_to_come(start, is_unknown).min(room) {
            0 => Err(Malformed::LineTooLong),
            missing => Ok(Header::Incomplete(missing)),
        };
    }
    if is_unknown {
        return Ok(Header::Line(None));
    }
    let client = str::from_utf8(text).ok().and_then(client);
    client.map(Some).map(Header::Line).ok_or(Malformed::Line)
}

/// The least number of bytes missing from a line with this start: no byte after a line may
/// be read.
fn bytes_to_come(start: &[u8], is_unknown: bool) -> usize {
    if start.len() < BYTES_MIN {
        return BYTES_MIN - start.len();
    }
    let last = start.last().copied();
    if last == Some(b'\r') {
        return 1;
    }
    if is_unknown {
        return END.len();
    }
    // Each missing field has a space and at least a byte.
    let fields = start.split(|&byte| byte == b' ').count();
    let fields = 2 * FIELDS.saturating_sub(fields);
    fields + usize::from(last == Some(b' ')) + END.len()
}

/// The source of a line with addresses.
fn client(line: &str) -> Option<Peer> {
    let mut fields = line.split(' ').skip(1);
    let protocol = fields.next()?;
    let mut address = || -> Option<IpAddr> {
        let text = fields.next()?;
        match protocol {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let (source_port, _destination_port) = (port(fields.next()?)?, port(fields.next()?)?);
    let is_all = fields.next().is_none();
    is_all.then(|| SocketAddr::new(source, source_port).into())
}

/// A decimal number without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| is_number && !has_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: &str) -> Header {
        let address: SocketAddr = address.parse().expect("an address");
        Header::Line(Some(address.into()))
    }

    const LONGEST: &[u8] = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

    const GOOD: [&[u8]; 7] = [
        b"PROXY TCP4 192.0.2.7 198.51.100.7 12345 443\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 0 0\r\n",
        b"PROXY TCP6 2001:db8::1 2001:DB8::2 65535 443\r\n",
        b"PROXY TCP6 :: :: 1 1\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN \xff\0 and so on\r\n",
        LONGEST,
    ];

    #[test]
    fn line_yields_its_client() {
        assert_eq!(parse(GOOD[0]), Ok(named("192.0.2.7:12345")));
        assert_eq!(parse(GOOD[1]), Ok(named("1.1.1.1:0")));
        assert_eq!(parse(GOOD[2]), Ok(named("[2001:db8::1]:65535")));
        assert_eq!(parse(GOOD[3]), Ok(named("[::]:1")));
        for unknown in &GOOD[4..] {
            assert_eq!(parse(unknown), Ok(Header::Line(None)));
        }
        assert_eq!(LONGEST.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn any_deviation_is_malformed() {
        for wrong in [
            "PROXY TCP4 192.0.2.7 198.51.100.7 12345\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 12345 443 \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 12345 443 1\r\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.7 12345 443\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.7 12345 443\r\n",
            "PROXY TCP4\t192.0.2.7 198.51.100.7 12345 443\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.7 12345 443\r\n",
            "PROXY TCP4 192.0.2 198.51.100.7 12345 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.7 1 2\r\n",
            "PROXY TCP6 fe80::1%1 fe80::2 1 2\r\n",
            "PROXY TCP6 [::1] [::2] 1 2\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.7 1 2\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.7 1 2\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.7 1 2\r\n",
            "PROXY UNKNOWNS 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 01 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 -1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.7 1 443\n",
            "PROXY TCP4 192.0.2.7\r\n 198.51.100.7 1 443\r\n",
            "PROXY UNKNOWN\rx",
            "PROXY \r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), Err(Malformed::Line), "{wrong:?}");
        }
        let long = [&LONGEST[..LINE_BYTES_MAX - 2], b"x\r\n"].concat();
        assert_eq!(parse(&long[..LINE_BYTES_MAX]), Err(Malformed::LineTooLong));
    }

    #[test]
    fn no_byte_after_a_line_is_requested() {
        for line in GOOD {
            for len in START.len()..line.len() {
                let Ok(Header::Incomplete(missing)) = parse(&line[..len]) else {
                    panic!("{len} bytes of {}", line.escape_ascii());
                };
                assert!(
                    missing >= 1 && len + missing <= line.len(),
                    "{len}: {missing}"
                );
            }
        }
    }
}
