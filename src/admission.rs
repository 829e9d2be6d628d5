//! Who is inside: the connections of one worker, and of all.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::metrics::Counters;

/// The connections of all workers. Touched when one opens or closes, never in
/// between.
#[derive(Debug)]
pub(crate) struct House {
    welcome: AtomicUsize,
    turned_away: AtomicUsize,
    capacity: NonZeroUsize,
}

impl House {
    pub(crate) fn new(capacity: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            welcome: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            capacity,
        })
    }

    /// Connections that may be open at a time.
    pub(crate) fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    /// Whether the next connection is turned away.
    pub(crate) fn is_full(&self) -> bool {
        self.welcome.load(Relaxed) >= self.capacity.get()
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

/// Connections over the capacity that are told so at a time. More are closed
/// without a word.
pub(crate) const MAX_TURNED_AWAY: usize = 256;

/// What is to be done with a connection.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Serve it.
    Welcome(Permit),
    /// Tell it that the server is full.
    Full(Permit),
    /// Close it.
    Overrun,
}

/// A connection's place; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Rc<Admission>,
    is_welcome: bool,
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
            Entry::Welcome(self.permit(true))
        } else if take_place(&self.house.turned_away, MAX_TURNED_AWAY) {
            Entry::Full(self.permit(false))
        } else {
            Entry::Overrun
        }
    }

    fn permit(self: &Rc<Self>, is_welcome: bool) -> Permit {
        self.set_open(self.open.get() + 1);
        Permit {
            admission: Rc::clone(self),
            is_welcome,
        }
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
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Admission { house, left, .. } = &*self.admission;
        self.admission.set_open(self.admission.open() - 1);
        let places = if self.is_welcome {
            &house.welcome
        } else {
            &house.turned_away
        };
        places.fetch_sub(1, Relaxed);
        left.notify_waiters();
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
        House::new(NonZeroUsize::new(capacity).expect("not zero"))
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
        assert!(matches!(full, Entry::Full(_)));
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
        assert!(full.iter().all(|entry| matches!(entry, Entry::Full(_))));
        assert!(matches!(admission.enter(), Entry::Overrun));
        assert_eq!(
            admission.open(),
            1 + MAX_TURNED_AWAY,
            "who is not let in is not counted"
        );
    }
}
