//! Message handlers, on every engine.

mod common;

#[path = "../examples/chat.rs"]
#[expect(dead_code, reason = "its main function")]
mod chat;
#[path = "../examples/clock.rs"]
#[expect(dead_code, reason = "its main function")]
mod clock;
#[path = "../examples/shout.rs"]
#[expect(dead_code, reason = "its main function")]
mod shout;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use ringback::{
    Address, CloseCode, Config, Handler, Message, MessageError, MessageSocket, Server, TlsFiles,
};
use tokio::time::timeout;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, coding};
use tungstenite::{Error as ClientError, HandshakeError, Message as ClientMessage, WebSocket};

use common::TIMEOUT;
use common::admin::Admin;
use common::engines::{
    Engine, OVER_TLS, on_every_engine, on_every_engine_and_over_tls, plain_name,
};
use common::pki::{self, Pair, Pki};
use common::tunnel;

on_every_engine_and_over_tls! {
    messages_are_read_whole_with_their_type,
    fragments_are_joined_and_pings_answered_between_them,
    message_over_max_message_gets_close_1009_and_violation,
    constant_sender_does_not_starve_other_connections,
    handler_closes_with_its_own_code,
    handler_panic_closes_only_its_connection_with_1011,
    cancelled_read_loses_and_repeats_nothing,
    cancelled_write_loses_nothing,
    cancelled_reads_do_not_restart_idle_timeout,
    idle_timeout_sends_ping_then_close_1001,
    end_without_close_differs_from_close,
    read_ahead_is_bounded_by_max_backlog,
    example_shout_changes_messages,
    example_chat_reaches_clients_of_all_workers,
    example_clock_sends_until_the_server_drains,
    close_frames_carry_reasons_both_ways,
    halves_of_a_socket_work_on_their_own,
    handler_state_is_per_worker,
    handler_that_returns_loses_nothing_it_has_sent,
    dropped_socket_ends_its_connection_before_the_handler_returns,
    panic_in_accepting_is_500_and_ends_nothing_else,
    draining_is_ready_at_the_end_of_a_connection,
    empty_messages_do_not_starve_other_connections,
    half_closed_client_is_cut_when_its_handler_does_not_come_back,
}

mod plain {
    use super::*;

    on_every_engine![
        // Over TLS, sent bytes may not have arrived yet.
        stopped_server_echoes_received_messages_then_closes_1001,
        // Over TLS it takes long; `behaviour::backlog` has a shorter one.
        client_may_send_everything_before_it_reads,
    ];
}

type Client = WebSocket<TcpStream>;

thread_local! {
    /// The server's certificate, which the clients trust. Its files end with the test.
    static PAIR: (Pair, Pki) = {
        let pair = pki::pair();
        let pki = Pki::of(&pair);
        (pair, pki)
    };
}

fn config(engine: Engine) -> Config {
    let addresses = vec!["127.0.0.1:0".parse().expect("an address")];
    let config = Config {
        listen: Vec::new(),
        engine: plain_name(engine).parse().expect("an engine's name"),
        ..Config::default()
    };
    if engine.ends_with(OVER_TLS) {
        let [certificate, key] = PAIR.with(|(_pair, pki)| pki.files());
        Config {
            tls_listen: addresses,
            tls: Some(TlsFiles { certificate, key }),
            ..config
        }
    } else {
        Config {
            listen: addresses,
            ..config
        }
    }
}

fn connect(server: &Server) -> Client {
    try_connect(server, "").expect("upgraded")
}

