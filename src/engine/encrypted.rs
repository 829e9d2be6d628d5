//! Connections over TLS, beside whichever engine serves the others.
//!
//! An engine moves bytes between a socket and the frame core; what is encrypted
//! has to be decrypted in between, by code that no kernel interface knows of. So
//! such a connection stays on the worker's runtime, which every engine has, and
//! gets a task there that does what an engine owes: one read, one pass, one
//! write, and the same [connection](super::connection).

mod socket;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Connection, Context, Timer};
use super::eviction::EvictionCandidate;
use super::messages::channel::Channel;
use super::table::{Served, Table};
use super::{Buffered, Drain, Millis, Settings};
use crate::limits::admission::Permit;
use crate::net::socket_memory::SocketMemory;
use crate::observe::metrics::label::EndReason;
use crate::sys::task_kind::TaskKind;
use crate::transport::tls::TlsStream;
use socket::TlsSocket;

/// All of a worker's connections over TLS.
pub(crate) struct Encrypted {
    connections: RefCell<Table<Rc<RefCell<TlsSocket>>>>,
    shared: RefCell<Shared>,
}

/// The state that the connections share.
struct Shared {
    /// Belongs to the connection that is being served; made with the first.
    read_buf: Vec<u8>,
    draining: Option<Drain>,
    settings: Rc<Settings>,
}

impl Encrypted {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            connections: RefCell::new(Table::new()),
            shared: RefCell::new(Shared {
                read_buf: Vec::new(),
                draining: None,
                settings,
            }),
        }
    }

    /// Owns the connection from now on; see [`Engine::adopt`](super::Engine::adopt).
    pub(crate) fn adopt(
        self: &Rc<Self>,
        stream: Box<TlsStream>,
        leftover: Bytes,
        permit: Permit,
        handler: Option<Rc<Channel>>,
    ) {
        let tasks = self.shared.borrow().settings.tasks.clone();
        let serving = Rc::clone(self).serve(stream, leftover, permit, handler);
        tasks.spawn(TaskKind::Connection, serving);
    }

    async fn serve(
        self: Rc<Self>,
        stream: Box<TlsStream>,
        leftover: Bytes,
        permit: Permit,
        handler: Option<Rc<Channel>>,
    ) {
        let settings = Rc::clone(&self.shared.borrow().settings);
        let now = settings.clock.now();
        let draining = self.shared.borrow().draining;
        let connection = Connection::new(permit, handler.clone(), now, draining);
        let connection = Rc::new(RefCell::new(TlsSocket::new(stream, connection)));
        if let Some(handler) = handler {
            let connection = Rc::downgrade(&connection);
            handler.set_wake(move || {
                if let Some(connection) = connection.upgrade() {
                    connection.borrow_mut().wake();
                }
            });
        }
        let key = self
            .connections
            .borrow_mut()
            .insert(Rc::clone(&connection), settings.at(now));
        connection
            .borrow_mut()
            .begin(&leftover, &mut self.shared.borrow_mut());
        // It shares the buffer that the request was read into.
        drop(leftover);
        poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            let poll = connection.borrow_mut().poll(&mut shared, cx);
            self.connections.borrow_mut().settle(key, &settings);
            poll
        })
        .await;
        self.connections.borrow_mut().remove(key);
        connection.borrow_mut().over(&self.shared.borrow());
    }

    /// See [`Engine::tick`](super::Engine::tick).
    pub(crate) fn tick(&self) -> Buffered {
        let mut shared = self.shared.borrow_mut();
        let settings = Rc::clone(&shared.settings);
        let context = settings.context();
        let timeout = |connection: &mut Rc<RefCell<TlsSocket>>| {
            connection.borrow_mut().timeout(&mut shared, context.now);
        };
        let start_drain = |connection: &mut Rc<RefCell<TlsSocket>>, drain| {
            connection.borrow_mut().start_drain(drain);
        };
        let mut connections = self.connections.borrow_mut();
        connections.tick(context, timeout, start_drain)
    }

    /// See [`Engine::eviction_candidates`](super::Engine::eviction_candidates).
    pub(crate) fn eviction_candidates(&self) -> Vec<EvictionCandidate<u32>> {
        let now = self.shared.borrow().settings.clock.now();
        self.connections.borrow().eviction_candidates(now)
    }

    /// See [`Engine::evict`](super::Engine::evict).
    pub(crate) fn evict(&self, key: u32, reason: EndReason) {
        let shared = self.shared.borrow();
        let context = shared.settings.context();
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = connections.get_mut(key) {
            connection.borrow_mut().evict(context, reason);
            connections.note(key, context);
        }
    }

    /// See [`Engine::socket_memory`](super::Engine::socket_memory).
    pub(crate) fn socket_memory(&self, key: u32) -> Option<SocketMemory> {
        let mut connections = self.connections.borrow_mut();
        connections.get_mut(key)?.borrow().socket_memory()
    }

    /// See [`Engine::drain`](super::Engine::drain).
    pub(crate) fn drain(&self, drain: Drain, spread: Duration) {
        let mut shared = self.shared.borrow_mut();
        shared.draining = Some(drain);
        let now = shared.settings.clock.now();
        self.connections.borrow_mut().drain(drain, spread, now);
        shared.settings.timers.want();
    }
}

impl Served for Rc<RefCell<TlsSocket>> {
    fn timer(&self) -> Timer {
        self.borrow().connection.timer()
    }

    fn is_due(&self, context: Context) -> bool {
        self.borrow().connection.is_due(context)
    }

    fn deadline(&self, context: Context) -> Option<Millis> {
        self.borrow().connection.deadline(context)
    }

    fn held(&self) -> usize {
        self.borrow().held()
    }

    fn buffered(&self, now: Millis) -> Buffered {
        self.borrow().buffered(now)
    }
}

impl Shared {
    fn read_buf(&mut self) -> &mut [u8] {
        if self.read_buf.is_empty() {
            self.read_buf = vec![0; self.settings.read_buffer_len()];
        }
        &mut self.read_buf
    }
}
