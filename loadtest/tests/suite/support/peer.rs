//! Servers in threads: tungstenite, with a record of what it read, and ringback.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tungstenite::{Message, WebSocket};

use super::frames::Transcript;
use super::poll;

/// A stream that records each read.
#[derive(Debug)]
pub(crate) struct Tap {
    stream: TcpStream,
    reads: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push(buffer[..count].to_vec());
        Ok(count)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The record of all connections of a peer.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ended: Mutex<Vec<Transcript>>,
    open: AtomicUsize,
    open_max: AtomicUsize,
    messages: AtomicUsize,
}

impl Seen {
    /// Counts one more message.
    pub(crate) fn message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages so far.
    pub(crate) fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A server that listens as long as the test lives.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Peer {
    /// Echoes.
    pub(crate) fn echo() -> Self {
        Self::echo_on(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub(crate) fn echo_on(listener: TcpListener) -> Self {
        Self::on(listener, |stream, seen| {
            if let Ok(mut socket) = tungstenite::accept(stream) {
                echo(&mut socket, seen);
            }
        })
    }

    /// Serves each connection on a thread of its own.
    pub(crate) fn serving(serve: impl Fn(Tap, &Seen) + Send + Sync + 'static) -> Self {
        Self::on(
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
            serve,
        )
    }

    fn on(listener: TcpListener, serve: impl Fn(Tap, &Seen) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen::default());
        let (shared, serve) = (Arc::clone(&seen), Arc::new(serve));
        thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let (seen, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                let open = seen.open.fetch_add(1, Ordering::Relaxed) + 1;
                seen.open_max.fetch_max(open, Ordering::Relaxed);
                thread::spawn(move || {
                    stream.set_nodelay(true).expect("an option");
                    let reads = Arc::default();
                    let tap = Tap {
                        stream,
                        reads: Arc::clone(&reads),
                    };
                    serve(tap, &seen);
                    let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
                    let transcript = Transcript::new(from, &reads);
                    let mut ended = seen.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.push(transcript);
                    seen.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// The most connections that were open at the same time.
    pub(crate) fn open_max(&self) -> usize {
        self.seen.open_max.load(Ordering::Relaxed)
    }

    /// The transcripts of `count` connections, by the order of their ends; waits for them. They
    /// are removed from the record.
    pub(crate) fn transcripts(&self, count: usize) -> Vec<Transcript> {
        poll("the end of all connections", || {
            let ended = self.seen.ended.lock();
            let mut ended = ended.unwrap_or_else(PoisonError::into_inner);
            assert!(ended.len() <= count, "{} connections", ended.len());
            (ended.len() == count).then(|| std::mem::take(&mut *ended))
        })
    }

    /// The transcripts of the connections that have ended. They are removed from the record.
    pub(crate) fn ended(&self) -> Vec<Transcript> {
        let ended = self.seen.ended.lock();
        std::mem::take(&mut *ended.unwrap_or_else(PoisonError::into_inner))
    }

    /// The transcript of the only connection.
    pub(crate) fn transcript(&self) -> Transcript {
        self.transcripts(1).remove(0)
    }
}

/// Echoes until the client has closed.
pub(crate) fn echo<S: Read + Write>(socket: &mut WebSocket<S>, seen: &Seen) {
    while let Ok(message) = socket.read() {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            seen.message();
            if socket.send(message).is_err() {
                return;
            }
        }
    }
}

/// A ringback server in this process, with a changed configuration.
pub(crate) fn ringback(change: impl FnOnce(&mut ringback::Config)) -> ringback::Server {
    let mut config = ringback::Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        threads: NonZeroUsize::new(1),
        pin: false,
        ..ringback::Config::default()
    };
    change(&mut config);
    ringback::Server::start(config).expect("the server starts")
}

pub(crate) fn url_of(server: &ringback::Server) -> String {
    format!("ws://{}/", server.addresses()[0])
}
