//! The protocol as a table of what goes in and what must come out, however the
//! input is cut.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "payloads are made of counters that wrap"
)]

use super::Violation as V;
use super::*;

const KEY: Key = [0x9a, 0x00, 0xff, 0x5c];

/// A client's frame with its length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = server_frame(first, payload);
    bytes[1] |= 0x80;
    bytes.truncate(bytes.len() - payload.len());
    bytes.extend(KEY);
    bytes.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// What the server must answer to the frame of the same arguments.
fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let start = Start::parse(first).expect("a valid first byte");
    let header = ServerHeader::new(start.fin, start.opcode, payload.len() as u64);
    [header.as_bytes(), payload].concat()
}

const CONT: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const FIN: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    bytes: Vec<u8>,
    next: Next,
    messages: u32,
}

/// Does what an engine does with a connection whose bytes arrive in `pieces`,
/// on every ISA.
fn serve<'a>(
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
) -> Answer {
    let pieces = pieces.into_iter();
    let answer = serve_on(Isa::BASELINE, limits, pieces.clone());
    for isa in Isa::available().skip(1) {
        assert_eq!(serve_on(isa, limits, pieces.clone()), answer, "{isa:?}");
    }
    answer
}

fn serve_on<'a>(isa: Isa, limits: &Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Answer {
    let mut echo = Echo::new();
    let mut answer = Answer {
        bytes: Vec::new(),
        next: Next::Read,
        messages: 0,
    };
    let mut buf = Vec::new();
    for piece in pieces {
        buf.extend(piece);
        let filled = buf.len();
        buf.extend([0xaa; TAIL_ROOM]);
        let step = echo.advance_on(isa, limits, &mut buf, filled);
        answer.bytes.extend(&buf[step.reply]);
        answer.messages += step.messages;
        answer.next = step.next;
        if answer.next != Next::Read {
            assert_eq!(step.consumed, filled, "nothing is kept after the end");
            break;
        }
        buf.truncate(filled);
        buf.drain(..step.consumed);
        assert!(
            buf.len() < limits.window.max(131),
            "no more than a window is kept"
        );
    }
    answer
}

/// Checks the answer to `input` whole, byte by byte, and at every pair of cuts
/// (every single cut where the input is long).
fn expect(name: &str, limits: &Limits, input: &[u8], bytes: &[u8], next: Next, messages: u32) {
    let expected = Answer {
        bytes: bytes.to_vec(),
        next,
        messages,
    };
    assert_eq!(serve(limits, [input]), expected, "{name}: whole");
    assert_eq!(
        serve(limits, input.chunks(1)),
        expected,
        "{name}: byte by byte"
    );
    for first in 0..=input.len() {
        let last_second = if input.len() <= 300 {
            input.len()
        } else {
            first
        };
        for second in first..=last_second {
            let pieces = [&input[..first], &input[first..second], &input[second..]];
            assert_eq!(
                serve(limits, pieces),
                expected,
                "{name}: cut at {first}, {second}"
            );
        }
    }
}

fn expect_echo(name: &str, frames: &[(u8, &[u8])], messages: u32) {
    let input: Vec<u8> = frames
        .iter()
        .flat_map(|(first, payload)| frame(*first, payload))
        .collect();
    let bytes: Vec<u8> = frames
        .iter()
        .filter(|(first, _)| *first != PONG)
        .flat_map(|(first, payload)| {
            server_frame(if *first == PING { PONG } else { *first }, payload)
        })
        .collect();
    expect(
        name,
        &Limits::default(),
        &input,
        &bytes,
        Next::Read,
        messages,
    );
}

/// What a peer gets that breaks a rule after a message that is fine.
fn expect_violation(name: &str, limits: &Limits, input: &[u8], violation: Violation) {
    let close = violation.close_code().frame();
    expect(name, limits, input, &close, Next::CloseWith(violation), 0);

    let fine = frame(FIN | TEXT, b"fine");
    let after_fine = [&fine[..], input].concat();
    let bytes = [&server_frame(FIN | TEXT, b"fine")[..], &close].concat();
    expect(
        name,
        limits,
        &after_fine,
        &bytes,
        Next::CloseWith(violation),
        1,
    );

    let more_behind = [&after_fine[..], &fine].concat();
    expect(
        name,
        limits,
        &more_behind,
        &bytes,
        Next::CloseWith(violation),
        1,
    );
}

