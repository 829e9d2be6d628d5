//! The handlers' connections of a worker, as far as it may tell them to end: because of
//! what they hold, or because it drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::connection::{Context, Timer};
use crate::engine::eviction::EvictionCandidate;
use crate::engine::table::{Served, Table};
use crate::engine::{Buffered, Drain, Millis, Settings};
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;

pub(crate) struct HandlerRegistry {
    entries: RefCell<Table<Rc<Entry>>>,
    draining: Cell<Option<Drain>>,
    settings: Rc<Settings>,
}

/// One of them.
#[derive(Debug, Default)]
struct Entry {
    held: Cell<usize>,
    /// Its client leaves a reply unread, and how.
    slow_reader: Cell<Option<SlowReader>>,
    /// Why it is to end, which it does when its handler comes to wait.
    evicted_for: Cell<Option<EndReason>>,
    draining: Cell<Option<Drain>>,
    notify: Notify,
}

/// A client that leaves a reply unread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowReader {
    /// Its socket takes nothing.
    pub(super) is_unread: bool,
    /// What the kernel keeps for it.
    pub(super) socket_memory: Option<SocketMemory>,
}

/// A connection's place in the registry, until this is dropped.
pub(super) struct Guard {
    registry: Rc<HandlerRegistry>,
    key: u32,
    entry: Rc<Entry>,
}

impl HandlerRegistry {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            entries: RefCell::new(Table::new()),
            draining: Cell::new(None),
            settings,
        }
    }

    /// See [`Engine::tick`](crate::engine::Engine::tick). The handlers' connections have
    /// timers of their own.
    pub(crate) fn tick(&self) -> Buffered {
        let mut entries = self.entries.borrow_mut();
        for (key, drain) in entries.drained_in_turn(self.settings.context()) {
            if let Some(entry) = entries.get_mut(key) {
                entry.draining.set(Some(drain));
                entry.notify.notify_one();
            }
        }
        entries.buffered()
    }

    /// See [`Engine::eviction_candidates`](crate::engine::Engine::eviction_candidates).
    pub(crate) fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        self.entries
            .borrow()
            .eviction_candidates(self.settings.clock.now())
    }

    /// See [`Engine::evict`](crate::engine::Engine::evict).
    pub(crate) fn evict(&self, key: u32, reason: EndReason) {
        let mut entries = self.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(key) {
            entry.evicted_for.set(Some(reason));
            entry.notify.notify_one();
        }
        entries.note(key, self.settings.context());
    }

    /// See [`Engine::socket_memory`](crate::engine::Engine::socket_memory); known where
    /// it leaves a reply unread.
    pub(crate) fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut entries = self.entries.borrow_mut();
        entries.get_mut(key)?.slow_reader.get()?.socket_memory
    }

    /// See [`Engine::drain`](crate::engine::Engine::drain).
    pub(crate) fn drain(&self, drain: Drain, spread: Duration) {
        self.draining.set(Some(drain));
        let now = self.settings.clock.now();
        self.entries.borrow_mut().drain(drain, spread, now);
        self.settings.timers.want();
    }

    pub(super) fn register(self: Rc<Self>) -> Guard {
        let entry = Rc::new(Entry::default());
        entry.draining.set(self.draining.get());
        let mut entries = self.entries.borrow_mut();
        let key = entries.insert(Rc::clone(&entry), self.settings.context());
        drop(entries);
        Guard {
            registry: self,
            key,
            entry,
        }
    }
}

impl Served for Rc<Entry> {
    fn timer(&self) -> Timer {
        Timer::Unset
    }

    fn is_due(&self, _context: Context) -> bool {
        false
    }

    fn deadline(&self, _context: Context) -> Option<Millis> {
        None
    }

    /// One that is to end holds nothing that could still be freed.
    fn held(&self) -> usize {
        if self.evicted_for.get().is_some() {
            0
        } else {
            self.held.get()
        }
    }

    fn buffered(&self, _now: Millis) -> Buffered {
        let slow_reader = self.slow_reader.get();
        Buffered {
            bytes: self.held(),
            slow_readers: slow_reader.is_some().into(),
            unread: slow_reader.is_some_and(|it| it.is_unread).into(),
            ..Buffered::default()
        }
    }
}

impl Guard {
    /// Notes how many bytes are held.
    pub(super) fn hold(&self, bytes: usize) {
        self.entry.held.set(bytes);
        let mut entries = self.registry.entries.borrow_mut();
        entries.settle(self.key, &self.registry.settings);
    }

    /// Its client leaves a reply unread, or does so no longer.
    pub(super) fn set_slow_reader(&self, slow_reader: Option<SlowReader>) {
        self.entry.slow_reader.set(slow_reader);
        let mut entries = self.registry.entries.borrow_mut();
        entries.note(self.key, self.registry.settings.context());
    }

    /// Why the connection is to end because of what it holds, if it is.
    pub(super) fn evicted_for(&self) -> Option<EndReason> {
        self.entry.evicted_for.get()
    }

    pub(super) fn draining(&self) -> Option<Drain> {
        self.entry.draining.get()
    }

    /// Waits until the connection is evicted, or drained further.
    pub(super) fn notified(&self) -> impl Future<Output = ()> + use<> {
        let entry = Rc::clone(&self.entry);
        async move { entry.notify.notified().await }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.entries.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::eviction::largest_first;
    use crate::engine::runtime::tests::rig;
    use crate::observe::metrics::Counters;

    fn registry() -> Rc<HandlerRegistry> {
        let settings = rig::settings(Arc::<Counters>::default());
        Rc::new(HandlerRegistry::new(Rc::new(settings)))
    }

    /// A worker asks again before those it has evicted are gone, which were all others in
    /// the end.
    #[test]
    fn nobody_is_evicted_for_those_who_are_leaving() {
        let registry = registry();
        let guards = [100, 60, 60].map(|bytes| {
            let guard = Rc::clone(&registry).register();
            guard.hold(bytes);
            guard
        });
        let evict = |bytes| {
            for key in largest_first(registry.eviction_candidates(), bytes) {
                registry.evict(key, EndReason::HeldBytes);
            }
            guards.each_ref().map(|guard| guard.evicted_for().is_some())
        };
        assert_eq!(registry.tick().bytes, 220);
        assert_eq!(evict(100), [true, false, false]);
        assert_eq!(registry.tick().bytes, 120);
        // Slow readers are the first.
        guards[2].set_slow_reader(Some(SlowReader::default()));
        assert_eq!(registry.tick().slow_readers, 1);
        assert_eq!(evict(1), [true, false, true]);
        guards[2].hold(0);
        assert_eq!(evict(61), [true; 3]);
        drop(guards);
        assert_eq!(registry.tick(), Buffered::default());
    }

    #[test]
    fn a_drain_reaches_who_is_there_and_who_comes_later() {
        let registry = registry();
        let first = Rc::clone(&registry).register();
        assert_eq!(first.draining(), None);
        registry.drain(Drain::WhenQuiet, Duration::ZERO);
        registry.tick();
        assert_eq!(first.draining(), Some(Drain::WhenQuiet));
        let second = registry.register();
        assert_eq!(second.draining(), Some(Drain::WhenQuiet));
    }
}