/// Asks for this path; the status where that is refused.
fn try_connect(server: &Server, path: &str) -> Result<Client, u16> {
    let internet = |address: &Address| address.internet().expect("TCP");
    let address = match server.tls_addresses() {
        [] => internet(&server.addresses()[0]),
        [address, ..] => {
            let client = PAIR.with(|(pair, _pki)| pair.client(rustls::ALL_VERSIONS, &[]));
            tunnel::open(internet(address), client)
        }
    };
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    match tungstenite::client(format!("ws://ringback.test/{path}"), stream) {
        Ok((client, _response)) => Ok(client),
        Err(HandshakeError::Failure(ClientError::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

/// Runs a server whose connections echo until `read_message` fails, and returns the
/// errors.
fn echoing(config: Config) -> (Server, mpsc::Receiver<MessageError>) {
    let (sender, ends) = mpsc::channel();
    let server = Server::start_with(config, move |mut socket: MessageSocket| {
        let sender = sender.clone();
        async move {
            let error = loop {
                let message = match socket.read_message().await {
                    Ok(message) => message,
                    Err(error) => break error,
                };
                if let Err(error) = socket.write_message(&message).await {
                    break error;
                }
            };
            sender.send(error).expect("the test waits");
        }
    })
    .expect("started");
    (server, ends)
}

fn expect_close(client: &mut Client, code: u16) {
    match client.read().expect("a Close") {
        ClientMessage::Close(Some(CloseFrame { code: sent, .. })) => {
            assert_eq!(u16::from(sent), code);
        }
        other => panic!("not a Close: {other:?}"),
    }
}

/// The end of the stream, and no reset.
#[track_caller]
fn expect_end_without_close(client: &mut Client) {
    let end = client.read().expect_err("the end");
    let is_clean = matches!(
        end,
        ClientError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    );
    assert!(is_clean, "{end}");
}

/// A reset because of unread bytes is an end as well; after the end of the stream the
/// kernel reports a broken pipe.
#[track_caller]
fn expect_end_or_reset(client: &mut Client) {
    match client.read() {
        Err(ClientError::ConnectionClosed) => {}
        Err(ClientError::Io(error))
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) => {}
        other => panic!("not an end: {other:?}"),
    }
}

fn messages_are_read_whole_with_their_type(engine: Engine) {
    let (server, ends) = echoing(config(engine));
    let mut client = connect(&server);
    for message in [
        ClientMessage::text("Grüße"),
        ClientMessage::text(""),
        ClientMessage::binary(vec![0, 255, 7]),
        ClientMessage::binary(vec![9; 5_000_000]),
    ] {
        client.send(message.clone()).expect("sent");
        assert_eq!(client.read().expect("echoed"), message);
    }
    client.close(None).expect("closing");
    assert!(matches!(client.read(), Ok(ClientMessage::Close(None))));
    assert!(matches!(client.read(), Err(ClientError::ConnectionClosed)));
    drop(client);
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::Closed { code: None })
    ));
    server.stop().expect("stopped");
}

fn fragments_are_joined_and_pings_answered_between_them(engine: Engine) {
    let (server, _ends) = echoing(config(engine));
    let mut client = connect(&server);
    let fragment = |payload: &'static [u8], opcode, fin| {
        ClientMessage::Frame(Frame::message(payload, OpCode::Data(opcode), fin))
    };
    client
        .send(fragment(b"one, \xe2\x82", Data::Text, false))
        .expect("sent");
    client
        .send(ClientMessage::Ping("still there?".into()))
        .expect("sent");
    client
        .send(fragment(b"\xac, three", Data::Continue, true))
        .expect("sent");
    assert_eq!(
        client.read().expect("a pong"),
        ClientMessage::Pong("still there?".into())
    );
    assert_eq!(
        client.read().expect("echoed"),
        ClientMessage::text("one, €, three")
    );
    drop(client);
    server.stop().expect("stopped");
}

fn message_over_max_message_gets_close_1009_and_violation(engine: Engine) {
    let (server, ends) = echoing(Config {
        max_message: Some(1000),
        ..config(engine)
    });
    let mut client = connect(&server);
    client
        .send(ClientMessage::binary(vec![1; 1000]))
        .expect("sent");
    assert_eq!(client.read().expect("echoed").len(), 1000);
    client
        .send(ClientMessage::binary(vec![1; 1001]))
        .expect("sent");
    expect_close(&mut client, 1009);
    drop(client);
    let end = ends.recv_timeout(TIMEOUT).expect("ended");
    assert!(matches!(end, MessageError::Violation(_)), "{end}");
    server.stop().expect("stopped");
}

