//! The `epoll` engine: an [event loop](super::event_loop) over `epoll(7)`.
//!
//! Its epoll instance is registered once with the worker's runtime; when that says that
//! something is ready, the engine takes a batch of events and serves each connection
//! with one read into a buffer that all share, one pass of the echo core, and one write.
//! Events are edge-triggered: a connection is registered once and never modified, and
//! the engine itself remembers which ones may hold more than was read.

mod socket;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::epoll::{self, CreateFlags, Event, EventData};

use super::Settings;
use super::connection::Connection;
use super::event_loop::{DrivenSocket, Driver, EventLoop, Scheduler};
use crate::sys::calls;
use socket::{EpollSocket, INTEREST};

/// Events taken at once. With the turns of a stretch, this bounds how long a handshake or
/// a timer waits.
const EVENTS_PER_TURN: usize = 256;

pub(crate) type EpollEngine = EventLoop<EpollDriver>;

/// The state that the connections of a worker share.
pub(crate) struct EpollDriver {
    epoll: Rc<OwnedFd>,
    events: Vec<Event>,
    /// Belongs to the connection that is being served.
    read_buf: Box<[u8]>,
    settings: Rc<Settings>,
}

impl Driver for EpollDriver {
    type Socket = EpollSocket;

    const BULK_PER_TURN: usize = 1;
    const TURNS_PER_STRETCH: usize = 5;
    /// The runtime's own look costs several of these.
    const LOOKS_PER_STRETCH: usize = 16;
    const POLLS_AT_ONCE: bool = false;

    fn new(settings: Rc<Settings>) -> io::Result<Self> {
        Ok(Self {
            epoll: Rc::new(epoll::create(CreateFlags::CLOEXEC)?),
            events: Vec::with_capacity(EVENTS_PER_TURN),
            read_buf: vec![0; settings.read_buffer_len()].into_boxed_slice(),
            settings,
        })
    }

    fn descriptor(&self) -> io::Result<Rc<OwnedFd>> {
        Ok(Rc::clone(&self.epoll))
    }

    fn open(&mut self, socket: OwnedFd, _key: u32, connection: Connection) -> EpollSocket {
        EpollSocket::new(socket, connection)
    }

    fn register(&mut self, socket: &mut EpollSocket, key: u32) -> io::Result<()> {
        let data = EventData::new_u64(key.into());
        Ok(calls::watch(&self.epoll, socket.socket(), data, INTEREST)?)
    }

    fn poll(scheduler: &mut Scheduler<Self>) -> io::Result<()> {
        let driver = &mut scheduler.driver;
        driver.events.clear();
        rustix::io::retry_on_intr(|| calls::take_events(&driver.epoll, &mut driver.events))?;
        for index in 0..scheduler.driver.events.len() {
            let event = scheduler.driver.events[index];
            let key = u32::try_from(event.data.u64()).expect("a key of the table");
            // It may have ended since the kernel queued an event.
            if let Some(socket) = scheduler.connections.get_mut(key) {
                socket.note(event.flags);
                scheduler.reschedule(key);
            }
        }
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.events.len() == EVENTS_PER_TURN
    }
}
