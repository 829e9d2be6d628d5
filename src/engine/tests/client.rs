//! A client that knows what must come back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest to wait for the next bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(300);

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// First bytes of frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
const TEXT_FRAGMENT: u8 = 0x01;
const LAST_FRAGMENT: u8 = 0x80;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
pub(crate) const CLOSE: u8 = 0x88;

/// A handshake that every worker accepts.
pub(crate) const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What is sent at once, and what must come back before the next.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) send: Vec<u8>,
    pub(crate) expect: Vec<u8>,
}

/// How a conversation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should, with the closing handshake.
    Closed,
    /// With a reset, or the end of the stream, before that.
    Cut,
}

/// A connection to a worker or a server, upgraded.
pub(crate) fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(2 * PATIENCE)).expect("set");
    stream.write_all(REQUEST.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    stream
}

/// A frame as a client sends it.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    frame[1] |= 0x80;
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// The same as a server does.
pub(crate) fn reply(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len()), payload.to_vec()].concat()
}

fn header(first: u8, len: usize) -> Vec<u8> {
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => vec![first, len],
        (_, Ok(len)) => [&[first, 126], &len.to_be_bytes()[..]].concat(),
        _ => [&[first, 127], &(len as u64).to_be_bytes()[..]].concat(),
    }
}

/// Payload in which no two places are alike for long.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A bit of everything: small frames, control frames, fragments, frames that
/// come in parts, a batch, and frames longer than every buffer.
pub(crate) fn script() -> Vec<Step> {
    let echo = |first, payload: &[u8]| Step {
        send: frame(first, payload),
        expect: reply(first, payload),
    };
    let (part, rest) = (frame(BINARY, &noise(3000)), reply(BINARY, &noise(3000)));
    let batch: Vec<_> = (0..200)
        .map(|index| echo(TEXT, &[b'a'; 60][..index % 60]))
        .collect();
    let fragments = [
        frame(TEXT_FRAGMENT, b"half "),
        frame(PING, b"?"),
        frame(LAST_FRAGMENT, b"and half"),
    ];
    let fragments_back = [
        reply(TEXT_FRAGMENT, b"half "),
        reply(PONG, b"?"),
        reply(LAST_FRAGMENT, b"and half"),
    ];
    vec![
        echo(TEXT, b"hello"),
        Step {
            send: frame(PING, b"are you there?"),
            expect: reply(PONG, b"are you there?"),
        },
        Step {
            send: fragments.concat(),
            expect: fragments_back.concat(),
        },
        Step {
            send: part[..1].to_vec(),
            expect: Vec::new(),
        },
        Step {
            send: [&part[1..], &frame(TEXT, b"behind it")].concat(),
            expect: [rest, reply(TEXT, b"behind it")].concat(),
        },
        Step {
            send: batch.iter().flat_map(|step| step.send.clone()).collect(),
            expect: batch.iter().flat_map(|step| step.expect.clone()).collect(),
        },
        echo(BINARY, &noise(5000)),
        echo(BINARY, &noise(150_000)),
        echo(TEXT, b"and a last one"),
    ]
}

/// All that comes back of a conversation that goes well.
pub(crate) fn everything(leftover: &[u8], steps: &[Step]) -> Vec<u8> {
    let replies = steps.iter().flat_map(|step| step.expect.clone());
    leftover
        .iter()
        .copied()
        .chain(replies)
        .chain(bye())
        .collect()
}

fn bye() -> Vec<u8> {
    reply(CLOSE, &1000_u16.to_be_bytes())
}

pub(crate) struct Client {
    stream: TcpStream,
    pub(crate) received: Vec<u8>,
    pub(crate) end: Option<End>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        Self {
            stream,
            received: Vec::new(),
            end: None,
        }
    }

    /// Takes a step, unless the conversation is over.
    pub(crate) fn take(&mut self, step: &Step) {
        if self.end.is_some() {
            return;
        }
        let expected = self.received.len() + step.expect.len();
        let mut unsent = &step.send[..];
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let before = (unsent.len(), self.received.len());
            self.write(&mut unsent);
            self.read();
            if (unsent.len(), self.received.len()) != before {
                deadline = Instant::now() + PATIENCE;
            }
            let is_done = unsent.is_empty() && self.received.len() >= expected;
            if is_done || self.end.is_some() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{} bytes instead of {expected}",
                self.received.len()
            );
            self.wait(!unsent.is_empty());
        }
    }

    /// Sends a short message, and waits for nothing.
    pub(crate) fn say(&self, message: &[u8]) {
        assert_eq!(self.say_what_fits(message), message.len(), "there is room");
    }

    /// Sends as much of a message as there is room for.
    pub(crate) fn say_what_fits(&self, message: &[u8]) -> usize {
        match (&self.stream).write(message) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads what has come.
    pub(crate) fn read_what_is_there(&mut self) {
        let mut before = usize::MAX;
        while self.received.len() != before {
            before = self.received.len();
            self.read();
        }
    }

    /// Reads whatever is left.
    pub(crate) fn read_to_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.end.is_none() {
            assert!(Instant::now() < deadline, "the stream does not end");
            self.wait(false);
            self.read();
        }
    }

    /// Receives bytes that come without being asked for.
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let before = self.received.len();
        self.take(&Step {
            send: Vec::new(),
            expect: bytes.to_vec(),
        });
        assert_eq!(&self.received[before..], bytes);
    }

    /// Ends the conversation with a closing handshake.
    pub(crate) fn close(&mut self) {
        self.take(&Step {
            send: frame(CLOSE, &1000_u16.to_be_bytes()),
            expect: bye(),
        });
        let complete = self.end.is_none();
        self.read_to_end();
        if complete {
            self.end = Some(End::Closed);
        }
        // If this fails, the server was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn write(&mut self, unsent: &mut &[u8]) {
        match self.stream.write(unsent) {
            Ok(len) => *unsent = &unsent[len..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // There may still be something to read.
            Err(_) => *unsent = &[],
        }
    }

    fn read(&mut self) {
        let mut space = [0; 16 * 1024];
        match self.stream.read(&mut space) {
            Ok(0) => self.end = Some(End::Cut),
            Ok(len) => self.received.extend_from_slice(&space[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end = Some(End::Cut),
        }
    }

    fn wait(&self, for_room: bool) {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, for_room);
        let timeout = Timespec::try_from(PATIENCE).expect("seconds");
        poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)).expect("polled");
    }
}

/// Has clients hear what each has asked for already, take the steps of a script in
/// turn, and say good-bye.
pub(crate) fn converse(clients: &mut [Client], begins: &[Vec<u8>], steps: &[Step]) {
    for (client, begin) in clients.iter_mut().zip(begins) {
        client.take(&Step {
            send: Vec::new(),
            expect: begin.clone(),
        });
    }
    for step in steps {
        for client in &mut *clients {
            client.take(step);
        }
    }
    for client in clients {
        client.close();
    }
}
