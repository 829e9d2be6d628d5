//! What the task of a handler and the engine that serves its connection have in common.
//!
//! Both run on one thread. Neither calls the other: each leaves what it has here, and
//! wakes the other.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::admission::Permit;
use crate::message::Message;
use crate::observe::metrics::label::EndReason;
use crate::proto::frame::{MAX_CONTROL_PAYLOAD, ServerHeader};
use crate::proto::{CloseCode, OpCode, Violation};

/// Messages that wait for the handler, and their bytes, from which on its client is not
/// read.
const INCOMING_MAX: usize = 1024;
pub(super) const INCOMING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that may be unsent when [`Channel::send`] is done.
pub(super) const UNSENT_MAX: usize = 64 * 1024;

/// Bytes of a payload that is copied behind its header, and other frames, to be sent
/// with them as one.
const COPIED_MAX: usize = 4096;

/// Bytes of the reason in a Close frame, behind the code.
const CLOSE_REASON_MAX: usize = 123;

const _: () = assert!(CLOSE_REASON_MAX as u64 + 2 == MAX_CONTROL_PAYLOAD);

/// Messages that a queue has room for while there is none in it.
const IDLE_CAPACITY: usize = 4;

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) reason: EndReason,
    /// The code of the Close frame that was sent or received, if any.
    pub(crate) code: Option<CloseCode>,
    /// What the client wrote in its Close frame.
    pub(crate) text: Rc<str>,
    pub(crate) violation: Option<Violation>,
}

/// Connections whose handlers have news for their engine.
#[derive(Debug, Default)]
pub(crate) struct News {
    keys: RefCell<Vec<u32>>,
    /// Wakes the engine.
    pub(crate) work: Notify,
}

impl News {
    /// Wakes the engine for this connection. Its key may be another's by then, which
    /// the engine finds to have none.
    pub(crate) fn push(&self, key: u32) {
        self.keys.borrow_mut().push(key);
        self.work.notify_one();
    }

    /// One of the connections, once.
    pub(crate) fn pop(&self) -> Option<u32> {
        self.keys.borrow_mut().pop()
    }
}

pub(crate) struct Channel {
    incoming: RefCell<VecDeque<Message>>,
    incoming_bytes: Cell<usize>,
    /// The handler has taken a message, and has not asked for the next one since.
    is_busy: Cell<bool>,
    /// Nobody will take any message.
    is_deaf: Cell<bool>,
    outgoing: RefCell<Outgoing>,
    /// Bytes that are outgoing, or with the engine, and that no socket has taken.
    unsent: Cell<usize>,
    /// The handler's wish to end the connection.
    wish: Cell<Option<Wish>>,
    ended: RefCell<Option<Ended>>,
    /// The engine has given the connection up.
    is_over: Cell<bool>,
    is_draining: Cell<bool>,
    /// Something has changed that the handler may wait for.
    changed: Notify,
    /// The engine knows, or is about to, that it has to look.
    has_news: Cell<bool>,
    wake_engine: OnceCell<Box<dyn Fn()>>,
    /// The place of the connection, until the engine and the handler are both done.
    _permit: Permit,
}

/// How a handler ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// With a Close frame of this code, which is the last outgoing one.
    Close(CloseCode),
    /// Without one.
    Drop,
}

/// What the handler has sent since the engine last looked.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    pub(crate) frames: u32,
    pub(crate) messages: u32,
}

#[derive(Debug)]
enum Chunk {
    /// Frames, the last one without its payload if that is the next chunk.
    Copied(Vec<u8>),
    Payload(Bytes),
}

impl Outgoing {
    /// Puts a frame behind all others; the bytes that it has.
    fn put(&mut self, opcode: OpCode, payload: Bytes) -> usize {
        let header = ServerHeader::new(true, opcode, payload.len() as u64);
        let header = header.as_bytes();
        let len = header.len() + payload.len();
        self.bytes += len;
        if !matches!(self.chunks.back(), Some(Chunk::Copied(_))) {
            self.chunks.push_back(Chunk::Copied(Vec::new()));
        }
        let Some(Chunk::Copied(copied)) = self.chunks.back_mut() else {
            unreachable!("it was put there");
        };
        copied.extend_from_slice(header);
        if payload.len() <= COPIED_MAX {
            copied.extend_from_slice(&payload);
        } else {
            self.chunks.push_back(Chunk::Payload(payload));
        }
        self.frames += 1;
        self.messages += u32::from(!opcode.is_control());
        len
    }

