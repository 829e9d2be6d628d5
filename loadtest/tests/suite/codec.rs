//! The client's codec against tungstenite's, with which it shares no code.

use std::io::{self, Cursor, Read, Write};

use loadtest::client::{
    Checker, CloseReason, Control, FramePool, MessageId, MessageKind, Mix, Shape, Violation,
    close_frame, pong_frame,
};
use tungstenite::protocol::frame::{
    Frame,
    coding::{CloseCode, Data, OpCode},
};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const CONNECTION: u32 = 5;
const KINDS: [MessageKind; 2] = [MessageKind::Text, MessageKind::Binary];

/// A socket that reads what it was given and keeps what is written.
struct Tape {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn server(input: Vec<u8>) -> WebSocket<Tape> {
    let tape = Tape {
        input: Cursor::new(input),
        output: Vec::new(),
    };
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    WebSocket::from_raw_socket(tape, Role::Server, Some(config))
}

fn whole(kind: MessageKind, len: usize) -> Mix {
    Mix::of(Shape::whole(kind, len), 9)
}

fn id(sequence: u64) -> MessageId {
    MessageId {
        connection: CONNECTION,
        sequence,
    }
}

/// The mix's first messages, as they are sent.
fn frames(mix: &Mix, messages: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for sequence in 0..messages {
        let pool = mix.pool(id(sequence));
        let start = bytes.len();
        bytes.resize(start + pool.frame_len(), 0);
        pool.write_frame(id(sequence), &mut bytes[start..]);
    }
    bytes
}

/// The replies of tungstenite, as a server, to the mix's first messages.
fn replies(mix: &Mix, messages: u64) -> Vec<u8> {
    let mut server = server(frames(mix, messages));
    for sequence in 0..messages {
        let pool = mix.pool(id(sequence));
        let message = server.read().expect("a message");
        assert_eq!(message.is_text(), pool.kind() == MessageKind::Text);
        assert_eq!(message.len(), pool.payload_len());
        server.send(message).expect("an echo");
    }
    server.get_ref().output.clone()
}

/// The payload of one message of a pool.
fn payload(pool: &FramePool, sequence: u64) -> Vec<u8> {
    let reply = pool.reply(id(sequence));
    let header_len = pool.reply_len() - pool.payload_len();
    (header_len..pool.reply_len())
        .map(|at| reply.byte(at))
        .collect()
}

/// Sends a message in frames that begin at the start and at these positions, with pings before
/// all but the first.
fn send_in_fragments(server: &mut WebSocket<Tape>, message: &Message, starts: &[usize]) {
    let payload = message.clone().into_data();
    let mut opcode = match message {
        Message::Text(_) => Data::Text,
        _ => Data::Binary,
    };
    let mut rest = 0;
    let ends = starts.iter().copied().chain([payload.len()]);
    for (index, end) in ends.enumerate() {
        if index > 0 {
            server.send(Message::Ping("still here".into())).unwrap();
        }
        let is_final = index == starts.len();
        let frame = Frame::message(payload.slice(rest..end), OpCode::Data(opcode), is_final);
        server.send(Message::Frame(frame)).unwrap();
        opcode = Data::Continue;
        rest = end;
    }
}

/// Feeds bytes in the given pieces.
fn fed<'a>(
    mix: &Mix,
    asked: u64,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Checker, Result<Vec<Control>, Violation>) {
    let mut checker = Checker::new(CONNECTION);
    let mut controls = Vec::new();
    for piece in pieces {
        if let Err(violation) = checker.feed(mix, asked, piece, &mut controls) {
            return (checker, Err(violation));
        }
    }
    (checker, Ok(controls))
}

/// The same, but returns only the number of complete replies.
fn feed<'a>(
    mix: &Mix,
    asked: u64,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (u64, Result<Vec<Control>, Violation>) {
    let (checker, result) = fed(mix, asked, pieces);
    (checker.received(), result)
}

/// All splits that a test uses: none, byte by byte, and in two at every position.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let whole_and_bytes = [vec![bytes], bytes.chunks(1).collect()];
    let in_two = (1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    whole_and_bytes.into_iter().chain(in_two)
}

