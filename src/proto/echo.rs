//! The echo state machine: one client's frames in, the replies out, in place.
//!
//! A client's frame is `header, 4-byte mask, payload`, the reply to it is
//! `header, payload`: the same bytes without the mask. So every reply fits into
//! the bytes of its request:
//!
//! ```text
//! buf     │ header mask payload │ header mask payload │ header mask pay…
//! reply        └ header payload │ header payload ┘    └ kept, or streamed
//! ```
//!
//! The first payload of a buffer is unmasked where it stands and gets its
//! header put right before it; each later one moves left by four bytes more
//! than the one before, so that all replies are one slice and take one write.
//!
//! A frame that is not complete is kept while it fits in the window: it stays
//! in the buffer, its header as it came, its payload unmasked (and, if it is
//! text, validated) as far as it is there. A longer frame is streamed: its
//! header goes out at once, its payload as it arrives.

#![allow(
    clippy::inline_always,
    reason = "an `isa::Work` is compiled as a whole"
)]

use std::mem;
use std::ops::Range;

use super::close::{self, CLOSE_FRAME_LEN, CloseCode};
use super::frame::{self, Header, MASK_LEN, OpCode, ServerHeader, Start};
use super::isa::{Isa, Work};
use super::mask::{self, Key};
use super::sequence::{Limits, Sequence};
use super::utf8;
use super::violation::Violation;

/// Bytes of room that [`Echo::advance`] needs behind what has arrived: a Close
/// frame may follow replies that already fill the space of their requests.
pub const TAIL_ROOM: usize = CLOSE_FRAME_LEN;

/// Payload is unmasked, moved and validated in blocks of this size, so that
/// the validation finds it in the first-level cache. A multiple of four, so
/// that each block starts with the first byte of the key.
const BLOCK: usize = 4096;

/// One client's connection as the protocol sees it, from the first byte behind
/// the handshake to the Close.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    sequence: Sequence,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a frame or in its header.
    Header,
    /// In a data frame that fits in the window; it has been counted, and
    /// `done` bytes of its payload are unmasked and validated.
    Kept { done: usize },
    /// In a data frame whose header has been answered already.
    Streamed {
        remaining: u64,
        mask: Key,
        fin: bool,
    },
    /// A Close frame has been answered or a violation was met.
    Closed,
}

/// What [`Echo::advance`] made of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The bytes that are done with. What follows them in the buffer must stand
    /// at the front of the next one, before what arrives next.
    pub consumed: usize,
    /// The bytes of the buffer that are to be written now.
    pub reply: Range<usize>,
    /// What comes after that write.
    pub next: Next,
    /// The messages that ended in this buffer.
    pub messages: u32,
    /// The other frames that ended in it.
    pub others: FrameCounts,
}

/// Frames that end no message and break no rule, less the Close, which is
/// [`Next::Close`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Data frames that more of their message follows.
    pub fragments: u32,
    /// Pings, each of which is answered.
    pub pings: u32,
    /// Pongs, none of which is.
    pub pongs: u32,
}

impl Step {
    /// The frames that ended in this buffer, a Close included.
    #[inline]
    pub const fn frames(&self) -> u32 {
        self.answered() + self.others.pongs + matches!(self.next, Next::Close(_)) as u32
    }

    /// The frames that end in the reply, a Close included.
    #[inline]
    pub const fn reply_frames(&self) -> u32 {
        self.answered() + matches!(self.next, Next::Close(_) | Next::CloseWith(_)) as u32
    }

    const fn answered(&self) -> u32 {
        self.messages + self.others.fragments + self.others.pings
    }
}

/// What an engine does once the reply of a [`Step`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read more.
    Read,
    /// Close the connection: the client sent a Close frame, with this code if
    /// with any, and the reply ends in the answer.
    Close(Option<CloseCode>),
    /// Close the connection: the client broke a rule, and the reply ends in the
    /// Close frame that says so.
    CloseWith(Violation),
    /// Cut the connection: the client broke a rule in the middle of a frame
    /// whose beginning has been echoed, where no Close frame can stand.
    Reset(Violation),
}

