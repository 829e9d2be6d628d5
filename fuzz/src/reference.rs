//! The reference: RFC 6455 for an echo server, written to be compared with the text of
//! the RFC.
//!
//! It keeps the whole stream and decodes the current frame anew with every arrival, byte
//! by byte into vectors, with the standard library's UTF-8. The core, which works in
//! place and never reads a byte twice, shares none of this: a fault that both have is a
//! misreading of the RFC, which [`second`](crate::second) checks.
//!
//! Where the RFC leaves a choice, it follows the core's documentation: a violation is
//! found at the first byte that makes it one, and a frame that does not fit in the
//! window is sent while it arrives.

use std::str;

/// The limits on one peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, if limited.
    pub message_bytes: Option<u64>,
    /// Frames of a message.
    pub fragments: u32,
    /// Bytes of an incomplete frame that are held, header included.
    pub window: u64,
}

/// The form of the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Frame for frame, as the engines echo.
    Frames,
    /// Whole messages in one frame each, as a handler does.
    Messages,
}

/// A broken rule: its name, and the close code of section 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As the core's `Violation::name`.
    pub name: &'static str,
    /// The code of the Close frame.
    pub code: u16,
}

/// The reason to read no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A Close frame, with its code if it has one.
    Closed(Option<u16>),
    /// A broken rule, and the reply ends in a Close frame.
    Failed(Fault),
    /// A broken rule inside a frame whose beginning has been sent.
    Aborted(Fault),
}

/// The result of one arrival.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Bytes to write now.
    pub reply: Vec<u8>,
    /// Bytes of the whole stream that are consumed.
    pub consumed: usize,
    /// The result if this was the last arrival.
    pub end: Option<End>,
    /// Messages that ended.
    pub messages: u32,
    /// Data frames that ended without ending a message.
    pub fragments: u32,
    /// Pings.
    pub pings: u32,
    /// Pongs.
    pub pongs: u32,
}

/// Invalid text in a frame that does not fit in the window: how much of the frame has
/// been sent depends on the cuts.
#[derive(Debug, PartialEq, Eq)]
pub struct Torn {
    /// Bytes of reply before the frame.
    pub before: usize,
    /// The reply's header.
    pub header: Vec<u8>,
    /// The valid part of the payload, and an incomplete character at its end.
    pub payload: Vec<u8>,
    /// The payload is complete, and ends inside a character.
    pub is_whole: bool,
}

/// The frame header of section 5.2.
struct Header {
    fin: bool,
    opcode: u8,
    payload_len: u64,
    key: [u8; 4],
    len: usize,
}

struct Message {
    opcode: u8,
    payload: Vec<u8>,
    announced: u64,
    fragments: u32,
}

/// One connection.
pub struct Reference {
    limits: Limits,
    style: Style,
    stream: Vec<u8>,
    /// Start of the current frame.
    at: usize,
    /// Sent bytes of its payload; `None` if its header has not been sent.
    sent: Option<usize>,
    message: Option<Message>,
    is_over: bool,
    replied: usize,
    /// Set with a fault of that kind.
    pub torn: Option<Torn>,
}

const fn fault(name: &'static str, code: u16) -> Fault {
    Fault { name, code }
}

const INVALID_TEXT: Fault = fault("invalid_text", 1007);

enum Progress {
    NextFrame,
    NeedsMore,
    End(End),
}

