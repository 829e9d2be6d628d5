//! Compares what comes back with what must come back.

use super::deck::Deck;
use super::frame::{
    CONTROL, CONTROL_LEN_MAX, FIN, MASKED, OPCODE, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG,
    RESERVED, declared_len,
};
use super::stamp::MessageId;
use super::violation::Violation;

/// How far ahead of this connection, or of twice its progress, a message may
/// be to be believed in a diagnosis.
const SEQUENCE_LEAD_MAX: u64 = 1 << 20;

/// A control frame between replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    /// Of no consequence.
    Pong,
    /// The server's Close and its code, if it has one.
    Close(Option<u16>),
}

/// The state of one connection's replies: a position in the reply that is due.
///
/// Right replies are a known sequence of bytes, so they are never parsed, only
/// compared, and a chunk may end anywhere. Headers are looked at when a control
/// frame shows up or to say what is wrong with a reply.
#[derive(Debug)]
pub struct Checker {
    connection: u32,
    received: u64,
    /// Bytes of reply `received` that were there and right.
    at: usize,
    /// A control frame of which only part is there.
    partial_control: Vec<u8>,
    closed: bool,
}

impl Checker {
    /// Waits for a connection's first reply.
    pub fn new(connection: u32) -> Self {
        Self {
            connection,
            received: 0,
            at: 0,
            partial_control: Vec::new(),
            closed: false,
        }
    }

    /// Replies that have come in whole, which is also the number of the one
    /// that is due.
    #[inline]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Replies that have come in whole, and bytes of the one that is due. It
    /// moves with right bytes only, control frames do not count.
    #[inline]
    pub fn position(&self) -> (u64, usize) {
        (self.received, self.at)
    }

    /// Compares the next bytes. `asked` messages have been sent so far, whole
    /// or in part; control frames are appended to `controls`.
    ///
    /// # Errors
    /// What is wrong, about the reply numbered [`received`](Self::received).
    /// The checker is of no use afterwards.
    #[inline]
    pub fn feed(
        &mut self,
        deck: &Deck,
        asked: u64,
        mut bytes: &[u8],
        controls: &mut Vec<Control>,
    ) -> Result<(), Violation> {
        loop {
            bytes = self.take_whole_replies(deck, asked, bytes);
            let Some(&first) = bytes.first() else {
                return Ok(());
            };
            if self.at == 0 {
                if first & CONTROL != 0 || !self.partial_control.is_empty() || self.closed {
                    bytes = self.feed_control(bytes, controls)?;
                    continue;
                }
                if self.received >= asked {
                    return Err(Violation::Unasked);
                }
            }
            let due = bytes.len().min(deck.reply_len() - self.at);
            let (part, rest) = bytes.split_at(due);
            if !deck.reply(self.due()).matches(self.at, part) {
                return Err(self.diagnose(deck, bytes));
            }
            self.at += due;
            if self.at == deck.reply_len() {
                self.at = 0;
                self.received += 1;
            }
            bytes = rest;
        }
    }

    /// Takes whole right replies off the front, which is what most bytes are.
    /// Whatever stops it is left for the caller to look at.
    #[inline]
    fn take_whole_replies<'a>(&mut self, deck: &Deck, asked: u64, bytes: &'a [u8]) -> &'a [u8] {
        if self.at != 0 || self.closed || !self.partial_control.is_empty() {
            return bytes;
        }
        let mut due = self.due();
        let mut rest = bytes;
        while let Some((reply, behind)) = rest.split_at_checked(deck.reply_len())
            && due.sequence < asked
            && deck.is_reply(due, reply)
        {
            due.sequence += 1;
            rest = behind;
        }
        self.received = due.sequence;
        rest
    }

    fn due(&self) -> MessageId {
        MessageId {
            connection: self.connection,
            sequence: self.received,
        }
    }

    /// Takes one control frame, or what there is of it, off the front.
    #[cold]
    fn feed_control<'a>(
        &mut self,
        bytes: &'a [u8],
        controls: &mut Vec<Control>,
    ) -> Result<&'a [u8], Violation> {
        if self.closed {
            return Err(Violation::AfterClose);
        }
        let frame = &mut self.partial_control;
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

    /// Says what is wrong with the reply that is due, of which `bytes` are all
    /// that came behind the part that was right.
    #[cold]
    fn diagnose(&self, deck: &Deck, bytes: &[u8]) -> Violation {
        let reply = deck.reply(self.due());
        // What was right need not be kept: it is what was due.
        let right = (0..self.at).map(|at| reply.byte(at));
        let bytes = &bytes[..bytes.len().min(deck.reply_len() - self.at)];
        let got: Vec<u8> = right.chain(bytes.iter().copied()).collect();
        let header = deck.reply_header();
        if let Some(violation) = diagnose_header(&got, header, deck.reply_len() - header.len()) {
            return violation;
        }
        // Most random payloads would be messages from a far future.
        if let Some(id) = deck.identify(&got)
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

/// What is wrong with a reply's header, of which `got` may hold only a part, or
/// `None` when it is right as far as it goes.
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
    if first & FIN == 0 {
        return Some(Violation::NotFinal);
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
            [high, low, ..] => Some(Control::Close(Some(u16::from_be_bytes([high, low])))),
        },
        _ => None,
    }
}
