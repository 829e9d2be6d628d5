//! The replies to frames.

use std::mem;
use std::time::Instant;

use super::read_buffer::{Frame, MESSAGE_LEN_MAX, ProtocolError};
use super::reply_queue::ReplyQueue;
use super::script::Fault;
use super::script_state::ScriptState;
use crate::client::frame::{
    CONTROL, Header, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT,
};

/// The opcode of a fragment that is not the first.
const OPCODE_CONTINUATION: u8 = 0x0;

/// The wrong status code for a Close, and the one used if that would be right (RFC 6455, section
/// 7.4.1).
const WRONG_CODES: [u16; 2] = [1001, 1000];

/// Answers the frames of one connection.
///
/// A message is echoed when it is complete, with its own frames, so that it has one delay and one
/// position in the order. UTF-8 is not checked.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) reply_queue: ReplyQueue,
    /// The reply to the message that is being read; empty between messages.
    reply: Vec<u8>,
    /// The reply that changes places with the next one.
    held: Option<(Vec<u8>, Instant)>,
    /// Frames are ignored from now on.
    ended: bool,
}

impl Echo {
    /// Processes a frame that was read `now`.
    pub(super) fn take(
        &mut self,
        frame: &Frame<'_>,
        now: Instant,
        script_state: &mut ScriptState,
    ) -> Result<(), ProtocolError> {
        match frame.opcode() {
            OPCODE_CLOSE => self.close(frame.payload, now, script_state),
            OPCODE_PING => self.push_control(OPCODE_PONG, frame.payload, now),
            OPCODE_PONG => {}
            opcode if opcode & CONTROL != 0 => return Err(ProtocolError),
            _ => return self.take_data(frame, now, script_state),
        }
        Ok(())
    }

    /// Ends the connection after the replies so far.
    pub(super) fn end(&mut self, due: Instant) {
        self.reply_queue.push_end(due);
        self.ended = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    fn take_data(
        &mut self,
        frame: &Frame<'_>,
        now: Instant,
        script_state: &mut ScriptState,
    ) -> Result<(), ProtocolError> {
        let is_first = match frame.opcode() {
            OPCODE_TEXT | OPCODE_BINARY => true,
            OPCODE_CONTINUATION => false,
            _ => return Err(ProtocolError),
        };
        let is_expected = is_first == self.reply.is_empty();
        if !is_expected || self.reply.len() + frame.payload.len() > MESSAGE_LEN_MAX {
            return Err(ProtocolError);
        }
        let frame_at = self.reply.len();
        let header = Header::new(frame.opcode(), frame.payload.len(), None);
        self.reply.extend_from_slice(header.as_bytes());
        // A control frame always has FIN.
        self.reply[frame_at] = frame.first;
        self.reply.extend_from_slice(frame.payload);
        if frame.is_last() {
            let mut reply = mem::take(&mut self.reply);
            self.answer(&mut reply, frame.payload.is_empty(), now, script_state);
            // The buffer is reused.
            reply.clear();
            self.reply = reply;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        reply: &mut [u8],
        ends_with_header: bool,
        now: Instant,
        script_state: &mut ScriptState,
    ) {
        let action = script_state.message(now);
        let due = action.due;
        match action.fault {
            Some(Fault::Drop) => return,
            Some(Fault::Swap) => {
                self.held = Some((reply.to_vec(), due));
                return;
            }
            Some(Fault::Disconnect) => return self.end(due),
            Some(Fault::WrongType) => reply[0] ^= OPCODE_TEXT ^ OPCODE_BINARY,
            Some(Fault::WrongByte) if !ends_with_header => {
                if let Some(byte) = reply.last_mut() {
                    *byte ^= 1;
                }
            }
            Some(Fault::WrongByte | Fault::Duplicate | Fault::WrongCloseCode) | None => {}
        }
        self.reply_queue.push(reply, 1, due);
        if action.fault == Some(Fault::Duplicate) {
            self.reply_queue.push(reply, 0, due);
        }
        if let Some((held, due)) = self.held.take() {
            self.reply_queue.push(&held, 1, due);
        }
    }

    fn close(&mut self, payload: &[u8], now: Instant, script_state: &mut ScriptState) {
        if script_state.close_is_wrong() {
            let is_right = |code: &u16| payload.starts_with(&code.to_be_bytes());
            let wrong = WRONG_CODES.into_iter().find(|code| !is_right(code));
            let code = wrong.unwrap_or_default().to_be_bytes();
            self.push_control(OPCODE_CLOSE, &code, now);
        } else {
            self.push_control(OPCODE_CLOSE, payload, now);
        }
        self.end(now);
    }

    fn push_control(&mut self, opcode: u8, payload: &[u8], now: Instant) {
        let header = Header::new(opcode, payload.len(), None);
        self.reply_queue.push(header.as_bytes(), 0, now);
        self.reply_queue.push(payload, 0, now);
    }
}
