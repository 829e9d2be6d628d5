//! The whole server: a round trip over loopback, from a blocking client.
//!
//! The server is embedded, with one worker, for each engine that works here. The time is
//! that of client, kernel and server together, on whatever cores the scheduler picks: it
//! shows what a change does to the path, not what a server costs. `benches/peers`
//! measures that.

#![allow(missing_docs, reason = "criterion's macros write items")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringback::{Config, EngineChoice, EngineKind, Server};

/// A server that does not answer fails the benchmark.
const TIMEOUT: Duration = Duration::from_secs(10);

const MASK: [u8; 4] = [0x1d, 0xe5, 0x77, 0x0a];

/// The bytes of one send, and their replies.
struct Exchange {
    name: &'static str,
    messages: usize,
    payload_len: u16,
    throughput: Throughput,
}

const EXCHANGES: [Exchange; 3] = [
    Exchange {
        name: "ping-pong-32",
        messages: 1,
        payload_len: 32,
        throughput: Throughput::Elements(1),
    },
    Exchange {
        name: "batch-256x32",
        messages: 256,
        payload_len: 32,
        throughput: Throughput::Elements(256),
    },
    Exchange {
        name: "message-16k",
        messages: 1,
        payload_len: 16 * 1024,
        throughput: Throughput::Bytes(16 * 1024),
    },
];

impl Exchange {
    /// Masked frames of a client.
    fn request(&self) -> Vec<u8> {
        let payload = self.payload();
        let masked = payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key);
        let mut frame = self.head(0x80);
        frame.extend(MASK);
        frame.extend(masked);
        frame.repeat(self.messages)
    }

    /// The same frames without masks, as the server's replies.
    fn reply(&self) -> Vec<u8> {
        let mut frame = self.head(0);
        frame.extend(self.payload());
        frame.repeat(self.messages)
    }

    fn head(&self, mask_bit: u8) -> Vec<u8> {
        let mut head = vec![0x82];
        if let Ok(len @ 0..126) = u8::try_from(self.payload_len) {
            head.push(mask_bit | len);
        } else {
            head.push(mask_bit | 126);
            head.extend(self.payload_len.to_be_bytes());
        }
        head
    }

    fn payload(&self) -> Vec<u8> {
        let text = b"The quick brown fox jumps over the lazy dog. ";
        let bytes = text.iter().cycle().copied();
        bytes.take(usize::from(self.payload_len)).collect()
    }
}

fn end_to_end(criterion: &mut Criterion) {
    for exchange in &EXCHANGES {
        let (request, reply) = (exchange.request(), exchange.reply());
        let mut group = criterion.benchmark_group(exchange.name);
        group.throughput(exchange.throughput.clone());
        for &engine in EngineKind::ALL {
            if let Err(error) = engine.probe() {
                println!("{}/{engine}: {error}", exchange.name);
                continue;
            }
            let server = start(engine);
            let mut client = connect(server.addresses()[0].internet().expect("TCP"));
            let mut received = vec![0; reply.len()];
            group.bench_function(BenchmarkId::from_parameter(engine), |bencher| {
                bencher.iter(|| {
                    client.write_all(&request).expect("sent");
                    client.read_exact(&mut received).expect("echoed");
                });
            });
            assert!(received == reply, "{engine} echoes something else");
            drop(client);
            server.stop().expect("stopped");
        }
    }
}

fn start(engine: EngineKind) -> Server {
    Server::start(Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        engine: EngineChoice::Only(engine),
        threads: NonZeroUsize::new(1),
        pin: false,
        drain_timeout: Duration::ZERO,
        ..Config::default()
    })
    .expect("a server on a free port")
}

/// An upgraded connection.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    stream.set_write_timeout(Some(TIMEOUT)).expect("set");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
    stream
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = end_to_end
}
criterion_main!(benches);
