//! The server under measurement: a process of its own, on a core of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringback::EngineKind;

pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) struct Server {
    process: Child,
    address: String,
}

/// The real binary with one worker, which pins itself to the first core.
pub(crate) fn ringback(engine: EngineKind) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command
        .args(["--listen=127.0.0.1:0", "--threads=1", "--log=warn"])
        .args(["--engine", engine.name()]);
    command
}

/// Pins the calling thread. With one core the figures mean less.
pub(crate) fn pin(core: usize) {
    let _ = host::cores::pin(core);
}

impl Server {
    /// Starts it on the first core and moves to the second: a child inherits its
    /// parent's cores.
    pub(crate) fn start(command: &mut Command) -> Self {
        pin(SERVER_CORE);
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        pin(CLIENT_CORE);
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the server says where it listens");
        let address = line
            .split(' ')
            .nth(1)
            .and_then(|url| url.strip_prefix("ws://"))
            .expect("an address")
            .to_owned();
        Self { process, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// An upgraded connection.
    pub(crate) fn upgrade(&self) -> TcpStream {
        let mut stream = self.connect();
        let timeout = Some(Duration::from_secs(10));
        stream.set_read_timeout(timeout).expect("an option");
        stream.write_all(REQUEST).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
