//! Handlers: code of one's own that gets whole messages and sends some.
//!
//! The engine serves the connection, with its timeouts, limits and drain; a handler is a
//! task on the same thread. See `docs/handlers.md` for how to build a service on it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;

use crate::engine::messages::channel::{Channel, Ended};
use crate::http::Accept;
use crate::message::{Message, Utf8Bytes};
use crate::net::peer::Peer;
use crate::observe::metrics::label::EndReason;
use crate::proto::frame::MAX_CONTROL_PAYLOAD;
use crate::proto::{CloseCode, OpCode, Violation};

pub use hyper::{HeaderMap, StatusCode};

pub use crate::http::Request;

/// Messages that a handler gets before the other connections have their turn.
const MESSAGES_PER_TURN: u32 = 32;

/// Why there are no more messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The connection was closed, by the peer or the handler.
    #[error("the connection was closed{}", code.map_or(String::new(), |code| format!(" with code {}", code.get())))]
    Closed {
        /// The code of the Close frame, if it had one.
        code: Option<CloseCode>,
    },
    /// The peer's stream ended without a Close frame, or the connection broke.
    #[error("the connection ended without a Close frame")]
    UnexpectedEof,
    /// The server is stopping and has closed the connection.
    #[error("the server is stopping")]
    ServerShutdown,
    /// The peer broke a rule and was told so.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer was silent, even when it was pinged.
    #[error("the peer was silent for too long")]
    IdleTimeout,
    /// The peer broke a rule of TLS, or sent too much that TLS allows and nobody needs.
    #[error("the peer broke TLS")]
    Tls,
    /// The peer did not read what was sent.
    #[error("the peer did not read for too long")]
    SlowReader,
    /// The server held more bytes than it may, and of those most for this peer; or
    /// the kernel did, and the peer does not read.
    #[error("the server held too much for the peer")]
    Evicted,
}

impl From<Ended> for MessageError {
    fn from(ended: Ended) -> Self {
        if let Some(violation) = ended.violation {
            return Self::Violation(violation);
        }
        match ended.reason {
            EndReason::Client | EndReason::Handler | EndReason::Violation => {
                Self::Closed { code: ended.code }
            }
            EndReason::Tls => Self::Tls,
            EndReason::Idle => Self::IdleTimeout,
            EndReason::Drain => Self::ServerShutdown,
            EndReason::SlowReader => Self::SlowReader,
            EndReason::HeldBytes | EndReason::TcpMemory => Self::Evicted,
            EndReason::Gone => Self::UnexpectedEof,
        }
    }
}

/// What serves connections instead of the echo. A clone is the same handler.
#[derive(Clone)]
pub struct Handler {
    make: Arc<dyn Fn() -> WorkerHandler + Send + Sync>,
    accept: Option<Accept>,
}

/// The handler of one worker.
pub(crate) type WorkerHandler = Rc<dyn Fn(MessageSocket) -> Pin<Box<dyn Future<Output = ()>>>>;

impl Handler {
    /// Calls `handler` for each connection, on the worker that accepted it. What it
    /// returns runs there, beside the other connections of that worker; it must not
    /// block.
    pub fn new<H, F>(handler: H) -> Self
    where
        H: Fn(MessageSocket) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        let handler = Arc::new(handler);
        Self::per_worker(move || {
            let handler = Arc::clone(&handler);
            move |socket| handler(socket)
        })
    }

    /// As [`new`](Self::new), with the handler that `make` returns on each worker: what
    /// it keeps is that worker's own, and need not be `Send`.
    pub fn per_worker<M, H, F>(make: M) -> Self
    where
        M: Fn() -> H + Send + Sync + 'static,
        H: Fn(MessageSocket) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let make = move || -> WorkerHandler {
            let handler = make();
            Rc::new(move |socket| Box::pin(handler(socket)))
        };
        Self {
            make: Arc::new(make),
            accept: None,
        }
    }

    /// Asks `accept` about each request that is a proper handshake, before it is
    /// answered. One that it refuses is answered with that status.
    #[must_use]
    pub fn accepting<A>(mut self, accept: A) -> Self
    where
        A: Fn(&Request) -> Result<(), StatusCode> + Send + Sync + 'static,
    {
        self.accept = Some(Arc::new(accept));
        self
    }

    pub(crate) fn accept(&self) -> Option<Accept> {
        self.accept.clone()
    }

    pub(crate) fn for_worker(&self) -> WorkerHandler {
        (self.make)()
    }
}

/// A connection as a handler sees it.
///
/// Dropping it ends the connection, behind what was sent, without a Close frame; with
/// Close 1011 if the handler panics. A client that is to know why else needs
/// [`close`](Self::close) first; once a method has returned an error, the connection is
/// closed already.
pub struct MessageSocket {
    receiver: MessageReceiver,
    sender: MessageSender,
    request: Box<Request>,
    subprotocol: Option<String>,
}

/// The half of a connection that receives. Where it is dropped, what the client sends is
/// discarded.
pub struct MessageReceiver {
    handle: Rc<Handle>,
    messages_in_turn: u32,
    has_failed: bool,
}

/// The half of a connection that sends. A clone sends to the same client.
#[derive(Clone)]
pub struct MessageSender {
    handle: Rc<Handle>,
}

/// A connection, which ends when the last half of it is dropped.
struct Handle {
    channel: Rc<Channel>,
    peer: Peer,
}

impl MessageSocket {
    pub(crate) fn new(
        channel: Rc<Channel>,
        peer: Peer,
        request: Box<Request>,
        subprotocol: Option<String>,
    ) -> Self {
        let handle = Rc::new(Handle { channel, peer });
        Self {
            receiver: MessageReceiver {
                handle: Rc::clone(&handle),
                messages_in_turn: 0,
                has_failed: false,
            },
            sender: MessageSender { handle },
            request,
            subprotocol,
        }
    }

