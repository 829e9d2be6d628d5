//! The echo core against an independent decoder: for any messages, any split and any
//! window, tungstenite reads the same messages from the replies; for any bytes, the core
//! keeps its bounds.

#![allow(
    clippy::cast_possible_truncation,
    reason = "payloads are made of counters that wrap"
)]

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use ringback::proto::{CloseCode, Echo, Isa, Limits, Next, TAIL_ROOM, Violation};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// A data message and its fragmentation.
#[derive(Clone, Debug)]
struct Sent {
    message: Message,
    /// Lengths of the fragments but the last; each is followed by a ping.
    fragments: Vec<usize>,
}

fn any_message() -> impl Strategy<Value = Sent> {
    let payload_len = prop_oneof![
        8 => 0..300usize,
        1 => 300..5000usize,
        1 => Just(125usize), 1 => Just(126usize), 1 => Just(65_535usize), 1 => Just(65_536usize),
    ];
    let text = "[a-zäß€😀\u{0}\u{7f}]{0,200}".prop_map(Message::text);
    let binary = (payload_len, any::<u8>()).prop_map(|(len, seed)| {
        Message::binary(
            (0..len)
                .map(|index| (index as u8).wrapping_mul(31) ^ seed)
                .collect::<Vec<_>>(),
        )
    });
    let fragments = prop_oneof![3 => Just(Vec::new()), 1 => vec(0..200usize, 1..5)];
    (prop_oneof![text, binary], fragments)
        .prop_map(|(message, fragments)| Sent { message, fragments })
}

fn masked_frame(opcode: OpCode, fin: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: fin,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into())
        .format(&mut bytes)
        .expect("a frame into a vector");
    bytes
}

/// The client's bytes for these messages, pings included.
fn wire(sent: &[Sent], mask: [u8; 4]) -> Vec<u8> {
    let mut wire = Vec::new();
    for Sent { message, fragments } in sent {
        let mut opcode = OpCode::Data(if message.is_text() {
            Data::Text
        } else {
            Data::Binary
        });
        let payload = message.clone().into_data();
        let mut rest = &payload[..];
        for &len in fragments {
            let (fragment, later) = rest.split_at(len.min(rest.len()));
            rest = later;
            wire.extend(masked_frame(opcode, false, fragment, mask));
            wire.extend(masked_frame(
                OpCode::Control(Control::Ping),
                true,
                b"between",
                mask,
            ));
            opcode = OpCode::Data(Data::Continue);
        }
        wire.extend(masked_frame(opcode, true, rest, mask));
    }
    wire
}

/// Feeds `wire` in pieces of these lengths, repeatedly, to a core on each ISA; all must
/// agree.
fn echo(limits: &Limits, wire: &[u8], pieces: &[usize]) -> (Vec<u8>, Next) {
    let answer = echo_on(Isa::BASELINE, limits, wire, pieces);
    for isa in Isa::available().skip(1) {
        assert!(
            echo_on(isa, limits, wire, pieces) == answer,
            "{isa:?} differs"
        );
    }
    answer
}

fn echo_on(isa: Isa, limits: &Limits, wire: &[u8], pieces: &[usize]) -> (Vec<u8>, Next) {
    let mut echo = Echo::new();
    let mut replies = Vec::new();
    let mut buf = Vec::new();
    let mut rest = wire;
    for &len in pieces.iter().cycle() {
        let (piece, later) = rest.split_at(len.min(rest.len()));
        rest = later;
        buf.extend(piece);
        let filled = buf.len();
        buf.extend([0; TAIL_ROOM]);
        let step = echo.advance_on(isa, limits, &mut buf, filled);
        assert!(step.reply.end <= buf.len() && step.reply.len() <= filled + TAIL_ROOM);
        replies.extend(&buf[step.reply]);
        if step.next != Next::Read {
            return (replies, step.next);
        }
        buf.truncate(filled);
        buf.drain(..step.consumed);
        assert!(
            buf.len() < limits.window.max(131),
            "more is kept than the window"
        );
        if rest.is_empty() {
            break;
        }
    }
    (replies, Next::Read)
}

