//! A raw TCP echo, the floor of a comparison.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::connection_table::ConnectionTable;
use super::reactor::{self, Reactor};
use super::server_thread::{ANY_LOCAL_PORT, ServerThread};

/// Events per `epoll_wait`. More would save nothing: one call for 256 echoes is less than a
/// thousandth of their cost.
const EVENTS_PER_ROUND: usize = 256;

/// The default size of a read. It does not matter to short messages. Echoes of 1 MiB cost less
/// CPU time the larger it is, at 64 KiB a third more than at 512 KiB, and nothing is gained
/// beyond.
const READ_LEN_MAX: usize = 512 << 10;

/// A TCP server that sends back what it receives, without WebSocket: the least that an echo can
/// cost a server on epoll.
///
/// An echo is one `recvfrom` and one `sendto`; one `epoll_pwait` serves all connections that are
/// ready. Events are edge-triggered, so a connection is registered once and never modified. Bytes
/// that the socket does not accept are buffered, and the connection is not read until they are
/// written.
#[derive(Debug)]
pub struct RawEcho {
    server_thread: ServerThread,
}

impl RawEcho {
    /// Starts it on a free port of 127.0.0.1, on a thread of its own that is
    /// pinned to `core` if there is one.
    ///
    /// # Errors
    /// The kernel's, for descriptors, the thread or the core.
    pub fn start(core: Option<usize>) -> io::Result<Self> {
        Self::start_at(ANY_LOCAL_PORT, READ_LEN_MAX, core)
    }

    /// As [`start`](Self::start), at a given address, and with reads of at most `read_len` bytes.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the address cannot be bound.
    ///
    /// # Panics
    /// When `read_len` is 0.
    pub fn start_at(address: SocketAddr, read_len: usize, core: Option<usize>) -> io::Result<Self> {
        assert!(read_len > 0, "what is never read is never echoed");
        let serve = move |reactor| EchoLoop::new(reactor, read_len).serve();
        let server_thread = ServerThread::start("raw-echo", address, core, serve)?;
        Ok(Self { server_thread })
    }

    /// Ends the thread and closes all connections. Dropping the server does
    /// the same, but ignores a panic.
    ///
    /// # Panics
    /// When the thread panicked.
    pub fn stop(self) {
        self.server_thread.stop();
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server_thread.address()
    }

    /// The id of its thread, for `/proc/self/task/TID/schedstat`.
    pub fn thread_id(&self) -> i32 {
        self.server_thread.thread_id()
    }
}

struct EchoLoop {
    reactor: Reactor,
    connections: ConnectionTable<EchoConnection>,
    /// Shared by all: a read is written before the next one.
    buffer: Box<[u8]>,
    /// Connections that continue in the next round without an event, each once.
    runnable: Vec<usize>,
}

impl EchoLoop {
    fn new(reactor: Reactor, read_len: usize) -> Self {
        Self {
            reactor,
            connections: ConnectionTable::new(),
            buffer: vec![0; read_len].into_boxed_slice(),
            runnable: Vec::new(),
        }
    }

    fn serve(mut self) {
        let mut events = Vec::with_capacity(EVENTS_PER_ROUND);
        let mut continued = Vec::new();
        loop {
            let at_once = !self.runnable.is_empty();
            let timeout = at_once.then_some(Duration::ZERO);
            self.reactor.wait(&mut events, timeout);
            // One turn for each connection before a second one: a flooding peer delays no other.
            mem::swap(&mut self.runnable, &mut continued);
            for event in &events {
                match reactor::token(event) {
                    reactor::STOP => return,
                    reactor::LISTENER => self.accept_all(),
                    token => self.notify(token, event.flags),
                }
            }
            for token in continued.drain(..) {
                self.turn(token);
            }
        }
    }

    fn accept_all(&mut self) {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        while let Some((token, socket)) = self.reactor.accept(interest) {
            self.connections.insert(token, EchoConnection::new(socket));
        }
    }

    #[inline]
    fn notify(&mut self, token: usize, flags: EventFlags) {
        if let Some(connection) = self.connections.get_mut(token) {
            let listed = connection.is_runnable();
            connection.note(flags);
            if !listed {
                self.turn(token);
            }
        }
    }

    #[inline]
    fn turn(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        match connection.turn(&mut self.buffer) {
            TurnResult::WouldBlock => {}
            TurnResult::Runnable => self.runnable.push(token),
            TurnResult::Closed => {
                self.connections.remove(token);
                self.reactor.connection_closed();
            }
        }
    }
}

struct EchoConnection {
    socket: OwnedFd,
    /// Bytes read and not yet written. The socket is not read while there are any, so they are at
    /// most one buffer.
    unsent: Vec<u8>,
    // Edge-triggered events are not repeated, so the flags are kept.
    /// There may be bytes to read.
    readable: bool,
    /// The end of the stream, or an error, follows them.
    hung_up: bool,
    /// There may be room to write, where there was none.
    writable: bool,
}

/// The result of a connection's turn.
enum TurnResult {
    /// It waits for the next event.
    WouldBlock,
    /// It can continue without an event.
    Runnable,
    /// The connection is to be closed.
    Closed,
}