#[test]
fn messages_come_back_as_they_went() {
    expect_echo("text", &[(FIN | TEXT, b"Hello")], 1);
    expect_echo("empty text", &[(FIN | TEXT, b"")], 1);
    expect_echo("empty binary", &[(FIN | BINARY, b"")], 1);
    expect_echo("125", &[(FIN | BINARY, &[7; 125])], 1);
    expect_echo("126", &[(FIN | BINARY, &[8; 126])], 1);
    expect_echo(
        "four bytes a character",
        &[(FIN | TEXT, "😀🦀".as_bytes())],
        1,
    );
    expect_echo(
        "a batch",
        &[
            (FIN | TEXT, b"one"),
            (FIN | BINARY, b"\x00\xff"),
            (FIN | TEXT, b""),
            (FIN | TEXT, "drei €".as_bytes()),
            (FIN | BINARY, &[3; 130]),
        ],
        5,
    );
}

/// A batch in which every short length stands at many distances from its place
/// in the reply, with characters of one to four bytes at every place.
#[test]
fn short_messages_of_every_length_and_kind_come_back() {
    let alphabet = "aé€😀zz~\u{7f}";
    for skip in 0..alphabet.len() {
        let mut input = Vec::new();
        let mut bytes = Vec::new();
        for len in 0..126 {
            let mut text: String = alphabet.chars().cycle().skip(skip).take(len).collect();
            while text.len() > len {
                text.pop();
            }
            text.extend(vec!['x'; len - text.len()]);
            for (first, payload) in [
                (FIN | TEXT, text.as_bytes()),
                (FIN | TEXT, &b"x".repeat(len)),
                (FIN | BINARY, &b"\xff".repeat(len)),
            ] {
                input.extend(frame(first, payload));
                bytes.extend(server_frame(first, payload));
            }
        }
        for piece in [input.len(), 1000, 100, 7] {
            let answer = serve(&Limits::default(), input.chunks(piece));
            assert!(answer.bytes == bytes, "in pieces of {piece}");
            assert_eq!((answer.next, answer.messages), (Next::Read, 3 * 126));
        }
    }
}

/// The blocks in which text is validated end inside characters.
#[test]
fn long_text_is_judged_alike_wherever_its_characters_and_its_fault_are() {
    let limits = Limits::default();
    let close = CloseCode::INVALID_PAYLOAD.frame();
    for shift in 0..4 {
        let text = "x".repeat(shift) + &"😀".repeat(3000) + &"plain ".repeat(1000) + "é";
        // A whole message is validated in one go, a fragment in blocks.
        for first in [FIN | TEXT, TEXT] {
            let input = frame(first, text.as_bytes());
            for piece in [input.len(), 5000] {
                let answer = serve(&limits, input.chunks(piece));
                assert!(answer.bytes == server_frame(first, text.as_bytes()));
            }
            for at in [0, 4093, 4095, 4096, 8191, 8192, 12_001, text.len() - 1] {
                let mut wrong = text.clone().into_bytes();
                wrong[at] = 0xc0;
                let answer = serve(&limits, [&frame(first, &wrong)[..]]);
                assert_eq!(answer.bytes, close, "wrong at {at}");
                assert_eq!(answer.next, Next::CloseWith(Violation::InvalidText));
            }
        }
    }
}

#[test]
fn ascii_does_not_complete_a_character_that_was_cut() {
    let limits = Limits::default();
    for len in [1, 8, 40, 300] {
        let input = [
            frame(TEXT, b"\xe2\x82"),
            frame(CONT, b""),
            frame(FIN | CONT, &b"x".repeat(len)),
        ]
        .concat();
        let bytes = [
            &server_frame(TEXT, b"\xe2\x82")[..],
            &server_frame(CONT, b""),
            &CloseCode::INVALID_PAYLOAD.frame(),
        ]
        .concat();
        let next = Next::CloseWith(Violation::InvalidText);
        expect("cut", &limits, &input, &bytes, next, 0);
    }
}