/// A handler whose connection always has more to read never yields by itself.
fn constant_sender_does_not_starve_other_connections(engine: Engine) {
    let (server, _ends) = echoing(Config {
        threads: NonZeroUsize::new(1),
        ..config(engine)
    });
    let mut quiet = connect(&server);
    let busy = connect(&server);
    let mut stream = busy.get_ref().try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        // Pongs get no reply that would have to be read.
        let pongs = [0x8a, 0x80, 0, 0, 0, 0].repeat(500_000);
        scope.spawn(move || while stream.write_all(&pongs).is_ok() {});
        for number in 0..20 {
            let message = ClientMessage::text(number.to_string());
            quiet.send(message.clone()).expect("sent");
            assert_eq!(quiet.read().expect("echoed"), message);
        }
        busy.get_ref().shutdown(Shutdown::Both).expect("hung up");
    });
    drop((quiet, busy));
    server.stop().expect("stopped");
}

fn handler_closes_with_its_own_code(engine: Engine) {
    let server = Server::start_with(config(engine), async |mut socket| {
        let message = socket.read_message().await;
        assert!(matches!(message, Ok(Message::Text(text)) if text == "bye"));
        let code = CloseCode::received(4321).expect("a code for applications");
        socket.close(code, "").await;
    })
    .expect("started");
    let mut client = connect(&server);
    client.send(ClientMessage::text("bye")).expect("sent");
    expect_close(&mut client, 4321);
    drop(client);
    server.stop().expect("stopped");
}

fn handler_panic_closes_only_its_connection_with_1011(engine: Engine) {
    let config = Config {
        threads: NonZeroUsize::new(1),
        admin: Some("127.0.0.1:0".parse().expect("an address")),
        ..config(engine)
    };
    let server = Server::start_with(config, async |mut socket| {
        while let Ok(message) = socket.read_message().await {
            assert_ne!(message, Message::from("panic"), "the test's panic");
            if socket.write_message(&message).await.is_err() {
                break;
            }
        }
    })
    .expect("started");
    let mut other = connect(&server);
    for _ in 0..2 {
        let mut client = connect(&server);
        client.send(ClientMessage::text("panic")).expect("sent");
        // It is not read, and must not reset the connection before the Close is sent.
        client.send(ClientMessage::text("more")).expect("sent");
        expect_close(&mut client, 1011);
        expect_end_or_reset(&mut client);
    }
    other.send(ClientMessage::text("hello")).expect("sent");
    assert_eq!(other.read().expect("echoed"), ClientMessage::text("hello"));
    let address = server.admin_address().expect("configured");
    let page = Admin { address }.wait_for("both are counted", |page| {
        page.count("ringback_handler_panics_total", &[]) == 2
    });
    let labels = [("reason", "handler"), ("code", "1011")];
    assert_eq!(page.count("ringback_closes_total", &labels), 2);
    drop(other);
    server.stop().expect("no worker has failed");
}

fn stopped_server_echoes_received_messages_then_closes_1001(engine: Engine) {
    let (server, ends) = echoing(config(engine));
    let mut client = connect(&server);
    for number in 0..100 {
        client
            .send(ClientMessage::text(number.to_string()))
            .expect("sent");
    }
    let stopping = std::thread::spawn(move || server.stop());
    for number in 0..100 {
        assert_eq!(
            client.read().expect("echoed"),
            ClientMessage::text(number.to_string())
        );
    }
    expect_close(&mut client, 1001);
    assert!(matches!(client.read(), Err(ClientError::ConnectionClosed)));
    drop(client);
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::ServerShutdown)
    ));
    stopping.join().expect("no panic").expect("stopped");
}

fn idle_timeout_sends_ping_then_close_1001(engine: Engine) {
    let (server, ends) = echoing(Config {
        idle_timeout: Some(Duration::from_millis(50)),
        pong_timeout: Duration::from_millis(50),
        ..config(engine)
    });
    let mut client = connect(&server);
    // tungstenite answers a Ping with the next read; a client that does not read is
    // silent.
    let mut raw = client.get_mut().try_clone().expect("a second handle");
    let mut frame = [0; 6];
    Read::read_exact(&mut raw, &mut frame).expect("a ping and a close");
    assert_eq!(frame, [0x89, 0x00, 0x88, 0x02, 0x03, 0xe9]);
    raw.shutdown(Shutdown::Both).expect("hung up");
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::IdleTimeout)
    ));
    drop(client);
    server.stop().expect("stopped");
}

