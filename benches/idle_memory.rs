//! What an idle connection costs in user memory: 10,000 of them, each upgraded
//! and used for one message, on every engine.
//!
//! The server is the real binary in a process of its own; what is counted is
//! its anonymous resident memory, which does not include the kernel's socket
//! buffers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host::Root;
use ringback::{EngineKind, raise_descriptor_limit};

const CONNECTIONS: u64 = 10_000;

/// The largest share of the limit on open files that this takes.
const SPARE_DESCRIPTORS: u64 = 100;

const MESSAGE: &[u8] = b"\x82\x83\x00\x00\x00\x00abc";
const ECHO: &[u8] = b"\x82\x03abc";

fn main() {
    // `cargo test --benches` only asks whether this runs.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let limit = raise_descriptor_limit().expect("a limit on open files");
    let connections = if is_test {
        10
    } else {
        CONNECTIONS.min(limit.unwrap_or(u64::MAX) - SPARE_DESCRIPTORS)
    };
    for &engine in EngineKind::ALL {
        match engine.probe() {
            Ok(()) => println!(
                "{engine:<12} {:>6} bytes per idle connection ({connections} connections)",
                measure(engine, connections)
            ),
            Err(error) => println!("{engine:<12} {error}"),
        }
    }
}

fn measure(engine: EngineKind, connections: u64) -> u64 {
    let server = Server::start(engine);
    // The first connections pay for what all share.
    let warm_up: Vec<_> = (0..100).map(|_| server.use_once()).collect();
    drop(warm_up);
    let before = server.anonymous_bytes();
    let idle: Vec<_> = (0..connections).map(|_| server.use_once()).collect();
    let after = server.anonymous_bytes();
    drop(idle);
    after.saturating_sub(before) / connections
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(engine: EngineKind) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_ringback"))
            .args(["--listen=127.0.0.1:0", "--threads=1", "--log=warn"])
            .args(["--engine", engine.name()])
            // In huge pages, memory would grow in steps of 2 MiB.
            .env("MIMALLOC_ALLOW_THP", "0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
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

    /// A connection that was upgraded and has had one message echoed.
    fn use_once(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
        stream.write_all(MESSAGE).expect("sent");
        let mut echo = [0; ECHO.len()];
        stream.read_exact(&mut echo).expect("an echo");
        assert_eq!(echo, ECHO);
        stream
    }

    fn anonymous_bytes(&self) -> u64 {
        let status = format!("proc/{}/status", self.process.id());
        let bytes = Root::of_this_machine().bytes(status, "RssAnon");
        bytes.expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