#[test]
fn tungstenite_reads_our_frames_and_its_echo_is_accepted() {
    for kind in KINDS {
        for len in [0, 1, 7, 8, 16, 17, 125, 126, 65_535, 65_536, 1 << 20] {
            let mix = whole(kind, len);
            let replies = replies(&mix, 6);
            assert_eq!(replies.len(), 6 * mix.pool(id(0)).reply_len());
            assert_eq!(feed(&mix, 6, [&replies[..]]), (6, Ok(vec![])));
        }
    }
}

#[test]
fn replies_are_accepted_at_every_split() {
    for kind in KINDS {
        for len in [0, 1, 5, 8, 20, 126, 300] {
            let mix = whole(kind, len);
            let replies = replies(&mix, 3);
            for pieces in cuts(&replies) {
                assert_eq!(feed(&mix, 3, pieces), (3, Ok(vec![])));
            }
        }
    }
}

#[test]
fn control_frames_between_replies_are_accepted_at_every_split() {
    let mix = whole(MessageKind::Binary, 20);
    let mut server = server(frames(&mix, 2));
    server.send(Message::Ping("are you there".into())).unwrap();
    let first = server.read().unwrap();
    server.send(first).unwrap();
    server.send(Message::Ping("".into())).unwrap();
    server.send(Message::Pong("".into())).unwrap();
    let second = server.read().unwrap();
    server.send(second).unwrap();
    let close = CloseFrame {
        code: CloseCode::Away,
        reason: "bye".into(),
    };
    server.close(Some(close)).unwrap();
    let expected = vec![
        Control::Ping(b"are you there".to_vec()),
        Control::Ping(vec![]),
        Control::Pong,
        Control::Close(Some(CloseReason {
            code: 1001,
            text: b"bye".to_vec(),
        })),
    ];
    for pieces in cuts(&server.get_ref().output) {
        assert_eq!(feed(&mix, 2, pieces), (2, Ok(expected.clone())));
    }
}

#[test]
fn tungstenite_reads_our_control_frames() {
    let mut bytes = pong_frame(b"yes", [1, 2, 3, 4]);
    bytes.extend(close_frame(1000, [5, 6, 7, 8]));
    let mut server = server(bytes);
    assert_eq!(server.read().unwrap(), Message::Pong("yes".into()));
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    assert_eq!(server.read().unwrap(), Message::Close(Some(close)));
}

#[test]
fn every_wrong_byte_is_caught_at_every_split() {
    for (kind, len) in [
        (MessageKind::Binary, 1),
        (MessageKind::Binary, 20),
        (MessageKind::Text, 20),
        (MessageKind::Binary, 130),
    ] {
        let mix = whole(kind, len);
        let reply_len = mix.pool(id(0)).reply_len();
        let right = replies(&mix, 2);
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let step = 1.max(right.len() / 40);
            for pieces in cuts(&wrong).step_by(step) {
                let (received, result) = feed(&mix, 2, pieces);
                assert!(result.is_err(), "{kind} {len}, byte {at}");
                assert_eq!(received, (at / reply_len) as u64);
            }
        }
    }
}

