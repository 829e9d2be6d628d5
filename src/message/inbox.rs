//! From bytes to whole messages, without any I/O.

use std::mem;

use super::Message;
use super::assembly::{Assembly, BYTES_PER_TURN};
use crate::net::byte_queue::ByteQueue;
use crate::proto::close;
use crate::proto::frame::{Header, ServerHeader, Start};
use crate::proto::mask;
use crate::proto::sequence::{Kind, Limits, Sequence};
use crate::proto::{CloseCode, OpCode, Violation};

/// What a peer has sent and nobody has been told of yet.
#[derive(Debug)]
pub(super) struct Inbox {
    /// As it came in; what stands before `read` is done with.
    bytes: Vec<u8>,
    read: usize,
    sequence: Sequence,
    frame: Option<Frame>,
    /// The payload of the message in progress. It grows as bytes come in, not
    /// as they are announced, and what is there is not moved for it.
    message: ByteQueue,
    /// A long message that has come, and is made whole.
    assembly: Option<Assembly>,
    counted: Counted,
}

/// What has ended since somebody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Frames, of any kind.
    pub(super) frames: u32,
    pub(super) messages: u32,
    pub(super) pings: u32,
    pub(super) pongs: u32,
}

/// A data frame in progress.
#[derive(Clone, Copy, Debug)]
struct Frame {
    remaining: u64,
    /// The key as the next byte needs it.
    mask: mask::Key,
    fin: bool,
}

/// What a handler, or its peer, has to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Message),
    /// One is made whole. Others are to have their turn before it goes on.
    Pause,
    /// This frame is to be sent.
    Reply(Vec<u8>),
    /// The peer closes the connection; this frame is the answer.
    Close(Option<CloseCode>, Vec<u8>),
}

impl Inbox {
    pub(super) fn new(leftover: &[u8]) -> Self {
        Self {
            bytes: leftover.to_vec(),
            read: 0,
            sequence: Sequence::new(),
            frame: None,
            message: ByteQueue::default(),
            assembly: None,
            counted: Counted::default(),
        }
    }

    /// Puts what came behind what is there.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// What has ended since this was last called.
    pub(super) fn take_counted(&mut self) -> Counted {
        mem::take(&mut self.counted)
    }

    /// Bytes of memory for what was not handed out yet.
    pub(super) fn held(&self) -> usize {
        let assembly = self.assembly.as_ref().map_or(0, Assembly::held);
        self.bytes.capacity() + self.message.capacity() + assembly
    }

    /// Whether no message is in progress, and no part of a frame.
    pub(super) fn is_quiet(&self) -> bool {
        let is_between = self.frame.is_none() && self.sequence.message().is_none();
        is_between && self.rest().is_empty() && self.assembly.is_none()
    }

    /// The next event, `None` until more bytes are there.
    pub(super) fn next(&mut self, limits: &Limits) -> Result<Option<Event>, Violation> {
        if let Some(assembly) = &mut self.assembly {
            let Some(message) = assembly.advance()? else {
                return Ok(Some(Event::Pause));
            };
            self.assembly = None;
            return Ok(Some(Event::Message(message)));
        }
        loop {
            let progress = match self.frame {
                Some(frame) => self.collect(frame)?,
                None => self.start_frame(limits)?,
            };
            match progress {
                Progress::Frame => {}
                Progress::NeedsMore => {
                    self.release();
                    return Ok(None);
                }
                Progress::Event(event) => return Ok(Some(event)),
            }
        }
    }

    fn start_frame(&mut self, limits: &Limits) -> Result<Progress, Violation> {
        let Some(&first) = self.rest().first() else {
            return Ok(Progress::NeedsMore);
        };
        self.sequence.check_start(Start::parse(first)?)?;
        let Some(header) = Header::parse(self.rest())? else {
            return Ok(Progress::NeedsMore);
        };
        if header.opcode.is_control() {
            return self.control_frame(&header);
        }
        self.sequence.begin_frame(&header, limits)?;
        self.read += header.len;
        self.frame = Some(Frame {
            remaining: header.payload_len,
            mask: header.mask,
            fin: header.fin,
        });
        Ok(Progress::Frame)
    }

    /// Moves what has come of a data frame into the message.
    fn collect(&mut self, frame: Frame) -> Result<Progress, Violation> {
        let here = usize::try_from(frame.remaining).map_or(self.rest().len(), |remaining| {
            remaining.min(self.rest().len())
        });
        let payload = &mut self.bytes[self.read..self.read + here];
        self.read += here;
        mask::unmask(payload, frame.mask);
        self.sequence.feed(payload)?;
        let remaining = frame.remaining - here as u64;
        if remaining > 0 {
            self.message.push(payload);
            self.frame = Some(Frame {
                remaining,
                mask: mask::rotate(frame.mask, here),
                fin: frame.fin,
            });
            return Ok(Progress::NeedsMore);
        }
        self.frame = None;
        let kind = self.sequence.message();
        self.sequence.end_frame(frame.fin)?;
        self.counted.frames += 1;
        if !frame.fin {
            self.message.push(payload);
            return Ok(Progress::Frame);
        }
        self.counted.messages += 1;
        if self.message.len() >= BYTES_PER_TURN {
            self.message.push(payload);
            let pieces = mem::take(&mut self.message);
            self.assembly = Some(match kind {
                Some(Kind::Text) => Assembly::text(pieces),
                _ => Assembly::binary(pieces),
            });
            return Ok(Progress::Event(Event::Pause));
        }
        let payload = self.message.take_with(payload);
        Ok(Progress::Event(Event::Message(match kind {
            Some(Kind::Text) => {
                Message::Text(String::from_utf8(payload).map_err(|_utf8| Violation::InvalidText)?)
            }
            _ => Message::Binary(payload),
        })))
    }

