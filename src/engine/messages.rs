//! Whole messages for a handler, out of a client's frames, without any I/O.
//!
//! As the [echo](crate::proto::Echo) this takes what was read where it stands, and
//! answers control frames in the same bytes. A message is copied once, into memory of
//! its own, and goes into the [`Channel`] to the handler when it is whole.

pub(crate) mod channel;

use std::rc::Rc;

use crate::config::DEFAULT_WHOLE_MESSAGE;
use crate::message::Collected;
use crate::observe::metrics::label::EndReason;
use crate::proto::close::{self, CloseCode};
use crate::proto::frame::{Header, ServerHeader, Start};
use crate::proto::mask;
use crate::proto::sequence::{Kind, Limits, Sequence};
use crate::proto::{FrameCounts, Next, OpCode, Step, TAIL_ROOM, Violation};
use channel::{Channel, Ended, Outgoing, Wish};

/// Payload is unmasked, validated and copied in blocks of this size, which stay in the
/// first-level cache. A multiple of four, as the key is.
const BLOCK: usize = 4096;

pub(crate) struct Messages {
    sequence: Sequence,
    frame: Option<Frame>,
    collected: Collected,
    /// How the client has ended the connection, and the answer, which waits for the
    /// handler to answer what came before.
    last: Option<Last>,
    /// What the client wrote in its Close frame.
    close_text: Rc<str>,
    pub(super) channel: Rc<Channel>,
}

/// A data frame in progress.
#[derive(Clone, Copy, Debug)]
struct Frame {
    remaining: u64,
    /// The key as the next byte needs it.
    mask: mask::Key,
    fin: bool,
}

/// The last frame that is sent, and what ends with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) frame: Vec<u8>,
    pub(super) next: Next,
}

/// One pass over a buffer: replies stand at its front, before what is still to be read.
struct Pass<'a> {
    buf: &'a mut [u8],
    filled: usize,
    read: usize,
    end: usize,
    messages: u32,
    others: FrameCounts,
}

impl Messages {
    pub(super) fn new(channel: Rc<Channel>) -> Self {
        Self {
            sequence: Sequence::new(),
            frame: None,
            collected: Collected::default(),
            last: None,
            close_text: "".into(),
            channel,
        }
    }

    /// Takes `buf[..filled]`, as [`Echo::advance`](crate::proto::Echo::advance) does. A
    /// Close is answered later if the handler has yet to answer what came before it.
    pub(super) fn advance(&mut self, limits: &Limits, buf: &mut [u8], filled: usize) -> Step {
        debug_assert!(buf.len() - filled >= TAIL_ROOM);
        let mut pass = Pass {
            buf,
            filled,
            read: 0,
            end: 0,
            messages: 0,
            others: FrameCounts::default(),
        };
        let (mut next, before) = if self.last.is_some() {
            pass.read = filled;
            (Next::Read, 0)
        } else {
            self.run(limits, &mut pass)
        };
        let mut reply = 0..pass.end;
        if next != Next::Read {
            pass.read = filled;
            if !self.channel.is_settled() {
                let frame = pass.buf[before..pass.end].to_vec();
                self.last = Some(Last { frame, next });
                (next, reply) = (Next::Read, 0..before);
            }
        }
        Step {
            consumed: pass.read,
            reply,
            next,
            messages: pass.messages,
            others: pass.others,
        }
    }

    /// Frame after frame, until one is not all there or is the last. Answers as well
    /// where the reply to that one begins.
    fn run(&mut self, limits: &Limits, pass: &mut Pass<'_>) -> (Next, usize) {
        let mut limits = *limits;
        if limits.message_bytes == u64::MAX {
            limits.message_bytes = DEFAULT_WHOLE_MESSAGE;
        }
        loop {
            let before = pass.end;
            let progress = match self.frame {
                Some(frame) => self.collect(&limits, pass, frame),
                None => self.start_frame(&limits, pass),
            };
            match progress {
                Ok(Progress::Frame) => {}
                Ok(Progress::NeedsMore) => return (Next::Read, before),
                Ok(Progress::Closed(code)) => return (Next::Close(code), before),
                Err(violation) => {
                    pass.put(&violation.close_code().frame());
                    return (Next::CloseWith(violation), before);
                }
            }
        }
    }

    fn start_frame(&mut self, limits: &Limits, pass: &mut Pass<'_>) -> Result<Progress, Violation> {
        let Some(&first) = pass.rest().first() else {
            return Ok(Progress::NeedsMore);
        };
        self.sequence.check_start(Start::parse(first)?)?;
        let Some(header) = Header::parse(pass.rest())? else {
            return Ok(Progress::NeedsMore);
        };
        if header.opcode.is_control() {
            return self.control_frame(pass, &header);
        }
        self.sequence.begin_frame(&header, limits)?;
        pass.read += header.len;
        self.frame = Some(Frame {
            remaining: header.payload_len,
            mask: header.mask,
            fin: header.fin,
        });
        Ok(Progress::Frame)
    }