impl Default for Echo {
    fn default() -> Self {
        Self::new()
    }
}

impl Echo {
    /// A connection that was just upgraded.
    pub const fn new() -> Self {
        Self {
            sequence: Sequence::new(),
            state: State::Header,
        }
    }

    /// Whether the replies so far end between two frames, where a frame of the
    /// server's own, a Ping or a Close, may be put.
    pub const fn at_frame_boundary(&self) -> bool {
        matches!(self.state, State::Header | State::Kept { .. })
    }

    /// Whether no message is in progress, given that no byte of a further frame
    /// is kept.
    pub const fn between_messages(&self) -> bool {
        matches!(self.state, State::Header) && self.sequence.message().is_none()
    }

    /// Takes `buf[..filled]`: what the last [`Step`] did not consume, followed
    /// by what has arrived since. Everything that can be answered is, in the
    /// same buffer.
    ///
    /// After anything but [`Next::Read`] the connection is over: further calls
    /// consume everything and answer nothing.
    ///
    /// # Panics
    /// If `buf` has less than [`TAIL_ROOM`] bytes behind `filled`.
    #[inline]
    pub fn advance(&mut self, limits: &Limits, buf: &mut [u8], filled: usize) -> Step {
        self.advance_on(Isa::best(), limits, buf, filled)
    }

