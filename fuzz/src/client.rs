//! A client at the other end of a socket pair, and what it must get to see.

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

use crate::handshake::Door;
use crate::reference::{Answer, End, Limits, Reference, Style, Torn};
use crate::tls;

/// A connection ends long before this, or never.
const HANG: Duration = Duration::from_secs(10);

/// No timeout of the server's is to end a connection.
const NEVER: Duration = Duration::from_hours(1);

/// How often the client lets the server work before it writes the next piece.
const TURNS_MAX: u32 = 200;

/// A worker and what it was told.
pub struct Server {
    worker: Worker,
    limits: Limits,
    style: Style,
}

impl Server {
    /// A worker on this engine, or one that reads whole messages.
    ///
    /// # Errors
    /// What the engine lacks here.
    pub fn start(
        engine: EngineKind,
        style: Style,
        limits: Limits,
        door: &Door,
    ) -> Result<Self, ringback::Error> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let origin = |text: &&str| text.parse().expect("an origin");
        let config = Config {
            path: door.path.map(str::to_owned),
            origins: door.origins.iter().map(origin).collect(),
            subprotocols: owned(door.subprotocols),
            max_message: limits.message_bytes,
            max_fragments: NonZeroU32::new(limits.fragments).expect("not zero"),
            window: usize::try_from(limits.window).expect("a small window"),
            idle_timeout: None,
            pong_timeout: NEVER,
            write_timeout: NEVER,
            handshake_timeout: NEVER,
            close_timeout: NEVER,
            // Nobody listens; without an address there is no certificate either.
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
            // What is read whole always has a limit.
            server
                .limits
                .message_bytes
                .get_or_insert(DEFAULT_WHOLE_MESSAGE);
        }
        Ok(server)
    }

    /// The server's answer to these pieces and the end of the stream; over TLS,
    /// if `is_secure`, where each piece is a record or more.
    ///
    /// # Panics
    /// If the connection does not end, or something of it stays behind.
    pub fn talk(&self, pieces: &[&[u8]], is_secure: bool) -> Talk {
        let before = self.worker.snapshot();
        let (client, server) = StdUnixStream::pair().expect("a socket pair");
        let answer = self.worker.serve(OwnedFd::from(server), is_secure, async {
            let answer = timeout(HANG, converse(client, is_secure, pieces)).await;
            answer.expect("the server ends the connection")
        });
        assert_eq!(self.worker.held_bytes(), 0, "held for nobody");
        Talk {
            answer,
            before,
            after: self.worker.snapshot(),
        }
    }

    /// Checks what followed the handshake against the reference.
    ///
    /// # Panics
    /// If it is not what the reference says.
    pub fn check_echo(&self, talk: &Talk, reply: &[u8], frames: &[u8]) {
        let mut reference = Reference::new(self.limits, self.style);
        let expected = reference.arrive(frames);
        match reference.torn {
            Some(torn) if self.style == Style::Frames => check_torn(reply, &expected, &torn),
            _ => assert_eq!(reply, expected.reply, "the echo"),
        }
        let counted = |count: fn(&Snapshot) -> u64| count(&talk.after) - count(&talk.before);
        let is_violation = matches!(expected.end, Some(End::Failed(_) | End::Aborted(_)));
        assert_eq!(counted(|s| s.upgraded), 1);
        assert_eq!(counted(|s| s.messages), u64::from(expected.messages));
        assert_eq!(counted(|s| s.violations), u64::from(is_violation));
        let is_close = matches!(expected.end, Some(End::Closed(_)));
        assert_eq!(counted(|s| s.closes), u64::from(is_close));
    }
}

/// One connection.
pub struct Talk {
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

/// Reads to the end. A server may cut off who sends for too long.
async fn read(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut answer = Vec::new();
    match reader.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        // A client that sends no request gets no close_notify.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && answer.is_empty() => {}
        Err(error) => panic!("{error}"),
    }
    answer
}

/// Writes piece after piece, each when the one before has been taken, and the end.
async fn write(mut writer: impl AsyncWrite + Unpin, descriptor: RawFd, pieces: &[&[u8]]) {
    let mut bell = Bell::new();
    for piece in pieces {
        if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        for _ in 0..TURNS_MAX {
            if unread(descriptor) == 0 {
                break;
            }
            bell.ring().await;
        }
    }
    // Nobody to tell if the server has hung up.
    let _ = writer.shutdown().await;
}

/// A socket pair whose one end waits for the other. To yield is not enough: what
/// waits for tokio-uring to be submitted goes out when the thread goes to sleep.
struct Bell {
    rope: UnixStream,
    clapper: UnixStream,
}

impl Bell {
    fn new() -> Self {
        let (rope, clapper) = UnixStream::pair().expect("a socket pair");
        Self { rope, clapper }
    }

    /// Lets everybody else work, and the thread sleep once.
    async fn ring(&mut self) {
        self.rope.write_all(b"!").await.expect("room for a byte");
        // More room than bytes, so that the runtime waits for the next time.
        let mut rung = [0; 2];
        let len = self.clapper.read(&mut rung).await;
        assert_eq!(len.expect("the byte"), 1);
    }
}

/// Bytes, or a measure of them, that the other end has not read.
fn unread(descriptor: RawFd) -> i32 {
    let mut unread = 0;
    // SAFETY: this request writes one integer, which is there; a descriptor that
    // is none is an error and no more.
    let result = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut unread) };
    if result == 0 { unread } else { 0 }
}
