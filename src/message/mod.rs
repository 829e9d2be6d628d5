//! Whole messages, for handlers that want them: read one, write one.
//!
//! The echo of the engines never collects a message. A handler does not care
//! for frames, so here fragments are joined, control frames are handled out of
//! sight, and what a peer may make us hold is bounded by the message limit.
//! The sockets live on the runtime of the worker that accepted them.

mod account;
mod assembly;
mod inbox;
mod registry;
mod sending;

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::DEFAULT_WHOLE_MESSAGE;
use crate::engine::backlog::{Verdict, Wait};
use crate::engine::connection::{PING, log_broken_tls};
use crate::engine::{Drain, SLOW_READER, Settings};
use crate::http::UpgradedStream;
use crate::net::byte_queue::ByteQueue;
use crate::net::peer::Peer;
use crate::net::socket::reset_when_closed;
use crate::net::socket_memory::SocketMemory;
use crate::observe::connection_record::ConnectionRecord;
use crate::observe::metrics::label::EndReason;
use crate::proto::frame::ServerHeader;
use crate::proto::{CloseCode, Limits, OpCode, Violation};
use crate::transport::stream::Stream;
use crate::transport::tls::is_broken_tls;
use account::Account;
use assembly::BYTES_PER_TURN;
use inbox::{Event, Inbox};
pub(crate) use registry::HandlerRegistry;
use registry::SlowReader;
use sending::Sending;

/// Bytes that are read at once.
const READ_LEN: usize = 16 * 1024;

/// Messages that a handler gets before the other connections have their turn, from
/// whatever was read at once: a short one costs as much as reading thousands of them.
const MESSAGES_PER_TURN: u32 = 32;

/// Bytes of a message that is copied behind its header, to be sent with it as one.
const COPIED_MAX: usize = 4096;

/// Pieces of 4 KiB that are discarded of a connection whose handler has panicked.
const UNREAD_PIECES_MAX: usize = 64;

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(String),
    /// Anything.
    Binary(Vec<u8>),
}

/// Why there are no more messages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The peer closed the connection, with this code if with any.
    #[error("the peer closed the connection{}", code.map_or(String::new(), |code| format!(" with code {}", code.get())))]
    Closed {
        /// The code of its Close frame.
        code: Option<CloseCode>,
    },
    /// The peer's stream ended without a Close frame.
    #[error("the peer left without closing the connection")]
    Left,
    /// The server is stopping and has closed the connection.
    #[error("the server is stopping")]
    Stopping,
    /// The peer broke a rule and was told so.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer was silent, even when it was pinged.
    #[error("the peer was silent for too long")]
    Silent,
    /// The peer broke a rule of TLS, or sent too much that TLS allows and nobody needs.
    #[error("the peer broke TLS")]
    Tls,
    /// The peer did not read what was written.
    #[error("the peer did not read for too long")]
    SlowReader,
    /// The server held more bytes than it may, and of those most for this peer; or
    /// the kernel did, and the peer does not read.
    #[error("the server held too much for the peer")]
    HeldTooMuch,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Why the connection is over, though the peer may not have hung up yet.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Closed { code: Option<CloseCode> },
    Stopping,
    Violation(Violation),
    Silent,
    Tls,
    HeldTooMuch,
}

impl From<Ending> for MessageError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Closed { code } => Self::Closed { code },
            Ending::Stopping => Self::Stopping,
            Ending::Violation(violation) => Self::Violation(violation),
            Ending::Silent => Self::Silent,
            Ending::Tls => Self::Tls,
            Ending::HeldTooMuch => Self::HeldTooMuch,
        }
    }
}

/// A connection as a handler sees it.
///
/// Dropping it ends the connection, with Close 1011 if the handler panics. A client
/// that is to know why else needs [`close`](Self::close) first; once a method has returned an error, the
/// connection is closed already.
pub struct MessageSocket {
    stream: Stream,
    subprotocol: Option<String>,
    inbox: Inbox,
    /// What was read while a message could not be written; it comes before all
    /// that is still to be read.
    ahead: Option<Box<ByteQueue>>,
    /// The peer's end of the stream is behind that.
    hung_up: bool,
    /// What is to be written before anything else; `written` bytes of it are.
    outbox: Vec<u8>,
    outbox_frames: u32,
    written: usize,
    /// Bytes of memory that the message has which is being written.
    sending: usize,
    /// A Close frame is out, or in the outbox: nothing may follow it.
    ending: Option<Ending>,
    /// When bytes last came, or when the Ping was sent that asks for some.
    heard_at: Instant,
    is_pinged: bool,
    /// The last read was full, so there is more. A peer that never pauses must
    /// not keep the others waiting: the runtime looks after them first.
    owes_a_turn: bool,
    /// Messages since the runtime last did.
    messages_in_turn: u32,
    account: Account,
    limits: Limits,
    settings: Rc<Settings>,
}

