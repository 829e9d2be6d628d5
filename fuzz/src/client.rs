//! A client at the other end of a socket pair, and the checks on what it receives.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use ringback::config::DEFAULT_WHOLE_MESSAGE;
use ringback::fuzzing::Worker;
use ringback::{Config, EngineKind, Snapshot};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::handshake::GateConfig;
use crate::reference::{Answer, End, Limits, Reference, Style, Torn};
use crate::tls;

/// A connection that lasts longer hangs.
const HANG: Duration = Duration::from_secs(10);

/// No timeout of the server may end a connection.
const NEVER: Duration = Duration::from_hours(1);

/// Yields to the server before the client writes the next piece.
const TURNS_MAX: u32 = 200;

/// A worker and its settings.
pub struct Server {
    worker: Worker,
    limits: Limits,
    style: Style,
}

impl Server {
    /// A worker on this engine, or one that reads whole messages.
    ///
    /// # Errors
    /// If the engine does not work here.
    pub fn start(
        engine: EngineKind,
        style: Style,
        limits: Limits,
        config: &GateConfig,
    ) -> Result<Self, ringback::Error> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let origin = |text: &&str| text.parse().expect("an origin");
        let config = Config {
            path: config.path.map(str::to_owned),
            origins: config.origins.iter().map(origin).collect(),
            subprotocols: owned(config.subprotocols),
            max_message: limits.message_bytes,
            max_fragments: NonZeroU32::new(limits.fragments).expect("not zero"),
            window: usize::try_from(limits.window).expect("a small window"),
            idle_timeout: None,
            pong_timeout: NEVER,
            write_timeout: NEVER,
            handshake_timeout: NEVER,
            close_timeout: NEVER,
            // There is no listener; without an address there is no certificate either.
            tls_listen: vec!["127.0.0.1:0".parse().expect("an address")],
            tls: Some(tls::files()),
            ..Config::default()
        };
        let mut server = Self {
            worker: Worker::new(config, engine, style == Style::Messages)?,
            limits,
            style,
        };
        if style == Style::Messages {
            // Whole messages always have a limit.
            server
                .limits
                .message_bytes
                .get_or_insert(DEFAULT_WHOLE_MESSAGE);
        }
        Ok(server)
    }

    /// The server's answer to these pieces and the end of the stream; over TLS if
    /// `is_secure`, with each piece in a record or more.
    ///
    /// # Panics
    /// If the connection does not end, or holds memory afterwards.
    pub fn exchange(&self, pieces: &[&[u8]], is_secure: bool) -> Exchange {
        let before = self.worker.snapshot();
        let (client, server) = StdUnixStream::pair().expect("a socket pair");
        let answer = self.worker.serve(OwnedFd::from(server), is_secure, async {
            let answer = timeout(HANG, converse(client, is_secure, pieces)).await;
            answer.expect("the server ends the connection")
        });
        assert_eq!(self.worker.held_bytes(), 0, "no held bytes");
        Exchange {
            answer,
            before,
            after: self.worker.snapshot(),
        }
    }

    /// Compares the bytes after the handshake with the reference.
    ///
    /// # Panics
    /// If they differ.
    pub fn check_echo(&self, exchange: &Exchange, reply: &[u8], frames: &[u8]) {
        let mut reference = Reference::new(self.limits, self.style);
        let expected = reference.arrive(frames);
        match reference.torn {
            Some(torn) if self.style == Style::Frames => check_torn(reply, &expected, &torn),
            _ => assert_eq!(reply, expected.reply, "the echo"),
        }
        let counted =
            |count: fn(&Snapshot) -> u64| count(&exchange.after) - count(&exchange.before);
        let is_violation = matches!(expected.end, Some(End::Failed(_) | End::Aborted(_)));
        assert_eq!(counted(|s| s.handshakes_upgraded), 1);
        assert_eq!(
            counted(|s| s.messages_received),
            u64::from(expected.messages)
        );
        assert_eq!(counted(|s| s.violations), u64::from(is_violation));
        let is_close = matches!(expected.end, Some(End::Closed(_)));
        assert_eq!(counted(|s| s.closes_by_clients), u64::from(is_close));
    }
}

/// One connection's answer and counters.
pub struct Exchange {
    /// All that the client has read.
    pub answer: Vec<u8>,
    before: Snapshot,
    after: Snapshot,
}

/// Invalid text in a frame longer than the window: the Close frame alone, or
/// some of the frame, or all of it and then the Close frame.
fn check_torn(reply: &[u8], expected: &Answer, torn: &Torn) {
    if reply == expected.reply {
        return;
    }
    let (before, rest) = reply
        .split_at_checked(torn.before)
        .expect("what came before");
    assert_eq!(
        before,
        &expected.reply[..torn.before],
        "before what is torn"
    );
    let payload = rest
        .strip_prefix(&torn.header[..])
        .expect("the frame's header");
    if torn.is_whole {
        let close = payload
            .strip_prefix(&torn.payload[..])
            .expect("the payload");
        assert_eq!(close, [0x88, 2, 3, 239], "a Close frame");
    } else {
        assert!(
            torn.payload.starts_with(payload),
            "what is valid of the payload"
        );
    }
}

async fn converse(client: StdUnixStream, is_secure: bool, pieces: &[&[u8]]) -> Vec<u8> {
    client.set_nonblocking(true).expect("non-blocking");
    let client = UnixStream::from_std(client).expect("registered");
    let descriptor = client.as_raw_fd();
    if is_secure {
        exchange(tls::connect(client).await, descriptor, pieces).await
    } else {
        exchange(client, descriptor, pieces).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite,
    descriptor: RawFd,
    pieces: &[&[u8]],
) -> Vec<u8> {
    let (reader, writer) = split(stream);
    let (answer, ()) = tokio::join!(read(reader), write(writer, descriptor, pieces));
    answer
}

/// Reads to the end. A server may cut a client that sends for too long.
async fn read(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut answer = Vec::new();
    match reader.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        // Without a request the server sends no close_notify.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && answer.is_empty() => {}
        Err(error) => panic!("{error}"),
    }
    answer
}

/// Writes piece after piece, each when the one before has been read, and the end.
async fn write(mut writer: impl AsyncWrite + Unpin, descriptor: RawFd, pieces: &[&[u8]]) {
    let mut pause = Pause::new();
    for piece in pieces {
        if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        for _ in 0..TURNS_MAX {
            if unread(descriptor) == 0 {
                break;
            }
            pause.sleep().await;
        }
    }
    // The server may have closed already.
    let _ = writer.shutdown().await;
}

/// A socket pair with which the client waits for itself. To yield is not enough:
/// tokio-uring submits operations only when the thread goes to sleep.
struct Pause {
    writer: UnixStream,
    reader: UnixStream,
}

impl Pause {
    fn new() -> Self {
        let (writer, reader) = UnixStream::pair().expect("a socket pair");
        Self { writer, reader }
    }

    /// Runs the other tasks, and lets the thread sleep once.
    async fn sleep(&mut self) {
        self.writer.write_all(b"!").await.expect("room for a byte");
        // More room than bytes, so that the runtime waits the next time.
        let mut bytes = [0; 2];
        let len = self.reader.read(&mut bytes).await;
        assert_eq!(len.expect("the byte"), 1);
    }
}

/// Bytes in the socket's send queue.
fn unread(descriptor: RawFd) -> i32 {
    let mut unread = 0;
    // SAFETY: this request writes one integer, which is there; a descriptor that
    // is none is an error and no more.
    let result = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut unread) };
    if result == 0 { unread } else { 0 }
}