#[test]
fn each_violation_is_diagnosed() {
    let mix = whole(MessageKind::Binary, 20);
    let right = replies(&mix, 3);
    let (one, rest) = right.split_at(right.len() / 3);
    let (two, three) = rest.split_at(right.len() / 3);
    let changed = |at: usize, to: u8| {
        let mut bytes = one.to_vec();
        bytes[at] = to;
        bytes
    };
    let verdict = |bytes: &[u8]| feed(&mix, 3, [bytes]).1.unwrap_err();
    let message = |sequence| Violation::WrongMessage(id(sequence));

    assert_eq!(verdict(&changed(0, 0xc2)), Violation::Reserved(0xc2));
    assert_eq!(
        verdict(&changed(0, 0x81)),
        Violation::WrongType {
            got: 1,
            expected: 2
        }
    );
    assert_eq!(verdict(&changed(1, 0x94)), Violation::Masked);
    assert_eq!(
        verdict(&changed(1, 21)),
        Violation::WrongLength {
            got: Some(21),
            expected: 20
        }
    );
    let long = [&[0x82, 126, 0, 20], &one[2..]].concat();
    assert_eq!(verdict(&long), Violation::LongLength);
    assert_eq!(
        verdict(&changed(21, !one[21])),
        Violation::WrongByte {
            at: 19,
            got: !one[21],
            expected: one[21]
        }
    );
    assert_eq!(verdict(&[two, one].concat()), message(1));
    assert_eq!(verdict(&[one, three].concat()), message(2));
    assert_eq!(verdict(&[one, one].concat()), message(0));
    let too_many = feed(&mix, 2, [&right[..]]);
    assert_eq!(too_many, (2, Err(Violation::Unsolicited)));
    let close = [0x88, 2, 3, 0xe8];
    assert_eq!(verdict(&[&close, one].concat()), Violation::AfterClose);
    for broken in [[0x08, 0], [0x89, 126], [0x8a, 0x80], [0xc9, 0], [0x8b, 0]] {
        let [first, second] = broken;
        assert_eq!(verdict(&broken), Violation::BrokenControl(first, second));
    }
    assert_eq!(
        verdict(&[0x88, 1, 3]),
        Violation::BrokenControl(0x88, 1),
        "a Close of one byte"
    );
}

#[test]
fn a_reply_to_another_connection_is_named() {
    let mix = whole(MessageKind::Text, 40);
    let replies = replies(&mix, 1);
    let mut other = Checker::new(CONNECTION + 1);
    assert_eq!(
        other.feed(&mix, 1, &replies, &mut Vec::new()),
        Err(Violation::WrongMessage(id(0)))
    );
}

#[test]
fn fragmented_replies_are_accepted_at_every_split() {
    for kind in KINDS {
        for len in [0, 1, 20, 130, 300] {
            let mix = whole(kind, len);
            let mut server = server(frames(&mix, 3));
            // The second frame of four is empty.
            let first = server.read().unwrap();
            let starts = [len / 3, len / 3, len - len / 4];
            send_in_fragments(&mut server, &first, &starts);
            let second = server.read().unwrap();
            server.send(second).unwrap();
            // All is in the first frame of two.
            let third = server.read().unwrap();
            send_in_fragments(&mut server, &third, &[len]);
            let pings = vec![Control::Ping(b"still here".to_vec()); 4];
            for pieces in cuts(&server.get_ref().output) {
                let (checker, result) = fed(&mix, 3, pieces);
                assert_eq!(result, Ok(pings.clone()), "{kind} {len}");
                assert_eq!((checker.received(), checker.fragmented()), (3, 2));
            }
        }
    }
}

#[test]
fn a_fragmented_reply_makes_progress_with_its_payload_alone() {
    let mix = whole(MessageKind::Binary, 20);
    let bytes = payload(mix.pool(id(0)), 0);
    let mut checker = Checker::new(CONNECTION);
    let mut at_behind = |bytes: &[u8]| {
        checker.feed(&mix, 1, bytes, &mut Vec::new()).unwrap();
        checker.position()
    };
    assert_eq!(at_behind(&[0x02]), (0, 0));
    assert_eq!(at_behind(&[8]), (0, 0));
    assert_eq!(at_behind(&bytes[..5]), (0, 5));
    assert_eq!(at_behind(&bytes[5..8]), (0, 8));
    assert_eq!(at_behind(&[0x8a, 0]), (0, 8), "a control frame");
    assert_eq!(at_behind(&[0x00, 0]), (0, 8), "an empty fragment");
    assert_eq!(at_behind(&[0x80, 12]), (0, 8));
    assert_eq!(at_behind(&bytes[8..]), (1, 0));
}