/// What serves connections instead of an engine; see [`handler`].
pub type Handler = Arc<dyn Fn(MessageSocket) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// A handler of any type as one that workers can share.
pub fn handler<H, F>(handler: H) -> Handler
where
    H: Fn(MessageSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    Arc::new(move |socket| Box::pin(handler(socket)))
}

impl MessageSocket {
    pub(crate) fn new(
        handover: UpgradedStream,
        record: Rc<ConnectionRecord>,
        settings: Rc<Settings>,
        registry: Rc<HandlerRegistry>,
    ) -> Self {
        let mut limits = settings.limits;
        if limits.message_bytes == u64::MAX {
            limits.message_bytes = DEFAULT_WHOLE_MESSAGE;
        }
        Self {
            stream: handover.stream,
            subprotocol: handover.subprotocol,
            inbox: Inbox::new(&handover.leftover),
            ahead: None,
            hung_up: false,
            outbox: Vec::new(),
            outbox_frames: 0,
            written: 0,
            sending: 0,
            ending: None,
            heard_at: Instant::now(),
            is_pinged: false,
            owes_a_turn: false,
            messages_in_turn: 0,
            account: Account::open(
                &settings.counters,
                record,
                registry,
                handover.leftover.len(),
            ),
            limits,
            settings,
        }
    }

    /// Reads the next message.
    ///
    /// This may be cancelled: what has arrived is not lost.
    ///
    /// # Errors
    /// Why there is none; the connection is closed then, with the close code
    /// that fits.
    pub async fn read_message(&mut self) -> Result<Message, MessageError> {
        if self.messages_in_turn == MESSAGES_PER_TURN {
            self.messages_in_turn = 0;
            yield_now().await;
        }
        self.messages_in_turn += 1;
        loop {
            if let Some(ending) = self.ending {
                self.finish().await;
                return Err(ending.into());
            }
            let next = self.inbox.next(&self.limits);
            self.account.found(self.inbox.take_counted());
            match next {
                Ok(Some(Event::Message(message))) => {
                    self.note_held();
                    return Ok(message);
                }
                Ok(Some(Event::Pause)) => {
                    self.note_held();
                    yield_now().await;
                }
                Ok(Some(Event::Reply(frame))) => self.put(&frame),
                Ok(Some(Event::Close(code, frame))) => {
                    self.account.end(EndReason::Client, code);
                    self.put(&frame);
                    self.ending = Some(Ending::Closed { code });
                }
                Ok(None) => {
                    self.account.all_is_found();
                    self.flush().await?;
                    self.wait_for_bytes().await?;
                }
                Err(violation) => {
                    self.account.violation(violation);
                    self.put(&violation.close_code().frame());
                    self.ending = Some(Ending::Violation(violation));
                }
            }
        }
    }

    /// Writes a message, in one frame. Returns when the kernel has taken it.
    ///
    /// A peer that sends a lot before it reads keeps the kernel from taking it.
    /// What it sends is read meanwhile, up to `max_backlog` bytes, and is there for
    /// [`read_message`](Self::read_message) afterwards.
    ///
    /// If this is cancelled, the rest goes out with the next write or read.
    ///
    /// # Errors
    /// That the connection broke, or the peer did not read in time.
    pub async fn write_message(&mut self, message: &Message) -> Result<(), MessageError> {
        if let Some(ending) = self.ending {
            return Err(ending.into());
        }
        let (opcode, payload, capacity) = match message {
            Message::Text(text) => (OpCode::Text, text.as_bytes(), text.capacity()),
            Message::Binary(bytes) => (OpCode::Binary, &bytes[..], bytes.capacity()),
        };
        let header = ServerHeader::new(true, opcode, payload.len() as u64);
        self.put(header.as_bytes());
        self.account.sends_message();
        if payload.len() <= COPIED_MAX {
            self.outbox.extend_from_slice(payload);
            return self.flush().await;
        }
        Sending::new(self, payload, capacity).flush().await
    }

