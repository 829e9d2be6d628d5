//! The epoll loop of a built-in server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

/// The length of the accept queue. A generator opens its connections faster than one thread
/// accepts them; the kernel reduces it to its own limit.
const BACKLOG: i32 = 65_535;

/// The token of the listener. Tokens of connections are their descriptors, which are never so
/// large.
pub(super) const LISTENER: usize = usize::MAX;
/// The token of the signal to stop.
pub(super) const STOP: usize = usize::MAX - 1;

/// An epoll instance with a listener and a signal to stop.
#[derive(Debug)]
pub(super) struct Reactor {
    epoll: OwnedFd,
    listener: TcpListener,
    stop: Arc<OwnedFd>,
    /// The listener is not watched, as there were no descriptors left.
    accept_paused: bool,
}

impl Reactor {
    /// Listens at `address`, on a free port if it has port 0. The reactor stops
    /// when `stop` becomes readable.
    pub(super) fn new(address: SocketAddr, stop: Arc<OwnedFd>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit this option on Linux, without a system call for each.
        sockopt::set_tcp_nodelay(&listener, true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &stop, data(STOP), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            stop,
            accept_paused: false,
        })
    }

    /// Waits for at most `events`' capacity of events, and at most `timeout`, rounded up to
    /// milliseconds. There may be none.
    ///
    /// # Panics
    /// When the descriptor is no epoll instance.
    pub(super) fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) {
        events.clear();
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait on a sound epoll instance: {error}"),
        }
    }

    /// Accepts a connection and registers it for `interest`; returns its token and socket. `None`
    /// when there is none left.
    pub(super) fn accept(&mut self, interest: EventFlags) -> Option<(usize, OwnedFd)> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(socket) => {
                    let token = token_of(&socket);
                    if epoll::add(&self.epoll, &socket, data(token), interest).is_ok() {
                        return Some((token, socket));
                    }
                    // The kernel has no room to watch it: closed again.
                }
                // The client reset it before it was accepted.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    self.watch_listener(false);
                    return None;
                }
            }
        }
    }

    /// Changes the registered interest of a connection.
    pub(super) fn watch(&self, token: usize, socket: &OwnedFd, interest: EventFlags) {
        // Cannot fail for a registered socket.
        let _ = epoll::modify(&self.epoll, socket, data(token), interest);
    }

    /// Has to be called after a connection was closed: there is a descriptor for another.
    pub(super) fn connection_closed(&mut self) {
        if self.accept_paused {
            self.watch_listener(true);
        }
    }

    /// Sleeps for `timeout`, rounded up to milliseconds, or until the stop signal; returns
    /// whether that was set. Connections are not served.
    pub(super) fn sleep(&self, timeout: Duration) -> bool {
        let mut stop = [PollFd::new(&self.stop, PollFlags::IN)];
        // A signal cuts it short; callers check the clock.
        matches!(poll(&mut stop, Some(&timespec(timeout))), Ok(1))
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn watch_listener(&mut self, watch: bool) {
        self.accept_paused = !watch;
        let interest = if watch {
            EventFlags::IN
        } else {
            EventFlags::empty()
        };
        let _ = epoll::modify(&self.epoll, &self.listener, data(LISTENER), interest);
    }
}

/// The source of an event: a connection, [`LISTENER`] or [`STOP`].
pub(super) fn token(event: &Event) -> usize {
    // The value was a `usize` when it was registered.
    usize::try_from(event.data.u64()).unwrap_or(LISTENER)
}

fn token_of(socket: &OwnedFd) -> usize {
    usize::try_from(socket.as_raw_fd()).expect("a descriptor is never negative")
}

fn data(token: usize) -> EventData {
    EventData::new_u64(token as u64)
}

fn timespec(duration: Duration) -> Timespec {
    // No timeout is 2^63 seconds long.
    Timespec::try_from(duration).expect("a timeout in range")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::server_thread::ANY_LOCAL_PORT;
    use super::*;

    fn reactor() -> Reactor {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        Reactor::new(ANY_LOCAL_PORT, Arc::new(stop)).unwrap()
    }

    #[test]
    fn connections_are_accepted_without_delay_and_watched() {
        let mut reactor = reactor();
        assert!(reactor.accept(EventFlags::IN).is_none());
        let mut client = TcpStream::connect(reactor.address().unwrap()).unwrap();
        let mut events = Vec::with_capacity(8);
        reactor.wait(&mut events, None);
        assert_eq!(events.iter().map(token).collect::<Vec<_>>(), [LISTENER]);
        let (socket_token, socket) = reactor.accept(EventFlags::IN).unwrap();
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        reactor.wait(&mut events, Some(Duration::ZERO));
        assert!(events.is_empty());
        client.write_all(b"x").unwrap();
        reactor.wait(&mut events, None);
        assert_eq!(events.iter().map(token).collect::<Vec<_>>(), [socket_token]);
        reactor.watch(socket_token, &socket, EventFlags::empty());
        reactor.wait(&mut events, Some(Duration::ZERO));
        assert!(events.is_empty());
    }

    #[test]
    fn accepting_pauses_without_descriptors_and_resumes() {
        let mut reactor = reactor();
        let _client = TcpStream::connect(reactor.address().unwrap()).unwrap();
        let mut events = Vec::with_capacity(8);
        reactor.watch_listener(false);
        reactor.wait(&mut events, Some(Duration::ZERO));
        assert!(events.is_empty());
        reactor.connection_closed();
        reactor.wait(&mut events, Some(Duration::ZERO));
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn a_sleep_ends_at_the_stop_signal() {
        let reactor = reactor();
        assert!(!reactor.sleep(Duration::from_millis(1)));
        rustix::io::write(&reactor.stop, &1_u64.to_ne_bytes()).unwrap();
        assert!(reactor.sleep(Duration::from_secs(3600)));
    }
}
