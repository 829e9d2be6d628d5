//! Clients: tungstenite, which keeps the rules and shares no code with the server, and
//! raw sockets to break them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::TIMEOUT;
use super::wire::{ACCEPT, CLOSE, REQUEST};

/// A client that keeps the rules.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
}

/// No limits on messages; small buffers, for thousands of clients.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(16 * 1024)
        .max_message_size(None)
        .max_frame_size(None)
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = dial(address);
        let (socket, _response) = tungstenite::client::client_with_config(
            format!("ws://{address}/"),
            stream,
            Some(config()),
        )
        .expect("upgraded");
        Self { socket }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).expect("sent");
    }

    /// Sends, unless the connection is closed.
    #[track_caller]
    pub(crate) fn try_send(&mut self, message: impl Into<Message>) -> bool {
        match self.socket.send(message.into()) {
            Ok(()) => true,
            Err(Error::Io(error)) if is_cut(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends with the next [`send`](Self::send), or when the buffer is full.
    #[track_caller]
    pub(crate) fn queue(&mut self, message: impl Into<Message>) {
        self.socket.write(message.into()).expect("queued");
    }

    #[track_caller]
    pub(crate) fn flush(&mut self) {
        self.socket.flush().expect("sent");
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> Message {
        self.socket.read().expect("a message")
    }

    /// Receives exactly this message.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &Message) {
        let received = self.receive();
        // A difference of megabytes is not readable.
        assert!(
            received == *expected,
            "got {}, not {}",
            summary(&received),
            summary(expected)
        );
    }

    /// Sends a message and gets it back.
    #[track_caller]
    pub(crate) fn echo(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.send(message.clone());
        self.expect(&message);
    }

    /// Sends all messages from one thread and receives their echoes in another.
    #[track_caller]
    pub(crate) fn echo_all(&mut self, messages: &[Message]) {
        let mut writer = self.second_handle();
        thread::scope(|scope| {
            scope.spawn(move || {
                for message in messages {
                    writer.queue(message.clone());
                }
                writer.flush();
            });
            for message in messages {
                self.expect(message);
            }
        });
    }

    /// Closes the connection; expects the same Close and the end.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.socket.close(None).expect("sent");
        let closed = self.receive();
        assert!(closed.is_close(), "{}", summary(&closed));
        let end = self.socket.read().expect_err("the end");
        assert!(matches!(end, Error::ConnectionClosed), "{end}");
    }

    /// Expects a Close with this code and the end.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16) {
        let closed = self.receive();
        let Message::Close(Some(frame)) = &closed else {
            panic!("{} instead of Close {code}", summary(&closed));
        };
        assert_eq!(u16::from(frame.code), code);
        let end = self.socket.read().expect_err("the end");
        assert!(matches!(end, Error::ConnectionClosed), "{end}");
    }

    /// The client's own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.get_ref().local_addr().expect("connected")
    }

    /// A second handle of the same connection, so that one thread writes and one reads.
    fn second_handle(&self) -> Self {
        let stream = self.socket.get_ref().try_clone().expect("a descriptor");
        Self {
            socket: WebSocket::from_raw_socket(stream, Role::Client, Some(config())),
        }
    }
}

/// The type, length and first bytes of a message.
fn summary(message: &Message) -> String {
    let kind = match message {
        Message::Text(_) => "text",
        Message::Binary(_) => "binary",
        Message::Close(_) => "close",
        _ => "ping or pong",
    };
    let bytes = message.clone().into_data();
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    format!("{kind} of {} bytes: {start:?}", bytes.len())
}

/// A client that sends any bytes.
pub(crate) struct Raw {
    stream: TcpStream,
    /// Received bytes that no call has returned yet.
    inbox: Vec<u8>,
    /// Bytes of a frame that [`send_what_fits`](Self::send_what_fits) has sent.
    partly_sent: usize,
}

