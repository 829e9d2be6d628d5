//! Compares what comes back with what must come back.

use super::excerpt::excerpt;
use super::frame::{
    CONTROL, CONTROL_LEN_MAX, FIN, Header, MASKED, OPCODE, OPCODE_CLOSE, OPCODE_CONTINUATION,
    OPCODE_PING, OPCODE_PONG, RESERVED, declared_len,
};
use super::frame_pool::FramePool;
use super::mix::Mix;
use super::stamp::MessageId;
use super::violation::Violation;

/// How far ahead of this connection, or of twice its progress, a message id may be to be trusted
/// in a diagnosis.
const SEQUENCE_LEAD_MAX: u64 = 1 << 20;

/// A wrong reply with at least this many right payload bytes is not quoted: it is the reply that
/// was due, and the violation says what is wrong.
const RIGHT_LEN: usize = 4;

/// A control frame between replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    /// Of no consequence.
    Pong,
    /// The server's Close.
    Close(Option<CloseReason>),
}

/// The content of a Close frame (RFC 6455, section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// Its code.
    pub code: u16,
    /// Its text, as it came.
    pub text: Vec<u8>,
}

/// The state of one connection's replies: a position in the reply that is due.
///
/// Right replies are a known sequence of bytes, so they are never parsed, only compared, and a
/// chunk may end anywhere. Headers are parsed only at a control frame, in a fragmented reply, or
/// to diagnose an error.
#[derive(Debug)]
pub struct Checker {
    connection: u32,
    closed: bool,
    received: u64,
    /// The number of right bytes of reply `received`.
    at: usize,
    /// State that only some connections need, and rarely.
    partial: Option<Box<PartialFrames>>,
}

/// Frames that the end of a chunk may cut.
#[derive(Debug, Default)]
struct PartialFrames {
    /// An incomplete control frame.
    control: Vec<u8>,
    /// The reply that comes in fragments.
    fragments: Option<Fragments>,
    /// The number of replies that came in fragments.
    fragmented: u64,
    /// The first bytes of what came instead of the reply that was due.
    wrong: Option<String>,
}

/// The position in a fragmented reply.
#[derive(Debug, Default)]
struct Fragments {
    /// The part of the next frame's header that was received; empty within a payload.
    header: Vec<u8>,
    /// Remaining payload bytes of this frame.
    frame_left: usize,
    /// Whether this frame is the last.
    last: bool,
    /// Whether a frame's header was complete before.
    continued: bool,
    /// The number of right payload bytes of the reply.
    payload_at: usize,
}

impl Checker {
    /// Waits for a connection's first reply.
    pub fn new(connection: u32) -> Self {
        Self {
            connection,
            closed: false,
            received: 0,
            at: 0,
            partial: None,
        }
    }

    /// The number of complete replies, which is also the sequence number of the next one.
    #[inline]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The number of complete fragmented replies.
    pub fn fragmented(&self) -> u64 {
        self.partial
            .as_ref()
            .map_or(0, |partial| partial.fragmented)
    }

    /// The number of complete replies, and of payload bytes or more of the next one. It advances
    /// with right bytes only, not with control frames.
    #[inline]
    pub fn position(&self) -> (u64, usize) {
        let fragments = self
            .partial
            .as_ref()
            .and_then(|partial| partial.fragments.as_ref());
        let at = fragments.map_or(self.at, |fragments| fragments.payload_at);
        (self.received, at)
    }

    /// The quoted first bytes of a wrong reply, after an error of [`feed`](Self::feed).
    pub fn take_wrong(&mut self) -> Option<String> {
        self.partial.as_mut()?.wrong.take()
    }

