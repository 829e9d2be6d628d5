//! The wire format, written without the server's code.

/// First bytes of frames: final frames ...
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
pub(crate) const LAST_FRAGMENT: u8 = 0x80;
/// ... and frames that others follow.
pub(crate) const TEXT_FRAGMENT: u8 = 0x01;
pub(crate) const BINARY_FRAGMENT: u8 = 0x02;
pub(crate) const FRAGMENT: u8 = 0x00;

/// A handshake with the key of RFC 6455 section 1.3, and the accept value for it.
pub(crate) const REQUEST: &str = "GET / HTTP/1.1\r\n\
    Host: localhost\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    \r\n";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The masking key of every client frame here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x00, 0x81];

/// A client's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    for (byte, mask) in bytes[start..].iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= mask;
    }
    bytes
}

/// The header of a client's frame; the payload may never come.
pub(crate) fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = unmasked_header(first, len);
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&MASK);
    bytes
}

/// A client's Close.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A server's Close.
pub(crate) fn closed(code: u16) -> Vec<u8> {
    unmasked(CLOSE, &code.to_be_bytes())
}

/// A server's frame, or an unmasked one of a client.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = unmasked_header(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

fn unmasked_header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    if let Ok(len @ ..126) = u8::try_from(len) {
        bytes.push(len);
    } else if let Ok(len) = u16::try_from(len) {
        bytes.push(126);
        bytes.extend_from_slice(&len.to_be_bytes());
    } else {
        bytes.push(127);
        bytes.extend_from_slice(&len.to_be_bytes());
    }
    bytes
}

/// Pseudorandom bytes, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Text with characters of one to four bytes, about `len` bytes of it.
pub(crate) fn multibyte_text(len: usize) -> String {
    const PIECE: &str = "ring, Grüße, κόσμε, 日本語, 🦀🎈; ";
    PIECE.repeat(len / PIECE.len() + 1)
}