    /// [`advance`](Self::advance) with the instructions of `isa`.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    pub fn advance_on(&mut self, isa: Isa, limits: &Limits, buf: &mut [u8], filled: usize) -> Step {
        assert!(
            buf.len() - filled >= TAIL_ROOM,
            "no room for a Close frame behind {filled} bytes"
        );
        isa.run(Frames {
            echo: self,
            limits,
            pass: Pass::new(buf, filled),
        })
    }

    /// One pass over a buffer.
    ///
    /// All that a pass goes through is inlined here, for the vectors' sake and
    /// so that its positions stay in registers.
    #[inline(always)]
    fn step(&mut self, limits: &Limits, mut pass: Pass<'_>) -> Step {
        let next = match self.run(limits, &mut pass) {
            Ok(next) => next,
            Err(violation) => self.fail(&mut pass, violation),
        };
        if !matches!(next, Next::Read) {
            self.state = State::Closed;
            pass.read = pass.filled;
        }
        Step {
            consumed: pass.read,
            reply: pass.start..pass.end,
            next,
            messages: pass.messages,
            others: pass.others,
        }
    }

    /// Frame after frame, until one is not all there or is the last.
    #[inline(always)]
    fn run(&mut self, limits: &Limits, pass: &mut Pass<'_>) -> Result<Next, Violation> {
        loop {
            pass.mark = pass.end;
            let progress = match self.state {
                State::Header => {
                    self.whole_messages(limits, pass)?;
                    self.start_frame(limits, pass)?
                }
                State::Kept { done } => match Header::parse(pass.rest())? {
                    Some(header) => self.data_frame(limits, pass, &header, done)?,
                    None => Progress::NeedsMore,
                },
                State::Streamed {
                    remaining,
                    mask,
                    fin,
                } => self.stream(pass, remaining, mask, fin)?,
                State::Closed => Progress::Ended(Next::Close(None)),
            };
            match progress {
                Progress::Frame => {}
                Progress::NeedsMore => return Ok(Next::Read),
                Progress::Ended(next) => return Ok(next),
            }
        }
    }

    /// Whole messages of one frame each, as long as there are any: what most
    /// connections send most of the time. Everything else, and everything that
    /// is wrong with a frame, is left to [`start_frame`](Self::start_frame).
    #[inline(always)]
    fn whole_messages(&mut self, limits: &Limits, pass: &mut Pass<'_>) -> Result<(), Violation> {
        if self.sequence.message().is_some() {
            return Ok(());
        }
        // A pass of this loop's own can stay in registers.
        let mut own = Pass {
            buf: mem::take(&mut pass.buf),
            ..*pass
        };
        let longest = limits.message_bytes;
        let mut checked = Ok(());
        // A loop for each, as one for both runs out of registers.
        while checked.is_ok()
            && let Some(short) = Whole::parse_short(&own, longest)
        {
            checked = own.put_whole(&short);
        }
        while checked.is_ok()
            && let Some(medium) = Whole::parse_medium(&own, longest)
        {
            checked = own.put_whole(&medium);
        }
        *pass = own;
        checked
    }

    /// A frame none of whose bytes has been seen before, except for a part of
    /// its header.
    #[inline(always)]
    fn start_frame(&mut self, limits: &Limits, pass: &mut Pass<'_>) -> Result<Progress, Violation> {
        let rest = pass.rest();
        let Some(&first) = rest.first() else {
            return Ok(Progress::NeedsMore);
        };
        self.sequence.check_start(Start::parse(first)?)?;
        let Some(header) = Header::parse(rest)? else {
            return Ok(Progress::NeedsMore);
        };
        if header.opcode.is_control() {
            return control_frame(pass, &header);
        }
        self.sequence.begin_frame(&header, limits)?;
        self.data_frame(limits, pass, &header, 0)
    }

    /// A data frame, of whose payload `done` bytes have been handled.
    #[inline(always)]
    fn data_frame(
        &mut self,
        limits: &Limits,
        pass: &mut Pass<'_>,
        header: &Header,
        done: usize,
    ) -> Result<Progress, Violation> {
        let here = pass.rest().len() - header.len;
        if let Some(payload_len) = usize::try_from(header.payload_len)
            .ok()
            .filter(|&len| len <= here)
        {
            let moved = pass.put_header(header, header.opcode, payload_len);
            self.payload(pass, moved.skip(done), header.mask, done)?;
            return self.end_frame(pass, header.fin);
        }
        if header.payload_len.saturating_add(header.len as u64) <= limits.window as u64 {
            let at = pass.read + header.len;
            let in_place = Move::in_place(at..at + here);
            self.payload(pass, in_place.skip(done), header.mask, done)?;
            self.state = State::Kept { done: here };
            return Ok(Progress::NeedsMore);
        }
        let moved = pass.put_header(header, header.opcode, here);
        self.payload(pass, moved.skip(done), header.mask, done)?;
        self.state = State::Streamed {
            remaining: header.payload_len - here as u64,
            mask: mask::rotate(header.mask, here),
            fin: header.fin,
        };
        Ok(Progress::NeedsMore)
    }

    /// More payload of a frame whose header is out.
    #[inline(always)]
    fn stream(
        &mut self,
        pass: &mut Pass<'_>,
        remaining: u64,
        mask: Key,
        fin: bool,
    ) -> Result<Progress, Violation> {
        let arrived = pass.filled - pass.read;
        let here = usize::try_from(remaining).map_or(arrived, |left| left.min(arrived));
        let moved = pass.put_payload(here);
        self.payload(pass, moved, mask, 0)?;
        let remaining = remaining - here as u64;
        if remaining > 0 {
            self.state = State::Streamed {
                remaining,
                mask: mask::rotate(mask, here),
                fin,
            };
            return Ok(Progress::NeedsMore);
        }
        // The whole frame is out, so a Close frame may follow it.
        pass.mark = pass.end;
        self.end_frame(pass, fin)
    }

    #[inline(always)]
    fn end_frame(&mut self, pass: &mut Pass<'_>, fin: bool) -> Result<Progress, Violation> {
        self.state = State::Header;
        self.sequence.end_frame(fin)?;
        if fin {
            pass.messages += 1;
        } else {
            pass.others.fragments += 1;
        }
        Ok(Progress::Frame)
    }

    /// Unmasks, moves and validates payload whose first byte is byte `offset`
    /// of its frame's.
    #[inline(always)]
    fn payload(
        &mut self,
        pass: &mut Pass<'_>,
        moved: Move,
        key: Key,
        offset: usize,
    ) -> Result<(), Violation> {
        let key = mask::rotate(key, offset);
        let mut at = 0;
        while at < moved.len {
            let len = BLOCK.min(moved.len - at);
            let (from, to) = (moved.from + at, moved.to + at);
            let is_ascii = mask::move_left(&mut pass.buf[to..from + len], len, key);
            let block = &pass.buf[to..to + len];
            if is_ascii {
                self.sequence.feed_ascii(block)?;
            } else {
                self.sequence.feed(block)?;
            }
            at += len;
        }
        Ok(())
    }

    /// Answers a violation with a Close frame behind the replies to the frames
    /// before, if one may stand there.
    #[inline(always)]
    fn fail(&mut self, pass: &mut Pass<'_>, violation: Violation) -> Next {
        // What was put for the wrong frame itself has not been written yet.
        pass.end = pass.mark;
        if !self.at_frame_boundary() {
            return Next::Reset(violation);
        }
        pass.put_close(violation.close_code());
        Next::CloseWith(violation)
    }
}

