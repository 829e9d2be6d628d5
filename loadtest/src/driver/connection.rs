//! One connection's state and what it does when its socket is ready.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::Desk;
use super::outbox::{Cursor, taken};
use crate::client::{Checker, Control, MessageId, close_frame, pong_frame};
use crate::failure::{Failure, Loss};

/// The code both sides close with, "normal closure".
const CLOSE_CODE: u16 = 1000;

/// Pongs that wait for a socket to take them, in bytes. A server that sends
/// more pings than this, and reads none of the pongs, gets no more of them.
const PENDING_LEN_MAX: usize = 4 << 10;

/// Checking this many bytes, and building as many, takes well under a
/// microsecond, so that the clock read after the read call will do for the
/// write call, too. The error makes latencies longer, never shorter.
const QUICK_LEN: usize = 2 << 10;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Messages go out and come back.
    Echoing,
    /// Close is on its way; the answer is due.
    Closing,
    /// It is over.
    Closed,
}

/// Messages whose first bytes one write call took.
#[derive(Debug, Clone, Copy)]
struct Flight {
    sent_ns: u64,
    messages: u64,
}

/// What there is per connection. Bytes to be sent or compared are not: they
/// follow from `sent`, `offset` and the checker's position.
pub(super) struct Connection {
    pub(super) id: u32,
    pub(super) stage: Stage,
    /// The socket took less than it was offered: wait until it is writable.
    pub(super) blocked: bool,
    /// The socket refused a write. What the server had to say is still read.
    mute: bool,
    pub(super) stream: TcpStream,
    pub(super) checker: Checker,
    /// When bytes of a message last moved in either direction, or Close was
    /// sent. A server that only pings makes no progress.
    pub(super) progress_ns: u64,
    /// Messages wholly written, and bytes written of the next one.
    sent: u64,
    offset: usize,
    flights: VecDeque<Flight>,
    /// Control frames to be sent at the next message boundary.
    pending: Vec<u8>,
    /// Frames that arrived behind the handshake's response.
    early: Vec<u8>,
}

impl Connection {
    pub(super) fn new(id: u32, stream: TcpStream, early: Vec<u8>) -> Self {
        Self {
            id,
            stage: Stage::Echoing,
            blocked: false,
            mute: false,
            stream,
            checker: Checker::new(id),
            progress_ns: 0,
            sent: 0,
            offset: 0,
            flights: VecDeque::new(),
            pending: Vec::new(),
            early,
        }
    }

