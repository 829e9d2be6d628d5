//! Frame headers (RFC 6455, section 5.2).

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first byte's "last fragment" bit.
pub(crate) const FIN: u8 = 0x80;
/// The first byte's reserved bits.
pub(crate) const RESERVED: u8 = 0x70;
/// The first byte's opcode.
pub(crate) const OPCODE: u8 = 0x0f;
/// The opcode bit that all control frames have.
pub(crate) const CONTROL: u8 = 0x08;
/// The second byte's "masked" bit.
pub(crate) const MASKED: u8 = 0x80;
/// The longest payload of a control frame.
pub(crate) const CONTROL_LEN_MAX: usize = 125;

/// The seven length bits that announce two more length bytes.
const LEN_16: u8 = 126;
/// The seven length bits that announce eight more length bytes.
const LEN_64: u8 = 127;

pub(crate) const OPCODE_CONTINUATION: u8 = 0x0;
pub(crate) const OPCODE_TEXT: u8 = 0x1;
pub(crate) const OPCODE_BINARY: u8 = 0x2;
pub(crate) const OPCODE_CLOSE: u8 = 0x8;
pub(crate) const OPCODE_PING: u8 = 0x9;
pub(crate) const OPCODE_PONG: u8 = 0xa;

/// First two bytes, extended length, mask.
pub(crate) const HEADER_LEN_MAX: usize = 2 + 8 + 4;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// UTF-8 (the load generator sends ASCII).
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    pub(crate) fn opcode(self) -> u8 {
        match self {
            Self::Text => OPCODE_TEXT,
            Self::Binary => OPCODE_BINARY,
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Binary => "binary",
        })
    }
}

/// An encoded frame header.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; HEADER_LEN_MAX],
    len: usize,
}

impl Header {
    /// The header of an unfragmented frame, its length in the minimal form.
    pub fn new(opcode: u8, payload_len: usize, mask: Option<[u8; 4]>) -> Self {
        Self::fragment(opcode, true, payload_len, mask)
    }

    /// The header of a frame, the last one of its message or not.
    pub(crate) fn fragment(
        opcode: u8,
        last: bool,
        payload_len: usize,
        mask: Option<[u8; 4]>,
    ) -> Self {
        let mut header = Self {
            bytes: [0; HEADER_LEN_MAX],
            len: 0,
        };
        let masked = if mask.is_some() { MASKED } else { 0 };
        header.push(&[if last { FIN } else { 0 } | opcode]);
        if let Ok(short @ 0..=125) = u8::try_from(payload_len) {
            header.push(&[masked | short]);
        } else if let Ok(medium) = u16::try_from(payload_len) {
            header.push(&[masked | LEN_16]);
            header.push(&medium.to_be_bytes());
        } else {
            header.push(&[masked | LEN_64]);
            header.push(&(payload_len as u64).to_be_bytes());
        }
        if let Some(mask) = mask {
            header.push(&mask);
        }
        header
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// A masked Close frame with a code and no reason.
pub fn close_frame(code: u16, mask: [u8; 4]) -> Vec<u8> {
    control_frame(OPCODE_CLOSE, &code.to_be_bytes(), mask)
}

/// A masked Pong frame, the answer to a Ping of the same payload.
///
/// # Panics
/// When the payload has more than 125 bytes, which no control frame may carry.
pub fn pong_frame(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    control_frame(OPCODE_PONG, payload, mask)
}

fn control_frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    assert!(payload.len() <= CONTROL_LEN_MAX);
    let mut frame = Header::new(opcode, payload.len(), Some(mask))
        .as_bytes()
        .to_vec();
    let payload_at = frame.len();
    frame.extend_from_slice(payload);
    apply_mask(&mut frame[payload_at..], mask);
    frame
}

/// Masks or unmasks a payload from its first byte on. For building frames, not for the hot path,
/// which only sends frames masked before.
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The payload length that a header declares and the length of that header without a mask; `None`
/// if more bytes are needed.
pub(crate) fn declared_len(header: &[u8]) -> Option<(u64, usize)> {
    match *header.get(1)? & !MASKED {
        LEN_16 => {
            let bytes = header.get(2..4)?.try_into().ok()?;
            Some((u64::from(u16::from_be_bytes(bytes)), 4))
        }
        LEN_64 => {
            let bytes = header.get(2..10)?.try_into().ok()?;
            Some((u64::from_be_bytes(bytes), 10))
        }
        short => Some((u64::from(short), 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_minimal_form_and_are_read_back() {
        for (len, header_len) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (65_535, 4),
            (65_536, 10),
            (1 << 26, 10),
        ] {
            let header = Header::new(OPCODE_BINARY, len, None);
            assert_eq!(
                declared_len(header.as_bytes()),
                Some((len as u64, header_len))
            );
            assert_eq!(declared_len(&header.as_bytes()[..header_len - 1]), None);
            let masked = Header::new(OPCODE_BINARY, len, Some([1, 2, 3, 4]));
            assert_eq!(masked.as_bytes().len(), header_len + 4);
            assert_eq!(&masked.as_bytes()[header_len..], [1, 2, 3, 4]);
        }
    }
}