impl Reference {
    /// A connection before its first byte.
    pub fn new(limits: Limits, style: Style) -> Self {
        Self {
            limits,
            style,
            stream: Vec::new(),
            at: 0,
            sent: None,
            message: None,
            is_over: false,
            replied: 0,
            torn: None,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn arrive(&mut self, bytes: &[u8]) -> Answer {
        self.stream.extend_from_slice(bytes);
        let mut answer = Answer::default();
        if self.is_over {
            answer.end = Some(End::Closed(None));
        }
        while answer.end.is_none() {
            match self.frame(&mut answer) {
                Ok(Progress::NextFrame) => {}
                Ok(Progress::NeedsMore) => break,
                Ok(Progress::End(end)) => answer.end = Some(end),
                Err(fault) if self.sent.is_some() => answer.end = Some(End::Aborted(fault)),
                Err(fault) => {
                    let [high, low] = fault.code.to_be_bytes();
                    answer.reply.extend([0x88, 2, high, low]);
                    answer.end = Some(End::Failed(fault));
                }
            }
        }
        self.is_over = answer.end.is_some();
        answer.consumed = if self.is_over || self.sent.is_some() {
            self.stream.len()
        } else {
            self.at
        };
        self.replied += answer.reply.len();
        answer
    }

    fn frame(&mut self, answer: &mut Answer) -> Result<Progress, Fault> {
        let Some(header) = self.header(&self.stream[self.at..])? else {
            return Ok(Progress::NeedsMore);
        };
        let start = self.at + header.len;
        let end = usize::try_from(header.payload_len)
            .ok()
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= self.stream.len());
        let here = &self.stream[start..end.unwrap_or(self.stream.len())];
        let payload: Vec<u8> = here
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ header.key[index % 4])
            .collect();
        if header.opcode >= 8 {
            return self.control(&header, &payload, end, answer);
        }
        self.limits(&header)?;
        self.text(&header, &payload, end.is_some(), answer)?;
        let is_streamed = header.payload_len.saturating_add(header.len as u64) > self.limits.window;
        if self.style == Style::Frames && (end.is_some() || is_streamed) {
            let sent = self.sent.unwrap_or_else(|| {
                let reply = reply_header(header.fin, header.opcode, header.payload_len);
                answer.reply.extend(reply);
                0
            });
            answer.reply.extend(&payload[sent..]);
            self.sent = Some(payload.len());
        }
        let Some(end) = end else {
            return Ok(Progress::NeedsMore);
        };
        self.sent = None;
        self.at = end;
        self.finish(&header, payload, answer);
        Ok(Progress::NextFrame)
    }