    /// Compares the next bytes. `begun` messages have been sent so far, whole or in part; control
    /// frames are appended to `controls`.
    ///
    /// # Errors
    /// The violation, of the reply numbered [`received`](Self::received). The checker must not be
    /// used afterwards.
    #[inline]
    pub fn feed(
        &mut self,
        mix: &Mix,
        begun: u64,
        mut bytes: &[u8],
        controls: &mut Vec<Control>,
    ) -> Result<(), Violation> {
        loop {
            bytes = self.take_whole_replies(mix, begun, bytes);
            let Some(&first) = bytes.first() else {
                return Ok(());
            };
            let pool = mix.pool(self.due());
            if self.at == 0 {
                if !pool.is_raw()
                    && let Some(rest) = self.feed_partial(pool, begun, first, bytes, controls)?
                {
                    bytes = rest;
                    continue;
                }
                if self.received >= begun {
                    self.quote(pool, bytes);
                    return Err(Violation::Unsolicited);
                }
            }
            let due = bytes.len().min(pool.reply_len() - self.at);
            let (part, rest) = bytes.split_at(due);
            if !pool.reply(self.due()).matches(self.at, part) {
                return Err(self.diagnose(pool, bytes));
            }
            self.at += due;
            if self.at == pool.reply_len() {
                self.at = 0;
                self.received += 1;
            }
            bytes = rest;
        }
    }