    /// Starts the clock that says for how long nothing moved.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.progress_ns = now_ns;
    }

    /// Does what can be done now: reads once if the socket is readable, sends
    /// until `window` messages are in flight. A window of 0 means that no more
    /// are wanted, and that the connection is to be closed when all are back.
    #[inline]
    pub(super) fn work(
        &mut self,
        readable: bool,
        window: u64,
        desk: &mut Desk,
    ) -> Result<Stage, Failure> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.take(&early, self.progress_ns, desk)?;
        }
        desk.fresh_ns = None;
        if readable {
            self.read(desk)?;
        }
        if self.stage == Stage::Echoing && window == 0 && self.checker.received() == self.asked() {
            self.stage = Stage::Closing;
            self.progress_ns = desk.now_ns();
            let mask = desk.random.u32(..).to_ne_bytes();
            self.pending
                .extend_from_slice(&close_frame(CLOSE_CODE, mask));
        }
        if self.stage != Stage::Closed {
            self.write(window, desk)?;
        }
        Ok(self.stage)
    }

    /// Messages of which at least a byte was sent.
    #[inline]
    fn asked(&self) -> u64 {
        self.sent + u64::from(self.offset > 0)
    }

    #[inline]
    fn read(&mut self, desk: &mut Desk) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut desk.read_buffer);
        let result = (&self.stream).read(&mut buffer);
        let now_ns = desk.now_ns();
        let taken = match result {
            Ok(count @ 1..=QUICK_LEN) => {
                desk.fresh_ns = Some(now_ns);
                self.take(&buffer[..count], now_ns, desk)
            }
            Ok(0) => Err(self.lost(Loss::Eof)),
            Ok(count) => self.take(&buffer[..count], now_ns, desk),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.lost(error.into())),
        };
        desk.read_buffer = buffer;
        taken
    }

    /// Checks what came and records the messages it completed.
    #[inline]
    fn take(&mut self, bytes: &[u8], now_ns: u64, desk: &mut Desk) -> Result<(), Failure> {
        let before = self.checker.position();
        let asked = self.asked();
        self.checker
            .feed(&desk.deck, asked, bytes, &mut desk.controls)
            .map_err(|violation| Failure::Integrity {
                connection: self.id,
                message: self.checker.received(),
                violation,
            })?;
        if self.checker.position() != before {
            self.progress_ns = now_ns;
        }
        let mut completed = self.checker.received() - before.0;
        while completed > 0 {
            // Every message that was asked for is in a flight.
            let flight = self.flights.front_mut().expect("a flight for each reply");
            let landed = completed.min(flight.messages);
            let latency_ns = now_ns.saturating_sub(flight.sent_ns);
            desk.recorder.record(latency_ns, landed);
            flight.messages -= landed;
            completed -= landed;
            if flight.messages == 0 {
                self.flights.pop_front();
            }
        }
        if desk.controls.is_empty() {
            return Ok(());
        }
        self.obey(desk)
    }

    /// Answers the server's control frames.
    #[cold]
    fn obey(&mut self, desk: &mut Desk) -> Result<(), Failure> {
        for control in std::mem::take(&mut desk.controls) {
            match control {
                Control::Ping(payload) => self.queue_pong(&payload, desk),
                Control::Pong => {}
                Control::Close(Some(CLOSE_CODE)) if self.stage == Stage::Closing => {
                    self.stage = Stage::Closed;
                }
                Control::Close(code) => return Err(self.lost(Loss::Close(code))),
            }
        }
        Ok(())
    }

    fn queue_pong(&mut self, payload: &[u8], desk: &mut Desk) {
        // After Close nothing may be sent.
        if self.stage == Stage::Echoing && self.pending.len() <= PENDING_LEN_MAX {
            let mask = desk.random.u32(..).to_ne_bytes();
            self.pending.extend_from_slice(&pong_frame(payload, mask));
        }
    }

    /// Sends until nothing is left or the socket is full.
    #[inline]
    fn write(&mut self, window: u64, desk: &mut Desk) -> Result<(), Failure> {
        let end = match window {
            // A message that is out in part has to be finished.
            0 => self.asked(),
            _ => self.checker.received() + window,
        };
        while !self.blocked && !self.mute {
            let result = if self.offset == 0 && !self.pending.is_empty() {
                self.write_pending()
            } else if self.sent < end {
                self.write_messages(end - self.sent, desk)
            } else {
                break;
            };
            match result {
                Ok(whole) => self.blocked = !whole,
                // A server that gave up may have sent its reason before: that
                // is what the next read brings.
                Err(error) if is_hang_up(&error) => self.mute = true,
                Err(error) => return Err(self.lost(error.into())),
            }
        }
        Ok(())
    }

    /// Writes messages with one call; `false` if the socket did not take all.
    #[inline]
    fn write_messages(&mut self, count: u64, desk: &mut Desk) -> io::Result<bool> {
        let cursor = Cursor {
            next: MessageId {
                connection: self.id,
                sequence: self.sent,
            },
            offset: self.offset,
        };
        let now_ns = desk.write_ns();
        let sent = desk.outbox.send(&self.stream, &desk.deck, cursor, count)?;
        if sent.written > 0 {
            let asked_before = self.asked();
            let frame_len = desk.deck.frame_len();
            let end = self.offset + sent.written;
            self.sent += (end / frame_len) as u64;
            self.offset = end % frame_len;
            self.progress_ns = now_ns;
            let messages = self.asked() - asked_before;
            if messages > 0 {
                self.flights.push_back(Flight {
                    sent_ns: now_ns,
                    messages,
                });
            }
        }
        Ok(sent.written == sent.offered)
    }

    #[cold]
    fn write_pending(&mut self) -> io::Result<bool> {
        let written = taken((&self.stream).write(&self.pending))?;
        self.pending.drain(..written);
        Ok(self.pending.is_empty())
    }

    #[cold]
    fn lost(&self, reason: Loss) -> Failure {
        Failure::Lost {
            connection: self.id,
            message: self.checker.received(),
            reason,
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