    /// The request that the connection began with.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The subprotocol that was agreed on, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.sender.peer()
    }

    /// See [`MessageReceiver::recv`].
    ///
    /// # Errors
    /// As [`MessageReceiver::recv`].
    pub async fn recv(&mut self) -> Option<Result<Message, MessageError>> {
        self.receiver.recv().await
    }

    /// See [`MessageReceiver::read_message`].
    ///
    /// # Errors
    /// As [`MessageReceiver::read_message`].
    pub async fn read_message(&mut self) -> Result<Message, MessageError> {
        self.receiver.read_message().await
    }

    /// See [`MessageSender::send`].
    ///
    /// # Errors
    /// As [`MessageSender::send`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), MessageError> {
        self.sender.send(message).await
    }

    /// See [`MessageSender::send_text`].
    ///
    /// # Errors
    /// As [`MessageSender::send`].
    pub async fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), MessageError> {
        self.sender.send_text(text).await
    }

    /// As [`send`](Self::send), for a message that is kept.
    ///
    /// # Errors
    /// As [`MessageSender::send`].
    pub async fn write_message(&mut self, message: &Message) -> Result<(), MessageError> {
        self.sender.send(message.clone()).await
    }

    /// See [`MessageSender::ping`].
    ///
    /// # Errors
    /// As [`MessageSender::send`].
    ///
    /// # Panics
    /// As [`MessageSender::ping`].
    pub async fn ping(&mut self, payload: &[u8]) -> Result<(), MessageError> {
        self.sender.ping(payload).await
    }

    /// See [`MessageSender::close`].
    pub async fn close(&mut self, code: CloseCode, reason: &str) {
        self.sender.close(code, reason).await;
    }

    /// See [`MessageReceiver::close_frame`].
    pub fn close_frame(&self) -> Option<(CloseCode, String)> {
        self.receiver.close_frame()
    }

    /// See [`MessageSender::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.sender.draining()
    }

    /// The two halves, for a handler that sends while it waits for a message.
    pub fn split(self) -> (MessageSender, MessageReceiver) {
        (self.sender, self.receiver)
    }
}

impl MessageReceiver {
    /// Receives the next message; `None` once the connection was closed, by the client or
    /// the handler. What the client's Close frame said is
    /// [`close_frame`](Self::close_frame).
    ///
    /// This may be cancelled: what has arrived is not lost.
    ///
    /// # Errors
    /// Why the connection ended otherwise, once; it is closed then, with the code that
    /// fits.
    pub async fn recv(&mut self) -> Option<Result<Message, MessageError>> {
        if self.has_failed {
            return None;
        }
        let received = self.read_message().await;
        self.has_failed = received.is_err();
        match received {
            Err(MessageError::Closed { .. }) => None,
            received => Some(received),
        }
    }

    /// As [`recv`](Self::recv), where the end of a connection is an error as well.
    ///
    /// # Errors
    /// Why there is no message.
    pub async fn read_message(&mut self) -> Result<Message, MessageError> {
        if self.messages_in_turn == MESSAGES_PER_TURN {
            self.messages_in_turn = 0;
            yield_now().await;
        }
        self.messages_in_turn += 1;
        Ok(self.handle.channel.receive().await?)
    }

    /// The code and the reason of the client's Close frame, once it is received, if it
    /// had a code.
    pub fn close_frame(&self) -> Option<(CloseCode, String)> {
        let ended = self.handle.channel.ended()?;
        let code = ended.code.filter(|_| ended.reason == EndReason::Client)?;
        Some((code, ended.text.to_string()))
    }
}

impl MessageSender {
    /// Sends a message, in one frame, and waits until little of it is unsent.
    ///
    /// If this is cancelled, the message is sent all the same.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), MessageError> {
        let (opcode, payload) = match message.into() {
            Message::Text(text) => (OpCode::Text, text.into_bytes()),
            Message::Binary(bytes) => (OpCode::Binary, bytes),
        };
        Ok(self.handle.channel.send(opcode, payload).await?)
    }

    /// Sends a text; see [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_text(&self, text: impl Into<Utf8Bytes>) -> Result<(), MessageError> {
        self.send(text.into()).await
    }

    /// Sends a Ping, which the client is to answer. The server pings silent clients by
    /// itself.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Panics
    /// If the payload is longer than 125 bytes.
    pub async fn ping(&self, payload: &[u8]) -> Result<(), MessageError> {
        assert!(
            payload.len() as u64 <= MAX_CONTROL_PAYLOAD,
            "a Ping carries at most {MAX_CONTROL_PAYLOAD} bytes"
        );
        let payload = Bytes::copy_from_slice(payload);
        Ok(self.handle.channel.send(OpCode::Ping, payload).await?)
    }

    /// Closes the connection behind what was sent, with this code and as much of the
    /// reason as fits in a Close frame. Waits, but not for long, until the client has
    /// taken note.
    pub async fn close(&self, code: CloseCode, reason: &str) {
        self.handle.channel.close(code, reason);
        self.handle.channel.over().await;
    }

    /// Ready once the server drains, or the connection is over. The client gets a Close 1001 when it has sent
    /// nothing that the handler has not answered; the handler may close the connection
    /// before that.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        let channel = Rc::clone(&self.handle.channel);
        async move { channel.draining().await }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.handle.peer
    }
}

impl Drop for MessageReceiver {
    fn drop(&mut self) {
        self.handle.channel.stop_receiving();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.channel.leave();
    }
}
