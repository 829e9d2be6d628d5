//! The handlers' connections of a worker, as far as they hold bytes that they
//! may be told to let go of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;
use tokio::sync::Notify;

use crate::engine::Holdings;
use crate::engine::burden::{Burden, heaviest};
use crate::metrics::label::EndReason;
use crate::socket_memory::SocketMemory;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Crowd(RefCell<Slab<Rc<Member>>>);

/// One of them.
#[derive(Debug, Default)]
struct Member {
    held: Cell<usize>,
    /// Its client leaves a reply unread, and how.
    slow_reader: Cell<Option<SlowReader>>,
    /// Why it is to go, which it does when its handler comes to wait.
    dismissed_for: Cell<Option<EndReason>>,
    dismissed: Notify,
}

/// A client that leaves a reply unread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowReader {
    /// Its socket takes nothing.
    pub(super) is_unread: bool,
    /// What the kernel keeps for it.
    pub(super) socket_memory: Option<SocketMemory>,
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
        let going = members
            .iter()
            .filter(|(_key, member)| member.dismissed_for.get().is_some())
            .map(|(_key, member)| member.held.get())
            .sum();
        for key in heaviest(self.burdens(), bytes.saturating_sub(going)) {
            members[key].dismiss(EndReason::HeldBytes);
        }
    }

    /// What each of them holds that holds something, less those who are to go.
    pub(crate) fn burdens(&self) -> Vec<Burden<usize>> {
        let members = self.0.borrow();
        let staying = members
            .iter()
            .filter(|(_key, member)| member.dismissed_for.get().is_none());
        staying
            .filter_map(|(key, member)| Burden::of(key, member.holdings()))
            .collect()
    }

    /// Ends the connection with this key.
    pub(crate) fn dismiss(&self, key: usize, reason: EndReason) {
        self.0.borrow()[key].dismiss(reason);
    }

    /// What the kernel keeps for that connection, where it leaves a reply unread.
    pub(crate) fn socket_memory(&self, key: usize) -> Option<SocketMemory> {
        self.0.borrow()[key].slow_reader.get()?.socket_memory
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
        let slow_reader = self.slow_reader.get();
        Holdings {
            bytes: self.held.get(),
            slow_readers: slow_reader.is_some().into(),
            unread: slow_reader.is_some_and(|it| it.is_unread).into(),
            ..Holdings::default()
        }
    }

    fn dismiss(&self, reason: EndReason) {
        self.dismissed_for.set(Some(reason));
        self.dismissed.notify_one();
    }
}

impl Place {
    /// So many bytes are held.
    pub(super) fn hold(&self, bytes: usize) {
        self.member.held.set(bytes);
    }

    /// Its client leaves a reply unread, or does so no longer.
    pub(super) fn set_slow_reader(&self, slow_reader: Option<SlowReader>) {
        self.member.slow_reader.set(slow_reader);
    }

    /// Why the connection is to end, if it is.
    pub(super) fn dismissed_for(&self) -> Option<EndReason> {
        self.member.dismissed_for.get()
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
            let is_going = |place: &Place| place.dismissed_for().is_some();
            places.each_ref().map(is_going)
        };
        crowd.shed(100);
        assert_eq!(going(), [true, false, false]);
        // Whoever else reads slowly would be the first to go.
        places[1].set_slow_reader(Some(SlowReader::default()));
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
