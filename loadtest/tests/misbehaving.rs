//! Servers that break their promise are caught, and named for what they did.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use support::{Run, echo, loadtest, next_message, serve, serve_tcp};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket};

/// How many messages a server behaves for, so that it is caught in mid-run.
const GOOD: usize = 20;

/// Drives a server with a run long enough to meet its first misdeed.
fn drive(server: SocketAddr, arguments: &[&str]) -> Run {
    let url = format!("ws://{server}/");
    let common = ["--warmup=0s", "-d10s", "--timeout=400ms", &url];
    loadtest(&[arguments, &common].concat())
}

/// Asserts that one connection met a server that misbehaves after [`GOOD`]
/// messages, and that the run failed with this line.
fn is_caught(
    arguments: &[&str],
    complaint: &str,
    misbehave: impl Fn(&mut WebSocket<TcpStream>) + Send + Sync + 'static,
) {
    let server = serve(move |mut socket| {
        if echo(&mut socket, GOOD) {
            misbehave(&mut socket);
            // The client sees what was sent before the connection ends.
            while socket.read().is_ok() {}
        }
    });
    let run = drive(server, &[&["-c1"], arguments].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.complaint().contains(complaint), "{complaint}: {run:?}");
    assert_eq!(run.stdout, "", "a failed run has no numbers");
}

fn payload(socket: &mut WebSocket<TcpStream>) -> Vec<u8> {
    next_message(socket)
        .expect("a message")
        .into_data()
        .to_vec()
}

/// Sends a frame of fewer than 126 bytes as it is.
fn send_raw(socket: &mut WebSocket<TcpStream>, first: u8, second: u8, payload: &[u8]) {
    let frame = [&[first, second], payload].concat();
    socket.get_mut().write_all(&frame).expect("a write");
}

#[test]
fn a_wrong_byte() {
    is_caught(
        &[],
        "integrity error on connection 1, message 21: payload byte 31 is 0x",
        |socket| {
            let mut bytes = payload(socket);
            bytes[31] ^= 0x10;
            socket.send(Message::binary(bytes)).unwrap();
        },
    );
}

#[test]
fn a_wrong_byte_in_the_middle_of_a_long_message() {
    is_caught(
        &["-s1m"],
        "integrity error on connection 1, message 21: payload byte 700000 is 0x",
        |socket| {
            let mut bytes = payload(socket);
            bytes[700_000] ^= 0x10;
            socket.send(Message::binary(bytes)).unwrap();
        },
    );
}

#[test]
fn two_messages_swapped() {
    is_caught(
        &["-w4"],
        "connection 1, message 21: got message 22 of connection 1 instead",
        |socket| {
            let first = next_message(socket).unwrap();
            let second = next_message(socket).unwrap();
            socket.send(second).unwrap();
            socket.send(first).unwrap();
        },
    );
}

#[test]
fn a_message_dropped_among_others() {
    is_caught(
        &["-w4", "--text"],
        "connection 1, message 21: got message 22 of connection 1 instead",
        |socket| {
            next_message(socket).unwrap();
            echo(socket, 1);
        },
    );
}

#[test]
fn the_only_message_dropped() {
    is_caught(
        &[],
        "no progress on connection 1 for 400ms: no reply to message 21",
        |socket| {
            next_message(socket).unwrap();
        },
    );
}

#[test]
fn a_dropped_message_is_not_hidden_by_pings() {
    is_caught(
        &[],
        "no progress on connection 1 for 400ms: no reply to message 21",
        |socket| {
            next_message(socket).unwrap();
            while socket.send(Message::Ping("here".into())).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        },
    );
}

#[test]
fn a_message_echoed_twice() {
    is_caught(&[], "message 22: a reply that nobody asked for", |socket| {
        let bytes = payload(socket);
        let reply = [&[0x82, 32][..], &bytes].concat();
        let twice = [&reply[..], &reply].concat();
        socket.get_mut().write_all(&twice).unwrap();
    });
}

#[test]
fn a_message_of_the_last_batch_again() {
    is_caught(
        &[],
        "message 22: got message 21 of connection 1 instead",
        |socket| {
            let stale = payload(socket);
            socket.send(Message::binary(stale.clone())).unwrap();
            next_message(socket).unwrap();
            socket.send(Message::binary(stale)).unwrap();
        },
    );
}

/// A desk where two connections trade their messages.
type Trade = (SyncSender<Message>, Receiver<Message>);

