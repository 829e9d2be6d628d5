//! PROXY headers in any pieces: the server's parser against another one.
//!
//! Input: shape (1 byte: bit 0 any bytes, bit 1 a length of its own, bit 2 a right
//! checksum), cuts (1 byte and 2 for each), and then the stream; or version and command,
//! family and protocol (1 byte each), the length if it is its own (2 bytes, big-endian),
//! how much of the rest belongs to the header (2 bytes, little-endian), and the rest.

#![no_main]

use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use ringback::Peer;
use ringback::fuzzing::{HeaderResult, read_proxy_header};
use ringback_fuzz::arrivals::Cuts;
use ringback_fuzz::proxy_header::{self, CHECKSUM, Client, FIXED, Parsed, SIGNATURE};

fuzz_target!(|data: &[u8]| {
    if let Ok((cuts, stream)) = take(&mut Unstructured::new(data)) {
        check(&cuts, &stream);
    }
});

fn take(input: &mut Unstructured<'_>) -> Result<(Cuts, Vec<u8>)> {
    let shape: u8 = input.arbitrary()?;
    let cuts = Cuts::take(input)?;
    if shape & 1 != 0 {
        return Ok((cuts, input.bytes(input.len())?.to_vec()));
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(input.bytes(2)?);
    let own: Option<[u8; 2]> = (shape & 2 != 0).then(|| input.arbitrary()).transpose()?;
    let len: u16 = input.arbitrary()?;
    let rest = input.bytes(usize::from(len).min(input.len()))?;
    header.extend_from_slice(&[0; 2]);
    header.extend_from_slice(rest);
    let is_checked = shape & 4 != 0;
    if is_checked {
        header.extend_from_slice(&[CHECKSUM, 0, 4, 0, 0, 0, 0]);
    }
    let len = u16::try_from((header.len() - FIXED).min(0xffff)).expect("two bytes");
    header[14..FIXED].copy_from_slice(&own.unwrap_or(len.to_be_bytes()));
    if is_checked {
        let sum = proxy_header::checksum(&header).to_be_bytes();
        let at = header.len() - sum.len();
        header[at..].copy_from_slice(&sum);
    }
    header.extend_from_slice(input.bytes(input.len())?);
    Ok((cuts, header))
}

fn check(cuts: &Cuts, stream: &[u8]) {
    let parsed = proxy_header::read(stream);
    for pieces in [cuts.apply(stream), vec![stream]] {
        let (read, taken) = read_proxy_header(&pieces);
        let expected = match parsed {
            Parsed::Header(client, _) => HeaderResult::Of(match client {
                Client::Itself => None,
                Client::Host(address) => Some(Peer::Tcp(SocketAddr::new(
                    // An IPv4-mapped address is the IPv4 address.
                    address.ip().to_canonical(),
                    address.port(),
                ))),
                Client::Local => Some(Peer::Local),
            }),
            Parsed::Wrong(name) => HeaderResult::Malformed(name.to_owned()),
            Parsed::Cut => HeaderResult::Gone,
        };
        assert_eq!(read, expected, "{cuts:?}: {stream:x?}");
        match parsed {
            Parsed::Header(_, len) => assert_eq!(taken, len, "bytes behind the header"),
            // No bytes are needed after an error, but the parser must have read only
            // few.
            Parsed::Wrong(_) => assert!(taken <= FIXED + 4096, "{taken} bytes"),
            Parsed::Cut => assert_eq!(taken, stream.len(), "it waits for more"),
        }
    }
}