    /// Sections 5.2, 5.4 and 5.5; missing bytes are no violation.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Fault> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (fin, opcode) = (first >= 0x80, first % 16);
        if first / 16 % 8 != 0 {
            return Err(fault("reserved_bits", 1002));
        }
        if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
            return Err(fault("reserved_opcode", 1002));
        }
        if opcode >= 8 && !fin {
            return Err(fault("fragmented_control", 1002));
        }
        if opcode == 0 && self.message.is_none() {
            return Err(fault("unexpected_continuation", 1002));
        }
        if (opcode == 1 || opcode == 2) && self.message.is_some() {
            return Err(fault("interleaved_message", 1002));
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second < 0x80 {
            return Err(fault("unmasked", 1002));
        }
        let short = second - 0x80;
        if opcode >= 8 && short > 125 {
            return Err(fault("long_control", 1002));
        }
        if short == 127 && bytes.get(2).is_some_and(|&byte| byte >= 0x80) {
            return Err(fault("length_overflow", 1002));
        }
        let (extended, least) = match short {
            126 => (2, 126),
            127 => (8, 65_536),
            _ => (0, 0),
        };
        let Some(digits) = bytes.get(2..2 + extended) else {
            return Ok(None);
        };
        let payload_len = match extended {
            0 => u64::from(short),
            _ => digits
                .iter()
                .fold(0, |sum, &digit| sum * 256 + u64::from(digit)),
        };
        if payload_len < least {
            return Err(fault("non_minimal_length", 1002));
        }
        let Some(key) = bytes.get(2 + extended..6 + extended) else {
            return Ok(None);
        };
        Ok(Some(Header {
            fin,
            opcode,
            payload_len,
            key: [key[0], key[1], key[2], key[3]],
            len: 6 + extended,
        }))
    }

    fn control(
        &mut self,
        header: &Header,
        payload: &[u8],
        end: Option<usize>,
        answer: &mut Answer,
    ) -> Result<Progress, Fault> {
        let Some(end) = end else {
            return Ok(Progress::NeedsMore);
        };
        self.at = end;
        let mut reply = |opcode| {
            answer
                .reply
                .extend(reply_header(true, opcode, header.payload_len));
            answer.reply.extend(payload);
        };
        match header.opcode {
            9 => {
                reply(10);
                answer.pings += 1;
            }
            10 => answer.pongs += 1,
            _ => {
                let code = close_code(payload)?;
                reply(8);
                return Ok(Progress::End(End::Closed(code)));
            }
        }
        Ok(Progress::NextFrame)
    }

    fn limits(&self, header: &Header) -> Result<(), Fault> {
        let (bytes, frames) = match &self.message {
            Some(message) => (message.announced, message.fragments),
            None => (0, 0),
        };
        let bytes = bytes.saturating_add(header.payload_len);
        if self.limits.message_bytes.is_some_and(|limit| bytes > limit) {
            return Err(fault("message_too_long", 1009));
        }
        if frames >= self.limits.fragments {
            return Err(fault("too_many_fragments", 1009));
        }
        Ok(())
    }

    /// Section 8.1, for the text of the message so far.
    fn text(
        &mut self,
        header: &Header,
        payload: &[u8],
        is_whole: bool,
        answer: &mut Answer,
    ) -> Result<(), Fault> {
        let before: &[u8] = match &self.message {
            Some(message) if message.opcode == 1 => &message.payload,
            None if header.opcode == 1 => &[],
            _ => return Ok(()),
        };
        let text = [before, payload].concat();
        let Err(error) = str::from_utf8(&text) else {
            return Ok(());
        };
        let ends_inside = error.error_len().is_none();
        if ends_inside && !(is_whole && header.fin) {
            return Ok(());
        }
        let reply = reply_header(header.fin, header.opcode, header.payload_len);
        if header.payload_len.saturating_add(header.len as u64) > self.limits.window {
            // The byte before the invalid one may have been the last to arrive.
            let possible = (error.valid_up_to()..=text.len())
                .take_while(|&len| could_become_text(&text[..len]))
                .last()
                .map_or(0, |len| len.saturating_sub(before.len()));
            self.torn = Some(Torn {
                before: self.replied + answer.reply.len(),
                header: reply.clone(),
                payload: payload[..possible].to_vec(),
                is_whole: ends_inside,
            });
        }
        // A Close frame can follow a frame that has been sent whole.
        if ends_inside && let Some(sent) = self.sent.take() {
            answer.reply.extend(&payload[sent..]);
        }
        Err(INVALID_TEXT)
    }

    /// The end of a data frame.
    fn finish(&mut self, header: &Header, payload: Vec<u8>, answer: &mut Answer) {
        let message = self.message.get_or_insert(Message {
            opcode: header.opcode,
            payload: Vec::new(),
            announced: 0,
            fragments: 0,
        });
        message.payload.extend(payload);
        message.announced = message.announced.saturating_add(header.payload_len);
        message.fragments += 1;
        if !header.fin {
            answer.fragments += 1;
            return;
        }
        answer.messages += 1;
        if let Some(message) = self.message.take()
            && self.style == Style::Messages
        {
            let len = message.payload.len() as u64;
            answer.reply.extend(reply_header(true, message.opcode, len));
            answer.reply.extend(message.payload);
        }
    }
}

/// Whether it is text, except for an incomplete character at its end.
fn could_become_text(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_text| true)
}

/// A server's header, its length in the fewest bytes (section 5.2).
fn reply_header(fin: bool, opcode: u8, payload_len: u64) -> Vec<u8> {
    let mut header = vec![if fin { 0x80 + opcode } else { opcode }];
    let digits = payload_len.to_be_bytes();
    match payload_len {
        0..=125 => header.push(digits[7]),
        126..=65_535 => header.extend([126, digits[6], digits[7]]),
        _ => {
            header.push(127);
            header.extend(digits);
        }
    }
    header
}

/// Sections 5.5.1 and 7.4, and IANA's registry of close codes.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some(&high) = payload.first() else {
        return Ok(None);
    };
    let Some(&low) = payload.get(1) else {
        return Err(fault("truncated_close_code", 1002));
    };
    let code = u16::from(high) * 256 + u16::from(low);
    let is_registered = (1000..=1014).contains(&code) && ![1004, 1005, 1006].contains(&code);
    if !is_registered && !(3000..=4999).contains(&code) {
        return Err(fault("invalid_close_code", 1002));
    }
    if str::from_utf8(&payload[2..]).is_err() {
        return Err(fault("invalid_close_reason", 1007));
    }
    Ok(Some(code))
}
