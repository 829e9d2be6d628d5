//! The server as an independent client sees it.

use std::io::{Read, Write};
use std::net::TcpStream;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket, client};

use super::super::server_thread::has_ended;
use super::*;

const DELAY: Duration = Duration::from_millis(20);

fn start(script: Script) -> ScriptedServer {
    ScriptedServer::start(script, None).unwrap()
}

fn connect(server: &ScriptedServer) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client(format!("ws://{}/", server.address()), stream)
        .unwrap()
        .0
}

fn faulty_server(fault: Fault) -> (ScriptedServer, WebSocket<TcpStream>) {
    let server = start(Script {
        fault: Some((1, fault)),
        ..Script::default()
    });
    let client = connect(&server);
    (server, client)
}

fn texts(client: &mut WebSocket<TcpStream>, sent: &[&str], count: usize) -> Vec<String> {
    for text in sent {
        client.send(Message::text(*text)).unwrap();
    }
    let mut read = || client.read().unwrap().into_text().unwrap().to_string();
    (0..count).map(|_| read()).collect()
}

fn close_code(client: &mut WebSocket<TcpStream>, code: CloseCode) -> CloseCode {
    let reason = "bye".into();
    client.close(Some(CloseFrame { code, reason })).unwrap();
    let Message::Close(Some(answer)) = client.read().unwrap() else {
        panic!("no answer to a Close");
    };
    assert!(matches!(
        client.read(),
        Err(tungstenite::Error::ConnectionClosed)
    ));
    answer.code
}