#[test]
fn each_length_form_is_echoed_in_its_shortest() {
    let payload: Vec<u8> = (0..70_000u32)
        .map(|index| ((index * 31) >> 3) as u8)
        .collect();
    let limits = Limits::default();
    for len in [126, 127, 4095, 4096, 4097, 65_535, 65_536, 70_000] {
        let input = frame(FIN | BINARY, &payload[..len]);
        let bytes = server_frame(FIN | BINARY, &payload[..len]);
        for piece in [1, 7, 1000, 16_384, input.len()] {
            let answer = serve(&limits, input.chunks(piece));
            assert!(answer.bytes == bytes, "{len} bytes in pieces of {piece}");
            assert_eq!((answer.next, answer.messages), (Next::Read, 1));
        }
    }
}

#[test]
fn fragments_come_back_as_fragments_with_control_frames_between() {
    expect_echo(
        "fragments",
        &[(TEXT, b"Hel"), (CONT, b""), (FIN | CONT, b"lo")],
        1,
    );
    expect_echo(
        "pings between",
        &[
            (BINARY, b"one"),
            (PING, b"a"),
            (CONT, b"two"),
            (PONG, b"unasked"),
            (PING, b""),
            (FIN | CONT, b"three"),
            (FIN | TEXT, b"next"),
        ],
        2,
    );
    let euro = "€".as_bytes();
    expect_echo(
        "a character cut by frames",
        &[
            (TEXT, &euro[..1]),
            (PING, b"\xff"),
            (CONT, &euro[1..2]),
            (FIN | CONT, &euro[2..]),
        ],
        1,
    );
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    expect_echo("ping", &[(PING, b"are you there?")], 0);
    expect_echo("a full ping", &[(PING, &[0xfe; 125])], 0);
    expect_echo("pong", &[(PONG, b"unasked")], 0);
    expect_echo(
        "pongs around",
        &[(PONG, b""), (FIN | TEXT, b"x"), (PONG, &[1; 125])],
        1,
    );
}

#[test]
fn a_close_is_answered_with_itself_and_ends_everything() {
    let limits = Limits::default();
    for (payload, code) in [
        (&b""[..], None),
        (b"\x03\xe8", Some(CloseCode::NORMAL)),
        (b"\x03\xe9bye, \xe2\x82\xac", Some(CloseCode::GOING_AWAY)),
        (b"\x0f\xa0", CloseCode::received(4000)),
    ] {
        let input = [frame(CLOSE, payload), frame(FIN | TEXT, b"too late")].concat();
        let bytes = server_frame(CLOSE, payload);
        expect("close", &limits, &input, &bytes, Next::Close(code), 0);
        let input = [frame(TEXT, b"half"), frame(CLOSE, payload)].concat();
        let bytes = [server_frame(TEXT, b"half"), bytes].concat();
        expect(
            "in a message",
            &limits,
            &input,
            &bytes,
            Next::Close(code),
            0,
        );
    }
}

