//! Bytes received from a client and not yet consumed.

use crate::client::frame::{
    CONTROL, CONTROL_LEN_MAX, FIN, MASKED, OPCODE, RESERVED, apply_mask, declared_len,
};

/// The longest accepted message, in bytes, and so the longest frame.
pub(super) const MESSAGE_LEN_MAX: usize = 16 << 20;

/// The client violated the protocol or a limit. Its connection is dropped without a reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProtocolError;

/// Bytes of a client, split anywhere.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    /// The number of bytes that were consumed.
    taken: usize,
}

/// A frame without its mask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// FIN and opcode; the reserved bits are zero.
    pub(super) first: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    pub(super) fn opcode(&self) -> u8 {
        self.first & OPCODE
    }

    pub(super) fn is_last(&self) -> bool {
        self.first & FIN != 0
    }
}

impl ReadBuffer {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// Consumes `len` bytes.
    pub(super) fn take(&mut self, len: usize) {
        self.taken += len;
    }

    /// Consumes a frame, if there is a complete one.
    pub(super) fn take_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let left = &mut self.bytes[self.taken..];
        let Some((payload_len, mask_at)) = declared_len(left) else {
            return Ok(None);
        };
        let first = left[0];
        let payload_len = usize::try_from(payload_len).map_err(|_| ProtocolError)?;
        let is_control = first & CONTROL != 0;
        let bad_control = is_control && (payload_len > CONTROL_LEN_MAX || first & FIN == 0);
        let is_masked = left[1] & MASKED != 0;
        let is_plain = first & RESERVED == 0;
        if bad_control || !is_masked || !is_plain || payload_len > MESSAGE_LEN_MAX {
            return Err(ProtocolError);
        }
        let payload_at = mask_at + 4;
        let Some(frame) = left.get_mut(..payload_at + payload_len) else {
            return Ok(None);
        };
        self.taken += frame.len();
        let (header, payload) = frame.split_at_mut(payload_at);
        let mask = [0, 1, 2, 3].map(|at| header[mask_at + at]);
        apply_mask(payload, mask);
        Ok(Some(Frame { first, payload }))
    }

    /// The bytes that are left.
    pub(super) fn left(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::frame::{Header, OPCODE_BINARY, OPCODE_PING};

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let header = Header::new(first & OPCODE, payload.len(), Some(mask));
        let mut frame = header.as_bytes().to_vec();
        frame[0] = first;
        let payload_at = frame.len();
        frame.extend_from_slice(payload);
        apply_mask(&mut frame[payload_at..], mask);
        frame
    }

    #[test]
    fn frames_are_unmasked_at_every_split() {
        for len in [0, 1, 125, 126, 300] {
            let payload = vec![7; len];
            let frame = masked(OPCODE_BINARY, &payload);
            let two = [&frame[..], &frame].concat();
            for cut in 0..two.len() {
                let mut read_buffer = ReadBuffer::default();
                let mut frames = 0;
                for part in [&two[..cut], &two[cut..]] {
                    read_buffer.push(part);
                    while let Some(frame) = read_buffer.take_frame().unwrap() {
                        let first = OPCODE_BINARY;
                        assert_eq!(
                            frame,
                            Frame {
                                first,
                                payload: &payload
                            }
                        );
                        frames += 1;
                    }
                }
                assert_eq!(frames, 2);
                assert!(read_buffer.left().is_empty());
            }
        }
    }

    #[test]
    fn frames_that_no_client_may_send_are_errors() {
        let refused = |frame: &[u8]| {
            let mut read_buffer = ReadBuffer::default();
            read_buffer.push(frame);
            read_buffer.take_frame() == Err(ProtocolError)
        };
        assert!(refused(Header::new(OPCODE_BINARY, 0, None).as_bytes()));
        assert!(refused(&masked(FIN | 0x40 | OPCODE_BINARY, &[])));
        assert!(refused(&masked(OPCODE_PING, &[])));
        assert!(refused(&masked(FIN | OPCODE_PING, &[0; 126])));
        let header = |len| Header::new(OPCODE_BINARY, len, Some([0; 4]));
        assert!(!refused(header(MESSAGE_LEN_MAX).as_bytes()));
        assert!(refused(header(MESSAGE_LEN_MAX + 1).as_bytes()));
        assert!(refused(&[
            0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255
        ]));
    }
}