#[test]
fn messages_are_echoed() {
    let server = start(Script::default());
    let mut client = connect(&server);
    let mut sent = vec![Message::text("zażółć"), Message::binary(vec![])];
    sent.extend([125, 126, 65_535, 65_536, 3 << 20].map(|len| Message::binary(vec![7; len])));
    for message in &sent {
        client.send(message.clone()).unwrap();
        assert!(client.read().unwrap() == *message);
    }
    client.send(Message::Ping("here".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("here".into()));
    let parts = [
        (OpCode::Data(Data::Text), "a", false),
        (OpCode::Data(Data::Continue), "b", false),
        (OpCode::Data(Data::Continue), "c", true),
    ];
    for (opcode, payload, is_final) in parts {
        let frame = Frame::message(payload, opcode, is_final);
        client.send(Message::Frame(frame)).unwrap();
    }
    assert_eq!(client.read().unwrap(), Message::text("abc"));
    assert_eq!(
        close_code(&mut client, CloseCode::Normal),
        CloseCode::Normal
    );
    assert_eq!(server.served(), sent.len() as u64 + 1);
    assert_eq!(server.rarely_delayed(), 0);
    server.stop();
}

#[test]
fn a_client_that_reads_late_receives_everything() {
    let server = start(Script::default());
    let mut client = connect(&server);
    // Less than the server's limit, and more than the socket buffers.
    let message = |n| Message::binary(vec![n; 4 << 20]);
    for n in 0..8 {
        client.send(message(n)).unwrap();
    }
    for n in 0..8 {
        assert!(client.read().unwrap() == message(n), "{n}");
    }
}

#[test]
fn a_request_without_an_upgrade_gets_status_400() {
    let server = start(Script::default());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_broken_frame_ends_its_connection_only() {
    let server = start(Script::default());
    let (mut broken, mut other) = (connect(&server), connect(&server));
    // Not masked.
    broken.get_mut().write_all(&[0x81, 0]).unwrap();
    assert_eq!(broken.get_mut().read(&mut [0]).unwrap(), 0);
    assert_eq!(texts(&mut other, &["hi"], 1), ["hi"]);
}

#[test]
fn a_wrong_byte() {
    let (server, mut client) = faulty_server(Fault::WrongByte);
    let got = texts(&mut client, &["same", "same", "same"], 3);
    assert_eq!(got, ["same", "samd", "same"]);
    assert_eq!(server.served(), 3);
}

#[test]
fn a_dropped_message() {
    let (server, mut client) = faulty_server(Fault::Drop);
    assert_eq!(texts(&mut client, &["0", "1", "2"], 2), ["0", "2"]);
    assert_eq!(server.served(), 2);
}

#[test]
fn two_messages_swapped_on_their_connection() {
    let (server, mut one) = faulty_server(Fault::Swap);
    let mut other = connect(&server);
    assert_eq!(texts(&mut one, &["0"], 1), ["0"]);
    one.send(Message::text("1")).unwrap();
    // The pong proves that the message was read.
    one.send(Message::Ping("".into())).unwrap();
    assert_eq!(one.read().unwrap(), Message::Pong("".into()));
    assert_eq!(texts(&mut other, &["other"], 1), ["other"]);
    assert_eq!(texts(&mut one, &["2", "3"], 3), ["2", "1", "3"]);
    assert_eq!(server.served(), 5);
}

#[test]
fn a_message_answered_twice() {
    let (server, mut client) = faulty_server(Fault::Duplicate);
    assert_eq!(
        texts(&mut client, &["0", "1", "2"], 4),
        ["0", "1", "1", "2"]
    );
    assert_eq!(server.served(), 3);
}

#[test]
fn text_answered_as_binary() {
    let (_server, mut client) = faulty_server(Fault::WrongType);
    assert_eq!(texts(&mut client, &["0", "1"], 1), ["0"]);
    assert_eq!(client.read().unwrap(), Message::binary("1"));
}

#[test]
fn a_wrong_close_code() {
    let (server, mut client) = faulty_server(Fault::WrongCloseCode);
    assert_eq!(texts(&mut client, &["0", "1"], 2), ["0", "1"]);
    assert_eq!(close_code(&mut client, CloseCode::Normal), CloseCode::Away);
    let mut next = connect(&server);
    assert_eq!(close_code(&mut next, CloseCode::Normal), CloseCode::Normal);
}

#[test]
fn a_disconnect() {
    let (server, mut client) = faulty_server(Fault::Disconnect);
    assert_eq!(texts(&mut client, &["0"], 1), ["0"]);
    client.send(Message::text("1")).unwrap();
    assert_eq!(client.get_mut().read(&mut [0]).unwrap(), 0);
    assert_eq!(texts(&mut connect(&server), &["2"], 1), ["2"]);
}

/// The time of each of `count` round trips, one after the other.
fn round_trips(client: &mut WebSocket<TcpStream>, count: usize) -> Vec<Duration> {
    let mut round_trip = || {
        let start = Instant::now();
        assert_eq!(texts(client, &["x"], 1), ["x"]);
        start.elapsed()
    };
    (0..count).map(|_| round_trip()).collect()
}

#[test]
fn delays_are_never_shorter_than_asked() {
    for delay in [
        Duration::from_micros(300),
        Duration::from_micros(2500),
        DELAY,
    ] {
        let server = start(Script {
            delay: Delay::Constant(delay),
            ..Script::default()
        });
        for took in round_trips(&mut connect(&server), 10) {
            assert!(took >= delay, "{took:?} for {delay:?}");
        }
    }
}

#[test]
fn every_nth_message_is_delayed_over_all_connections() {
    let server = start(Script {
        delay: Delay::EveryNth {
            n: 3,
            usual: Duration::ZERO,
            rare: DELAY,
        },
        ..Script::default()
    });
    let (mut one, mut other) = (connect(&server), connect(&server));
    for _ in 0..3 {
        round_trips(&mut one, 1);
        round_trips(&mut other, 1);
        assert!(round_trips(&mut one, 1)[0] >= DELAY);
    }
    assert_eq!((server.served(), server.rarely_delayed()), (9, 3));
}

#[test]
fn a_late_reply_delays_later_ones_of_its_connection_only() {
    let rare = Duration::from_secs(3);
    let server = start(Script {
        delay: Delay::EveryNth {
            n: 4,
            usual: Duration::ZERO,
            rare,
        },
        ..Script::default()
    });
    let (mut one, mut other) = (connect(&server), connect(&server));
    round_trips(&mut one, 3);
    let start = Instant::now();
    one.send(Message::text("late")).unwrap();
    one.send(Message::text("behind")).unwrap();
    while server.rarely_delayed() < 1 {
        hint::spin_loop();
    }
    round_trips(&mut other, 1);
    assert!(start.elapsed() < rare);
    assert_eq!(texts(&mut one, &[], 2), ["late", "behind"]);
    assert!(start.elapsed() >= rare);
}

#[test]
fn a_stall_holds_what_comes_during_it_once() {
    let stall = Stall {
        at: DELAY,
        length: 10 * DELAY,
    };
    let server = start(Script {
        stall: Some(stall),
        ..Script::default()
    });
    let mut client = connect(&server);
    let start = Instant::now();
    round_trips(&mut client, 1);
    std::thread::sleep(stall.at);
    // The server has read the first message before, so it stalls by now.
    round_trips(&mut client, 1);
    assert!(start.elapsed() >= stall.at + stall.length);
    round_trips(&mut client, 3);
    assert_eq!(server.served(), 5);
}

#[test]
fn stopping_ends_the_thread_also_in_a_stall() {
    let server = start(Script {
        stall: Some(Stall {
            at: Duration::ZERO,
            length: Duration::MAX,
        }),
        ..Script::default()
    });
    let mut client = connect(&server);
    client.send(Message::text("x")).unwrap();
    let thread_id = server.thread_id();
    server.stop();
    assert!(has_ended(thread_id));
    // FIN or RST, as the message was read or not.
    assert!(client.read().is_err() || client.read().is_err());
}

#[test]
fn stopping_does_not_wait_for_what_is_due_later() {
    let server = start(Script {
        delay: Delay::Constant(Duration::MAX),
        ..Script::default()
    });
    let mut client = connect(&server);
    client.send(Message::text("x")).unwrap();
    server.stop();
    assert!(client.read().is_err());
}
