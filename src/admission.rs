//! Who is inside: the connections of one worker, and of all, and who may come
//! in.
//!
//! A connection is counted twice: in total when it is accepted
//! ([`Admission::enter`]), and for its client's address once that is known
//! ([`Admission::admit`]). Who is over a limit is told so, by few at a time.

mod census;
mod pacer;
mod source;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::Config;
use crate::held::Held;
use crate::metrics::Counters;
use crate::metrics::label::RefusalReason;
use crate::peer::Peer;
use crate::visit::Visit;
use census::Census;
use pacer::Pacer;
use source::Source;

/// The connections of all workers. Touched when one opens or closes, never in
/// between.
#[derive(Debug)]
pub(crate) struct House {
    accepted: AtomicU64,
    welcome: AtomicUsize,
    turned_away: AtomicUsize,
    capacity: NonZeroUsize,
    /// Where there is a limit per address.
    census: Option<Census>,
    /// Where there is a rate per address.
    pacer: Option<Pacer>,
    epoch: Instant,
    held: Held,
}

impl House {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let pacer = config.handshake_rate.map(|rate| {
            let burst = config.handshake_burst.unwrap_or(rate.count());
            Pacer::new(rate, burst)
        });
        Arc::new(Self {
            accepted: AtomicU64::new(0),
            welcome: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            capacity: config.max_connections,
            census: config.max_connections_per_address.map(Census::new),
            pacer,
            epoch: Instant::now(),
            held: Held::new(config.max_held_bytes),
        })
    }

    /// The bytes that are held for all connections.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Connections that may be open at a time.
    pub(crate) fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    /// Whether the next connection is turned away.
    pub(crate) fn is_full(&self) -> bool {
        self.welcome.load(Relaxed) >= self.capacity.get()
    }

    /// Whether a client may come in now that has this address.
    fn admit(&self, source: Source) -> Result<(), Rejection> {
        if let Some(pacer) = &self.pacer {
            pacer
                .take(source, self.epoch.elapsed())
                .map_err(|wait| Rejection::Rate { wait })?;
        }
        match &self.census {
            Some(census) if !census.enter(source) => Err(Rejection::Address),
            _ => Ok(()),
        }
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Admission {
    house: Arc<House>,
    counters: Arc<Counters>,
    open: Cell<usize>,
    left: Notify,
}

/// Connections over a limit that are told so at a time. More are closed without
/// a word.
pub(crate) const MAX_TURNED_AWAY: usize = 256;

/// What is to be done with a connection.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Serve it.
    Welcome(Permit),
    /// Tell it why it cannot be served.
    TurnedAway(Rejection, Apology),
    /// Close it.
    Overrun,
}

/// The limit that a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The server holds as many connections as it may.
    Full,
    /// The client's address has as many connections as it may.
    Address,
    /// The client's address connects too often.
    Rate {
        /// How long until it may again.
        wait: Duration,
    },
}

impl Rejection {
    pub(crate) fn reason(self) -> RefusalReason {
        match self {
            Self::Full => RefusalReason::Full,
            Self::Address => RefusalReason::Address,
            Self::Rate { .. } => RefusalReason::Rate,
        }
    }
}

/// A connection's place; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Rc<Admission>,
    /// Whose it is, where anybody has to know.
    visit: Option<Rc<Visit>>,
}

/// The place of a connection that is being told that there is none.
#[derive(Debug)]
pub(crate) struct Apology {
    admission: Rc<Admission>,
}

impl Admission {
    pub(crate) fn new(house: Arc<House>, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            house,
            counters,
            open: Cell::new(0),
            left: Notify::new(),
        })
    }

    /// Gives an accepted connection its place.
    pub(crate) fn enter(self: &Rc<Self>) -> Entry {
        if take_place(&self.house.welcome, self.house.capacity.get()) {
            self.set_open(self.open.get() + 1);
            Entry::Welcome(Permit {
                admission: Rc::clone(self),
                visit: None,
            })
        } else {
            self.turn_away(Rejection::Full)
        }
    }

    /// Lets a connection stay, or not, now that its client's address is known.
    /// To be called once for each.
    pub(crate) fn admit(self: &Rc<Self>, entry: Entry, visit: &Rc<Visit>) -> Entry {
        let Entry::Welcome(mut permit) = entry else {
            return entry;
        };
        let source = Source::of(visit.peer());
        if let Some(Err(rejection)) = source.map(|source| self.house.admit(source)) {
            drop(permit);
            return self.turn_away(rejection);
        }
        permit.visit = Some(Rc::clone(visit));
        Entry::Welcome(permit)
    }

    fn turn_away(self: &Rc<Self>, rejection: Rejection) -> Entry {
        if !take_place(&self.house.turned_away, MAX_TURNED_AWAY) {
            return Entry::Overrun;
        }
        self.set_open(self.open.get() + 1);
        let admission = Rc::clone(self);
        Entry::TurnedAway(rejection, Apology { admission })
    }

    /// A connection of this peer, under a number that no other one of this
    /// process has.
    pub(crate) fn visit(&self, peer: Peer, tells: bool) -> Rc<Visit> {
        let id = self.house.accepted.fetch_add(1, Relaxed) + 1;
        Rc::new(Visit::new(id, peer, tells))
    }

    /// The bytes that are held for all workers' connections.
    pub(crate) fn held(&self) -> &Held {
        self.house.held()
    }

    /// How many of this worker's connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    fn set_open(&self, open: usize) {
        self.open.set(open);
        self.counters.open.set(open as u64);
    }

    /// Waits until a connection of this worker ends.
    pub(crate) async fn one_left(&self) {
        self.left.notified().await;
    }

    fn leave(&self, places: &AtomicUsize) {
        self.set_open(self.open() - 1);
        places.fetch_sub(1, Relaxed);
        self.left.notify_waiters();
    }
}