/// A write may be dropped at any time, and the next one follows it.
fn cancelled_write_loses_nothing(engine: Engine) {
    // More than sockets take.
    const LEN: usize = 48 << 20;
    let (sender, cancelled) = mpsc::channel();
    let server = Server::start_with(config(engine), move |mut socket: MessageSocket| {
        let sender = sender.clone();
        async move {
            let large = Message::from(vec![9; LEN]);
            let write = socket.write_message(&large);
            let result = timeout(Duration::from_millis(5), write).await;
            drop(large);
            sender.send(result.is_err()).expect("the test waits");
            let next = Message::from("next");
            socket.write_message(&next).await.expect("written");
            socket.close(CloseCode::NORMAL, "").await;
        }
    })
    .expect("started");
    let mut client = connect(&server);
    assert!(cancelled.recv_timeout(TIMEOUT).expect("a result"));
    let limits = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    client.set_config(|config| *config = limits);
    let whole = ClientMessage::binary(vec![9; LEN]);
    assert!(client.read().expect("written") == whole, "not the same");
    assert_eq!(client.read().expect("written"), ClientMessage::text("next"));
    expect_close(&mut client, 1000);
    drop(client);
    server.stop().expect("stopped");
}

fn cancelled_read_loses_and_repeats_nothing(engine: Engine) {
    let (sender, results) = mpsc::channel();
    let server = Server::start_with(config(engine), move |mut socket: MessageSocket| {
        let sender = sender.clone();
        async move {
            loop {
                match timeout(Duration::from_millis(5), socket.read_message()).await {
                    Err(_elapsed) => {}
                    Ok(Ok(message)) => sender.send(Ok(message)).expect("the test waits"),
                    Ok(Err(error)) => {
                        sender.send(Err(error)).expect("the test waits");
                        break;
                    }
                }
            }
        }
    })
    .expect("started");
    let mut client = connect(&server);
    let stream = client.get_mut();
    // A message, a Close, and a message that may not follow it; the client does not
    // close its end, so that the end takes longer than the handler's timeout.
    let frames = b"\x81\x83\0\0\0\0yes\x88\x82\0\0\0\0\x03\xe8\x81\x82\0\0\0\0no";
    for byte in frames {
        stream.write_all(&[*byte]).expect("sent");
    }
    let first = results.recv_timeout(TIMEOUT).expect("a message");
    assert!(matches!(first, Ok(Message::Text(text)) if text == "yes"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the end");
    assert_eq!(answer, b"\x88\x02\x03\xe8");
    drop(client);
    let second = results.recv_timeout(TIMEOUT).expect("an end");
    assert!(
        matches!(
            second,
            Err(MessageError::Closed {
                code: Some(CloseCode::NORMAL)
            })
        ),
        "{second:?}"
    );
    server.stop().expect("stopped");
}

/// A new read does not restart the idle timeout.
fn cancelled_reads_do_not_restart_idle_timeout(engine: Engine) {
    let (sender, ends) = mpsc::channel();
    let config = Config {
        idle_timeout: Some(Duration::from_millis(60)),
        pong_timeout: Duration::from_millis(60),
        ..config(engine)
    };
    let server = Server::start_with(config, move |mut socket: MessageSocket| {
        let sender = sender.clone();
        async move {
            let error = loop {
                let read = timeout(Duration::from_millis(5), socket.read_message());
                if let Ok(Err(error)) = read.await {
                    break error;
                }
            };
            sender.send(error).expect("the test waits");
        }
    })
    .expect("started");
    let mut client = connect(&server);
    let mut frames = [0; 6];
    client
        .get_mut()
        .read_exact(&mut frames)
        .expect("a ping and a close");
    assert_eq!(frames, [0x89, 0x00, 0x88, 0x02, 0x03, 0xe9]);
    drop(client);
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::IdleTimeout)
    ));
    server.stop().expect("stopped");
}