    /// Closes the connection with this code and waits, but not for long, until
    /// the peer has taken note.
    pub async fn close(mut self, code: CloseCode) {
        if self.ending.is_none() {
            self.account.end(EndReason::Handler, Some(code));
            self.put(&code.frame());
        }
        self.finish().await;
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.account.peer()
    }

    /// The subprotocol that was agreed on, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Waits for bytes, or until the connection has to end because the server
    /// stops or the peer is silent for too long.
    async fn wait_for_bytes(&mut self) -> Result<(), MessageError> {
        if mem::take(&mut self.owes_a_turn) {
            yield_now().await;
        }
        if self.ends_if_told()? {
            return Ok(());
        }
        if self.take_from_ahead() {
            return Ok(());
        }
        if self.hung_up {
            return Err(self.left());
        }
        loop {
            let patience = if self.is_pinged {
                Some(self.settings.pong_timeout)
            } else {
                self.settings.idle_timeout
            };
            let silent_at = patience.map(|patience| self.heard_at + patience);
            tokio::select! {
                biased;
                () = self.account.notified() => {
                    if self.ends_if_told()? {
                        return Ok(());
                    }
                }
                ready = self.stream.readable() => {
                    if let Err(error) = ready {
                        return Err(self.break_off(error));
                    }
                    if self.read_now()? {
                        return Ok(());
                    }
                }
                () = wait_until(silent_at) => {
                    // It may be this machine that was silent.
                    if self.last_look()? {
                        return Ok(());
                    }
                    if self.is_pinged {
                        self.settings.counters.idle_timeouts.add(1);
                        self.go_away(EndReason::Idle, Ending::Silent);
                        return Ok(());
                    }
                    self.heard_at = Instant::now();
                    self.is_pinged = true;
                    self.settings.counters.pings_sent.add(1);
                    self.put(&PING);
                    self.flush().await?;
                }
            }
        }
    }

    /// Ends the connection if it is evicted, or if the server drains: whether there is
    /// something to do before bytes are waited for. A server that drains still answers
    /// what has arrived by then, but not for ever.
    fn ends_if_told(&mut self) -> Result<bool, MessageError> {
        if let Some(reason) = self.account.evicted_for() {
            self.go_away(reason, Ending::HeldTooMuch);
            return Ok(true);
        }
        match self.account.draining() {
            None => return Ok(false),
            Some(Drain::WhenQuiet) if !self.inbox.is_quiet() || self.ahead.is_some() => {
                return Ok(false);
            }
            Some(Drain::WhenQuiet) if self.last_look()? => return Ok(true),
            Some(Drain::WhenQuiet | Drain::Now) => {}
        }
        self.go_away(EndReason::Drain, Ending::Stopping);
        Ok(true)
    }

    /// Reads what the runtime knows of; whether there was anything.
    fn read_now(&mut self) -> Result<bool, MessageError> {
        self.read_with(Stream::try_read)
    }

    /// Reads what is there, even if the runtime has not heard of it yet.
    fn last_look(&mut self) -> Result<bool, MessageError> {
        self.read_with(Stream::read_at_once)
    }

