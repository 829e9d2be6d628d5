//! Messages that a server sends first, to be skipped.

use super::frame::{
    CONTROL, CONTROL_LEN_MAX, FIN, MASKED, OPCODE, OPCODE_BINARY, OPCODE_CONTINUATION, OPCODE_TEXT,
    RESERVED, declared_len,
};
use super::violation::Violation;

/// The position in the messages that a connection skips. Payloads are not kept, whatever their
/// length.
#[derive(Debug, Default)]
pub struct Skip {
    /// Messages still to come.
    left: u32,
    /// The part of the next frame's header that was received; empty within a payload.
    header: Vec<u8>,
    /// Payload bytes still to come of this frame.
    payload_left: u64,
    /// Whether the frame's end is a message's.
    ends_message: bool,
    /// Whether a message has begun and not ended.
    in_message: bool,
    /// Whether the frame is a control frame, which is not skipped.
    is_control: bool,
}

impl Skip {
    /// Skips this many messages.
    pub fn new(messages: u32) -> Self {
        Self {
            left: messages,
            ..Self::default()
        }
    }

    /// Messages still to come.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Consumes bytes, split anywhere. Control frames between the messages and everything after
    /// the last one go into `rest`.
    ///
    /// # Errors
    /// A violation in a frame's header.
    pub fn feed(&mut self, mut bytes: &[u8], rest: &mut Vec<u8>) -> Result<(), Violation> {
        while self.left > 0 && !bytes.is_empty() {
            if self.payload_left == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                let Some((len, header_len)) = declared_len(&self.header) else {
                    continue;
                };
                if self.header.len() < header_len {
                    continue;
                }
                self.begin(len, rest)?;
            }
            let part = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
            let (part, behind) = bytes.split_at(bytes.len().min(part));
            if self.is_control {
                rest.extend_from_slice(part);
            }
            self.payload_left -= part.len() as u64;
            bytes = behind;
            if self.payload_left == 0 && self.ends_message {
                self.left -= 1;
                self.in_message = false;
                self.ends_message = false;
            }
        }
        rest.extend_from_slice(bytes);
        Ok(())
    }

    /// Begins a frame whose header is complete.
    fn begin(&mut self, len: u64, rest: &mut Vec<u8>) -> Result<(), Violation> {
        let (first, second) = (self.header[0], self.header[1]);
        if first & RESERVED != 0 {
            return Err(Violation::Reserved(first));
        }
        if second & MASKED != 0 {
            return Err(Violation::Masked);
        }
        self.is_control = first & CONTROL != 0;
        if self.is_control {
            if first & FIN == 0 || len > CONTROL_LEN_MAX as u64 {
                return Err(Violation::BrokenControl(first, second));
            }
            rest.append(&mut self.header);
        } else {
            let got = first & OPCODE;
            let (is_due, expected) = if self.in_message {
                (got == OPCODE_CONTINUATION, OPCODE_CONTINUATION)
            } else {
                (matches!(got, OPCODE_TEXT | OPCODE_BINARY), OPCODE_TEXT)
            };
            if !is_due {
                return Err(Violation::WrongType { got, expected });
            }
            self.in_message = true;
            self.ends_message = first & FIN != 0;
            self.header.clear();
        }
        self.payload_left = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rest of these parts after two messages.
    fn rest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(u32, Vec<u8>), Violation> {
        let mut skip = Skip::new(2);
        let mut rest = Vec::new();
        for part in parts {
            skip.feed(part, &mut rest)?;
        }
        Ok((skip.left(), rest))
    }

    #[test]
    fn messages_are_skipped_and_the_rest_is_kept_at_every_split() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let ping = [0x89, 2, b'h', b'i'];
        let stream = [
            &[0x01, 2, b'a', b'b'][..],
            &ping,
            &[0x80, 0],
            &long,
            &[0x88, 2, 3, 232],
        ]
        .concat();
        let due = (0, [&ping[..], &[0x88, 2, 3, 232]].concat());
        for cut in 0..=stream.len() {
            let (one, other) = stream.split_at(cut);
            assert_eq!(rest([one, other]), Ok(due.clone()), "{cut}");
        }
        assert_eq!(rest(stream.chunks(1)), Ok(due));
        assert_eq!(rest([&stream[..6]]), Ok((2, ping[..2].to_vec())));
        assert_eq!(rest([&stream[..20]]).map(|(left, _)| left), Ok(1));
    }

    #[test]
    fn invalid_frames_are_violations() {
        let wrong = |bytes: &[u8]| rest([bytes]).unwrap_err();
        assert_eq!(wrong(&[0xc1, 0]), Violation::Reserved(0xc1));
        assert_eq!(wrong(&[0x81, 0x80]), Violation::Masked);
        assert_eq!(wrong(&[0x09, 0]), Violation::BrokenControl(0x09, 0));
        assert_eq!(
            wrong(&[0x89, 126, 0, 126]),
            Violation::BrokenControl(0x89, 126)
        );
        let type_of = |got, expected| Violation::WrongType { got, expected };
        assert_eq!(wrong(&[0x80, 0]), type_of(0, 1));
        assert_eq!(wrong(&[0x01, 0, 0x81, 0]), type_of(1, 0));
    }
}