impl Permit {
    /// What is told of the connection, where anybody wants to know.
    #[inline]
    pub(crate) fn visit(&self) -> Option<&Rc<Visit>> {
        self.visit.as_ref()
    }

    /// Lets go of what nobody will ask for.
    pub(crate) fn forget_visit_if_unwanted(&mut self) {
        let is_counted = self.admission.house.census.is_some();
        if !is_counted && self.visit.as_ref().is_some_and(|visit| !visit.is_wanted()) {
            self.visit = None;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Admission { house, .. } = &*self.admission;
        if let (Some(census), Some(visit)) = (&house.census, &self.visit)
            && let Some(source) = Source::of(visit.peer())
        {
            census.leave(source);
        }
        self.admission.leave(&house.welcome);
    }
}

impl Drop for Apology {
    fn drop(&mut self) {
        self.admission.leave(&self.admission.house.turned_away);
    }
}

/// Takes one of `capacity` places, if one is free.
fn take_place(taken: &AtomicUsize, capacity: usize) -> bool {
    let is_free = taken.fetch_add(1, Relaxed) < capacity;
    if !is_free {
        taken.fetch_sub(1, Relaxed);
    }
    is_free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(capacity: usize) -> Arc<House> {
        House::new(&Config {
            max_connections: NonZeroUsize::new(capacity).expect("not zero"),
            ..Config::default()
        })
    }

    #[test]
    fn the_house_is_full_over_all_workers() {
        let house = house(2);
        let first = Admission::new(Arc::clone(&house), Arc::default());
        let second = Admission::new(Arc::clone(&house), Arc::default());
        let one = first.enter();
        let two = second.enter();
        assert!(matches!(
            (&one, &two),
            (Entry::Welcome(_), Entry::Welcome(_))
        ));
        let full = first.enter();
        assert!(matches!(full, Entry::TurnedAway(Rejection::Full, _)));
        assert_eq!((first.open(), second.open()), (2, 1));
        assert_eq!((first.counters.open.get(), house.is_full()), (2, true));
        drop(two);
        assert!(!house.is_full());
        let three = second.enter();
        assert!(
            matches!(three, Entry::Welcome(_)),
            "who is being turned away takes nobody's place"
        );
        drop((one, three, full));
        assert_eq!((first.open(), second.open()), (0, 0));
        assert_eq!(first.counters.open.get(), 0);
    }

    #[test]
    fn those_who_are_turned_away_are_bounded_too() {
        let admission = Admission::new(house(1), Arc::default());
        let _inside = admission.enter();
        let full: Vec<_> = (0..MAX_TURNED_AWAY).map(|_| admission.enter()).collect();
        assert!(
            full.iter()
                .all(|entry| matches!(entry, Entry::TurnedAway(Rejection::Full, _)))
        );
        assert!(matches!(admission.enter(), Entry::Overrun));
        assert_eq!(
            admission.open(),
            1 + MAX_TURNED_AWAY,
            "who is not let in is not counted"
        );
    }

    /// A connection of this peer comes in.
    fn come(admission: &Rc<Admission>, peer: Peer) -> Entry {
        let visit = admission.visit(peer, false);
        admission.admit(admission.enter(), &visit)
    }

    fn host(last: u8) -> Peer {
        std::net::SocketAddr::from(([192, 0, 2, last], 1)).into()
    }

    #[test]
    fn an_address_has_so_many_connections_over_all_workers() {
        let house = House::new(&Config {
            max_connections: NonZeroUsize::new(3).expect("not zero"),
            max_connections_per_address: NonZeroUsize::new(1),
            ..Config::default()
        });
        let first = Admission::new(Arc::clone(&house), Arc::default());
        let second = Admission::new(Arc::clone(&house), Arc::default());
        let one = come(&first, host(1));
        assert!(matches!(one, Entry::Welcome(_)));
        let over = come(&second, host(1));
        assert!(matches!(over, Entry::TurnedAway(Rejection::Address, _)));
        let other = come(&second, host(2));
        assert!(matches!(other, Entry::Welcome(_)));
        let local = come(&first, Peer::Local);
        assert!(
            matches!(local, Entry::Welcome(_)),
            "who is turned away leaves the place to another"
        );
        let full = come(&first, Peer::Local);
        assert!(matches!(full, Entry::TurnedAway(Rejection::Full, _)));
        drop(one);
        assert!(matches!(come(&second, host(1)), Entry::Welcome(_)));
        drop((over, other, local, full));
        assert_eq!((first.open(), second.open()), (0, 0));
    }

    #[test]
    fn a_full_server_costs_an_address_nothing() {
        let house = House::new(&Config {
            max_connections: NonZeroUsize::MIN,
            handshake_rate: "2/h".parse().ok(),
            ..Config::default()
        });
        let admission = Admission::new(house, Arc::default());
        let inside = come(&admission, host(1));
        assert!(matches!(
            come(&admission, host(1)),
            Entry::TurnedAway(Rejection::Full, _)
        ));
        drop(inside);
        assert!(matches!(come(&admission, host(1)), Entry::Welcome(_)));
        let Entry::TurnedAway(Rejection::Rate { wait }, _) = come(&admission, host(1)) else {
            panic!("three in a moment");
        };
        assert!(wait > Duration::from_secs(29 * 60), "{wait:?}");
        assert!(matches!(come(&admission, host(2)), Entry::Welcome(_)));
    }
}