#[test]
fn every_wrong_bit_of_a_fragmented_reply_is_caught_at_every_split() {
    for (kind, len, starts) in [
        (MessageKind::Binary, 1, &[0][..]),
        (MessageKind::Binary, 20, &[7, 7, 13]),
        (MessageKind::Text, 20, &[10]),
        (MessageKind::Binary, 270, &[128]),
    ] {
        let mix = whole(kind, len);
        let pool = mix.pool(id(0));
        let reply = by_hand(kind, &payload(pool, 0), starts);
        // A reply that lost its end is found out by what comes next.
        let right = [reply.clone(), by_hand(kind, &payload(pool, 1), &[])].concat();
        assert_eq!(feed(&mix, 2, [&right[..]]), (2, Ok(vec![])));
        for at in 0..reply.len() {
            for bit in 0..8 {
                let mut wrong = right.clone();
                wrong[at] ^= 1 << bit;
                for pieces in cuts(&wrong).step_by(1.max(right.len() / 30)) {
                    let (received, result) = feed(&mix, 2, pieces);
                    assert!(result.is_err(), "{kind} {len}, byte {at}, bit {bit}");
                    assert_eq!(received, 0, "{kind} {len}, byte {at}, bit {bit}");
                }
            }
        }
    }
}

/// A reply in frames that begin at the start and at these places.
fn by_hand(kind: MessageKind, payload: &[u8], starts: &[usize]) -> Vec<u8> {
    let opcode = match kind {
        MessageKind::Text => 1,
        MessageKind::Binary => 2,
    };
    let mut bytes = Vec::new();
    let mut rest = 0;
    for (index, end) in starts.iter().copied().chain([payload.len()]).enumerate() {
        let fin = if index == starts.len() { 0x80 } else { 0 };
        bytes.push(fin | if index == 0 { opcode } else { 0 });
        if let Ok(short @ ..126) = u8::try_from(end - rest) {
            bytes.push(short);
        } else {
            bytes.push(126);
            bytes.extend(u16::try_from(end - rest).unwrap().to_be_bytes());
        }
        bytes.extend_from_slice(&payload[rest..end]);
        rest = end;
    }
    bytes
}