/// The loop over the frames of a buffer.
struct Frames<'a> {
    echo: &'a mut Echo,
    limits: &'a Limits,
    pass: Pass<'a>,
}

impl Work for Frames<'_> {
    type Output = Step;

    #[inline(always)]
    fn run(self) -> Self::Output {
        self.echo.step(self.limits, self.pass)
    }
}

/// A message of one frame that is all there, and the header of its reply.
struct Whole<const HEADER: usize> {
    header: [u8; HEADER],
    len: usize,
    key: Key,
}

const WHOLE_TEXT: u8 = frame::FIN | OpCode::Text as u8;
const WHOLE_BINARY: u8 = frame::FIN | OpCode::Binary as u8;

impl Whole<2> {
    /// A message of up to 125 bytes.
    #[inline(always)]
    fn parse_short(pass: &Pass<'_>, longest: u64) -> Option<Self> {
        // The last two of eight bytes may lie in the room behind what has
        // arrived.
        const { assert!(2 + MASK_LEN + TAIL_ROOM >= 8) };
        let [first, second, k0, k1, k2, k3, _, _] = *pass.buf[pass.read..].first_chunk()?;
        let short_len = second ^ frame::MASKED;
        let is_short = u64::from(short_len) <= longest.min(frame::MAX_CONTROL_PAYLOAD);
        let message = Self {
            header: [first, short_len],
            len: usize::from(short_len),
            key: [k0, k1, k2, k3],
        };
        (is_short && message.is_whole(pass)).then_some(message)
    }
}

impl Whole<4> {
    /// A message of 126 to 65,535 bytes.
    #[inline(always)]
    fn parse_medium(pass: &Pass<'_>, longest: u64) -> Option<Self> {
        let [first, second, high, low, k0, k1, k2, k3] = *pass.buf[pass.read..].first_chunk()?;
        let len = u16::from_be_bytes([high, low]);
        let is_medium = second == frame::MASKED | frame::LEN_16
            && (u64::from(frame::LEN_16)..=longest).contains(&u64::from(len));
        let message = Self {
            header: [first, frame::LEN_16, high, low],
            len: usize::from(len),
            key: [k0, k1, k2, k3],
        };
        (is_medium && message.is_whole(pass)).then_some(message)
    }
}

impl<const HEADER: usize> Whole<HEADER> {
    /// Whether this can be answered as it stands.
    #[inline(always)]
    fn is_whole(&self, pass: &Pass<'_>) -> bool {
        matches!(self.header[0], WHOLE_TEXT | WHOLE_BINARY)
            && pass.read + HEADER + MASK_LEN + self.len <= pass.filled
    }
}

/// Answers a control frame: pings and closes with themselves, pongs not at all.
#[inline(always)]
fn control_frame(pass: &mut Pass<'_>, header: &Header) -> Result<Progress, Violation> {
    // At most 125, which `Header::parse` has checked.
    let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
    if pass.rest().len() - header.len < payload_len {
        return Ok(Progress::NeedsMore);
    }
    let opcode = match header.opcode {
        OpCode::Ping => OpCode::Pong,
        OpCode::Close => OpCode::Close,
        _ => {
            pass.read += header.len + payload_len;
            pass.others.pongs += 1;
            return Ok(Progress::Frame);
        }
    };
    let moved = pass.put_header(header, opcode, payload_len);
    mask::move_left(
        &mut pass.buf[moved.to..moved.from + moved.len],
        moved.len,
        header.mask,
    );
    if opcode == OpCode::Pong {
        pass.others.pings += 1;
        return Ok(Progress::Frame);
    }
    let code = close::check_payload(&pass.buf[moved.to..moved.to + moved.len])?;
    Ok(Progress::Ended(Next::Close(code)))
}