/// A server's frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    /// A TCP connection, before its handshake.
    #[track_caller]
    pub(crate) fn dial(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// A connection from another address of this machine.
    #[track_caller]
    pub(crate) fn dial_from(source: IpAddr, address: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .expect("bound");
        socket.connect(&address.into()).expect("connected");
        Self::over(prepare(socket.into()))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            partly_sent: 0,
        }
    }

    /// An upgraded connection.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut raw = Self::dial(address);
        raw.send(REQUEST.as_bytes());
        raw.expect_upgrade();
        raw
    }

    /// An upgraded connection with small socket buffers.
    #[track_caller]
    pub(crate) fn open_with_small_buffers(address: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        // The window is fixed when the connection is made.
        socket.set_recv_buffer_size(4096).expect("set");
        socket.set_send_buffer_size(64 * 1024).expect("set");
        socket.connect(&address.into()).expect("connected");
        let mut raw = Self::over(prepare(socket.into()));
        raw.send(REQUEST.as_bytes());
        raw.expect_upgrade();
        raw
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends until the connection is cut; returns whether all was sent.
    #[track_caller]
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_cut(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends this repeatedly until the connection is cut; fails if that never happens.
    #[track_caller]
    pub(crate) fn send_until_cut(&mut self, bytes: &[u8]) {
        loop {
            match self.stream.write_all(bytes) {
                Ok(()) => {}
                Err(error) if is_cut(&error) => return,
                Err(error) => panic!("still not cut: {error}"),
            }
        }
    }

    /// A closure that ends [`send_until_cut`](Self::send_until_cut) from another thread.
    pub(crate) fn shutdown_handle(&self) -> impl FnOnce() + use<> {
        let stream = self.stream.try_clone().expect("a descriptor");
        move || {
            // The server may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// As [`send_until_cut`](Self::send_until_cut), with pauses.
    #[track_caller]
    pub(crate) fn send_slowly_until_cut(&mut self, bytes: &[u8], pause: Duration) {
        super::wait_until("the connection is cut", || {
            thread::sleep(pause);
            match self.stream.write_all(bytes) {
                Ok(()) => false,
                Err(error) => is_cut(&error),
            }
        });
    }

    /// Sends as much of this as the socket takes now.
    #[track_caller]
    pub(crate) fn send_what_fits(&mut self, bytes: &[u8]) -> u64 {
        self.try_send_what_fits(bytes).expect("it is not cut")
    }

    /// The same; `None` if the connection is cut.
    #[track_caller]
    pub(crate) fn try_send_what_fits(&mut self, bytes: &[u8]) -> Option<u64> {
        let mut rest = &bytes[self.partly_sent..];
        self.stream.set_nonblocking(true).expect("set");
        let sent = match self.stream.write(rest) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if is_cut(&error) => return None,
            Err(error) => panic!("{error}"),
        };
        self.stream.set_nonblocking(false).expect("set");
        rest = &rest[sent..];
        self.partly_sent = if rest.is_empty() {
            0
        } else {
            bytes.len() - rest.len()
        };
        Some(sent as u64)
    }

    /// Sends this repeatedly until the socket takes no more.
    #[track_caller]
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        super::wait_until_stable("the sockets are full", || {
            sent += self.send_what_fits(bytes);
            sent
        });
    }

    /// Shuts down the sending side.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("set");
    }

    /// Reads the head of an HTTP response.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        self.head_unless_cut().expect("a response")
    }

    /// As [`head`](Self::head); `None` if the connection is cut before it.
    #[track_caller]
    pub(crate) fn head_unless_cut(&mut self) -> Option<String> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            if let Some(at) = self.inbox.windows(END.len()).position(|bytes| bytes == END) {
                let head = self.inbox.drain(..at + END.len()).collect();
                return Some(String::from_utf8(head).expect("ASCII"));
            }
            match self.try_fill() {
                Ok(0) => panic!("the end came inside of {:?}", self.inbox),
                Ok(_) => {}
                Err(error) if is_cut(&error) && self.inbox.is_empty() => return None,
                Err(error) => panic!("bytes or the end: {error}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_upgrade(&mut self) {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(ACCEPT), "{head}");
    }

    /// Expects an HTTP response with this status, one line of text, and the end.
    #[track_caller]
    pub(crate) fn expect_refusal(&mut self, status: u16) {
        let head = self.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let body = String::from_utf8(self.rest()).expect("UTF-8");
        assert_eq!(body.lines().count(), 1, "{body:?}");
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, len: usize) -> Vec<u8> {
        while self.inbox.len() < len {
            assert!(
                self.fill() > 0,
                "the end came after {} of {len} bytes",
                self.inbox.len()
            );
        }
        self.inbox.drain(..len).collect()
    }

    /// Receives exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let received = self.receive(expected.len());
        if received != expected {
            let at = received
                .iter()
                .zip(expected)
                .take_while(|(a, b)| a == b)
                .count();
            panic!("byte {at} of {} is wrong", expected.len());
        }
    }

    /// Receives exactly these bytes, and reads no others from the socket.
    #[track_caller]
    pub(crate) fn expect_unbuffered(&mut self, expected: &[u8]) {
        assert!(self.inbox.is_empty(), "more bytes were read already");
        let mut received = vec![0; expected.len()];
        self.stream.read_exact(&mut received).expect("bytes");
        assert!(received == expected, "{received:x?}, not {expected:x?}");
    }

    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        let start = self.receive(2);
        assert_eq!(start[1] & 0x80, 0, "servers do not mask");
        let len = match start[1] {
            126 => number(&self.receive(2)),
            127 => number(&self.receive(8)),
            short => usize::from(short),
        };
        Frame {
            first: start[0],
            payload: self.receive(len),
        }
    }

    #[track_caller]
    pub(crate) fn expect_frame(&mut self, first: u8, payload: &[u8]) {
        let frame = self.frame();
        assert_eq!(frame.first, first, "{frame:x?}");
        assert!(frame.payload == payload, "{frame:x?}");
    }

    /// Expects a Close with this code and then the end: nothing in between, and no
    /// reset.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16) {
        self.expect_frame(CLOSE, &code.to_be_bytes());
        self.expect_end();
    }

    /// Expects the end of the stream.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more bytes came: {rest:x?}");
    }

    /// All bytes up to the end of the stream.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.inbox)
    }

    /// All bytes until the server closes or resets the connection.
    #[track_caller]
    pub(crate) fn rest_until_cut(&mut self) -> Vec<u8> {
        loop {
            match self.try_fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_cut(&error) => break,
                Err(error) => panic!("still not cut: {error}"),
            }
        }
        std::mem::take(&mut self.inbox)
    }

    /// Whether a read would return at once, with bytes or with the end.
    pub(crate) fn is_readable(&self) -> bool {
        if !self.inbox.is_empty() {
            return true;
        }
        self.stream.set_nonblocking(true).expect("set");
        let news = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("set");
        !matches!(news, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    #[track_caller]
    fn fill(&mut self) -> usize {
        self.try_fill().expect("bytes or the end")
    }

    fn try_fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        // A stop and continue of the process interrupts a read that has a timeout.
        let len = loop {
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.inbox.extend_from_slice(&piece[..len]);
        Ok(len)
    }
}

/// Connects, with timeouts for all calls.
#[track_caller]
fn dial(address: SocketAddr) -> TcpStream {
    prepare(TcpStream::connect_timeout(&address, TIMEOUT).expect("connected"))
}

fn prepare(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    stream.set_write_timeout(Some(TIMEOUT)).expect("set");
    stream.set_nodelay(true).expect("set");
    stream
}

fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | usize::from(byte))
}