#[test]
fn messages_of_two_connections_swapped() {
    let (left_sends, right_gets) = sync_channel(1);
    let (right_sends, left_gets) = sync_channel(1);
    let sides: Vec<Trade> = vec![(left_sends, left_gets), (right_sends, right_gets)];
    let sides = Mutex::new(sides);
    let server = serve(move |mut socket| {
        let (give, get) = sides.lock().unwrap().pop().expect("two connections");
        if echo(&mut socket, GOOD) {
            give.send(next_message(&mut socket).unwrap()).unwrap();
            let _ = socket.send(get.recv().unwrap());
            while socket.read().is_ok() {}
        }
    });
    let run = drive(server, &["-c2"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let complaint = run.complaint();
    let either = complaint.contains("connection 1, message 21: got message 21 of connection 2")
        || complaint.contains("connection 2, message 21: got message 21 of connection 1");
    assert!(either, "{run:?}");
}

#[test]
fn another_type() {
    is_caught(
        &["--text"],
        "message 21: the reply has opcode 0x2 instead of 0x1",
        |socket| {
            let bytes = payload(socket);
            socket.send(Message::binary(bytes)).unwrap();
        },
    );
}

#[test]
fn a_masked_reply() {
    is_caught(&[], "message 21: the reply is masked", |socket| {
        let bytes = payload(socket);
        send_raw(socket, 0x82, 0x80 | 32, &[&[0; 4], &bytes[..]].concat());
    });
}

#[test]
fn a_fragmented_reply() {
    is_caught(&[], "message 21: the reply is fragmented", |socket| {
        let bytes = payload(socket);
        send_raw(socket, 0x02, 16, &bytes[..16]);
        send_raw(socket, 0x80, 16, &bytes[16..]);
    });
}

#[test]
fn a_shorter_reply() {
    is_caught(
        &[],
        "message 21: the reply has 31 bytes instead of 32",
        |socket| {
            let bytes = payload(socket);
            socket.send(Message::binary(bytes[..31].to_vec())).unwrap();
        },
    );
}

#[test]
fn a_close_in_mid_run() {
    is_caught(
        &[],
        "lost connection 1 while message 21 was due: the server sent Close 1001",
        |socket| {
            let close = CloseFrame {
                code: CloseCode::Away,
                reason: "".into(),
            };
            socket.close(Some(close)).unwrap();
            socket.flush().unwrap();
        },
    );
}

#[test]
fn a_server_that_dies_in_mid_run() {
    let server = serve(|mut socket| {
        echo(&mut socket, GOOD);
    });
    let run = drive(server, &["-c1"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    // FIN or RST, as the client's next message is faster or slower.
    let complaint = run.complaint();
    assert!(
        complaint.contains("lost connection 1 while message 21 was due: "),
        "{run:?}"
    );
}

#[test]
fn a_server_that_never_answers() {
    let server = serve(|mut socket| while socket.read().is_ok() {});
    let run = drive(server, &["-c3", "-w8"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let complaint = "no progress on connection 1 for 400ms: no reply to message 1";
    assert!(run.complaint().ends_with(complaint), "{run:?}");
}

#[test]
fn a_server_that_stops_reading() {
    let server = serve(|_socket| {
        loop {
            thread::park();
        }
    });
    let run = drive(server, &["-c2", "-w64", "-s1m"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.complaint().contains("no progress on"), "{run:?}");
}

/// Runs two connections to their end against a server that ends them its way.
fn is_caught_closing(complaint: &str, end: fn(&mut WebSocket<TcpStream>)) {
    let server = serve(move |mut socket| {
        loop {
            match socket.read() {
                Ok(message @ Message::Binary(_)) => socket.send(message).unwrap(),
                Ok(Message::Close(_)) => return end(&mut socket),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let url = format!("ws://{server}/");
    let run = loadtest(&["-c2", "--warmup=0s", "-d50ms", "--timeout=400ms", &url]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.complaint().contains(complaint), "{run:?}");
}

#[test]
fn a_close_that_is_not_answered() {
    is_caught_closing(
        "2 of 2 connections did not answer Close 1000 with Close 1000; the first was",
        |_socket| {},
    );
}

#[test]
fn a_close_that_is_left_waiting() {
    is_caught_closing("no answer within 400ms", |socket| {
        while socket
            .get_mut()
            .read(&mut [0; 64])
            .is_ok_and(|count| count > 0)
        {}
    });
}

#[test]
fn a_close_answered_with_another_code() {
    is_caught_closing("the server sent Close 1001", |socket| {
        send_raw(socket, 0x88, 2, &1001u16.to_be_bytes());
    });
}

#[test]
fn bytes_that_arrive_one_by_one_are_no_misdeed() {
    let server = serve(|mut socket| {
        while let Some(message) = next_message(&mut socket) {
            let reply = [&[0x82, 20][..], &message.into_data()].concat();
            for byte in reply {
                socket.get_mut().write_all(&[byte]).unwrap();
            }
        }
    });
    let url = format!("ws://{server}/");
    let run = loadtest(&["-c2", "-w3", "-s20", "--warmup=0s", "-d100ms", &url]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn pings_are_answered_in_mid_run() {
    let pongs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pongs);
    let server = serve(move |mut socket| {
        loop {
            match socket.read() {
                Ok(message @ Message::Text(_)) => {
                    socket.send(Message::Ping("ping".into())).unwrap();
                    socket.send(message).unwrap();
                }
                Ok(Message::Pong(payload)) => {
                    assert_eq!(payload.as_ref(), b"ping");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let url = format!("ws://{server}/");
    let run = loadtest(&["-c2", "-w3", "--text", "--warmup=0s", "-d100ms", &url]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(pongs.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_web_server_is_no_websocket_server() {
    let server = serve_tcp(|mut stream| {
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let run = drive(server, &["-c1"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let complaint = run.complaint();
    assert!(
        complaint.contains("no WebSocket at ws://127.0.0.1:"),
        "{run:?}"
    );
    assert!(complaint.ends_with("status 200 instead of 101"), "{run:?}");
}

#[test]
fn a_server_that_did_not_read_the_key_is_no_websocket_server() {
    for (accept, complaint) in [
        (
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "wrong Sec-WebSocket-Accept",
        ),
        ("", "lacks Sec-WebSocket-Accept"),
    ] {
        let server = serve_tcp(move |mut stream| {
            let _ = stream.read(&mut [0; 2048]);
            let _ = write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\n{accept}\r\n"
            );
            let _ = stream.read(&mut [0; 1]);
        });
        let run = drive(server, &["-c1"]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.complaint().ends_with(complaint), "{run:?}");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let server = serve_tcp(
        |mut stream| {
            while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        },
    );
    let run = drive(server, &["-c1"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let complaint = run.complaint();
    assert!(complaint.contains("no answer to the handshake"), "{run:?}");
}
