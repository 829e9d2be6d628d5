//! The round trips of a ping-pong client, alone and beside ten neighbours that flood, on
//! every engine. With `--check`, a p99 that grows tenfold is a failure.
//!
//! The server's one worker is pinned to the first core; this process, on the second, is
//! one loop over all connections. It checks for the reply between two steps of a
//! flooder, so a reply is seen as late as one step takes.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod server;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ringback::EngineKind;

use server::{Server, ringback};

const FLOODERS: usize = 10;
const DURATION: Duration = Duration::from_secs(3);

/// The limit: p99 beside the flooders, as a multiple of p99 without.
const RATIO_MAX: f64 = 10.0;

fn main() -> ExitCode {
    let is_asked = |flag| std::env::args().any(|arg| arg == flag);
    // `cargo test --benches` only checks that this runs.
    let duration = if is_asked("--bench") {
        DURATION
    } else {
        Duration::from_millis(50)
    };
    println!("ping-pong, 32 B, alone and beside {FLOODERS} flooding connections");
    let mut is_fair = true;
    for &engine in EngineKind::ALL {
        if let Err(error) = engine.probe() {
            println!("{engine:<12} {error}");
            continue;
        }
        let server = Server::start(&mut ringback(engine));
        let quiet = ping(&server, 0, duration);
        let loud = ping(&server, FLOODERS, duration);
        let ratio = loud.p99 / quiet.p99;
        is_fair &= ratio < RATIO_MAX;
        println!(
            "{engine:<12} p50 {:>6.1} to {:>6.1} µs   p99 {:>6.1} to {:>6.1} µs   × {ratio:.1}",
            quiet.p50, loud.p50, quiet.p99, loud.p99
        );
    }
    if is_asked("--check") && !is_fair {
        println!("p99 grew by {RATIO_MAX} or more");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Round trips in microseconds.
struct RoundTrips {
    p50: f64,
    p99: f64,
}

fn ping(server: &Server, flooders: usize, duration: Duration) -> RoundTrips {
    let flood = frames(4096, 16);
    let mut flooders: Vec<_> = (0..flooders).map(|_| Flooder::new(server)).collect();
    let mut buf = vec![0; 256 * 1024];
    let mut pinger = Pinger::new(server);
    let start = Instant::now();
    while start.elapsed() < duration {
        pinger.step();
        for flooder in &mut flooders {
            flooder.write(&flood);
            pinger.step();
            flooder.read(&mut buf);
            pinger.step();
        }
    }
    pinger.round_trips()
}

struct Pinger {
    stream: TcpStream,
    message: Vec<u8>,
    sent: Instant,
    /// Bytes of the reply that are missing.
    missing: usize,
    micros: Vec<f64>,
}

impl Pinger {
    fn new(server: &Server) -> Self {
        Self {
            stream: connect(server),
            message: frames(32, 1),
            sent: Instant::now(),
            missing: 0,
            micros: Vec::new(),
        }
    }

    fn step(&mut self) {
        if self.missing == 0 {
            self.sent = Instant::now();
            self.stream.write_all(&self.message).expect("sent");
            // The reply has no mask.
            self.missing = self.message.len() - 4;
        }
        let mut buf = [0; 64];
        match self.stream.read(&mut buf[..self.missing]) {
            Ok(0) => panic!("hung up"),
            Ok(len) => {
                self.missing -= len;
                if self.missing == 0 {
                    self.micros.push(self.sent.elapsed().as_secs_f64() * 1e6);
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }

    fn round_trips(mut self) -> RoundTrips {
        self.micros.sort_by(f64::total_cmp);
        let at = |share: usize| self.micros[self.micros.len() * share / 100];
        RoundTrips {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// A connection that always has more to send.
struct Flooder {
    stream: TcpStream,
    written: usize,
}

impl Flooder {
    fn new(server: &Server) -> Self {
        Self {
            stream: connect(server),
            written: 0,
        }
    }

    fn write(&mut self, flood: &[u8]) {
        match self.stream.write(&flood[self.written..]) {
            Ok(len) => self.written = (self.written + len) % flood.len(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }

    fn read(&mut self, buf: &mut [u8]) {
        match self.stream.read(buf) {
            Ok(len) => assert!(len > 0, "hung up"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// Binary messages of this length, masked with zeros.
fn frames(len: u16, count: usize) -> Vec<u8> {
    let mut frame = if len < 126 {
        vec![0x82, 0x80 | u8::try_from(len).expect("short")]
    } else {
        let [high, low] = len.to_be_bytes();
        vec![0x82, 0x80 | 126, high, low]
    };
    frame.resize(frame.len() + 4 + usize::from(len), 0);
    frame.repeat(count)
}

/// An upgraded connection, non-blocking.
fn connect(server: &Server) -> TcpStream {
    let stream = server.upgrade();
    stream.set_nonblocking(true).expect("an option");
    stream
}
