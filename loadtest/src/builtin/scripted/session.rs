//! One client, from its request to its Close.
//!
//! This contains no networking code: bytes and the time go in, and what is to
//! be written, and when, stands in the outbox.

use std::time::Instant;

use super::echo::Echo;
use super::inbox::{Broken, Inbox};
use super::outbox::Outbox;
use super::progress::Progress;
use super::upgrade::{REFUSAL, Request};

/// Bytes that may wait to be written. Beyond that nothing is read, which makes
/// delays longer than they should be; a generator that is kept waiting stops
/// sending long before.
const OUTBOX_LEN_MAX: usize = 64 << 20;

/// What is known of a client.
#[derive(Debug, Default)]
pub(super) struct Session {
    inbox: Inbox,
    echo: Echo,
    /// The handshake is done.
    upgraded: bool,
}

impl Session {
    /// Takes bytes that were read `now`, cut anywhere.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        progress: &mut Progress,
    ) -> Result<(), Broken> {
        self.inbox.push(bytes);
        if !self.upgraded {
            self.shake_hands(now);
        }
        while self.upgraded
            && !self.echo.is_ended()
            && let Some(frame) = self.inbox.take_frame()?
        {
            self.echo.take(&frame, now, progress)?;
        }
        Ok(())
    }

    /// What is to be written.
    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.echo.outbox
    }

    /// Whether more is to be read.
    pub(super) fn wants_bytes(&self) -> bool {
        !self.echo.is_ended() && self.echo.outbox.len() < OUTBOX_LEN_MAX
    }

    fn shake_hands(&mut self, now: Instant) {
        match Request::parse(self.inbox.left()) {
            Request::Partial => {}
            Request::Upgrade { head_len, response } => {
                self.inbox.take(head_len);
                self.echo.outbox.push(response.as_bytes(), 0, now);
                self.upgraded = true;
            }
            Request::Other => {
                self.echo.outbox.push(REFUSAL, 0, now);
                self.echo.end(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::script::{Misdeed, Script};
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

    /// What a client gets for a request and `frames`, without the response,
    /// which comes in these parts.
    fn replies(misdeed: Option<(u64, Misdeed)>, parts: &[&[u8]]) -> Result<Vec<u8>, Broken> {
        let script = Script {
            misdeed,
            ..Script::default()
        };
        let mut progress = Progress::new(script, Arc::default());
        let mut session = Session::default();
        let now = Instant::now();
        let mut got = Vec::new();
        for part in parts {
            session.receive(part, now, &mut progress)?;
            session.outbox().release(now);
            got.extend_from_slice(session.outbox().writable());
            let len = session.outbox().writable().len();
            session.outbox().wrote(len);
        }
        let text = String::from_utf8_lossy(&got);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        let head_len = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        Ok(got.split_off(head_len))
    }

    fn with(misdeed: Misdeed, frames: &[(u8, &[u8])]) -> Vec<u8> {
        let sent = [REQUEST.as_bytes(), &stream(frames, Some([1, 2, 3, 4]))].concat();
        replies(Some((1, misdeed)), &[&sent]).unwrap()
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
    fn each_misdeed_is_what_its_name_says() {
        let frames: &[(u8, &[u8])] = &[
            (TEXT, b"0"),
            (TEXT, b"one"),
            (TEXT, b"2"),
            (CLOSE, &[3, 232]),
        ];
        let with = |misdeed| with(misdeed, frames);
        let due = |frames: &[(u8, &[u8])]| stream(frames, None);
        let (zero, one, two, close) = (frames[0], frames[1], frames[2], frames[3]);
        let wrong = (TEXT, &b"ond"[..]);
        assert_eq!(with(Misdeed::WrongByte), due(&[zero, wrong, two, close]));
        assert_eq!(with(Misdeed::Drop), due(&[zero, two, close]));
        assert_eq!(with(Misdeed::Swap), due(&[zero, two, one, close]));
        assert_eq!(with(Misdeed::Duplicate), due(&[zero, one, one, two, close]));
        let wrong = (BINARY, one.1);
        assert_eq!(with(Misdeed::WrongType), due(&[zero, wrong, two, close]));
        let wrong = (CLOSE, &[3, 233][..]);
        assert_eq!(with(Misdeed::WrongCloseCode), due(&[zero, one, two, wrong]));
        assert_eq!(with(Misdeed::Disconnect), due(&[zero]));
    }

    #[test]
    fn a_wrong_code_is_wrong_for_every_close() {
        for code in [1000_u16, 1001, 4000] {
            let code = code.to_be_bytes();
            let got = with(Misdeed::WrongCloseCode, &[(TEXT, b""), (CLOSE, &code)]);
            assert_ne!(got[got.len() - 2..], code);
        }
        assert_eq!(
            with(Misdeed::WrongCloseCode, &[(TEXT, b""), (CLOSE, b"")]).len(),
            6
        );
    }

    #[test]
    fn frames_out_of_sequence_and_endless_messages_are_refused() {
        let sent = |frames: &[(u8, &[u8])]| {
            let frames = stream(frames, Some([0; 4]));
            replies(None, &[REQUEST.as_bytes(), &frames])
        };
        assert_eq!(sent(&[(FIN, b"nothing to continue")]), Err(Broken));
        assert_eq!(sent(&[(1, b"a"), (TEXT, b"b")]), Err(Broken));
        assert_eq!(sent(&[(FIN | 3, b"")]), Err(Broken));
        assert_eq!(sent(&[(FIN | 11, b"")]), Err(Broken));
        let third = vec![0; 6 << 20];
        assert!(sent(&[(2, &third), (0, &third)]).is_ok());
        assert_eq!(sent(&[(2, &third), (0, &third), (0, &third)]), Err(Broken));
    }

    #[test]
    fn no_more_is_read_while_too_much_waits() {
        let mut progress = Progress::new(Script::default(), Arc::default());
        let mut session = Session::default();
        let now = Instant::now();
        session
            .receive(REQUEST.as_bytes(), now, &mut progress)
            .unwrap();
        let message = frame(BINARY, &vec![0; 16 << 20], Some([0; 4]));
        for _ in 0..4 {
            assert!(session.wants_bytes());
            session.receive(&message, now, &mut progress).unwrap();
        }
        assert!(!session.wants_bytes());
    }
}
