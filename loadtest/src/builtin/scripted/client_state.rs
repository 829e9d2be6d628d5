//! The protocol of one client, from its request to its Close.
//!
//! This contains no networking code: bytes and the time go in, and the reply queue holds the
//! output with its due times.

use std::time::Instant;

use super::echo::Echo;
use super::read_buffer::{ProtocolError, ReadBuffer};
use super::reply_queue::ReplyQueue;
use super::script_state::ScriptState;
use super::upgrade::{BAD_REQUEST, Request};

/// The limit of queued output. Beyond it nothing is read, which makes delays longer than
/// scripted; a generator without replies stops sending long before.
const REPLY_QUEUE_LEN_MAX: usize = 64 << 20;

/// The protocol state of a client.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    read_buffer: ReadBuffer,
    echo: Echo,
    /// The handshake is done.
    upgraded: bool,
}

impl ClientState {
    /// Processes bytes that were read `now`, split anywhere.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        script_state: &mut ScriptState,
    ) -> Result<(), ProtocolError> {
        self.read_buffer.push(bytes);
        if !self.upgraded {
            self.handshake(now);
        }
        while self.upgraded
            && !self.echo.is_ended()
            && let Some(frame) = self.read_buffer.take_frame()?
        {
            self.echo.take(&frame, now, script_state)?;
        }
        Ok(())
    }

    /// The replies to write.
    pub(super) fn reply_queue(&mut self) -> &mut ReplyQueue {
        &mut self.echo.reply_queue
    }

    /// Whether more is to be read.
    pub(super) fn wants_bytes(&self) -> bool {
        !self.echo.is_ended() && self.echo.reply_queue.len() < REPLY_QUEUE_LEN_MAX
    }

    fn handshake(&mut self, now: Instant) {
        match Request::parse(self.read_buffer.left()) {
            Request::Partial => {}
            Request::Upgrade { head_len, response } => {
                self.read_buffer.take(head_len);
                self.echo.reply_queue.push(response.as_bytes(), 0, now);
                self.upgraded = true;
            }
            Request::Other => {
                self.echo.reply_queue.push(BAD_REQUEST, 0, now);
                self.echo.end(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::script::{Fault, Script};
    use super::*;
    use crate::client::frame::{FIN, Header, OPCODE, apply_mask};

    const REQUEST: &str = "GET / HTTP/1.1\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    /// A frame and, with `mask`, its bytes on the way from a client.
    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let header = Header::new(first & OPCODE, payload.len(), mask);
        let mut bytes = header.as_bytes().to_vec();
        bytes[0] = first;
        let payload_at = bytes.len();
        bytes.extend_from_slice(payload);
        apply_mask(&mut bytes[payload_at..], mask.unwrap_or_default());
        bytes
    }

    fn stream(frames: &[(u8, &[u8])], mask: Option<[u8; 4]>) -> Vec<u8> {
        let frames = frames.iter();
        frames
            .flat_map(|(first, payload)| frame(*first, payload, mask))
            .collect()
    }

    /// The bytes that a client receives for a request and `frames`, split into these parts,
    /// without the response.
    fn replies(fault: Option<(u64, Fault)>, parts: &[&[u8]]) -> Result<Vec<u8>, ProtocolError> {
        let script = Script {
            fault,
            ..Script::default()
        };
        let mut script_state = ScriptState::new(script, Arc::default());
        let mut client_state = ClientState::default();
        let now = Instant::now();
        let mut got = Vec::new();
        for part in parts {
            client_state.receive(part, now, &mut script_state)?;
            client_state.reply_queue().release(now);
            got.extend_from_slice(client_state.reply_queue().writable());
            let len = client_state.reply_queue().writable().len();
            client_state.reply_queue().wrote(len);
        }
        let text = String::from_utf8_lossy(&got);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        let head_len = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        Ok(got.split_off(head_len))
    }

    fn with(fault: Fault, frames: &[(u8, &[u8])]) -> Vec<u8> {
        let sent = [REQUEST.as_bytes(), &stream(frames, Some([1, 2, 3, 4]))].concat();
        replies(Some((1, fault)), &[&sent]).unwrap()
    }

    const TEXT: u8 = FIN | 1;
    const BINARY: u8 = FIN | 2;
    const CLOSE: u8 = FIN | 8;
    const PING: u8 = FIN | 9;
    const PONG: u8 = FIN | 10;

    #[test]
    fn the_echo_does_not_depend_on_how_the_stream_is_cut() {
        let long = [9; 130];
        let head: [(u8, &[u8]); 4] = [(TEXT, b"hi"), (1, b"a"), (BINARY, b""), (BINARY, &long)];
        let sent: &[(u8, &[u8])] = &[
            head[0],
            (1, b"a"),
            (PING, b"in between"),
            (0, b""),
            (FIN, b"c"),
            head[2],
            head[3],
            (PONG, b"unasked"),
            (CLOSE, &[3, 232, b'b', b'y', b'e']),
            (TEXT, b"too late"),
        ];
        // A pong may overtake the message that its ping interrupted.
        let due: &[(u8, &[u8])] = &[
            head[0],
            (PONG, b"in between"),
            (1, b"a"),
            (0, b""),
            (FIN, b"c"),
            head[2],
            head[3],
            (CLOSE, &[3, 232, b'b', b'y', b'e']),
        ];
        let due = stream(due, None);
        let sent = [REQUEST.as_bytes(), &stream(sent, Some([7, 0, 255, 1]))].concat();
        for cut in 0..=sent.len() {
            let parts = [&sent[..cut], &sent[cut..]];
            assert_eq!(replies(None, &parts).unwrap(), due, "{cut}");
        }
        let bytes: Vec<_> = sent.chunks(1).collect();
        assert_eq!(replies(None, &bytes).unwrap(), due);
    }

    #[test]
    fn each_fault_has_its_documented_effect() {
        let frames: &[(u8, &[u8])] = &[
            (TEXT, b"0"),
            (TEXT, b"one"),
            (TEXT, b"2"),
            (CLOSE, &[3, 232]),
        ];
        let with = |fault| with(fault, frames);
        let due = |frames: &[(u8, &[u8])]| stream(frames, None);
        let (zero, one, two, close) = (frames[0], frames[1], frames[2], frames[3]);
        let wrong = (TEXT, &b"ond"[..]);
        assert_eq!(with(Fault::WrongByte), due(&[zero, wrong, two, close]));
        assert_eq!(with(Fault::Drop), due(&[zero, two, close]));
        assert_eq!(with(Fault::Swap), due(&[zero, two, one, close]));
        assert_eq!(with(Fault::Duplicate), due(&[zero, one, one, two, close]));
        let wrong = (BINARY, one.1);
        assert_eq!(with(Fault::WrongType), due(&[zero, wrong, two, close]));
        let wrong = (CLOSE, &[3, 233][..]);
        assert_eq!(with(Fault::WrongCloseCode), due(&[zero, one, two, wrong]));
        assert_eq!(with(Fault::Disconnect), due(&[zero]));
    }

    #[test]
    fn a_wrong_close_code_differs_from_every_code_received() {
        for code in [1000_u16, 1001, 4000] {
            let code = code.to_be_bytes();
            let got = with(Fault::WrongCloseCode, &[(TEXT, b""), (CLOSE, &code)]);
            assert_ne!(got[got.len() - 2..], code);
        }
        assert_eq!(
            with(Fault::WrongCloseCode, &[(TEXT, b""), (CLOSE, b"")]).len(),
            6
        );
    }

    #[test]
    fn invalid_sequences_and_oversized_messages_end_the_connection() {
        let sent = |frames: &[(u8, &[u8])]| {
            let frames = stream(frames, Some([0; 4]));
            replies(None, &[REQUEST.as_bytes(), &frames])
        };
        assert_eq!(sent(&[(FIN, b"nothing to continue")]), Err(ProtocolError));
        assert_eq!(sent(&[(1, b"a"), (TEXT, b"b")]), Err(ProtocolError));
        assert_eq!(sent(&[(FIN | 3, b"")]), Err(ProtocolError));
        assert_eq!(sent(&[(FIN | 11, b"")]), Err(ProtocolError));
        let third = vec![0; 6 << 20];
        assert!(sent(&[(2, &third), (0, &third)]).is_ok());
        assert_eq!(
            sent(&[(2, &third), (0, &third), (0, &third)]),
            Err(ProtocolError)
        );
    }

    #[test]
    fn reading_pauses_while_the_reply_queue_is_full() {
        let mut script_state = ScriptState::new(Script::default(), Arc::default());
        let mut client_state = ClientState::default();
        let now = Instant::now();
        client_state
            .receive(REQUEST.as_bytes(), now, &mut script_state)
            .unwrap();
        let message = frame(BINARY, &vec![0; 16 << 20], Some([0; 4]));
        for _ in 0..4 {
            assert!(client_state.wants_bytes());
            client_state
                .receive(&message, now, &mut script_state)
                .unwrap();
        }
        assert!(!client_state.wants_bytes());
    }
}