    fn read_with(
        &mut self,
        read: fn(&mut Stream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<bool, MessageError> {
        // Where there is nothing to read, no memory is left behind.
        let mut space = [0; READ_LEN];
        let result = read(&mut self.stream, &mut space);
        self.owes_a_turn = matches!(result, Ok(READ_LEN)) || self.stream.is_bulk();
        match result {
            Ok(0) => Err(self.left()),
            Ok(len) => {
                self.inbox.put(&space[..len]);
                self.heard(len);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if is_broken_tls(&error) && self.stream.may_write() => {
                log_broken_tls(&error);
                self.go_away(EndReason::Tls, Ending::Tls);
                Ok(true)
            }
            Err(error) => Err(self.break_off(error)),
        }
    }

    fn heard(&mut self, len: usize) {
        self.heard_at = Instant::now();
        self.is_pinged = false;
        self.settings.activity.note();
        self.account.read(len);
    }

    /// Writes the outbox, within the write timeout.
    async fn flush(&mut self) -> Result<(), MessageError> {
        self.flush_with(&mut &[][..]).await
    }

    /// Writes the outbox and `rest` behind it, within the write timeout.
    async fn flush_with(&mut self, rest: &mut &[u8]) -> Result<(), MessageError> {
        self.note_held();
        if self.outbox.is_empty() && self.stream.is_flushed() {
            return Ok(());
        }
        let wait = Wait::begin(self.settings.clock.now());
        match timeout(SLOW_READER, self.write(rest)).await {
            Ok(written) => written.map_err(|error| self.break_off(error))?,
            Err(_elapsed) => self.write_to_slow_reader(rest, wait).await?,
        }
        self.note_held();
        Ok(())
    }

    async fn write(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        while !self.write_now(rest)? {
            yield_now().await;
            self.stream.writable().await?;
        }
        Ok(())
    }

    /// Writes for a peer that has left something unread for a while, and reads ahead
    /// meanwhile.
    async fn write_to_slow_reader(
        &mut self,
        rest: &mut &[u8],
        mut wait: Wait,
    ) -> Result<(), MessageError> {
        let settings = Rc::clone(&self.settings);
        let slow_reading = self.account.slow_reader();
        let notified = self.account.notified();
        tokio::pin!(notified);
        loop {
            let (before, ahead) = (self.unsent(rest), self.ahead_len());
            let is_written = self
                .write_now(rest)
                .map_err(|error| self.break_off(error))?;
            if is_written {
                return Ok(());
            }
            let now = settings.clock.now();
            let taken = before.saturating_sub(self.unsent(rest));
            wait.taken(taken, ahead, &settings, now);
            if wait.judge(&settings, now) == Verdict::Cut {
                settings.counters.write_timeouts.add(1);
                self.account.end(EndReason::SlowReader, None);
                reset_when_closed(&self.stream);
                return Err(MessageError::SlowReader);
            }
            let is_unread = wait.is_unread(now);
            slow_reading.note(SlowReader {
                is_unread,
                socket_memory: is_unread.then(|| SocketMemory::of(&self.stream)).flatten(),
            });
            let reads_on = wait.reads_on() && ahead < settings.max_backlog && !self.hung_up;
            tokio::select! {
                biased;
                () = &mut notified => {
                    if let Some(reason) = self.account.evicted_for() {
                        return Err(self.let_go(reason));
                    }
                    notified.set(self.account.notified());
                }
                ready = self.stream.writable() => {
                    ready.map_err(|error| self.break_off(error))?;
                }
                ready = self.stream.readable(), if reads_on => {
                    ready.map_err(|error| self.break_off(error))?;
                    self.read_ahead()?;
                    let (more, now) = (self.ahead_len(), settings.clock.now());
                    wait.added(more - ahead, more, &settings, now);
                    // One that never pauses must not keep the others waiting.
                    yield_now().await;
                }
                () = sleep(SLOW_READER) => {}
            }
        }
    }

    /// Reads once, for later.
    fn read_ahead(&mut self) -> Result<(), MessageError> {
        let mut space = [0; READ_LEN];
        match self.stream.try_read(&mut space) {
            Ok(0) => self.hung_up = true,
            // Nobody reads any more.
            Ok(_) if self.ending.is_some() => {}
            Ok(len) => {
                self.ahead.get_or_insert_default().push(&space[..len]);
                self.heard(len);
                self.note_held();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.break_off(error)),
        }
        Ok(())
    }

    /// Takes what was read before; whether there was anything.
    fn take_from_ahead(&mut self) -> bool {
        let Some(ahead) = &mut self.ahead else {
            return false;
        };
        let front = ahead.front();
        let len = front.len().min(READ_LEN);
        self.inbox.put(&front[..len]);
        ahead.advance(len);
        if ahead.is_empty() {
            self.ahead = None;
        }
        self.owes_a_turn = true;
        true
    }

    fn ahead_len(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.len())
    }

    /// Bytes that are to be written, or sent, with this `rest`.
    fn unsent(&self, rest: &[u8]) -> usize {
        self.outbox.len() - self.written + rest.len() + self.stream.unsent()
    }

    /// Writes what there is room for, and no more than others may wait for; whether
    /// that is all.
    fn write_now(&mut self, rest: &mut &[u8]) -> io::Result<bool> {
        let mut left = BYTES_PER_TURN;
        loop {
            let first = &self.outbox[self.written..];
            let written = match (first, *rest) {
                ([], []) => break,
                _ if left == 0 => return Ok(false),
                (only, []) | ([], only) => self.stream.try_write(only),
                (first, rest) => self.stream.try_write_pieces([first, rest]),
            };
            match written {
                Ok(len) => {
                    self.account.wrote(len);
                    left = left.saturating_sub(len);
                    let of_first = len.min(first.len());
                    self.written += of_first;
                    *rest = &rest[len - of_first..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !self.stream.try_flush()? {
            return Ok(false);
        }
        // The end of the stream alone is no frame.
        if !self.outbox.is_empty() {
            let frames = mem::take(&mut self.outbox_frames);
            self.settings.counters.frames_per_write.note(frames);
        }
        // An idle connection holds no buffer.
        self.outbox = Vec::new();
        self.written = 0;
        Ok(true)
    }

    /// Puts a frame, or the beginning of one, into the outbox.
    fn put(&mut self, frame: &[u8]) {
        self.outbox.extend_from_slice(frame);
        self.outbox_frames += 1;
    }

    fn go_away(&mut self, reason: EndReason, ending: Ending) {
        let code = reason.close_code();
        self.account.end(reason, Some(code));
        self.put(&code.frame());
        self.ending = Some(ending);
    }

    /// The peer has ended its stream. Ours ends as well, for a TLS client to know that
    /// nothing is missing.
    fn left(&mut self) -> MessageError {
        self.account.end(EndReason::Gone, None);
        // It may be gone.
        let _ = self.stream.put_end().and_then(|()| self.stream.try_flush());
        MessageError::Left
    }

    /// Gives a connection up that broke.
    fn break_off(&mut self, error: io::Error) -> MessageError {
        let reason = if is_broken_tls(&error) {
            log_broken_tls(&error);
            EndReason::Tls
        } else {
            EndReason::Gone
        };
        self.account.end(reason, None);
        error.into()
    }

    /// Gives a connection up whose peer does not read, because of what it holds.
    fn let_go(&mut self, reason: EndReason) -> MessageError {
        self.account.end(reason, None);
        reset_when_closed(&self.stream);
        self.forget_received();
        self.outbox = Vec::new();
        self.written = 0;
        self.note_held();
        MessageError::HeldTooMuch
    }

    /// Lets go of what was received and will not be read.
    fn forget_received(&mut self) {
        self.inbox = Inbox::new(&[]);
        self.ahead = None;
    }

    /// Notes how much memory is held.
    fn note_held(&self) {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.capacity());
        let unsent = self.outbox.capacity() + self.sending + self.stream.held();
        self.account.hold(self.inbox.held() + ahead + unsent);
    }

    /// Sends what is left and the end of our stream, then discards what the
    /// peer sends until the end of its own: a socket that is closed with unread
    /// bytes is reset, and the Close frame might be lost with it.
    async fn finish(&mut self) {
        self.forget_received();
        if self.flush().await.is_err()
            || self.stream.put_end().is_err()
            || self.flush().await.is_err()
            || self.stream.half_close().is_err()
        {
            return;
        }
        let discarded = timeout(self.settings.close_timeout, self.discard()).await;
        if discarded.is_err() {
            reset_when_closed(&self.stream);
        }
    }

    /// Closes the connection as far as that takes no waiting.
    fn close_at_once(&mut self, code: CloseCode) -> io::Result<()> {
        if self.ending.is_none() {
            self.account.end(EndReason::Handler, Some(code));
            self.put(&code.frame());
        }
        while self.written < self.outbox.len() {
            let len = self.stream.try_write(&self.outbox[self.written..])?;
            self.account.wrote(len);
            self.written += len;
        }
        self.stream.put_end()?;
        if !self.stream.try_flush()? {
            return Ok(());
        }
        self.stream.half_close()?;
        // A socket that is closed with unread bytes is reset, and the Close with it.
        for _ in 0..UNREAD_PIECES_MAX {
            if self.stream.read_at_once(&mut [0; 4096])? == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn discard(&mut self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            // Not kept across the await, where it would make every connection
            // larger.
            match self.stream.try_read(&mut [0; 4096]) {
                Ok(0) => return Ok(()),
                Ok(_) => yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for MessageSocket {
    /// A handler that panics cannot close its connection.
    fn drop(&mut self) {
        if thread::panicking() {
            // The client sees the end at least.
            let _ = self.close_at_once(CloseCode::INTERNAL_ERROR);
        }
    }
}

/// Waits until this moment, or for ever.
async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
