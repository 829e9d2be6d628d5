//! The client's codec against tungstenite's, which it shares nothing with.

use std::io::{self, Cursor, Read, Write};

use loadtest::client::{
    Checker, Control, Deck, MessageId, MessageKind, Violation, close_frame, pong_frame,
};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
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

fn frames(deck: &Deck, messages: usize) -> Vec<u8> {
    let mut bytes = vec![0; deck.frame_len() * messages];
    for (frame, sequence) in bytes.chunks_exact_mut(deck.frame_len()).zip(0..) {
        let id = MessageId {
            connection: CONNECTION,
            sequence,
        };
        deck.write_frame(id, frame);
    }
    bytes
}

/// What tungstenite, as a server, answers to the deck's first messages.
fn replies(deck: &Deck, messages: usize) -> Vec<u8> {
    let mut server = server(frames(deck, messages));
    for _ in 0..messages {
        let message = server.read().expect("a message");
        assert_eq!(message.is_text(), deck.kind() == MessageKind::Text);
        server.send(message).expect("an echo");
    }
    server.get_ref().output.clone()
}

/// Feeds bytes in the given pieces and says how many replies were complete.
fn feed<'a>(
    deck: &Deck,
    asked: u64,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (u64, Result<Vec<Control>, Violation>) {
    let mut checker = Checker::new(CONNECTION);
    let mut controls = Vec::new();
    for piece in pieces {
        if let Err(violation) = checker.feed(deck, asked, piece, &mut controls) {
            return (checker.received(), Err(violation));
        }
    }
    (checker.received(), Ok(controls))
}

/// All the ways to cut bytes that a test goes through: whole, byte by byte, and
/// in two at every place.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let whole_and_bytes = [vec![bytes], bytes.chunks(1).collect()];
    let in_two = (1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    whole_and_bytes.into_iter().chain(in_two)
}

#[test]
fn tungstenite_reads_what_we_send_and_we_take_its_echo() {
    for kind in KINDS {
        for len in [0, 1, 7, 8, 16, 17, 125, 126, 65_535, 65_536, 1 << 20] {
            let deck = Deck::new(kind, len, 9);
            let replies = replies(&deck, 6);
            assert_eq!(replies.len(), 6 * deck.reply_len());
            assert_eq!(feed(&deck, 6, [&replies[..]]), (6, Ok(vec![])));
        }
    }
}

#[test]
fn replies_are_taken_at_every_split() {
    for kind in KINDS {
        for len in [0, 1, 5, 8, 20, 126, 300] {
            let deck = Deck::new(kind, len, 9);
            let replies = replies(&deck, 3);
            for pieces in cuts(&replies) {
                assert_eq!(feed(&deck, 3, pieces), (3, Ok(vec![])));
            }
        }
    }
}

#[test]
fn control_frames_between_replies_are_taken_at_every_split() {
    let deck = Deck::new(MessageKind::Binary, 20, 9);
    let mut server = server(frames(&deck, 2));
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
        Control::Close(Some(1001)),
    ];
    for pieces in cuts(&server.get_ref().output) {
        assert_eq!(feed(&deck, 2, pieces), (2, Ok(expected.clone())));
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
        let deck = Deck::new(kind, len, 9);
        let right = replies(&deck, 2);
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let step = 1.max(right.len() / 40);
            for pieces in cuts(&wrong).step_by(step) {
                let (received, result) = feed(&deck, 2, pieces);
                assert!(result.is_err(), "{kind} {len}, byte {at}");
                assert_eq!(received, (at / deck.reply_len()) as u64);
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let deck = Deck::new(MessageKind::Binary, 20, 9);
    let right = replies(&deck, 3);
    let (one, rest) = right.split_at(deck.reply_len());
    let (two, three) = rest.split_at(deck.reply_len());
    let changed = |at: usize, to: u8| {
        let mut bytes = one.to_vec();
        bytes[at] = to;
        bytes
    };
    let verdict = |bytes: &[u8]| feed(&deck, 3, [bytes]).1.unwrap_err();
    let message = |sequence| {
        Violation::WrongMessage(MessageId {
            connection: CONNECTION,
            sequence,
        })
    };

    assert_eq!(verdict(&changed(0, 0x02)), Violation::NotFinal);
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
    let too_many = feed(&deck, 2, [&right[..]]);
    assert_eq!(too_many, (2, Err(Violation::Unasked)));
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
    let deck = Deck::new(MessageKind::Text, 40, 9);
    let replies = replies(&deck, 1);
    let mut other = Checker::new(CONNECTION + 1);
    let id = MessageId {
        connection: CONNECTION,
        sequence: 0,
    };
    assert_eq!(
        other.feed(&deck, 1, &replies, &mut Vec::new()),
        Err(Violation::WrongMessage(id))
    );
}