impl EchoConnection {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            unsent: Vec::new(),
            readable: false,
            hung_up: false,
            writable: true,
        }
    }

    #[inline]
    fn note(&mut self, flags: EventFlags) {
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.hung_up |= flags.intersects(end);
        self.readable |= flags.intersects(EventFlags::IN | end);
        self.writable |= flags.contains(EventFlags::OUT);
    }

    /// Whether it can continue without an event, and so is in the list of runnable connections.
    #[inline]
    fn is_runnable(&self) -> bool {
        self.readable && self.unsent.is_empty()
    }

    /// Writes the buffered bytes, and when none are left, reads once and writes once.
    #[inline]
    fn turn(&mut self, buffer: &mut [u8]) -> TurnResult {
        if !self.unsent.is_empty() {
            if !self.writable {
                return TurnResult::WouldBlock;
            }
            let unsent = mem::take(&mut self.unsent);
            if self.write(&unsent).is_err() {
                return TurnResult::Closed;
            }
            if !self.unsent.is_empty() {
                return TurnResult::WouldBlock;
            }
        }
        if !self.readable {
            return TurnResult::WouldBlock;
        }
        let len = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return TurnResult::Closed,
            Ok((len, _)) => len,
            Err(Errno::AGAIN) => {
                self.readable = false;
                return TurnResult::WouldBlock;
            }
            Err(Errno::INTR) => return TurnResult::Runnable,
            Err(_) => return TurnResult::Closed,
        };
        // A short read: the socket is empty, and the next byte makes an event of its own. Only
        // the end of the stream may already have made its event.
        self.readable = len == buffer.len() || self.hung_up;
        match self.write(&buffer[..len]) {
            Err(_) => TurnResult::Closed,
            Ok(()) if self.is_runnable() => TurnResult::Runnable,
            Ok(()) => TurnResult::WouldBlock,
        }
    }

    /// Buffers what the socket does not accept; an event follows when it has room again.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let len = match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        if len < bytes.len() {
            self.writable = false;
            self.unsent = bytes[len..].to_vec();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::thread;

    use super::super::server_thread::has_ended;
    use super::*;

    fn connect(server: &RawEcho) -> TcpStream {
        let client = TcpStream::connect(server.address()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        client
    }

    fn pattern(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    }

    #[test]
    fn messages_are_echoed() {
        let server = RawEcho::start(None).unwrap();
        let mut client = connect(&server);
        for len in [1, 32, READ_LEN_MAX - 1, READ_LEN_MAX, READ_LEN_MAX + 1] {
            let sent = pattern(len, 1);
            let mut writer = client.try_clone().unwrap();
            let mut got = vec![0; len];
            thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).unwrap());
                client.read_exact(&mut got).unwrap();
            });
            assert!(got == sent, "{len}");
        }
        server.stop();
    }

    #[test]
    fn address_and_read_length_are_those_given() {
        let taken = RawEcho::start(None).unwrap();
        let address = taken.address();
        let error = RawEcho::start_at(address, 1, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        taken.stop();
        let server = RawEcho::start_at(address, 7, None).unwrap();
        assert_eq!(server.address(), address);
        let mut client = connect(&server);
        client.write_all(b"more than seven bytes").unwrap();
        let mut got = [0; 21];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"more than seven bytes");
    }

    #[test]
    fn a_client_that_reads_after_sending_everything_receives_everything() {
        let server = RawEcho::start(None).unwrap();
        let mut client = connect(&server);
        let sent = pattern(8 << 20, 2);
        let mut writer = client.try_clone().unwrap();
        let mut got = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // Both directions are full by then, and the server has to keep
            // what it read.
            thread::sleep(Duration::from_millis(200));
            client.read_to_end(&mut got).unwrap();
        });
        assert!(got == sent);
    }

    #[test]
    fn a_peer_that_does_not_read_delays_no_other_connection() {
        let server = RawEcho::start(None).unwrap();
        let accept_paused = connect(&server);
        accept_paused.set_nonblocking(true).unwrap();
        let chunk = pattern(1 << 16, 3);
        while (&accept_paused).write(&chunk).is_ok() {}
        let mut client = connect(&server);
        client.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn many_connections_do_not_mix() {
        let server = RawEcho::start(None).unwrap();
        let mut clients: Vec<_> = (0..300).map(|_| connect(&server)).collect();
        for round in 0..3 {
            for (seed, client) in (round..).zip(&mut clients) {
                client.write_all(&pattern(100, seed)).unwrap();
            }
            for (seed, client) in (round..).zip(&mut clients) {
                let mut got = [0; 100];
                client.read_exact(&mut got).unwrap();
                assert_eq!(got[..], pattern(100, seed));
            }
            // Half of them leave, and their descriptors are used again.
            clients.drain(..150);
            clients.extend((0..150).map(|_| connect(&server)));
        }
    }

    #[test]
    fn stopping_ends_the_thread_and_the_connections() {
        let server = RawEcho::start(None).unwrap();
        let mut client = connect(&server);
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let thread_id = server.thread_id();
        let address = server.address();
        server.stop();
        assert!(has_ended(thread_id));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(TcpStream::connect(address).is_err());
    }
}