fn end_without_close_differs_from_close(engine: Engine) {
    let (server, ends) = echoing(config(engine));
    drop(connect(&server));
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::UnexpectedEof)
    ));
    let mut client = connect(&server);
    let frame = CloseFrame {
        code: coding::CloseCode::Away,
        reason: "".into(),
    };
    client.close(Some(frame)).expect("closing");
    expect_close(&mut client, 1001);
    drop(client);
    let end = ends.recv_timeout(TIMEOUT).expect("ended");
    assert!(
        matches!(
            end,
            MessageError::Closed {
                code: Some(CloseCode::GOING_AWAY)
            }
        ),
        "{end}"
    );
    server.stop().expect("stopped");
}

/// A blocking client: the handler reads a message, cannot write it, and the client
/// cannot send the next.
fn client_may_send_everything_before_it_reads(engine: Engine) {
    const MESSAGES: usize = 64;
    const MIB: usize = 1024 * 1024;
    let (server, ends) = echoing(Config {
        max_message: Some(64 << 20),
        ..config(engine)
    });
    let mut client = connect(&server);
    let message = |index: usize| {
        let mut bytes = vec![7; MIB];
        bytes[index] = 8;
        ClientMessage::binary(bytes)
    };
    for index in 0..MESSAGES {
        client.send(message(index)).expect("sent");
    }
    for index in 0..MESSAGES {
        assert!(client.read().expect("echoed") == message(index), "{index}");
    }
    let whole = ClientMessage::binary(vec![9; 64 * MIB]);
    client.send(whole.clone()).expect("sent");
    let limits = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    client.set_config(|config| *config = limits);
    assert!(client.read().expect("echoed") == whole, "all at once");
    client.close(None).expect("closing");
    while client.read().is_ok() {}
    drop(client);
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::Closed { code: None })
    ));
    server.stop().expect("stopped");
}

/// A client that never reads is not read without limit, and the messages read ahead are
/// dropped.
fn read_ahead_is_bounded_by_max_backlog(engine: Engine) {
    let (server, ends) = echoing(Config {
        max_backlog: Some(1 << 20),
        write_timeout: Duration::from_secs(1),
        ..config(engine)
    });
    let mut client = connect(&server);
    let message = ClientMessage::binary(vec![7; 100_000]);
    while client.send(message.clone()).is_ok() {}
    assert!(matches!(
        ends.recv_timeout(TIMEOUT),
        Ok(MessageError::SlowReader)
    ));
    server.stop().expect("stopped");
}

fn start(config: Config, handler: Handler) -> Server {
    Server::builder(config)
        .handler(handler)
        .start()
        .expect("started")
}

fn exchange(client: &mut Client, message: &str, answer: &str) {
    client.send(ClientMessage::text(message)).expect("sent");
    assert_eq!(
        client.read().expect("an answer"),
        ClientMessage::text(answer)
    );
}

fn example_shout_changes_messages(engine: Engine) {
    let server = start(config(engine), shout::handler());
    let mut client = connect(&server);
    exchange(&mut client, "grüße", "GRÜSSE");
    client
        .send(ClientMessage::binary(vec![1, 2, 3]))
        .expect("sent");
    assert_eq!(
        client.read().expect("an answer"),
        ClientMessage::binary(vec![3, 2, 1])
    );
    drop(client);
    server.stop().expect("stopped");
}

fn example_chat_reaches_clients_of_all_workers(engine: Engine) {
    let config = Config {
        threads: NonZeroUsize::new(2),
        ..config(engine)
    };
    let server = start(config, chat::handler());
    assert_eq!(try_connect(&server, "").err(), Some(400));
    let mut clients = Vec::new();
    for number in 0..6 {
        let mut client = try_connect(&server, &format!("?{number}")).expect("upgraded");
        let line = format!("{number}: hello");
        exchange(&mut client, "hello", &line);
        for client in &mut clients {
            let client: &mut Client = client;
            assert_eq!(client.read().expect("a line"), ClientMessage::text(&line));
        }
        clients.push(client);
    }
    drop(clients);
    server.stop().expect("stopped");
}