    /// Puts a whole frame behind all others.
    pub(crate) fn put_last(&mut self, frame: Vec<u8>) {
        self.chunks.push_back(Chunk::Copied(frame));
        self.frames += 1;
    }

    /// The next bytes to be sent, and whether there are more behind them.
    pub(crate) fn next(&mut self) -> Option<(Bytes, bool)> {
        let bytes = match self.chunks.pop_front()? {
            Chunk::Copied(bytes) => bytes.into(),
            Chunk::Payload(bytes) => bytes,
        };
        Some((bytes, !self.chunks.is_empty()))
    }
}

/// For the engine.
impl Channel {
    pub(crate) fn new(permit: Permit) -> Rc<Self> {
        Rc::new(Self {
            incoming: RefCell::default(),
            incoming_bytes: Cell::new(0),
            is_busy: Cell::new(false),
            is_deaf: Cell::new(false),
            outgoing: RefCell::default(),
            unsent: Cell::new(0),
            wish: Cell::new(None),
            ended: RefCell::new(None),
            is_over: Cell::new(false),
            is_draining: Cell::new(false),
            changed: Notify::new(),
            has_news: Cell::new(false),
            wake_engine: OnceCell::new(),
            _permit: permit,
        })
    }

    /// Has the engine woken like this from now on.
    pub(crate) fn set_wake(&self, wake: impl Fn() + 'static) {
        // A connection has one engine.
        let _ = self.wake_engine.set(Box::new(wake));
    }

    pub(super) fn deliver(&self, message: Message) {
        if self.is_deaf.get() {
            return;
        }
        let bytes = self.incoming_bytes.get() + message.as_bytes().len();
        self.incoming_bytes.set(bytes);
        let mut incoming = self.incoming.borrow_mut();
        incoming.push_back(message);
        if incoming.len() == 1 {
            self.changed.notify_waiters();
        }
    }

    /// Whether as much waits for the handler as may.
    pub(super) fn is_full(&self) -> bool {
        self.incoming_bytes.get() >= INCOMING_BYTES_MAX
            || self.incoming.borrow().len() >= INCOMING_MAX
    }

    /// Whether the handler has answered all that it was given, as far as it will.
    pub(super) fn is_settled(&self) -> bool {
        let is_read = !self.is_busy.get() && self.incoming.borrow().is_empty();
        is_read && self.outgoing.borrow().chunks.is_empty()
    }

    /// Bytes of memory for what waits for the handler, or for the engine.
    pub(super) fn held(&self) -> usize {
        let outgoing = self.outgoing.borrow();
        let outgoing = outgoing.chunks.iter().map(|chunk| match chunk {
            Chunk::Copied(bytes) => bytes.capacity(),
            Chunk::Payload(bytes) => bytes.len(),
        });
        self.incoming_held() + outgoing.sum::<usize>()
    }

    /// Bytes of memory for what waits for the handler.
    pub(super) fn incoming_held(&self) -> usize {
        let capacity = self.incoming.borrow().capacity();
        let places = capacity.saturating_sub(IDLE_CAPACITY) * size_of::<Message>();
        self.incoming_bytes.get() + places
    }

    /// Whether the engine has to look at what the handler has done.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.has_news.get()
    }

    /// Looks at it.
    pub(super) fn take_news(&self) -> Option<Wish> {
        self.has_news.set(false);
        self.wish.take()
    }

    pub(super) fn take_outgoing(&self) -> Outgoing {
        self.outgoing.take()
    }

    /// Notes that the engine has so many bytes that are unsent, beside those that it
    /// has not taken yet.
    pub(crate) fn note_unsent(&self, unsent: usize) {
        let unsent = unsent + self.outgoing.borrow().bytes;
        let before = self.unsent.replace(unsent);
        if before > UNSENT_MAX && unsent <= UNSENT_MAX {
            self.changed.notify_waiters();
        }
    }

    /// Notes that nothing more comes, unless it was noted before.
    pub(super) fn end(&self, ended: Ended) {
        if self.ended.borrow().is_none() {
            if ended.reason.is_eviction() {
                self.discard();
            }
            *self.ended.borrow_mut() = Some(ended);
            self.changed.notify_waiters();
        }
    }

    /// Notes that the engine is done with the connection.
    pub(super) fn set_over(&self) {
        self.is_over.set(true);
        self.changed.notify_waiters();
    }

    pub(crate) fn set_draining(&self) {
        self.is_draining.set(true);
        self.changed.notify_waiters();
    }

    fn discard(&self) {
        *self.incoming.borrow_mut() = VecDeque::new();
        self.incoming_bytes.set(0);
    }
}

