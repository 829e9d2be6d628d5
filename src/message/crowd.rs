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
    /// Dismisses those who hold most, until so many bytes are let go of.
    pub(crate) fn shed(&self, bytes: usize) {
        let members = self.0.borrow();
        let burdens = members.iter().filter_map(|(key, member)| {
            let holdings = Holdings {
                bytes: member.held.get(),
                slow_readers: member.is_slow_reader.get().into(),
            };
            Burden::of(key, holdings)
        });
        for key in heaviest(burdens.collect(), bytes) {
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

impl Place {
    /// So many bytes are held.
    pub(super) fn hold(&self, bytes: usize) {
        self.member.held.set(bytes);
    }

    /// Its client leaves a reply unread, or does so no longer.
    pub(super) fn set_slow_reader(&self, is_slow_reader: bool) {
        self.member.is_slow_reader.set(is_slow_reader);
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