#[test]
fn every_rule_of_the_protocol_has_its_close_code() {
    let limits = Limits::default();
    let masked = |first: u8, len: &[u8]| [&[first], len, &KEY[..], b"payload"].concat();
    for (name, input, violation) in [
        ("RSV1", masked(0xc1, &[0x80]), V::ReservedBits),
        ("RSV2", masked(0xa2, &[0x80]), V::ReservedBits),
        ("RSV3 on a ping", masked(0x99, &[0x80]), V::ReservedBits),
        ("opcode 3", masked(0x83, &[0x80]), V::ReservedOpcode),
        ("opcode 7", masked(0x07, &[0x80]), V::ReservedOpcode),
        ("opcode 11", masked(0x8b, &[0x80]), V::ReservedOpcode),
        ("opcode 15", masked(0x8f, &[0x80]), V::ReservedOpcode),
        ("no mask", vec![0x81, 2, b'h', b'i'], V::Unmasked),
        ("no mask, empty", vec![0x82, 0], V::Unmasked),
        ("no mask, ping", vec![0x89, 0], V::Unmasked),
        ("no mask, close", vec![0x88, 2, 3, 0xe8], V::Unmasked),
        (
            "16 bits for 125",
            masked(0x82, &[0xfe, 0, 125]),
            V::NonMinimalLength,
        ),
        (
            "64 bits for 65535",
            masked(0x82, &[0xff, 0, 0, 0, 0, 0, 0, 255, 255]),
            V::NonMinimalLength,
        ),
        (
            "2^63",
            masked(0x82, &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            V::LengthOverflow,
        ),
        ("2^64 - 1", masked(0x82, &[0xff; 9]), V::LengthOverflow),
        (
            "fragmented ping",
            frame_of_parts(0x09),
            V::FragmentedControl,
        ),
        (
            "fragmented close",
            frame_of_parts(0x08),
            V::FragmentedControl,
        ),
        ("long ping", masked(0x89, &[0xfe, 0, 126]), V::LongControl),
        ("long close", masked(0x88, &[0xfe, 0, 126]), V::LongControl),
        (
            "stray continuation",
            frame(FIN | CONT, b"x"),
            V::UnexpectedContinuation,
        ),
        (
            "stray open continuation",
            frame(CONT, b"x"),
            V::UnexpectedContinuation,
        ),
        (
            "close of one byte",
            frame(CLOSE, b"\x03"),
            V::TruncatedCloseCode,
        ),
        ("close 999", frame(CLOSE, b"\x03\xe7"), V::InvalidCloseCode),
        ("close 1005", frame(CLOSE, b"\x03\xed"), V::InvalidCloseCode),
        ("close 1006", frame(CLOSE, b"\x03\xee"), V::InvalidCloseCode),
        ("close 1015", frame(CLOSE, b"\x03\xf7"), V::InvalidCloseCode),
        ("close 5000", frame(CLOSE, b"\x13\x88"), V::InvalidCloseCode),
        (
            "close reason",
            frame(CLOSE, b"\x03\xe8\xff"),
            V::InvalidCloseReason,
        ),
        (
            "text",
            frame(FIN | TEXT, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"),
            V::InvalidText,
        ),
        (
            "text that ends early",
            frame(FIN | TEXT, b"\xe2\x82"),
            V::InvalidText,
        ),
    ] {
        expect_violation(name, &limits, &input, violation);
    }
}

fn frame_of_parts(first: u8) -> Vec<u8> {
    [&[first, 0x80][..], &KEY].concat()
}

#[test]
fn a_message_inside_a_message_is_refused() {
    let limits = Limits::default();
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        let input = [frame(TEXT, b"first"), frame(first, b"second")].concat();
        let bytes = [
            &server_frame(TEXT, b"first")[..],
            &CloseCode::PROTOCOL_ERROR.frame(),
        ]
        .concat();
        let next = Next::CloseWith(Violation::InterleavedMessage);
        expect("interleaved", &limits, &input, &bytes, next, 0);
    }
}

#[test]
fn wrong_text_is_refused_before_its_frame_is_complete() {
    let mut input = frame(FIN | TEXT, b"good until \xff here, and more to come");
    input.truncate(6 + 12);
    let close = CloseCode::INVALID_PAYLOAD.frame();
    let next = Next::CloseWith(Violation::InvalidText);
    expect("cut", &Limits::default(), &input, &close, next, 0);
    input.pop();
    expect(
        "one byte less",
        &Limits::default(),
        &input,
        b"",
        Next::Read,
        0,
    );
}

#[test]
fn wrong_text_in_a_later_fragment_is_refused() {
    let input = [frame(TEXT, b"\xe2\x82"), frame(FIN | CONT, b"\x28")].concat();
    let bytes = [
        &server_frame(TEXT, b"\xe2\x82")[..],
        &CloseCode::INVALID_PAYLOAD.frame(),
    ]
    .concat();
    let next = Next::CloseWith(Violation::InvalidText);
    expect("fragments", &Limits::default(), &input, &bytes, next, 0);
}

#[test]
fn the_message_limit_counts_over_all_fragments() {
    let limits = Limits {
        message_bytes: 10,
        ..Limits::default()
    };
    let fits = frame(FIN | BINARY, &[1; 10]);
    expect(
        "fits",
        &limits,
        &fits,
        &server_frame(FIN | BINARY, &[1; 10]),
        Next::Read,
        1,
    );
    let too_long = frame(FIN | BINARY, &[1; 11]);
    expect_violation("one more", &limits, &too_long, Violation::MessageTooLong);

    let input = [frame(BINARY, &[1; 6]), frame(FIN | CONT, &[1; 5])].concat();
    let bytes = [
        &server_frame(BINARY, &[1; 6])[..],
        &CloseCode::TOO_BIG.frame(),
    ]
    .concat();
    let next = Next::CloseWith(Violation::MessageTooLong);
    expect("in fragments", &limits, &input, &bytes, next, 0);

    let pieces = [
        frame(BINARY, &[1; 6]),
        frame(PING, &[2; 100]),
        frame(FIN | CONT, &[1; 4]),
    ]
    .concat();
    assert_eq!(
        serve(&limits, [&pieces[..]]).next,
        Next::Read,
        "pings do not count"
    );
}

#[test]
fn a_declared_length_over_the_limit_is_refused_at_its_header() {
    let limits = Limits {
        message_bytes: 1 << 40,
        ..Limits::default()
    };
    let header = [
        &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255][..],
        &KEY,
    ]
    .concat();
    expect_violation("2^63 - 1", &limits, &header, Violation::MessageTooLong);
}