    /// Moves what has come of a data frame into the message.
    fn collect(
        &mut self,
        limits: &Limits,
        pass: &mut Pass<'_>,
        frame: Frame,
    ) -> Result<Progress, Violation> {
        let kind = self.sequence.message().unwrap_or(Kind::Binary);
        let length = |len| usize::try_from(len).unwrap_or(usize::MAX);
        let here = length(frame.remaining).min(pass.rest().len());
        // More frames may follow one that is not the last.
        let mut announced = if frame.fin {
            length(frame.remaining)
        } else {
            usize::MAX
        };
        let payload = &mut pass.buf[pass.read..pass.read + here];
        pass.read += here;
        for block in payload.chunks_mut(BLOCK) {
            announced -= block.len();
            mask::unmask(block, frame.mask);
            let longest = length(limits.message_bytes);
            self.collected.push(kind, block, announced, longest)?;
        }
        let remaining = frame.remaining - here as u64;
        if remaining > 0 {
            self.frame = Some(Frame {
                remaining,
                mask: mask::rotate(frame.mask, here),
                fin: frame.fin,
            });
            return Ok(Progress::NeedsMore);
        }
        self.frame = None;
        self.sequence.end_frame(frame.fin)?;
        if frame.fin {
            let message = self.collected.take(kind)?;
            pass.messages += 1;
            self.channel.deliver(message);
        } else {
            pass.others.fragments += 1;
        }
        Ok(Progress::Frame)
    }

    fn control_frame(
        &mut self,
        pass: &mut Pass<'_>,
        header: &Header,
    ) -> Result<Progress, Violation> {
        // At most 125, which `Header::parse` has checked.
        let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let payload = pass.read + header.len..pass.read + header.len + len;
        if payload.end > pass.filled {
            return Ok(Progress::NeedsMore);
        }
        mask::unmask(&mut pass.buf[payload.clone()], header.mask);
        pass.read = payload.end;
        match header.opcode {
            OpCode::Ping => {
                pass.others.pings += 1;
                pass.answer(OpCode::Pong, payload);
                Ok(Progress::Frame)
            }
            OpCode::Close => {
                let code = close::check_payload(&pass.buf[payload.clone()])?;
                let text = pass.buf[payload.clone()].get(2..).unwrap_or(&[]);
                self.close_text = String::from_utf8_lossy(text).into();
                pass.answer(OpCode::Close, payload);
                Ok(Progress::Closed(code))
            }
            _ => {
                pass.others.pongs += 1;
                Ok(Progress::Frame)
            }
        }
    }

    /// Whether more is to be read.
    #[inline]
    pub(super) fn wants_bytes(&self) -> bool {
        !self.channel.is_full()
    }

    /// Whether the client has sent its last frame, which is yet to be answered.
    pub(super) fn has_last(&self) -> bool {
        self.last.is_some()
    }

    /// Whether the handler is done with all that it was given, and the client's last
    /// frame is answered.
    pub(super) fn is_settled(&self) -> bool {
        self.last.is_none() && self.channel.is_settled()
    }

    /// Whether all that has come is answered, as far as the handler will.
    pub(super) fn is_quiet(&self) -> bool {
        let is_between = self.frame.is_none() && self.sequence.message().is_none();
        is_between && self.is_settled()
    }

    /// Bytes of memory that are held.
    pub(super) fn held(&self) -> usize {
        self.collected.held() + self.channel.held()
    }

    /// Bytes that were read and wait for the handler.
    pub(super) fn ahead(&self) -> usize {
        self.collected.held() + self.channel.incoming_held()
    }

    /// Frees what was received.
    pub(super) fn free(&mut self) {
        self.collected = Collected::default();
        self.last = None;
    }

    /// Looks at what the handler has done; how it wants the connection to end, and what
    /// it has sent. Behind that stands the answer to the client's last frame, if it is
    /// time for that, and then what ends with it.
    pub(super) fn take_news(&mut self) -> (Option<Wish>, Outgoing, Option<Last>) {
        let wish = self.channel.take_news();
        let outgoing = self.channel.take_outgoing();
        let is_time = match wish {
            None => self.channel.is_settled(),
            Some(Wish::Drop) => true,
            Some(Wish::Close(_)) => false,
        };
        (wish, outgoing, self.last.take_if(|_| is_time))
    }

    /// Notes why the connection ends.
    pub(super) fn end(&self, reason: EndReason, code: Option<CloseCode>, next: Next) {
        let violation = match next {
            Next::CloseWith(violation) | Next::Reset(violation) => Some(violation),
            Next::Read | Next::Close(_) => None,
        };
        self.channel.end(Ended {
            reason,
            code,
            text: Rc::clone(&self.close_text),
            violation,
        });
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.channel.set_over();
    }
}

enum Progress {
    /// A frame began or ended; there may be more.
    Frame,
    NeedsMore,
    /// The client has closed the connection.
    Closed(Option<CloseCode>),
}

impl Pass<'_> {
    fn rest(&self) -> &[u8] {
        &self.buf[self.read..self.filled]
    }

    /// Puts a reply with the payload that stands there, which was the request's.
    fn answer(&mut self, opcode: OpCode, payload: std::ops::Range<usize>) {
        let header = ServerHeader::new(true, opcode, payload.len() as u64);
        let len = payload.len();
        // It is shorter than its request by the mask.
        let at = self.end + header.as_bytes().len();
        self.buf.copy_within(payload, at);
        self.put(header.as_bytes());
        self.end += len;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

#[cfg(test)]
mod tests;