enum Progress {
    /// A frame ended; the next may follow.
    Frame,
    /// What has arrived is handled as far as it goes.
    NeedsMore,
    /// No frame follows.
    Ended(Next),
}

/// Payload on its way from its place in the request to its place in the reply,
/// which is the same place or further left.
#[derive(Clone, Copy)]
struct Move {
    from: usize,
    to: usize,
    len: usize,
}

impl Move {
    const fn in_place(range: Range<usize>) -> Self {
        Self {
            from: range.start,
            to: range.start,
            len: range.end - range.start,
        }
    }

    /// Without the first `done` bytes, which are where they belong.
    const fn skip(self, done: usize) -> Self {
        Self {
            from: self.from + done,
            to: self.to + done,
            len: self.len - done,
        }
    }
}

/// One pass over a buffer: the request is read at `read`, the reply grows at
/// `end`, which never overtakes it.
struct Pass<'a> {
    buf: &'a mut [u8],
    filled: usize,
    read: usize,
    start: usize,
    end: usize,
    /// Where the reply ended before the frame at hand.
    mark: usize,
    messages: u32,
    others: FrameCounts,
}

impl<'a> Pass<'a> {
    const fn new(buf: &'a mut [u8], filled: usize) -> Self {
        Self {
            buf,
            filled,
            read: 0,
            start: 0,
            end: 0,
            mark: 0,
            messages: 0,
            others: FrameCounts {
                fragments: 0,
                pings: 0,
                pongs: 0,
            },
        }
    }

    #[inline(always)]
    fn rest(&self) -> &[u8] {
        &self.buf[self.read..self.filled]
    }

    /// Puts the reply's header, and room for the `here` bytes of payload that
    /// have arrived, behind the replies so far, and steps over the request.
    #[inline(always)]
    fn put_header(&mut self, header: &Header, opcode: OpCode, here: usize) -> Move {
        self.join();
        let reply = ServerHeader::new(header.fin, opcode, header.payload_len);
        let reply = reply.as_bytes();
        self.buf[self.end..self.end + reply.len()].copy_from_slice(reply);
        self.end += reply.len();
        self.read += header.len;
        self.put_payload(here)
    }

    /// Lets the next reply join those before it; if there are none, it starts
    /// where its payload can stay in its place.
    #[inline(always)]
    fn join(&mut self) {
        if self.start == self.end {
            self.start = self.read + MASK_LEN;
            self.end = self.start;
            self.mark = self.start;
        }
    }

    #[inline(always)]
    fn put_payload(&mut self, len: usize) -> Move {
        let moved = Move {
            from: self.read,
            to: self.end,
            len,
        };
        self.read += len;
        self.end += len;
        moved
    }

    /// Answers a message, of whose text is not known yet whether it is valid.
    #[inline(always)]
    fn put_whole<const HEADER: usize>(&mut self, message: &Whole<HEADER>) -> Result<(), Violation> {
        self.join();
        let len = message.len;
        let source_end = self.read + HEADER + MASK_LEN + len;
        let reply = &mut self.buf[self.end..source_end];
        let (header, span) = reply.split_at_mut(HEADER);
        header.copy_from_slice(&message.header);
        let is_ascii = mask::move_left(span, len, message.key);
        if message.header[0] == WHOLE_TEXT && !is_ascii {
            utf8::check_whole(&span[..len])?;
        }
        self.read = source_end;
        self.end += HEADER + len;
        self.mark = self.end;
        self.messages += 1;
        Ok(())
    }

    #[inline(always)]
    fn put_close(&mut self, code: CloseCode) {
        let frame = code.frame();
        self.buf[self.end..self.end + frame.len()].copy_from_slice(&frame);
        self.end += frame.len();
    }
}

#[cfg(test)]
mod tests;