/// A stream that holds the server's replies and discards what is written.
struct Replies(io::Cursor<Vec<u8>>);

impl Read for Replies {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }
}

impl Write for Replies {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All messages that tungstenite, as the client, finds in the replies.
fn decode(replies: Vec<u8>) -> Vec<Message> {
    let end = replies.len() as u64;
    let config = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    let stream = Replies(io::Cursor::new(replies));
    let mut client = WebSocket::from_raw_socket(stream, Role::Client, Some(config));
    let mut messages = Vec::new();
    loop {
        match client.read() {
            Ok(message) => messages.push(message),
            Err(error) => {
                assert_eq!(client.get_ref().0.position(), end, "stopped early: {error}");
                return messages;
            }
        }
    }
}

/// Whether invalid text in a frame longer than the window, which gets a Close if it
/// comes in one piece, was cut because the beginning of that frame had been sent.
fn is_cut_short(cut: &(Vec<u8>, Next), whole: &(Vec<u8>, Next)) -> bool {
    let close = CloseCode::INVALID_PAYLOAD.frame();
    let before = whole.0.strip_suffix(&close).unwrap_or(&whole.0);
    cut.1 == Next::Reset(Violation::InvalidText)
        && whole.1 == Next::CloseWith(Violation::InvalidText)
        && cut.0.starts_with(before)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn independent_decoder_reads_the_sent_messages(
        sent in vec(any_message(), 0..12),
        mask in any::<[u8; 4]>(),
        window in prop_oneof![Just(256usize), 256..20_000usize],
        pieces in vec(1..9000usize, 1..20),
    ) {
        let limits = Limits { window, ..Limits::default() };
        let (replies, next) = echo(&limits, &wire(&sent, mask), &pieces);
        prop_assert_eq!(next, Next::Read);
        let received = decode(replies);
        let pongs = received.iter().filter(|message| message.is_pong()).count();
        prop_assert_eq!(pongs, sent.iter().map(|sent| sent.fragments.len()).sum::<usize>());
        let expected: Vec<_> = sent.into_iter().map(|sent| sent.message).collect();
        let received: Vec<_> = received.into_iter().filter(|message| !message.is_pong()).collect();
        prop_assert!(received == expected, "{} of {} messages", received.len(), expected.len());
    }

    #[test]
    fn any_split_gives_the_same_reply(
        noise in vec(any::<u8>(), 0..2000),
        start in prop_oneof![Just(0x81u8), Just(0x82u8), Just(0x01u8), Just(0x89u8), any::<u8>()],
        pieces in vec(1..50usize, 1..20),
    ) {
        let mut wire = vec![start];
        wire.extend(noise);
        let limits = Limits::default();
        let whole = echo(&limits, &wire, &[wire.len()]);
        let cut = echo(&limits, &wire, &pieces);
        prop_assert!(cut == whole || is_cut_short(&cut, &whole), "{:?} instead of {:?}", cut, whole);
    }

    #[test]
    fn arbitrary_frames_stay_within_the_bounds(
        frames in vec((any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..40)), 0..40),
        pieces in vec(1..300usize, 1..10),
        message_bytes in 0..5000u64,
        fragments in 1..10u32,
    ) {
        let wire: Vec<u8> = frames
            .into_iter()
            .flat_map(|(first, second, rest)| {
                // Mostly plausible headers, sometimes any.
                let first = if first & 0x40 == 0 { first & 0x8b } else { first };
                let second = if second & 0x40 == 0 { 0x80 | second & 0x1f } else { second };
                [vec![first, second], rest].concat()
            })
            .collect();
        let limits = Limits { message_bytes, fragments, window: 256 };
        // `echo` asserts the bounds.
        echo(&limits, &wire, &pieces);
    }
}