    /// Consumes whole right replies, which is what most bytes are. The caller handles whatever
    /// stops it.
    #[inline]
    fn take_whole_replies<'a>(&mut self, mix: &Mix, begun: u64, bytes: &'a [u8]) -> &'a [u8] {
        if self.at != 0 || self.closed || self.is_partial() {
            return bytes;
        }
        let mut due = self.due();
        let mut rest = bytes;
        if let Some(pool) = mix.only_pool() {
            while let Some((reply, behind)) = rest.split_at_checked(pool.reply_len())
                && due.sequence < begun
                && pool.is_reply(due, reply)
            {
                due.sequence += 1;
                rest = behind;
            }
        } else {
            loop {
                let pool = mix.pool(due);
                let Some((reply, behind)) = rest.split_at_checked(pool.reply_len()) else {
                    break;
                };
                if due.sequence >= begun || !pool.is_reply(due, reply) {
                    break;
                }
                due.sequence += 1;
                rest = behind;
            }
        }
        self.received = due.sequence;
        rest
    }

    /// Whether a control frame or a fragmented reply is incomplete.
    #[inline]
    fn is_partial(&self) -> bool {
        let is_busy =
            |partial: &PartialFrames| !partial.control.is_empty() || partial.fragments.is_some();
        self.partial.as_deref().is_some_and(is_busy)
    }

    fn due(&self) -> MessageId {
        MessageId {
            connection: self.connection,
            sequence: self.received,
        }
    }

    /// Consumes a part of a control frame or of a fragmented reply. `None` when an unfragmented
    /// reply comes next.
    fn feed_partial<'a>(
        &mut self,
        pool: &FramePool,
        begun: u64,
        first: u8,
        bytes: &'a [u8],
        controls: &mut Vec<Control>,
    ) -> Result<Option<&'a [u8]>, Violation> {
        let partial = self.partial.as_deref();
        let fragments = partial.and_then(|partial| partial.fragments.as_ref());
        let in_control = partial.is_some_and(|partial| !partial.control.is_empty());
        let in_fragments = fragments.is_some();
        // Control frames may come between fragments (RFC 6455, section 5.4).
        let at_frame_start = fragments.is_none_or(Fragments::is_at_frame_start);
        if in_control || self.closed || (at_frame_start && first & CONTROL != 0) {
            return self.feed_control(bytes, controls).map(Some);
        }
        let begins = !in_fragments
            && self.received < begun
            && first & (FIN | RESERVED) == 0
            && first & OPCODE == pool.kind().opcode();
        if begins {
            self.partial.get_or_insert_default().fragments = Some(Fragments::default());
        }
        if begins || in_fragments {
            return self.feed_fragments(pool, bytes).map(Some);
        }
        Ok(None)
    }

    /// Consumes one control frame, or its available part.
    #[cold]
    fn feed_control<'a>(
        &mut self,
        bytes: &'a [u8],
        controls: &mut Vec<Control>,
    ) -> Result<&'a [u8], Violation> {
        if self.closed {
            return Err(Violation::AfterClose);
        }
        let frame = &mut self.partial.get_or_insert_default().control;
        let mut bytes = bytes.iter();
        for &byte in bytes.by_ref() {
            frame.push(byte);
            let &[first, second, ref payload @ ..] = frame.as_slice() else {
                continue;
            };
            // The mask bit makes the number too large as well.
            let len = usize::from(second);
            if first & (FIN | RESERVED) != FIN || len > CONTROL_LEN_MAX {
                return Err(Violation::BrokenControl(first, second));
            }
            if payload.len() < len {
                continue;
            }
            let control = read_control(first & OPCODE, payload)
                .ok_or(Violation::BrokenControl(first, second))?;
            self.closed = matches!(control, Control::Close(_));
            controls.push(control);
            frame.clear();
            break;
        }
        Ok(bytes.as_slice())
    }

    /// Consumes a header, or a part of the payload, of a fragmented reply.
    #[cold]
    fn feed_fragments<'a>(
        &mut self,
        pool: &FramePool,
        mut bytes: &'a [u8],
    ) -> Result<&'a [u8], Violation> {
        let id = self.due();
        let partial = self.partial.get_or_insert_default();
        let fragments = partial.fragments.get_or_insert_default();
        if fragments.frame_left == 0 {
            bytes = fragments.feed_header(pool, bytes)?;
        }
        let part;
        (part, bytes) = bytes.split_at(bytes.len().min(fragments.frame_left));
        let at = fragments.payload_at;
        let header_len = pool.reply_header().len();
        let reply = pool.reply(id);
        if !reply.matches(header_len + at, part) {
            let expected = |index| reply.byte(header_len + at + index);
            let differing = part
                .iter()
                .enumerate()
                .find(|(index, byte)| **byte != expected(*index));
            let (index, &got) = differing.unwrap_or((0, &0));
            return Err(Violation::WrongByte {
                at: at + index,
                got,
                expected: expected(index),
            });
        }
        fragments.payload_at += part.len();
        fragments.frame_left -= part.len();
        if fragments.frame_left == 0 && fragments.last && fragments.header.is_empty() {
            if fragments.payload_at != pool.payload_len() {
                return Err(Violation::WrongLength {
                    got: Some(fragments.payload_at as u64),
                    expected: pool.payload_len(),
                });
            }
            partial.fragments = None;
            partial.fragmented += 1;
            self.received += 1;
        }
        Ok(bytes)
    }

    /// Stores the first bytes of a wrong message.
    #[cold]
    fn quote(&mut self, pool: &FramePool, message: &[u8]) {
        let payload = match declared_len(message) {
            _ if pool.is_raw() => message,
            Some((len, header_len)) => {
                let payload = &message[header_len..];
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                &payload[..payload.len().min(len)]
            }
            // The message ends within its header.
            None => return,
        };
        self.partial.get_or_insert_default().wrong = Some(excerpt(payload));
    }

    /// Diagnoses the reply that is due, of which `bytes` are all that came after the part that
    /// was right.
    #[cold]
    fn diagnose(&mut self, pool: &FramePool, bytes: &[u8]) -> Violation {
        let reply = pool.reply(self.due());
        if pool.is_raw() {
            let differing = (0..)
                .zip(bytes)
                .find(|(at, byte)| reply.byte(self.at + at) != **byte);
            let (at, &got) = differing.unwrap_or((0, &0));
            return Violation::WrongByte {
                at: self.at + at,
                got,
                expected: reply.byte(self.at + at),
            };
        }
        // The right part is not kept: it is the expected reply's.
        let right = (0..self.at).map(|at| reply.byte(at));
        let bytes = &bytes[..bytes.len().min(pool.reply_len() - self.at)];
        let got: Vec<u8> = right.chain(bytes.iter().copied()).collect();
        let header = pool.reply_header();
        let begin = header.len()..pool.reply_len().min(header.len() + RIGHT_LEN);
        let begins_right = (begin.clone().map(|at| reply.byte(at))).eq(got
            .get(begin)
            .unwrap_or_default()
            .iter()
            .copied());
        if !begins_right {
            self.quote(pool, &got);
        }
        if let Some(violation) = diagnose_header(&got, header, pool.reply_len() - header.len()) {
            return violation;
        }
        // Random payloads would mostly be stamps of far later messages.
        if let Some(id) = pool.identify(&got)
            && id != self.due()
            && id.sequence <= 2 * self.received + SEQUENCE_LEAD_MAX
        {
            return Violation::WrongMessage(id);
        }
        let differing = (self.at..got.len()).find(|&at| got[at] != reply.byte(at));
        let at = differing.unwrap_or(self.at);
        Violation::WrongByte {
            at: at.saturating_sub(header.len()),
            got: got[at],
            expected: reply.byte(at),
        }
    }
}