/// A reply in two fragments, of 8 and 12 bytes, for tests to corrupt.
struct InTwo {
    mix: Mix,
    bytes: Vec<u8>,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl InTwo {
    fn new() -> Self {
        let mix = whole(MessageKind::Binary, 20);
        let bytes = payload(mix.pool(id(0)), 0);
        Self {
            mix,
            first: [&[0x02, 8], &bytes[..8]].concat(),
            last: [&[0x80, 12], &bytes[8..]].concat(),
            bytes,
        }
    }

    /// The first fragment, followed by something else.
    fn behind_first(&self, rest: &[&[u8]]) -> Vec<u8> {
        [&self.first, &rest.concat()[..]].concat()
    }

    /// Asserts this violation at every split.
    fn assert_said(&self, what: &str, wrong: &[u8], violation: &Violation) {
        for pieces in cuts(wrong) {
            let (_, result) = feed(&self.mix, 1, pieces);
            assert_eq!(result.as_ref(), Err(violation), "{what}");
        }
    }
}

#[test]
fn a_wrong_length_in_fragments_is_diagnosed_at_every_split() {
    let in_two = InTwo::new();
    let InTwo { bytes, last, .. } = &in_two;
    let behind_first = |rest: &[&[u8]]| in_two.behind_first(rest);
    let wrong_length = |got| Violation::WrongLength { got, expected: 20 };
    for (what, wrong, violation) in [
        (
            "too long by the last fragment",
            behind_first(&[&[0x80, 13], &bytes[8..], &[0]]),
            wrong_length(None),
        ),
        (
            "too long by a fragment behind its end",
            behind_first(&[&[0x00, 12], &bytes[8..], &[0x80, 1, 0]]),
            wrong_length(None),
        ),
        (
            "far too long",
            behind_first(&[&[0x80, 127], &[0xff; 8]]),
            wrong_length(None),
        ),
        (
            "too short",
            behind_first(&[&[0x80, 11], &bytes[8..19]]),
            wrong_length(Some(19)),
        ),
        (
            "too short by an empty end",
            behind_first(&[&[0x80, 0]]),
            wrong_length(Some(8)),
        ),
        (
            "a length of three bytes instead of one",
            behind_first(&[&[0x80, 126, 0, 12], &bytes[8..]]),
            Violation::LongLength,
        ),
        (
            "a length of nine bytes instead of one",
            behind_first(&[&[0x80, 127, 0, 0, 0, 0, 0, 0, 0, 12], &bytes[8..]]),
            Violation::LongLength,
        ),
        (
            "a first length of three bytes instead of one",
            [&[0x02, 126, 0, 8], &bytes[..8], last].concat(),
            Violation::LongLength,
        ),
    ] {
        in_two.assert_said(what, &wrong, &violation);
    }
}

#[test]
fn other_violations_in_fragments_are_diagnosed_at_every_split() {
    let in_two = InTwo::new();
    let InTwo {
        bytes, first, last, ..
    } = &in_two;
    let behind_first = |rest: &[&[u8]]| in_two.behind_first(rest);
    let wrong_type = |got, expected| Violation::WrongType { got, expected };
    let mut wrong_byte = bytes.clone();
    wrong_byte[11] ^= 0x40;
    let wrong_byte_at_11 = Violation::WrongByte {
        at: 11,
        got: wrong_byte[11],
        expected: bytes[11],
    };
    for (what, wrong, violation) in [
        (
            "a continuation that is none",
            behind_first(&[&[0x82, 12], &bytes[8..]]),
            wrong_type(2, 0),
        ),
        (
            "a new message in the middle",
            behind_first(&[&[0x81, 1, b'a'], last]),
            wrong_type(1, 0),
        ),
        (
            "a reserved bit in a later fragment",
            behind_first(&[&[0xc0, 12], &bytes[8..]]),
            Violation::Reserved(0xc0),
        ),
        (
            "a reserved opcode",
            behind_first(&[&[0x83, 12], &bytes[8..]]),
            wrong_type(3, 0),
        ),
        (
            "a masked later fragment",
            behind_first(&[&[0x80, 0x8c, 0, 0, 0, 0], &bytes[8..]]),
            Violation::Masked,
        ),
        (
            "a masked first fragment",
            [&[0x02, 0x88, 0, 0, 0, 0], &bytes[..8], last].concat(),
            Violation::Masked,
        ),
        (
            "a reserved bit in the first fragment",
            [&[0x42, 8], &bytes[..8], last].concat(),
            Violation::Reserved(0x42),
        ),
        (
            "fragments of another type",
            [&[0x01, 8], &bytes[..8], last].concat(),
            wrong_type(1, 2),
        ),
        ("a continuation of nothing", last.clone(), wrong_type(0, 2)),
        (
            "a wrong byte in the second fragment",
            behind_first(&[&[0x80, 12], &wrong_byte[8..]]),
            wrong_byte_at_11,
        ),
        (
            "a broken control frame between fragments",
            behind_first(&[&[0x09, 0], last]),
            Violation::BrokenControl(0x09, 0),
        ),
        (
            "a Close between fragments, and more",
            behind_first(&[&[0x88, 2, 3, 0xe8], last]),
            Violation::AfterClose,
        ),
        (
            "an unsolicited one",
            behind_first(&[last, first]),
            Violation::Unsolicited,
        ),
    ] {
        in_two.assert_said(what, &wrong, &violation);
    }
}

#[test]
fn tungstenite_reads_our_fragments() {
    for kind in KINDS {
        for (len, fragments) in [
            (0, 3),
            (0, 1024),
            (2, 5),
            (10, 3),
            (20, 16),
            (20, 64),
            (300, 2),
            (70_000, 3),
        ] {
            let shape = Shape {
                fragments,
                ..Shape::whole(kind, len)
            };
            let mix = Mix::of(shape, 9);
            let pool = mix.pool(id(0));
            let mut server = server(frames(&mix, 5));
            for sequence in 0..5 {
                let message = server.read().unwrap();
                assert_eq!(message.is_text(), kind == MessageKind::Text);
                assert_eq!(message.clone().into_data(), payload(pool, sequence));
                server.send(message).unwrap();
            }
            assert!(server.read().is_err(), "that was all");
            let replies = &server.get_ref().output[..];
            assert_eq!(feed(&mix, 5, [replies]), (5, Ok(vec![])));
        }
    }
}

/// Lengths on both sides of the limits of stamps and length fields, in one fragment per byte and
/// fewer.
fn sizes(raw: bool) -> Mix {
    let shape = |payload_len, fragments| Shape {
        fragments: if raw { 1 } else { fragments },
        raw,
        ..Shape::whole(MessageKind::Binary, payload_len)
    };
    let shapes = [(0, 1), (5, 5), (20, 3), (130, 1)];
    let shapes = shapes.map(|(payload_len, fragments)| (shape(payload_len, fragments), 1));
    let mix = Mix::new(&shapes, 9);
    let mut lens: Vec<_> = (0..MIXED)
        .map(|sequence| mix.pool(id(sequence)).payload_len())
        .collect();
    lens.sort_unstable();
    lens.dedup();
    assert_eq!(lens, [0, 5, 20, 130], "the test needs all of them");
    mix
}

/// The number of messages of mixed sizes.
const MIXED: u64 = 14;

#[test]
fn mixed_sizes_are_accepted_at_every_split() {
    let mix = sizes(false);
    for pieces in cuts(&replies(&mix, MIXED)) {
        assert_eq!(feed(&mix, MIXED, pieces), (MIXED, Ok(vec![])));
    }
}

#[test]
fn mixed_sizes_are_accepted_in_fragments() {
    let mix = sizes(false);
    let bytes: Vec<_> = (0..MIXED)
        .flat_map(|sequence| {
            let payload = payload(mix.pool(id(sequence)), sequence);
            by_hand(MessageKind::Binary, &payload, &[payload.len() / 2])
        })
        .collect();
    for pieces in cuts(&bytes) {
        let (checker, result) = fed(&mix, MIXED, pieces);
        assert_eq!(result, Ok(vec![]));
        assert_eq!((checker.received(), checker.fragmented()), (MIXED, MIXED));
    }
}

#[test]
fn every_wrong_byte_of_mixed_sizes_is_caught_in_its_message() {
    let mix = sizes(false);
    let right = replies(&mix, MIXED);
    let mut start = 0;
    for sequence in 0..MIXED {
        let end = start + mix.pool(id(sequence)).reply_len();
        for at in start..end {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            for pieces in cuts(&wrong).step_by(1.max(right.len() / 20)) {
                let (received, result) = feed(&mix, MIXED, pieces);
                assert!(result.is_err(), "byte {at}");
                assert_eq!(received, sequence, "byte {at}");
            }
        }
        start = end;
    }
}

#[test]
fn only_a_raw_echo_is_accepted_at_every_split() {
    for mix in [
        sizes(true),
        Mix::of(
            Shape {
                raw: true,
                ..Shape::whole(MessageKind::Text, 20)
            },
            9,
        ),
    ] {
        let echo = frames(&mix, MIXED);
        for pieces in cuts(&echo) {
            assert_eq!(feed(&mix, MIXED, pieces), (MIXED, Ok(vec![])));
        }
        let twice = [&echo[..], &echo].concat();
        let too_many = feed(&mix, MIXED, [&twice[..]]);
        assert_eq!(too_many, (MIXED, Err(Violation::Unsolicited)));

        // Even the bytes of a control frame are wrong bytes.
        for at in 0..mix.pool(id(0)).reply_len() {
            for bit in 0..8 {
                let mut wrong = echo.clone();
                wrong[at] ^= 1 << bit;
                let violation = Violation::WrongByte {
                    at,
                    got: wrong[at],
                    expected: echo[at],
                };
                for pieces in cuts(&wrong).step_by(1.max(echo.len() / 20)) {
                    assert_eq!(feed(&mix, MIXED, pieces), (0, Err(violation.clone())));
                }
            }
        }
    }
}