fn example_clock_sends_until_the_server_drains(engine: Engine) {
    let server = start(config(engine), clock::handler(Duration::from_millis(1)));
    let mut client = connect(&server);
    for _ in 0..3 {
        assert!(client.read().expect("a tick").is_text());
    }
    let stopping = std::thread::spawn(move || server.stop());
    let frame = loop {
        match client.read().expect("a tick, or a Close") {
            ClientMessage::Close(frame) => break frame.expect("a code"),
            message => assert!(message.is_text()),
        }
    };
    assert_eq!(u16::from(frame.code), 1001);
    drop(client);
    stopping.join().expect("no panic").expect("stopped");
}

fn close_frames_carry_reasons_both_ways(engine: Engine) {
    let (sender, ends) = mpsc::channel();
    let handler = move |mut socket: MessageSocket| {
        let sender = sender.clone();
        async move {
            let first = socket.recv().await;
            if let Some(Ok(Message::Text(reason))) = first {
                socket.close(CloseCode::NORMAL, &reason).await;
            }
            assert!(socket.recv().await.is_none());
            sender.send(socket.close_frame()).expect("the test waits");
        }
    };
    let server = start(config(engine), Handler::new(handler));
    let mut client = connect(&server);
    let long = "é".repeat(100);
    client.send(ClientMessage::text(&long)).expect("sent");
    match client.read().expect("a Close") {
        ClientMessage::Close(Some(frame)) => assert_eq!(frame.reason.as_str(), &long[..122]),
        other => panic!("not a Close: {other:?}"),
    }
    while client.read().is_ok() {}
    assert_eq!(ends.recv_timeout(TIMEOUT), Ok(None));
    let mut client = connect(&server);
    let frame = CloseFrame {
        code: coding::CloseCode::Away,
        reason: "tab closed".into(),
    };
    client.close(Some(frame)).expect("closing");
    while client.read().is_ok() {}
    let expected = (CloseCode::GOING_AWAY, "tab closed".to_owned());
    assert_eq!(ends.recv_timeout(TIMEOUT), Ok(Some(expected)));
    server.stop().expect("stopped");
}

fn halves_of_a_socket_work_on_their_own(engine: Engine) {
    let handler = async |socket: MessageSocket| {
        let (sender, mut receiver) = socket.split();
        sender.ping(b"there?").await.expect("open");
        assert!(matches!(receiver.recv().await, Some(Ok(_))));
        drop(receiver);
        let other = sender.clone();
        drop(sender);
        other.send_text("nobody listens").await.expect("open");
        other.close(CloseCode::NORMAL, "").await;
    };
    let server = start(config(engine), Handler::new(handler));
    let mut client = connect(&server);
    assert_eq!(
        client.read().expect("a Ping"),
        ClientMessage::Ping("there?".into())
    );
    client.send(ClientMessage::text("1")).expect("sent");
    assert_eq!(
        client.read().expect("a text"),
        ClientMessage::text("nobody listens")
    );
    expect_close(&mut client, 1000);
    drop(client);
    server.stop().expect("stopped");
}

fn handler_state_is_per_worker(engine: Engine) {
    let config = Config {
        threads: NonZeroUsize::new(1),
        ..config(engine)
    };
    let handler = Handler::per_worker(|| {
        let count = Rc::new(Cell::new(0));
        move |mut socket: MessageSocket| {
            let count = Rc::clone(&count);
            async move {
                while let Some(Ok(_)) = socket.recv().await {
                    count.set(count.get() + 1);
                    let count = count.get().to_string();
                    socket.send_text(count).await.expect("open");
                }
            }
        }
    });
    let server = start(config, handler);
    let mut clients = [connect(&server), connect(&server)];
    exchange(&mut clients[0], "x", "1");
    exchange(&mut clients[1], "x", "2");
    exchange(&mut clients[0], "x", "3");
    drop(clients);
    server.stop().expect("stopped");
}