#[test]
fn the_number_of_fragments_is_bounded() {
    let limits = Limits {
        fragments: 3,
        ..Limits::default()
    };
    let three = [frame(TEXT, b""), frame(CONT, b""), frame(FIN | CONT, b"")].concat();
    assert_eq!(serve(&limits, [&three[..]]).next, Next::Read);
    let mut four = [frame(TEXT, b""), frame(CONT, b""), frame(CONT, b"")].concat();
    let mut bytes = [
        server_frame(TEXT, b""),
        server_frame(CONT, b""),
        server_frame(CONT, b""),
    ]
    .concat();
    four.extend(frame(FIN | CONT, b""));
    bytes.extend(CloseCode::TOO_BIG.frame());
    let next = Next::CloseWith(Violation::TooManyFragments);
    expect("four", &limits, &four, &bytes, next, 0);
}

/// A window as small as it may be.
const SMALL: Limits = Limits {
    message_bytes: u64::MAX,
    fragments: 1000,
    window: crate::proto::sequence::MIN_WINDOW,
};

#[test]
fn a_frame_longer_than_the_window_streams_through() {
    let long: Vec<u8> = (0..700).map(|index| (index % 251) as u8).collect();
    let input = [
        frame(FIN | TEXT, b"before"),
        frame(BINARY, &long),
        frame(PING, b"between"),
        frame(FIN | CONT, &long[1..]),
        frame(FIN | TEXT, b"after"),
    ]
    .concat();
    let bytes = [
        server_frame(FIN | TEXT, b"before"),
        server_frame(BINARY, &long),
        server_frame(PONG, b"between"),
        server_frame(FIN | CONT, &long[1..]),
        server_frame(FIN | TEXT, b"after"),
    ]
    .concat();
    expect("binary", &SMALL, &input, &bytes, Next::Read, 3);

    let text = "ä€😀".repeat(60);
    let input = frame(FIN | TEXT, text.as_bytes());
    let bytes = server_frame(FIN | TEXT, text.as_bytes());
    expect("text", &SMALL, &input, &bytes, Next::Read, 1);
}

#[test]
fn a_streamed_frame_is_echoed_as_it_arrives() {
    let input = frame(FIN | BINARY, &[5; 1000]);
    let bytes = server_frame(FIN | BINARY, &[5; 1000]);
    for cut in 8..input.len() {
        let answer = serve(&SMALL, [&input[..cut]]);
        assert_eq!(answer.bytes, bytes[..cut - 4], "cut at {cut}");
    }
}

#[test]
fn the_longest_frame_streams_without_being_believed() {
    let header = [
        &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255][..],
        &KEY,
    ]
    .concat();
    let answer = serve(&Limits::default(), [&header[..], &[0; 100], &[0; 100]]);
    assert_eq!(answer.next, Next::Read);
    assert_eq!(answer.bytes.len(), 10 + 200);
    assert_eq!(
        answer.bytes[..10],
        [0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255]
    );
}

#[test]
fn wrong_text_inside_a_streamed_frame_cuts_the_connection() {
    let mut text = vec![b'a'; 1000];
    text[900] = 0xff;
    let input = frame(FIN | TEXT, &text);
    let (first, second) = input.split_at(500);
    let answer = serve(&SMALL, [first, second]);
    assert_eq!(answer.next, Next::Reset(Violation::InvalidText));
    assert_eq!(answer.bytes, server_frame(FIN | TEXT, &text)[..496]);
}

