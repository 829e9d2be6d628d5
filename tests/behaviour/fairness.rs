//! The share of connections beside others that flood.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::thread;

use ringback::Config;

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine, on_every_engine_over_tls};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{BINARY, TEXT, frame, noise, unmasked};

on_every_engine![
    message_waits_for_one_buffer_of_each_flooder_at_most,
    every_flooder_is_served,
];

on_every_engine_over_tls![every_flooder_is_served,];

const FLOODERS: u64 = 10;

/// The largest read.
const BUFFER: u64 = 68 * 1024;

/// Elapsed time is no measure on a busy machine. The test counts the bytes that the
/// server has read from others between a message and its reply, and takes the least of
/// many rounds: the other rounds contain what the server did while the test waited for a
/// core.
fn message_waits_for_one_buffer_of_each_flooder_at_most(engine: Engine) {
    const ROUNDS: usize = 200;
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        engine: engine.parse().expect("an engine"),
        threads: NonZeroUsize::new(1),
        pin: false,
        ..Config::default()
    };
    let server = ringback::Server::start(config).expect("started");
    let flooders: Vec<_> = (0..FLOODERS)
        .map(|_| Flooder::start(server.addresses()[0].internet().expect("TCP")))
        .collect();
    let mut raw = Raw::open(server.addresses()[0].internet().expect("TCP"));
    let least = (0..ROUNDS)
        .map(|_| {
            let before = server.metrics().received_bytes;
            raw.send(&frame(TEXT, b"ping"));
            raw.expect(&unmasked(TEXT, b"ping"));
            server.metrics().received_bytes - before
        })
        .min()
        .expect("some rounds");
    for flooder in flooders {
        let echoed = flooder.stop();
        assert!(echoed > BUFFER, "it did not flood: {echoed} bytes");
    }
    // The flooder that is served when the message arrives, and each one once more.
    assert!(
        least <= (FLOODERS + 1) * BUFFER,
        "{least} bytes of others came first"
    );
    drop(raw);
    server.stop().expect("stopped");
}

/// A connection that has waited must get a large buffer again, while others send without
/// a pause.
fn every_flooder_is_served(engine: Engine) {
    const ECHOED: usize = 1024 * 1024;
    let server = Server::start(engine, &["--threads", "1"]);
    let message = frame(BINARY, &noise(2, 65_000)).repeat(4);
    let mut senders: Vec<_> = (0..64)
        .map(|_| {
            let raw = Raw::open(server.address());
            raw.stream().set_nonblocking(true).expect("set");
            (raw, 0, 0)
        })
        .collect();
    let mut buf = vec![0; 1024 * 1024];
    wait_until("every sender has its echoes", || {
        for (raw, sent, echoed) in &mut senders {
            let mut stream = raw.stream();
            // Connections that have their echoes go on sending.
            *echoed += stream.read(&mut buf).unwrap_or(0);
            let at = *sent % message.len();
            *sent += stream.write(&message[at..]).unwrap_or(0);
        }
        senders.iter().all(|&(_, _, echoed)| echoed >= ECHOED)
    });
}

/// A connection that sends as fast as it can, and reads.
struct Flooder {
    stream: TcpStream,
    sending: thread::JoinHandle<()>,
    reading: thread::JoinHandle<u64>,
}

impl Flooder {
    fn start(address: SocketAddr) -> Self {
        let raw = Raw::open(address);
        let handle = || raw.stream().try_clone().expect("a descriptor");
        let (stream, mut writer, mut reader) = (handle(), handle(), handle());
        let sending = thread::spawn(move || {
            let message = frame(BINARY, &noise(1, 4096)).repeat(16);
            while writer.write_all(&message).is_ok() {}
        });
        let reading = thread::spawn(move || {
            let mut buf = vec![0; 256 * 1024];
            let mut read = 0;
            while let Ok(len @ 1..) = reader.read(&mut buf) {
                read += len as u64;
            }
            read
        });
        Self {
            stream,
            sending,
            reading,
        }
    }

    /// Ends it; returns the number of bytes echoed.
    fn stop(self) -> u64 {
        // The server may have closed it already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.sending.join().expect("no panic");
        self.reading.join().expect("no panic")
    }
}
