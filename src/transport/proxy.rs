//! The PROXY protocol, versions 1 and 2, with which a proxy names its client.
//!
//! Connections from trusted networks must begin with such a header; from any other
//! address it is a malformed request, as anybody can forge one. The rules are those of
//! section 2 of haproxy's `proxy-protocol.txt`. The first byte distinguishes the versions.

mod crc32c;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod header;
mod line;

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::net::peer::Peer;
pub(crate) use header::Malformed;
use header::{Header, LINE_BYTES_MAX, PREFIX_LEN, Prefix, SIGNATURE};

/// Why no header was read.
#[derive(Debug)]
pub(crate) enum HeaderError {
    /// The bytes are no valid header.
    Malformed(Malformed),
    /// The stream ended first, or the connection broke.
    Gone,
}

impl From<io::Error> for HeaderError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Malformed> for HeaderError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Reads the header, and not a byte more. Returns the client, `None` if the proxy names
/// none. `hold` is called with the bytes that are allocated for it.
///
/// # Errors
/// The header is malformed or incomplete.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    hold: impl FnOnce(usize),
) -> Result<Option<Peer>, HeaderError> {
    let mut bytes = [0; LINE_BYTES_MAX];
    let mut filled = 0;
    let prefix = loop {
        match parse(&bytes[..filled])? {
            Header::Incomplete(missing) => {
                let space = &mut bytes[filled..filled + missing];
                match stream.read(space).await? {
                    0 => return Err(HeaderError::Gone),
                    read => filled += read,
                }
            }
            Header::Line(client) => return Ok(client),
            Header::Prefix(prefix) => break prefix,
        }
    };
    let fixed: &[u8; PREFIX_LEN] = bytes.first_chunk().expect("a line is longer");
    let mut rest = vec![0; prefix.rest_len()];
    hold(rest.len());
    stream.read_exact(&mut rest).await?;
    Ok(prefix.finish(fixed, &rest)?)
}

/// Parses the first bytes of a connection. Bytes that are no header of either version are
/// an error at the first wrong one, since no more may arrive.
fn parse(start: &[u8]) -> Result<Header, Malformed> {
    let begins = |with: &[u8]| start.iter().zip(with).all(|(a, b)| a == b);
    if start.is_empty() {
        Ok(Header::Incomplete(line::BYTES_MIN.min(PREFIX_LEN)))
    } else if begins(SIGNATURE) {
        match start.first_chunk() {
            Some(prefix) => Prefix::parse(prefix).map(Header::Prefix),
            None => Ok(Header::Incomplete(PREFIX_LEN - start.len())),
        }
    } else if begins(line::START) {
        line::parse(start)
    } else {
        Err(Malformed::NoHeader)
    }
}
