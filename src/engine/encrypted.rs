//! Connections over TLS, beside whichever engine serves the others.
//!
//! An engine moves bytes between a socket and the frame core; what is encrypted
//! has to be decrypted in between, by code that no kernel interface knows of. So
//! such a connection stays on the worker's runtime, which every engine has, and
//! gets a task there that does what an engine owes: one read, one pass, one
//! write, and the same [session](super::session).

mod connection;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use slab::Slab;

use super::burden::Burden;
use super::{Drain, Holdings, Settings};
use crate::admission::Permit;
use crate::metrics::label::EndReason;
use crate::socket_memory::SocketMemory;
use crate::task::TaskKind;
use crate::tls::TlsStream;
use crate::turn::turn;
use connection::Connection;

/// All of a worker's connections over TLS.
pub(crate) struct Encrypted {
    connections: RefCell<Slab<Rc<RefCell<Connection>>>>,
    shared: RefCell<Shared>,
}

/// What the connections have in common.
struct Shared {
    /// Belongs to the connection that is being served; made with the first.
    read_buf: Vec<u8>,
    draining: Option<Drain>,
    settings: Rc<Settings>,
}

impl Encrypted {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            connections: RefCell::new(Slab::new()),
            shared: RefCell::new(Shared {
                read_buf: Vec::new(),
                draining: None,
                settings,
            }),
        }
    }

    /// Owns the connection from now on; see [`Engine::adopt`](super::Engine::adopt).
    pub(crate) fn adopt(self: &Rc<Self>, stream: Box<TlsStream>, leftover: Bytes, permit: Permit) {
        let tasks = self.shared.borrow().settings.tasks.clone();
        let serving = Rc::clone(self).serve(stream, leftover, permit);
        tasks.spawn(TaskKind::Connection, serving);
    }

    async fn serve(self: Rc<Self>, stream: Box<TlsStream>, leftover: Bytes, permit: Permit) {
        let now = self.shared.borrow().settings.clock.now();
        let connection = Rc::new(RefCell::new(Connection::new(stream, permit, now)));
        let key = self.connections.borrow_mut().insert(Rc::clone(&connection));
        connection
            .borrow_mut()
            .begin(&leftover, &mut self.shared.borrow_mut());
        // It shares the buffer that the request was read into.
        drop(leftover);
        poll_fn(|cx| {
            connection
                .borrow_mut()
                .poll(&mut self.shared.borrow_mut(), cx)
        })
        .await;
        self.connections.borrow_mut().remove(key);
        connection.borrow_mut().over(&self.shared.borrow());
    }

    /// See [`Engine::tick`](super::Engine::tick).
    pub(crate) fn tick(&self) -> Holdings {
        let mut shared = self.shared.borrow_mut();
        let now = shared.settings.clock.now();
        let mut holdings = Holdings::default();
        for (_key, connection) in &*self.connections.borrow() {
            let mut connection = connection.borrow_mut();
            turn(|| connection.tick(&mut shared, now));
            holdings.add(connection.holdings(now));
        }
        holdings
    }

    /// See [`Engine::burdens`](super::Engine::burdens).
    pub(crate) fn burdens(&self) -> Vec<Burden<usize>> {
        let now = self.shared.borrow().settings.clock.now();
        let connections = self.connections.borrow();
        connections
            .iter()
            .filter_map(|(key, connection)| Burden::of(key, connection.borrow().holdings(now)))
            .collect()
    }

    /// See [`Engine::dismiss`](super::Engine::dismiss).
    pub(crate) fn dismiss(&self, key: usize, reason: EndReason) {
        let connections = self.connections.borrow();
        let mut connection = connections[key].borrow_mut();
        connection.dismiss(reason, &self.shared.borrow());
    }

    /// See [`Engine::socket_memory`](super::Engine::socket_memory).
    pub(crate) fn socket_memory(&self, key: usize) -> Option<SocketMemory> {
        self.connections.borrow()[key].borrow().socket_memory()
    }

    /// See [`Engine::drain`](super::Engine::drain).
    pub(crate) fn drain(&self, drain: Drain) {
        self.shared.borrow_mut().draining = Some(drain);
        for (_key, connection) in &*self.connections.borrow() {
            connection.borrow_mut().wake();
        }
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
