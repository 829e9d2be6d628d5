//! The handlers' connections of a worker, as far as they hold bytes that they
//! may be told to let go of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;
use tokio::sync::Notify;

use crate::engine::Holdings;
use crate::engine::burden::{Burden, heaviest};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Crowd(RefCell<Slab<Rc<Member>>>);

/// One of them.
#[derive(Debug, Default)]
struct Member {
    held: Cell<usize>,
    is_slow_reader: Cell<bool>,
    /// It is to go, and does when its handler comes to wait.
    is_dismissed: Cell<bool>,
    dismissed: Notify,
}

/// A connection's place in the crowd, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Rc<Crowd>,
    key: usize,
    member: Rc<Member>,
}

impl Crowd {
    /// What they hold.
    pub(crate) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        for (_key, member) in &*self.0.borrow() {
            holdings.add(member.holdings());
        }
        holdings
    }

    /// Dismisses those who hold most, until so many bytes are let go of. What
    /// others hold who were dismissed before, and have not gone yet, counts.
    pub(crate) fn shed(&self, bytes: usize) {
        let members = self.0.borrow();
        let mut going = 0;
        let mut burdens = Vec::new();
        for (key, member) in &*members {
            let holdings = member.holdings();
            if member.is_dismissed.get() {
                going += holdings.bytes;
            } else {
                burdens.extend(Burden::of(key, holdings));
            }
        }
        for key in heaviest(burdens, bytes.saturating_sub(going)) {
            members[key].is_dismissed.set(true);
            members[key].dismissed.notify_one();
        }
    }

    pub(super) fn join(self: Rc<Self>) -> Place {
        let member = Rc::new(Member::default());
        let key = self.0.borrow_mut().insert(Rc::clone(&member));
        let crowd = self;
        Place { crowd, key, member }
    }
}

impl Member {
    fn holdings(&self) -> Holdings {
        Holdings {
            bytes: self.held.get(),
            slow_readers: self.is_slow_reader.get().into(),
            ..Holdings::default()
        }
    }
}

impl Place {
    /// So many bytes are held.
    pub(super) fn hold(&self, bytes: usize) {
        self.member.held.set(bytes);
    }

    /// Its client leaves a reply unread, or does so no longer.
    pub(super) fn set_slow_reader(&self, is_slow_reader: bool) {
        self.member.is_slow_reader.set(is_slow_reader);
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.member.is_dismissed.get()
    }

    /// Waits until the connection is dismissed.
    pub(super) fn dismissed(&self) -> impl Future<Output = ()> + use<> {
        let member = Rc::clone(&self.member);
        async move { member.dismissed.notified().await }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.0.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker asks again before those it has dismissed are gone, which were
    /// all others in the end.
    #[test]
    fn nobody_goes_for_those_who_are_going() {
        let crowd = Rc::new(Crowd::default());
        let places = [100, 60, 60].map(|bytes| {
            let place = Rc::clone(&crowd).join();
            place.hold(bytes);
            place
        });
        let going = || {
            let is_going = |place: &Place| place.member.is_dismissed.get();
            places.each_ref().map(is_going)
        };
        crowd.shed(100);
        assert_eq!(going(), [true, false, false]);
        // Whoever else reads slowly would be the first to go.
        places[1].set_slow_reader(true);
        crowd.shed(100);
        assert_eq!(going(), [true, false, false]);
        crowd.shed(101);
        assert_eq!(going(), [true, true, false]);
        // The first has gone, and its bytes are not there to go any more.
        places[0].hold(0);
        crowd.shed(61);
        assert_eq!(going(), [true; 3]);
    }
}
