//! Frame headers (RFC 6455 section 5.2).
//!
//! A client's header is 2 bytes, 0, 2 or 8 bytes of extended length, and 4
//! bytes of masking key. A server's is the same without the key.

use super::mask::Key;
use super::violation::Violation;

/// The longest payload of a control frame (section 5.5).
pub const MAX_CONTROL_PAYLOAD: u64 = 125;

/// The longest header of a client's frame: 2 + 8 + 4 bytes.
pub const MAX_CLIENT_HEADER: usize = 14;

/// The longest header of a server's frame: 2 + 8 bytes.
pub const MAX_SERVER_HEADER: usize = 10;

/// How much shorter a reply's header is than its request's.
pub const MASK_LEN: usize = 4;

pub(super) const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE: u8 = 0x0f;
pub(super) const MASKED: u8 = 0x80;
const LEN: u8 = 0x7f;
pub(super) const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

/// What a frame is (section 5.2); its value is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message in progress.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The last frame that this side sends.
    Close = 8,
    /// To be answered with a [`Pong`](Self::Pong) of the same payload.
    Ping = 9,
    /// The answer to a ping, or unsolicited.
    Pong = 10,
}

impl OpCode {
    /// Control frames may stand between the fragments of a message.
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The frame is the last of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: OpCode,
}

