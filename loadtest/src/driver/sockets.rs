//! The connections of a thread, and the epoll instance that watches them.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::connection::{Connection, Interest};
use crate::failure::Failure;

/// Slots for connections. A slot is reused when its connection is closed.
pub(super) struct Sockets {
    pub(super) epoll: OwnedFd,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Slots in use.
    pub(super) open: usize,
}

/// A slot, and the connection in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) slot: usize,
    pub(super) connection: u32,
}

impl Token {
    /// The token that an event carries.
    #[inline]
    pub(super) fn of(event: &epoll::Event) -> Self {
        let data = event.data;
        let packed = data.u64();
        Self {
            slot: (packed & 0xffff_ffff) as usize,
            connection: (packed >> 32) as u32,
        }
    }

    fn pack(self) -> EventData {
        EventData::new_u64(u64::from(self.connection) << 32 | self.slot as u64)
    }
}

impl Sockets {
    /// An empty table with room for `room` connections.
    pub(super) fn new(room: usize) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| Failure::Local {
            what: "creating an epoll instance",
            source: errno.into(),
        })?;
        Ok(Self {
            epoll,
            slots: Vec::with_capacity(room),
            free: Vec::new(),
            open: 0,
        })
    }

    /// The number of slots, in use or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The connection in a slot.
    #[inline]
    pub(super) fn at(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The connection of a token, if it is still open.
    #[inline]
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Connection> {
        self.at(token.slot)
            .filter(|connection| connection.id == token.connection)
    }

    /// Two different connections.
    pub(super) fn pair(&mut self, one: usize, other: usize) -> Option<[&mut Connection; 2]> {
        let [one, other] = self.slots.get_disjoint_mut([one, other]).ok()?;
        Some([one.as_mut()?, other.as_mut()?])
    }

    /// All connections and their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, connection)| Some((slot, connection.as_ref()?)))
    }

    /// Adds a connection and watches it.
    pub(super) fn insert(&mut self, connection: Connection) -> Result<usize, Failure> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.open += 1;
        self.slots[slot] = Some(connection);
        self.add(slot)?;
        Ok(slot)
    }

    /// Registers the interest of a connection.
    #[inline]
    pub(super) fn watch(&mut self, slot: usize) -> Result<(), Failure> {
        let Some(Some(connection)) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        let interest = connection.interest();
        if interest == connection.watched {
            return Ok(());
        }
        connection.watched = interest;
        let token = Token {
            slot,
            connection: connection.id,
        };
        epoll::modify(
            &self.epoll,
            connection.transport.socket(),
            token.pack(),
            flags(interest),
        )
        .map_err(cannot_watch)
    }

    /// Ends a connection and frees its slot.
    pub(super) fn remove(&mut self, slot: usize) -> Result<(), Failure> {
        let Some(mut connection) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Ok(());
        };
        self.open -= 1;
        self.free.push(slot);
        connection.transport.close();
        epoll::delete(&self.epoll, connection.transport.socket()).map_err(cannot_watch)
    }

    fn add(&self, slot: usize) -> Result<(), Failure> {
        let Some(Some(connection)) = self.slots.get(slot) else {
            return Ok(());
        };
        let token = Token {
            slot,
            connection: connection.id,
        };
        epoll::add(
            &self.epoll,
            connection.transport.socket(),
            token.pack(),
            flags(connection.watched),
        )
        .map_err(cannot_watch)
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.readable);
    flags.set(EventFlags::OUT, interest.writable);
    flags
}

fn cannot_watch(errno: rustix::io::Errno) -> Failure {
    Failure::Local {
        what: "watching a socket",
        source: errno.into(),
    }
}