impl Fragments {
    fn is_at_frame_start(&self) -> bool {
        self.frame_left == 0 && self.header.is_empty()
    }

    /// Consumes a frame's header, or its available part.
    fn feed_header<'a>(
        &mut self,
        pool: &FramePool,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], Violation> {
        let mut bytes = bytes.iter();
        for &byte in bytes.by_ref() {
            self.header.push(byte);
            let first = self.header[0];
            if first & RESERVED != 0 {
                return Err(Violation::Reserved(first));
            }
            let opcode = if self.continued {
                OPCODE_CONTINUATION
            } else {
                pool.kind().opcode()
            };
            if first & OPCODE != opcode {
                return Err(Violation::WrongType {
                    got: first & OPCODE,
                    expected: opcode,
                });
            }
            if self
                .header
                .get(1)
                .is_some_and(|second| second & MASKED != 0)
            {
                return Err(Violation::Masked);
            }
            let Some((len, header_len)) = declared_len(&self.header) else {
                continue;
            };
            let left = pool.payload_len() - self.payload_at;
            let len = usize::try_from(len).ok().filter(|len| *len <= left);
            let len = len.ok_or(Violation::WrongLength {
                got: None,
                expected: pool.payload_len(),
            })?;
            if Header::new(opcode, len, None).as_bytes().len() != header_len {
                return Err(Violation::LongLength);
            }
            self.last = first & FIN != 0;
            self.frame_left = len;
            self.continued = true;
            self.header.clear();
            return Ok(bytes.as_slice());
        }
        Ok(bytes.as_slice())
    }
}

/// The violation in a reply's header, of which `got` may be only the start; `None` if it is right
/// so far.
fn diagnose_header(got: &[u8], expected: &[u8], payload_len: usize) -> Option<Violation> {
    let first = *got.first()?;
    if first & RESERVED != 0 {
        return Some(Violation::Reserved(first));
    }
    if first & OPCODE != expected[0] & OPCODE {
        return Some(Violation::WrongType {
            got: first & OPCODE,
            expected: expected[0] & OPCODE,
        });
    }
    if got.get(1)? & MASKED != 0 {
        return Some(Violation::Masked);
    }
    if got
        .iter()
        .zip(expected)
        .all(|(got, expected)| got == expected)
    {
        return None;
    }
    let declared = declared_len(got).map(|(len, _)| len);
    Some(if declared == Some(payload_len as u64) {
        Violation::LongLength
    } else {
        Violation::WrongLength {
            got: declared,
            expected: payload_len,
        }
    })
}

fn read_control(opcode: u8, payload: &[u8]) -> Option<Control> {
    match opcode {
        OPCODE_PING => Some(Control::Ping(payload.to_vec())),
        OPCODE_PONG => Some(Control::Pong),
        OPCODE_CLOSE => match *payload {
            [] => Some(Control::Close(None)),
            [_] => None,
            [high, low, ref text @ ..] => Some(Control::Close(Some(CloseReason {
                code: u16::from_be_bytes([high, low]),
                text: text.to_vec(),
            }))),
        },
        _ => None,
    }
}