    fn control_frame(&mut self, header: &Header) -> Result<Progress, Violation> {
        // At most 125, which `Header::parse` has checked.
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let Some(payload) = self.rest()[header.len..].get(..payload_len) else {
            return Ok(Progress::NeedsMore);
        };
        let mut payload = payload.to_vec();
        self.read += header.len + payload_len;
        mask::unmask(&mut payload, header.mask);
        let reply = |opcode| {
            let reply = ServerHeader::new(true, opcode, header.payload_len);
            [reply.as_bytes(), &payload].concat()
        };
        let progress = match header.opcode {
            OpCode::Ping => {
                self.counted.pings += 1;
                Progress::Event(Event::Reply(reply(OpCode::Pong)))
            }
            OpCode::Close => {
                let code = close::check_payload(&payload)?;
                Progress::Event(Event::Close(code, reply(OpCode::Close)))
            }
            _ => {
                self.counted.pongs += 1;
                Progress::Frame
            }
        };
        self.counted.frames += 1;
        Ok(progress)
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// Holds no more than what is left, which is a part of a header or of a control
    /// frame: an idle connection holds no buffer.
    fn release(&mut self) {
        self.bytes = self.rest().to_vec();
        self.read = 0;
    }
}

enum Progress {
    /// A frame began or ended; there may be more.
    Frame,
    NeedsMore,
    Event(Event),
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: mask::Key = [0x11, 0xee, 0x00, 0x7f];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).expect("a short frame");
        let mut bytes = [&[first, 0x80 | len], &KEY[..], payload].concat();
        mask::unmask(&mut bytes[6..], KEY);
        bytes
    }

    /// All events of `input`, cut at `cut`.
    fn events(limits: &Limits, input: &[u8], cut: usize) -> Result<Vec<Event>, Violation> {
        let (leftover, later) = input.split_at(cut);
        let mut inbox = Inbox::new(leftover);
        let mut events = Vec::new();
        for piece in [&[], later] {
            inbox.put(piece);
            while let Some(event) = inbox.next(limits)? {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn expect(limits: &Limits, input: &[u8], expected: &Result<Vec<Event>, Violation>) {
        for cut in 0..=input.len() {
            assert_eq!(&events(limits, input, cut), expected, "cut at {cut}");
        }
    }

    #[test]
    fn fragments_are_joined_and_control_frames_kept_apart() {
        let euro = "€".as_bytes();
        let input = [
            frame(0x01, &euro[..1]),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x8a, b"pong"),
            frame(0x80, &euro[1..]),
            frame(0x82, &[0, 255]),
            frame(0x81, b""),
            frame(0x88, b"\x03\xe8"),
        ]
        .concat();
        let expected = Ok(vec![
            Event::Reply(b"\x8a\x04ping".to_vec()),
            Event::Message(Message::Text("€".into())),
            Event::Message(Message::Binary(vec![0, 255])),
            Event::Message(Message::Text(String::new())),
            Event::Close(Some(CloseCode::NORMAL), b"\x88\x02\x03\xe8".to_vec()),
        ]);
        expect(&Limits::default(), &input, &expected);
    }

    #[test]
    fn a_violation_is_a_violation_here_too() {
        let limits = Limits {
            message_bytes: 5,
            ..Limits::default()
        };
        for (input, violation) in [
            (vec![0x81, 0x00], Violation::Unmasked),
            (frame(0x80, b"x"), Violation::UnexpectedContinuation),
            (frame(0x81, b"a\xff"), Violation::InvalidText),
            (frame(0x81, b"\xe2\x82"), Violation::InvalidText),
            (frame(0x82, b"six by"), Violation::MessageTooLong),
            (frame(0x88, b"\x03\xed"), Violation::InvalidCloseCode),
            (
                [frame(0x02, b"abc"), frame(0x80, b"def")].concat(),
                Violation::MessageTooLong,
            ),
        ] {
            expect(&limits, &input, &Err(violation));
        }
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let header = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4, 5];
        let mut inbox = Inbox::new(&header);
        assert_eq!(inbox.next(&Limits::default()), Ok(None));
        assert!(inbox.message.capacity() < 4096);
        assert!(!inbox.is_quiet());
    }
}
