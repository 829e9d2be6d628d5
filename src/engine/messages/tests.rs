use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::Config;
use crate::limits::admission::{Admission, Decision, ServerLimits};
use crate::message::Message;

const KEY: mask::Key = [0x11, 0xee, 0x00, 0x7f];

/// The result of a future that has one at once.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn messages() -> Messages {
    let limits = ServerLimits::new(&Config::default(), 1);
    let admission = Admission::new(limits, Arc::default());
    let Decision::Accept(permit) = admission.enter() else {
        unreachable!("it is the first");
    };
    Messages::new(Channel::new(permit))
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short frame");
    let mut bytes = [&[first, 0x80 | len], &KEY[..], payload].concat();
    mask::unmask(&mut bytes[6..], KEY);
    bytes
}

/// Gives these bytes behind those that were kept; what is sent, and what comes next.
fn receive(
    messages: &mut Messages,
    limits: &Limits,
    kept: &mut Vec<u8>,
    bytes: &[u8],
) -> (Vec<u8>, Next) {
    kept.extend_from_slice(bytes);
    let filled = kept.len();
    kept.resize(filled + TAIL_ROOM, 0);
    let step = messages.advance(limits, kept, filled);
    let reply = kept[step.reply].to_vec();
    kept.truncate(filled);
    kept.drain(..step.consumed);
    (reply, step.next)
}

/// All that a handler gets, which asks for the next message at once.
fn take_all(messages: &Messages) -> Vec<Message> {
    let next = || now(messages.channel.receive()).and_then(Result::ok);
    std::iter::from_fn(next).collect()
}

/// What comes of `input`, cut at `cut`.
fn outcome(limits: &Limits, input: &[u8], cut: usize) -> (Vec<Message>, Vec<u8>, Next) {
    let mut messages = messages();
    let (mut all, mut sent, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = Next::Read;
    // It is over once its last frame is answered.
    for piece in [&input[..cut], &input[cut..]] {
        let (reply, next) = receive(&mut messages, limits, &mut kept, piece);
        sent.extend(reply);
        all.extend(take_all(&messages));
        let (_, _, answered) = messages.take_news();
        let (frame, answered) = match answered {
            Some(Last { frame, next }) => (frame, next),
            None => (Vec::new(), Next::Read),
        };
        sent.extend(frame);
        last = if next == Next::Read { answered } else { next };
        if last != Next::Read {
            break;
        }
    }
    (all, sent, last)
}

#[test]
fn fragments_are_joined_and_control_frames_are_answered() {
    let euro = "€".as_bytes();
    let input = [
        frame(0x01, &euro[..1]),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b"pong"),
        frame(0x80, &euro[1..]),
        frame(0x82, &[0, 255]),
        frame(0x81, b""),
        frame(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    for cut in 0..=input.len() {
        let (messages, sent, next) = outcome(&Limits::default(), &input, cut);
        let expected = ["€".into(), Message::from(vec![0, 255]), "".into()];
        assert_eq!(messages, expected, "cut at {cut}");
        assert_eq!(sent, b"\x8a\x04ping\x88\x05\x03\xe8bye", "cut at {cut}");
        assert_eq!(next, Next::Close(Some(CloseCode::NORMAL)), "cut at {cut}");
    }
}

#[test]
fn a_violation_is_answered_behind_the_pongs() {
    let limits = Limits {
        message_bytes: 5,
        ..Limits::default()
    };
    for (input, violation) in [
        (vec![0x81, 0x00], Violation::Unmasked),
        (frame(0x80, b"x"), Violation::UnexpectedContinuation),
        (frame(0x81, b"a\xff"), Violation::InvalidText),
        (frame(0x81, b"\xe2\x82"), Violation::InvalidText),
        (frame(0x82, b"six by"), Violation::MessageTooLong),
        (frame(0x88, b"\x03\xed"), Violation::InvalidCloseCode),
        (
            [frame(0x02, b"abc"), frame(0x80, b"def")].concat(),
            Violation::MessageTooLong,
        ),
    ] {
        let input = [frame(0x89, b""), input].concat();
        for cut in 0..=input.len() {
            let (messages, sent, next) = outcome(&limits, &input, cut);
            assert!(messages.is_empty());
            let close = violation.close_code().frame();
            assert_eq!(sent, [&[0x8a, 0], &close[..]].concat(), "cut at {cut}");
            assert_eq!(next, Next::CloseWith(violation), "cut at {cut}");
        }
    }
}

#[test]
fn a_close_is_answered_when_the_handler_is_done_with_what_came_before() {
    let mut messages = messages();
    let input = [frame(0x82, b"1"), frame(0x82, b"2"), frame(0x88, b"")].concat();
    let (limits, mut kept) = (Limits::default(), Vec::new());
    let (sent, next) = receive(&mut messages, &limits, &mut kept, &input);
    assert_eq!((sent, next), (Vec::new(), Next::Read));
    let channel = Rc::clone(&messages.channel);
    for _ in 0..2 {
        assert!(messages.take_news().2.is_none());
        now(channel.receive()).expect("at once").expect("a message");
        assert!(!messages.is_settled());
    }
    now(channel.send(OpCode::Text, "2".into()))
        .expect("at once")
        .expect("open");
    assert!(messages.take_news().2.is_none());
    assert!(now(channel.receive()).is_none());
    let (_, mut outgoing, last) = messages.take_news();
    assert!(outgoing.next().is_none());
    let (frame, next) = (vec![0x88, 0], Next::Close(None));
    assert_eq!(last, Some(Last { frame, next }));
}

#[test]
fn a_client_is_not_read_while_its_messages_wait() {
    let mut messages = messages();
    let (limits, mut kept) = (Limits::default(), Vec::new());
    let message = frame(0x82, &[7; 100]);
    while messages.wants_bytes() {
        assert!(messages.held() < 2 * channel::INCOMING_BYTES_MAX);
        receive(&mut messages, &limits, &mut kept, &message);
    }
    assert!(!messages.channel.has_news());
    now(messages.channel.receive());
    assert!(messages.wants_bytes() && messages.channel.has_news());
    take_all(&messages);
    assert!(messages.is_quiet());
    assert_eq!(messages.held(), 0);
}

#[test]
fn a_handler_waits_while_much_is_unsent() {
    let mut messages = messages();
    let channel = Rc::clone(&messages.channel);
    let long = bytes::Bytes::from(vec![7; channel::UNSENT_MAX + 1]);
    assert!(now(channel.send(OpCode::Binary, long.clone())).is_none());
    // It is sent all the same, and without a copy.
    let (_, mut outgoing, _) = messages.take_news();
    let (header, has_more) = outgoing.next().expect("a header");
    assert_eq!((header.len(), has_more), (10, true));
    let (payload, has_more) = outgoing.next().expect("the payload");
    assert_eq!((payload.as_ptr(), has_more), (long.as_ptr(), false));
    channel.note_unsent(long.len());
    assert!(now(channel.send(OpCode::Ping, "".into())).is_none());
    drop(messages.take_news());
    channel.note_unsent(0);
    assert!(now(channel.send(OpCode::Ping, "".into())).is_some());
}
