//! What a proxy says of its client, in any pieces: the reader of the PROXY header
//! against another one.
//!
//! Input: shape (1 byte: bit 0 any bytes, bit 1 a length of one's own, bit 2 a
//! right checksum), cuts (1 byte and 2 for each), and then the stream; or
//! version and command, family and protocol (1 byte each), the length where
//! it is one's own (2 bytes, big-endian), how much of the rest belongs to the
//! header (2 bytes, little-endian), and the rest.

#![no_main]

use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use ringback::Peer;
use ringback::fuzzing::{Introduction, read_introduction};
use ringback_fuzz::arrivals::Cuts;
use ringback_fuzz::introduction::{self, CHECKSUM, Client, FIXED, SIGNATURE, Verdict};

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
        let sum = introduction::checksum(&header).to_be_bytes();
        let at = header.len() - sum.len();
        header[at..].copy_from_slice(&sum);
    }
    header.extend_from_slice(input.bytes(input.len())?);
    Ok((cuts, header))
}

fn check(cuts: &Cuts, stream: &[u8]) {
    let verdict = introduction::read(stream);
    for pieces in [cuts.apply(stream), vec![stream]] {
        let (read, taken) = read_introduction(&pieces);
        let expected = match verdict {
            Verdict::Header(client, _) => Introduction::Of(match client {
                Client::Itself => None,
                Client::Host(address) => Some(Peer::Internet(SocketAddr::new(
                    // One of IPv4 is that, however it is written.
                    address.ip().to_canonical(),
                    address.port(),
                ))),
                Client::Local => Some(Peer::Local),
            }),
            Verdict::Wrong(name) => Introduction::Malformed(name.to_owned()),
            Verdict::Cut => Introduction::Gone,
        };
        assert_eq!(read, expected, "{cuts:?}: {stream:x?}");
        match verdict {
            Verdict::Header(_, len) => assert_eq!(taken, len, "bytes behind the header"),
            // Nobody will ask for them any more, but they are not to be many.
            Verdict::Wrong(_) => assert!(taken <= FIXED + 4096, "{taken} bytes"),
            Verdict::Cut => assert_eq!(taken, stream.len(), "it waits for more"),
        }
    }
}