/// For the handler.
impl Channel {
    /// The next message, or why there is none.
    pub(crate) async fn receive(&self) -> Result<Message, Ended> {
        self.wait_for(|| {
            if let Some(message) = self.take() {
                return Some(Ok(message));
            }
            if let Some(ended) = self.ended() {
                return Some(Err(ended));
            }
            if self.is_busy.replace(false) {
                // It may have waited for that, and nothing is held any more.
                self.wake();
            }
            None
        })
        .await
    }

    fn take(&self) -> Option<Message> {
        let was_full = self.is_full();
        let message = {
            let mut incoming = self.incoming.borrow_mut();
            let message = incoming.pop_front()?;
            if incoming.is_empty() && incoming.capacity() > IDLE_CAPACITY {
                *incoming = VecDeque::new();
            }
            message
        };
        let bytes = self.incoming_bytes.get() - message.as_bytes().len();
        self.incoming_bytes.set(bytes);
        self.is_busy.set(true);
        if was_full && !self.is_full() {
            self.wake();
        }
        Some(message)
    }

    /// Sends a frame, and waits until little is unsent. If that is cancelled, the frame
    /// is sent all the same.
    pub(crate) async fn send(&self, opcode: OpCode, payload: Bytes) -> Result<(), Ended> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        let len = self.outgoing.borrow_mut().put(opcode, payload);
        self.unsent.set(self.unsent.get() + len);
        self.wake();
        self.wait_for(|| {
            if let Some(ended) = self.ended() {
                return Some(Err(ended));
            }
            (self.unsent.get() <= UNSENT_MAX).then_some(Ok(()))
        })
        .await
    }

    /// Has the connection closed behind what was sent, with this code and as much of the
    /// reason as fits in a Close frame. A handler that has panicked has left before that.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        let is_closed = matches!(self.wish.get(), Some(Wish::Close(_)));
        if self.ended.borrow().is_none() && !is_closed {
            let mut ends = (0..=reason.len().min(CLOSE_REASON_MAX)).rev();
            let end = ends.find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
            let payload = [&code.get().to_be_bytes(), &reason.as_bytes()[..end]].concat();
            self.outgoing
                .borrow_mut()
                .put(OpCode::Close, payload.into());
            self.wish.set(Some(Wish::Close(code)));
            self.wake();
        }
    }

    /// The handler has no use for the connection any more.
    pub(crate) fn leave(&self) {
        self.is_deaf.set(true);
        self.discard();
        if self.ended.borrow().is_none() && self.wish.get().is_none() {
            self.wish.set(Some(Wish::Drop));
        }
        self.wake();
    }

    /// Nobody takes what is received from now on.
    pub(crate) fn stop_receiving(&self) {
        self.is_deaf.set(true);
        self.is_busy.set(false);
        self.discard();
        self.wake();
    }

    /// Waits until the engine is done with the connection.
    pub(crate) async fn over(&self) {
        self.wait_for(|| self.is_over.get().then_some(())).await;
    }

    /// Waits until the server drains, or the engine is done with the connection.
    pub(crate) async fn draining(&self) {
        let is_time = || self.is_draining.get() || self.is_over.get();
        self.wait_for(|| is_time().then_some(())).await;
    }

    /// Why the connection has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    fn wake(&self) {
        if !self.has_news.replace(true)
            && let Some(wake) = self.wake_engine.get()
        {
            wake();
        }
    }

    async fn wait_for<T>(&self, is_there: impl Fn() -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(there) = is_there() {
                return there;
            }
            changed.await;
        }
    }
}