/// A close with unread bytes would reset the connection, and what was sent with it.
fn handler_that_returns_loses_nothing_it_has_sent(engine: Engine) {
    const LEN: usize = 200_000;
    let handler = Handler::new(async |mut socket| {
        let _ = socket.recv().await;
        let _ = socket.send(vec![7; LEN]).await;
    });
    let server = start(config(engine), handler);
    let mut client = connect(&server);
    for text in ["first", "unread", "unread"] {
        client.send(ClientMessage::text(text)).expect("sent");
    }
    let answer = client.read().expect("an answer");
    assert_eq!(answer, ClientMessage::binary(vec![7; LEN]));
    expect_end_without_close(&mut client);
    drop(client);
    server.stop().expect("stopped");
}

fn panic_in_accepting_is_500_and_ends_nothing_else(engine: Engine) {
    let handler = Handler::new(async |mut socket: MessageSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let handler = handler.accepting(|request| {
        assert_ne!(request.query(), Some("panic"), "on demand");
        Ok(())
    });
    let server = start(config(engine), handler);
    let mut other = connect(&server);
    assert_eq!(try_connect(&server, "?panic").err(), Some(500));
    exchange(&mut other, "undisturbed", "undisturbed");
    drop(other);
    server.stop().expect("no worker has failed");
}

fn draining_is_ready_at_the_end_of_a_connection(engine: Engine) {
    let (ended, ends) = mpsc::channel();
    let handler = Handler::new(move |socket: MessageSocket| {
        let (draining, ended) = (socket.draining(), ended.clone());
        tokio::task::spawn_local(async move {
            draining.await;
            ended.send(()).expect("the test waits");
        });
        async move { drop(socket) }
    });
    let server = start(config(engine), handler);
    drop(connect(&server));
    ends.recv_timeout(TIMEOUT).expect("ready");
    server.stop().expect("stopped");
}

fn empty_messages_do_not_starve_other_connections(engine: Engine) {
    let handler = Handler::new(async |mut socket| {
        let Some(Ok(Message::Text(text))) = socket.recv().await else {
            return;
        };
        while socket
            .send_text(if text.as_str() == "flood" { "" } else { "once" })
            .await
            .is_ok()
            && text.as_str() == "flood"
        {}
        let _ = socket.recv().await;
    });
    let server = start(config(engine), handler);
    let mut flooded = connect(&server);
    flooded.send(ClientMessage::text("flood")).expect("sent");
    assert_eq!(flooded.read().expect("a message"), ClientMessage::text(""));
    let mut other = connect(&server);
    exchange(&mut other, "hello", "once");
    drop((flooded, other));
    server.stop().expect("stopped");
}

fn half_closed_client_is_cut_when_its_handler_does_not_come_back(engine: Engine) {
    let (ended, ends) = mpsc::channel();
    let handler = Handler::new(move |mut socket: MessageSocket| {
        let ended = ended.clone();
        async move {
            let _ = socket.recv().await;
            while socket.ping(b"").await.is_ok() {
                // Its client sends no more, and the handler does not ask for any.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ended.send(()).expect("the test waits");
        }
    });
    let config = Config {
        idle_timeout: Some(Duration::from_millis(200)),
        ..config(engine)
    };
    let server = start(config, handler);
    let mut client = connect(&server);
    client.send(ClientMessage::text("only")).expect("sent");
    client
        .get_ref()
        .shutdown(Shutdown::Write)
        .expect("half-closed");
    ends.recv_timeout(TIMEOUT).expect("cut");
    drop(client);
    server.stop().expect("stopped");
}

fn dropped_socket_ends_its_connection_before_the_handler_returns(engine: Engine) {
    let (client_has_read, go_on) = tokio::sync::watch::channel(false);
    let handler = Handler::new(move |socket: MessageSocket| {
        let mut go_on = go_on.clone();
        async move {
            drop(socket);
            go_on.wait_for(|&may| may).await.expect("the test goes on");
        }
    });
    let server = start(config(engine), handler);
    let mut client = connect(&server);
    expect_end_without_close(&mut client);
    client_has_read.send(true).expect("the handler waits");
    drop(client);
    server.stop().expect("stopped");
}