impl Start {
    /// Reads the first byte of a frame.
    ///
    /// # Errors
    /// Reserved bits and opcodes, and control frames in fragments.
    #[inline]
    pub const fn parse(byte: u8) -> Result<Self, Violation> {
        if byte & RESERVED_BITS != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = match byte & OPCODE {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return Err(Violation::ReservedOpcode),
        };
        let fin = byte & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(Violation::FragmentedControl);
        }
        Ok(Self { fin, opcode })
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The frame is the last of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: OpCode,
    /// Bytes of payload, at most 2^63 - 1.
    pub payload_len: u64,
    /// The masking key.
    pub mask: Key,
    /// Bytes of this header on the wire, 6 to [`MAX_CLIENT_HEADER`].
    pub len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`, or `None` while it is not all
    /// there.
    ///
    /// # Errors
    /// The first rule that it breaks, as soon as the byte that breaks it is
    /// there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, rest @ ..] = bytes else {
            return Ok(None);
        };
        let Start { fin, opcode } = Start::parse(*first)?;
        let [second, rest @ ..] = rest else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Violation::Unmasked);
        }
        let short_len = second & LEN;
        if opcode.is_control() && u64::from(short_len) > MAX_CONTROL_PAYLOAD {
            return Err(Violation::LongControl);
        }
        let Some((payload_len, rest)) = parse_len(short_len, rest)? else {
            return Ok(None);
        };
        let Some(mask) = rest.first_chunk() else {
            return Ok(None);
        };
        Ok(Some(Self {
            fin,
            opcode,
            payload_len,
            mask: *mask,
            len: bytes.len() - rest.len() + MASK_LEN,
        }))
    }
}

/// The payload length and what follows it, or `None` while it is not all there.
#[inline]
fn parse_len(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match short {
        LEN_16 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let len = u16::from_be_bytes(*bytes);
            if len < u16::from(LEN_16) {
                return Err(Violation::NonMinimalLength);
            }
            Ok(Some((u64::from(len), rest)))
        }
        LEN_64 => {
            if rest.first().is_some_and(|top| top & 0x80 != 0) {
                return Err(Violation::LengthOverflow);
            }
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(*bytes);
            if u16::try_from(len).is_ok() {
                return Err(Violation::NonMinimalLength);
            }
            Ok(Some((len, rest)))
        }
        len => Ok(Some((u64::from(len), rest))),
    }
}

/// The header of a server's frame, in the shortest form of its length.
#[derive(Clone, Copy, Debug)]
pub struct ServerHeader {
    bytes: [u8; MAX_SERVER_HEADER],
    len: u8,
}

impl ServerHeader {
    /// Builds the header of a frame with `payload_len` bytes of payload.
    #[inline]
    pub fn new(fin: bool, opcode: OpCode, payload_len: u64) -> Self {
        let mut bytes = [0; MAX_SERVER_HEADER];
        bytes[0] = opcode as u8 | if fin { FIN } else { 0 };
        let len = if let Ok(short) = u8::try_from(payload_len)
            && short < LEN_16
        {
            bytes[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(payload_len) {
            bytes[1] = LEN_16;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            bytes[1] = LEN_64;
            bytes[2..10].copy_from_slice(&payload_len.to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    /// The header as it goes onto the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [1, 2, 3, 4];

    fn client_header(first: u8, len: &[u8]) -> Vec<u8> {
        [&[first], len, &KEY].concat()
    }

    #[test]
    fn every_length_form_is_read_and_waits_for_its_last_byte() {
        let cases: [(&[u8], u64); 8] = [
            (&[0x80], 0),
            (&[0x80 | 125], 125),
            (&[0x80 | 126, 0, 126], 126),
            (&[0x80 | 126, 0xff, 0xff], 65_535),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
            (&[0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
            (&[0x80 | 127, 0x40, 0, 0, 0, 0, 0, 0, 0], 1 << 62),
            (
                &[0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                (1 << 63) - 1,
            ),
        ];
        for (len, payload_len) in cases {
            let bytes = client_header(0x82, len);
            for cut in 0..bytes.len() {
                assert_eq!(
                    Header::parse(&bytes[..cut]),
                    Ok(None),
                    "{bytes:x?} at {cut}"
                );
            }
            let header = Header {
                fin: true,
                opcode: OpCode::Binary,
                payload_len,
                mask: KEY,
                len: bytes.len(),
            };
            assert_eq!(Header::parse(&bytes), Ok(Some(header)));
            let with_payload = [&bytes[..], b"payload"].concat();
            assert_eq!(Header::parse(&with_payload), Ok(Some(header)));
        }
    }

    #[test]
    fn a_wrong_header_is_refused_at_its_first_wrong_byte() {
        let cases: [(&[u8], Violation); 16] = [
            (&[0xc1], Violation::ReservedBits),
            (&[0xa1], Violation::ReservedBits),
            (&[0x91], Violation::ReservedBits),
            (&[0x83], Violation::ReservedOpcode),
            (&[0x07], Violation::ReservedOpcode),
            (&[0x8b], Violation::ReservedOpcode),
            (&[0x8f], Violation::ReservedOpcode),
            (&[0x08], Violation::FragmentedControl),
            (&[0x09], Violation::FragmentedControl),
            (&[0x0a], Violation::FragmentedControl),
            (&[0x81, 0x05], Violation::Unmasked),
            (&[0x89, 0x80 | 126], Violation::LongControl),
            (&[0x88, 0x80 | 127], Violation::LongControl),
            (&[0x82, 0x80 | 126, 0, 125], Violation::NonMinimalLength),
            (
                &[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
                Violation::NonMinimalLength,
            ),
            (&[0x82, 0x80 | 127, 0x80], Violation::LengthOverflow),
        ];
        for (bytes, violation) in cases {
            assert_eq!(Header::parse(bytes), Err(violation), "{bytes:x?}");
            for cut in 0..bytes.len() {
                assert_eq!(
                    Header::parse(&bytes[..cut]),
                    Ok(None),
                    "{bytes:x?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_server_header_is_a_client_header_less_its_mask() {
        for payload_len in [0, 1, 125, 126, 127, 65_535, 65_536, (1 << 63) - 1] {
            let server = ServerHeader::new(false, OpCode::Text, payload_len);
            let mut client = [server.as_bytes(), &KEY].concat();
            client[1] |= MASKED;
            let parsed = Header::parse(&client).expect("valid").expect("complete");
            assert_eq!(parsed.payload_len, payload_len);
            assert_eq!(parsed.opcode, OpCode::Text);
            assert!(!parsed.fin);
            assert_eq!(parsed.len, server.as_bytes().len() + MASK_LEN);
        }
    }
}
