//! Faulty servers are detected, and the error names the fault.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::program::{Run, loadtest};
use crate::support::server::{echo, next_message, serve, serve_tcp};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket};

/// The number of messages before a fault, so that it is caught in mid-run.
const GOOD: usize = 20;

/// Makes a run of one connection an open loop, fast enough for the next message
/// to come before a deadline and slow enough for the server to keep up.
const OPEN_LOOP: &str = "--rate=250";

/// Drives a server with a run long enough to reach its first fault.
fn drive(server: SocketAddr, arguments: &[&str]) -> Run {
    let url = format!("ws://{server}/");
    let common = ["run", "--warmup=0s", "-d60s", &url];
    loadtest(&[&common, arguments].concat())
}

/// The same, with a short timeout for a server that does nothing.
fn drive_with_timeout(server: SocketAddr, arguments: &[&str]) -> Run {
    drive(server, &[&["--timeout=1s"], arguments].concat())
}

/// Serves connections correctly for [`GOOD`] messages, and then with a fault.
fn behaving_at_first(
    break_protocol: impl Fn(&mut WebSocket<TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    serve(move |mut socket| {
        if echo(&mut socket, GOOD) {
            break_protocol(&mut socket);
            // The client sees what was sent before the connection ends.
            while socket.read().is_ok() {}
        }
    })
}

/// Asserts that a server with a fault after [`GOOD`] messages on one connection fails the run
/// with this line.
fn is_caught(
    arguments: &[&str],
    error: &str,
    break_protocol: impl Fn(&mut WebSocket<TcpStream>) + Send + Sync + 'static,
) {
    let server = behaving_at_first(break_protocol);
    drive(server, &[&["-c1"], arguments].concat()).assert_failed(error);
}

/// The same, in a closed loop with a window that the fault needs, and in an open loop.
fn is_caught_in_both_loops(
    window: &str,
    arguments: &[&str],
    error: &str,
    break_protocol: impl Fn(&mut WebSocket<TcpStream>) + Clone + Send + Sync + 'static,
) {
    is_caught(
        &[&[window], arguments].concat(),
        error,
        break_protocol.clone(),
    );
    is_caught(&[&[OPEN_LOOP], arguments].concat(), error, break_protocol);
}

/// Asserts that a server that does nothing after [`GOOD`] messages ends the run in both loops.
fn is_given_up(break_protocol: impl Fn(&mut WebSocket<TcpStream>) + Clone + Send + Sync + 'static) {
    for load in ["-w1", OPEN_LOOP] {
        let server = behaving_at_first(break_protocol.clone());
        let run = drive_with_timeout(server, &["-c1", load]);
        run.assert_failed("no progress on connection 1 for 1s: no reply to message 21");
    }
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
    is_caught_in_both_loops(
        "-w1",
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
    is_caught_in_both_loops(
        "-w4",
        &[],
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
    is_caught_in_both_loops(
        "-w4",
        &["--text"],
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
        &["--timeout=1s"],
        "no progress on connection 1 for 1s: no reply to message 21",
        |socket| {
            next_message(socket).unwrap();
        },
    );
}

#[test]
fn a_dropped_message_is_not_hidden_by_pings() {
    is_given_up(|socket| {
        next_message(socket).unwrap();
        while socket.send(Message::Ping("here".into())).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_server_that_stalls_in_mid_run() {
    is_given_up(|_socket| {
        loop {
            thread::park();
        }
    });
}

fn echo_twice(socket: &mut WebSocket<TcpStream>) {
    let bytes = payload(socket);
    let reply = [&[0x82, 32][..], &bytes].concat();
    let twice = [&reply[..], &reply].concat();
    socket.get_mut().write_all(&twice).unwrap();
}

#[test]
fn a_message_echoed_twice() {
    is_caught(&[], "message 22: an unsolicited reply", echo_twice);
}

#[test]
fn a_message_echoed_twice_in_an_open_loop() {
    let server = behaving_at_first(echo_twice);
    let run = drive(server, &["-c1", OPEN_LOOP]);
    run.assert_failed("integrity error on connection 1, message 22: ");
    // The next message may or may not have been sent by then.
    let error = run.error();
    let either = error.contains(": an unsolicited reply")
        || error.contains(": got message 21 of connection 1 instead");
    assert!(either, "{run:?}");
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

/// The channel on which two connections exchange their messages.
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
    run.assert_failed("integrity error on connection ");
    let error = run.error();
    let either = error.contains("connection 1, message 21: got message 21 of connection 2")
        || error.contains("connection 2, message 21: got message 21 of connection 1");
    assert!(either, "{run:?}");
}

#[test]
fn another_type() {
    is_caught(
        &["--text"],
        "message 21: the reply is a binary message instead of a text message; if that is all the \
         server sends, use --type binary",
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
fn fragments_that_are_too_short_together() {
    is_caught(
        &[],
        "message 21: the reply has 31 bytes instead of 32",
        |socket| {
            let bytes = payload(socket);
            send_raw(socket, 0x02, 16, &bytes[..16]);
            send_raw(socket, 0x80, 15, &bytes[16..31]);
        },
    );
}

#[test]
fn a_new_message_among_fragments() {
    is_caught(
        &[],
        "message 21: the reply is a binary message instead of a continuation",
        |socket| {
            let bytes = payload(socket);
            send_raw(socket, 0x02, 16, &bytes[..16]);
            send_raw(socket, 0x82, 16, &bytes[16..]);
        },
    );
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
        "lost connection 1 while message 21 was due: the server sent Close 1008 (policy \
         violation): \"20 are enough\"",
        |socket| {
            let close = CloseFrame {
                code: CloseCode::Policy,
                reason: "20 are enough".into(),
            };
            socket.close(Some(close)).unwrap();
            socket.flush().unwrap();
        },
    );
}

#[test]
fn a_server_that_dies_in_mid_run() {
    for load in ["-w1", "-w8", OPEN_LOOP] {
        let server = serve(|mut socket| {
            echo(&mut socket, GOOD);
        });
        // FIN or RST, as the client's next message is faster or slower.
        drive(server, &["-c1", load]).assert_failed("lost connection 1 while message 21 was due: ");
    }
}

#[test]
fn an_idle_connection_that_is_cut_off() {
    let streams = Mutex::new(Vec::new());
    let server = serve_tcp(move |stream| {
        streams.lock().unwrap().push(stream.try_clone().unwrap());
        let own = stream.peer_addr().unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        if echo(&mut socket, GOOD) {
            for stream in streams.lock().unwrap().iter() {
                if stream.peer_addr().is_ok_and(|peer| peer != own) {
                    stream.shutdown(Shutdown::Both).unwrap();
                }
            }
            echo(&mut socket, usize::MAX);
        }
    });
    let run = drive(server, &["-c1", "--idle=1"]);
    run.assert_failed(
        "lost idle connection 2: the server closed the TCP connection without a Close frame",
    );
}

#[test]
fn a_server_that_never_answers() {
    for load in ["-w8", OPEN_LOOP] {
        let server = serve(|mut socket| while socket.read().is_ok() {});
        let run = drive_with_timeout(server, &["-c3", load]);
        run.assert_failed("no progress on connection 1 for 1s: no reply to message 1");
        assert!(run.error().ends_with("message 1"), "{run:?}");
    }
}

#[test]
fn a_server_that_stops_reading() {
    for load in ["-w64", OPEN_LOOP] {
        let server = serve(|_socket| {
            loop {
                thread::park();
            }
        });
        drive_with_timeout(server, &["-c2", load, "-s1m"]).assert_failed("no progress on");
    }
}

#[test]
fn one_stuck_connection_among_others_fails_the_run_at_its_end() {
    for load in ["-w1", OPEN_LOOP] {
        let connections = AtomicUsize::new(0);
        let server = serve(move |mut socket| {
            if connections.fetch_add(1, Ordering::Relaxed) > 0 {
                echo(&mut socket, usize::MAX);
            } else if echo(&mut socket, GOOD) {
                while socket.read().is_ok() {}
            }
        });
        let url = format!("ws://{server}/");
        let run = loadtest(&[
            "run",
            &url,
            "-c3",
            load,
            "--warmup=0s",
            "-d2s",
            "--timeout=1s",
            "--format=json",
        ]);
        assert_eq!(run.code, Some(1), "{run:?}");
        let error = run.error();
        assert!(error.contains("no progress on connection "), "{run:?}");
        assert!(
            error.ends_with(" for 1s: no reply to message 21"),
            "{run:?}"
        );
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(report["judgement"]["verdict"], "invalid", "{run:?}");
        // It did not end the run early.
        assert_eq!(report["elapsed_ns"], 2_000_000_000u64, "{run:?}");
    }
}

/// Runs two connections to their end against a server that closes them incorrectly: that is a
/// note, and no reason against the run.
fn is_noted_closing(first: &str, end: fn(&mut WebSocket<TcpStream>)) {
    for connections in [&["-c2"][..], &["-c1", "--idle=1"]] {
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
        let common = ["run", &url, "--warmup=0s", "-n50", "--timeout=1s"];
        let run = loadtest(&[&common, connections].concat()).assert_ok();
        let note = "note     2 connections did not answer Close 1000 with Close 1000, after the \
                    last message; connection ";
        assert!(run.stdout.contains(note), "{run:?}");
        assert!(run.stdout.contains(first), "{run:?}");
        assert!(run.stdout.contains("50 answered"), "{run:?}");
    }
}

#[test]
fn a_close_that_is_not_answered() {
    is_noted_closing("", |_socket| {});
}

#[test]
fn a_close_that_is_left_waiting() {
    is_noted_closing("no answer within 1s", |socket| {
        while socket
            .get_mut()
            .read(&mut [0; 64])
            .is_ok_and(|count| count > 0)
        {}
    });
}

#[test]
fn a_close_answered_with_another_code() {
    is_noted_closing("the server sent Close 1001 (going away)", |socket| {
        send_raw(socket, 0x88, 2, &1001u16.to_be_bytes());
    });
}

#[test]
fn replies_byte_by_byte_are_accepted() {
    let server = serve(|mut socket| {
        while let Some(message) = next_message(&mut socket) {
            let reply = [&[0x82, 20][..], &message.into_data()].concat();
            for byte in reply {
                socket.get_mut().write_all(&[byte]).unwrap();
            }
        }
    });
    let run = drive_to_end(server, &["-c2", "-w3", "-s20"]);
    assert!(!run.report().contains("in fragments"), "{run:?}");
}

/// Asserts that a run of some messages is in order.
fn drive_to_end(server: SocketAddr, arguments: &[&str]) -> Run {
    let url = format!("ws://{server}/");
    let common = ["run", &url, "--warmup=0s", "-n200"];
    let run = loadtest(&[&common, arguments].concat()).assert_ok();
    assert!(
        run.stdout.contains("200 due, 200 answered, 0 unanswered"),
        "{run:?}"
    );
    run
}

#[test]
fn fragmented_replies_are_accepted() {
    for load in ["-w3", OPEN_LOOP] {
        let server = serve(|mut socket| {
            while let Some(message) = next_message(&mut socket) {
                let bytes = message.into_data();
                send_raw(&mut socket, 0x02, 16, &bytes[..16]);
                send_raw(&mut socket, 0x89, 0, &[]);
                send_raw(&mut socket, 0x00, 0, &[]);
                send_raw(&mut socket, 0x80, 16, &bytes[16..]);
            }
        });
        let run = drive_to_end(server, &["-c2", load]);
        assert!(
            run.report().contains("200 answered in fragments"),
            "{run:?}"
        );
    }
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
    drive_to_end(server, &["-c2", "-w3", "--text"]);
    assert!(pongs.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_plain_http_server_fails_the_handshake() {
    let server = serve_tcp(|mut stream| {
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let run = drive(server, &["-c1"]);
    run.assert_failed_early("no WebSocket at ws://127.0.0.1:");
    run.assert_failed_early(": status 200 OK instead of 101");
}

#[test]
fn a_wrong_accept_key_fails_the_handshake() {
    for (accept, error) in [
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
        drive(server, &["-c1"]).assert_failed_early(error);
    }
}

#[test]
fn a_handshake_without_a_response_times_out() {
    let server = serve_tcp(
        |mut stream| {
            while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        },
    );
    drive_with_timeout(server, &["-c1"]).assert_failed_early("no answer to the handshake");
}

#[test]
fn a_server_that_closes_instead_of_an_answer() {
    let server = serve_tcp(|mut stream| {
        let _ = stream.read(&mut [0; 2048]);
    });
    let error = "the connection was closed during the handshake";
    drive(server, &["-c1"]).assert_failed_early(error);
}

#[test]
fn a_reply_in_one_segment_with_the_handshake() {
    let server = serve_tcp(|mut stream| {
        let accept = derive_accept_key(key_of_request(&mut stream).as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let early = [response.as_bytes(), &[0x82, 1, 0]].concat();
        stream.write_all(&early).unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let error = "connection 1: the server sends a message first; it begins with 0x00; if it \
                     sends a greeting, use --skip 1";
    drive(server, &["-c1"]).assert_failed_early(error);
}

/// Serves WebSockets that send two messages first, one of them in fragments with a
/// ping in between.
fn greeting() -> SocketAddr {
    serve(|mut socket| {
        socket.send(Message::text("welcome")).unwrap();
        send_raw(&mut socket, 0x01, 3, b"how");
        send_raw(&mut socket, 0x89, 0, b"");
        send_raw(&mut socket, 0x80, 2, b"dy");
        echo(&mut socket, usize::MAX);
    })
}

#[test]
fn a_greeting_is_named_and_can_be_skipped() {
    let run = drive(greeting(), &["-c2"]);
    // Whether the first message was sent by then is a matter of chance.
    run.assert_failed(" sends a greeting, use --skip 1");
    assert!(
        run.error().contains("it begins with \"welcome\""),
        "{run:?}"
    );
    for load in ["-w3", OPEN_LOOP] {
        let run = drive_to_end(greeting(), &["-c2", "--skip=2", load]);
        assert!(run.report().contains("4 greetings skipped"), "{run:?}");
    }
}

#[test]
fn a_missing_greeting_times_out() {
    let run = drive_with_timeout(greeting(), &["-c1", "--skip=3"]);
    run.assert_failed_early("only 2 of the 3 messages came that --skip awaits");
    let server = serve(|mut socket| socket.send(Message::text("bye")).unwrap());
    let run = drive(server, &["-c1", "--skip=2"]);
    run.assert_failed_early("only 1 of the 2 messages came that --skip awaits");
    let server = serve(|mut socket| {
        send_raw(&mut socket, 0x81, 0x80, &[0; 4]);
        while socket.read().is_ok() {}
    });
    let run = drive(server, &["-c1", "--skip=1"]);
    run.assert_failed_early("a message that --skip awaits: the reply is masked");
}

#[test]
fn an_upgrade_is_accepted_in_every_form_of_http() {
    for fields in [
        "Connection: keep-alive\r\nConnection: Upgrade\r\n",
        "Connection: keep-alive,\r\n Upgrade\r\n",
        "cOnNeCtIoN: ,,UPGRADE,\r\n",
    ] {
        let server = serve_tcp(move |mut stream| {
            let key = key_of_request(&mut stream);
            let accept = derive_accept_key(key.as_bytes());
            let response = format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 101 Switching \
                 Protocols\r\nUpgrade: websocket\r\n{fields}Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(response.as_bytes()).unwrap();
            let role = tungstenite::protocol::Role::Server;
            echo(
                &mut WebSocket::from_raw_socket(stream, role, None),
                usize::MAX,
            );
        });
        drive_to_end(server, &["-c2"]);
    }
}

/// Reads an opening handshake.
fn key_of_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let (_, key) = request.split_once("Sec-WebSocket-Key: ").unwrap();
    key.lines().next().unwrap().to_owned()
}

#[test]
fn a_rejected_handshake_is_quoted_with_its_reason() {
    for (response, error) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nwrong origin",
            "status 403 Forbidden instead of 101; body: \"wrong origin\"",
        ),
        (
            "HTTP/1.1 307 Moved\r\nLocation: /ws\r\nContent-Length: 0\r\n\r\n",
            "status 307 Moved instead of 101; it redirects to \"/ws\": give that URL",
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\ncome back",
            "status 503 Busy instead of 101; Retry-After: \"7\"; body: \"come back\"",
        ),
        (
            "SSH-2.0-x\r\n",
            "not an HTTP response; it begins with \"SSH-2.0-x\\r\\n\"",
        ),
        (
            "HTTP/1.1 400 X\r\nContent-Length: 9\r\n\r\n\x1b[2Jclear",
            "status 400 X instead of 101; body: 0x1b5b324a636c656172",
        ),
    ] {
        let server = serve_tcp(move |mut stream| {
            key_of_request(&mut stream);
            let _ = stream.write_all(response.as_bytes());
        });
        drive(server, &["-c1"]).assert_failed_early(error);
    }
}

#[test]
fn a_rejection_with_an_endless_body_is_quoted_at_the_deadline() {
    let server = serve_tcp(|mut stream| {
        key_of_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\nwho are you?");
        let _ = stream.read(&mut [0; 1]);
    });
    let run = drive_with_timeout(server, &["-c1"]);
    run.assert_failed_early("status 401 Unauthorized instead of 101; body: \"who are you?\"");
}

#[test]
fn another_message_than_the_echo_is_quoted() {
    is_caught(
        &["--text"],
        "message 21: the reply has 5 bytes instead of 32; it begins with \"hello\"",
        |socket| {
            next_message(socket).unwrap();
            socket.send(Message::text("hello")).unwrap();
        },
    );
}