#[test]
fn wrong_text_in_the_first_piece_of_a_streamed_frame_still_gets_its_close() {
    let mut text = vec![b'a'; 1000];
    text[300] = 0xff;
    let input = [frame(FIN | TEXT, b"ok"), frame(FIN | TEXT, &text)].concat();
    let answer = serve(&SMALL, [&input[..600]]);
    assert_eq!(answer.next, Next::CloseWith(Violation::InvalidText));
    let close = CloseCode::INVALID_PAYLOAD.frame();
    assert_eq!(
        answer.bytes,
        [&server_frame(FIN | TEXT, b"ok")[..], &close].concat()
    );
}

#[test]
fn a_streamed_text_that_ends_inside_a_character_gets_its_close_behind_the_frame() {
    let mut text = vec![b'a'; 1000];
    text[999] = 0xe2;
    let input = frame(FIN | TEXT, &text);
    let answer = serve(&SMALL, input.chunks(400));
    assert_eq!(answer.next, Next::CloseWith(Violation::InvalidText));
    let close = CloseCode::INVALID_PAYLOAD.frame();
    assert_eq!(
        answer.bytes,
        [&server_frame(FIN | TEXT, &text)[..], &close].concat()
    );
}

#[test]
fn frames_of_the_servers_own_fit_only_between_frames() {
    let mut echo = Echo::new();
    let mut buf = [frame(BINARY, &[1; 300]), vec![0; TAIL_ROOM]].concat();
    assert!(echo.at_frame_boundary() && echo.between_messages());
    echo.advance(&SMALL, &mut buf, 100);
    assert!(
        !echo.at_frame_boundary() && !echo.between_messages(),
        "streaming"
    );
    let filled = buf.len() - TAIL_ROOM - 100;
    echo.advance(&SMALL, &mut buf[100..], filled);
    assert!(echo.at_frame_boundary(), "between two fragments");
    assert!(!echo.between_messages());
    let mut kept = [frame(FIN | CONT, b"kept"), vec![0; TAIL_ROOM]].concat();
    echo.advance(&SMALL, &mut kept, 8);
    assert!(
        echo.at_frame_boundary() && !echo.between_messages(),
        "kept, so not out"
    );
    echo.advance(&SMALL, &mut kept, 10);
    assert!(echo.at_frame_boundary() && echo.between_messages());
}

#[test]
#[should_panic(expected = "no room for a Close frame")]
fn a_buffer_without_room_is_a_bug() {
    Echo::new().advance(&Limits::default(), &mut [0; 8], 6);
}

#[test]
fn frames_are_counted_by_what_they_are_wherever_they_are_cut() {
    let input = [
        frame(FIN | TEXT, b"one"),
        frame(BINARY, &[1; 300]),
        frame(PING, b"?"),
        frame(CONT, b""),
        frame(PONG, b"!"),
        frame(PONG, b""),
        frame(FIN | CONT, b"end"),
        frame(CLOSE, b"\x03\xe8"),
    ]
    .concat();
    let expected = FrameCounts {
        fragments: 2,
        pings: 1,
        pongs: 2,
    };
    for cut in 0..=input.len() {
        let (mut echo, mut counted, mut buf) = (Echo::new(), FrameCounts::default(), Vec::new());
        let (mut messages, mut frames, mut replies) = (0, 0, 0);
        for piece in [&input[..cut], &input[cut..]] {
            buf.extend(piece);
            let filled = buf.len();
            buf.extend([0; TAIL_ROOM]);
            let step = echo.advance(&SMALL, &mut buf, filled);
            messages += step.messages;
            counted.fragments += step.others.fragments;
            counted.pings += step.others.pings;
            counted.pongs += step.others.pongs;
            frames += step.frames();
            replies += step.reply_frames();
            if step.next != Next::Read {
                break;
            }
            buf.truncate(filled);
            buf.drain(..step.consumed);
        }
        assert_eq!((messages, counted), (2, expected), "cut at {cut}");
        assert_eq!((frames, replies), (8, 6), "cut at {cut}");
    }
}

#[test]
fn a_violation_is_no_frame_but_its_answer_is_one() {
    let mut buf = [frame(FIN | TEXT, b"one"), frame(FIN | CONT, b"")].concat();
    let filled = buf.len();
    buf.extend([0; TAIL_ROOM]);
    let step = Echo::new().advance(&SMALL, &mut buf, filled);
    assert_eq!((step.frames(), step.reply_frames()), (1, 2));
}
