//! One connection's state and what it does when its socket is ready.

use std::collections::VecDeque;
use std::io;

use super::desk::{Desk, Supply};
use super::opening::{Closed, Opening, Step};
use super::outbox::taken;
use super::transport::Transport;
use crate::client::{
    Checker, CloseReason, Control, Cursor, MessageId, Violation, close_frame, pong_frame,
};
use crate::failure::{Failure, Loss};
use crate::plan::{Load, Protocol};
use crate::recorder::Times;

/// The code both sides close with, "normal closure".
const CLOSE_CODE: u16 = 1000;

/// Pongs that wait for a socket to take them, in bytes. A server that sends
/// more pings than this, and reads none of the pongs, gets no more of them.
const PENDING_LEN_MAX: usize = 4 << 10;

/// Checking this many bytes, and building as many, takes well under a
/// microsecond, so that the clock read after the read call will do for the
/// write call, too. The error makes latencies longer, never shorter.
const QUICK_LEN: usize = 2 << 10;

/// Messages that a slow reader has in flight: enough to fill what buffers there
/// are between it and the server.
const SLOW_WINDOW: u64 = 1 << 10;

/// Bytes that a slow reader reads at once.
const SLOW_READ_LEN: usize = 1 << 10;

/// What a connection is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It carries messages, and its place in the load is this one.
    Carrier(u32),
    /// It carried messages, and closes when the last one is back.
    Retired,
    /// It only sits there.
    Idle,
    /// It sends without pause and reads slowly.
    Slow,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is under way.
    Opening,
    /// Messages go out and come back.
    Open,
    /// Close is on its way; the answer is due.
    Closing,
    /// It is over.
    Closed,
}

/// Messages whose first bytes one write call took, and that were due together.
#[derive(Debug, Clone, Copy)]
struct Flight {
    times: Times,
    messages: u64,
}

/// What there is per connection. Bytes to be sent or compared are not: they
/// follow from the cursor and the checker's position.
pub(super) struct Connection {
    pub(super) id: u32,
    pub(super) role: Role,
    pub(super) stage: Stage,
    /// The socket took less than it was offered: wait until it is writable.
    pub(super) blocked: bool,
    /// A frame was cut on purpose; its rest goes out when others had a turn.
    pub(super) paused: bool,
    /// The socket refused a write. What the server had to say is still read.
    mute: bool,
    /// What the kernel was told to watch for.
    pub(super) watched: Interest,
    pub(super) transport: Transport,
    pub(super) checker: Checker,
    /// When it began to open or to close, or when the last bytes of a message
    /// came.
    pub(super) since_ns: u64,
    /// Messages wholly written, and bytes written of the next one.
    sent: u64,
    offset: usize,
    /// In a closed loop: since when there has been a message to send.
    ready_ns: u64,
    flights: VecDeque<Flight>,
    /// In an open loop: when the messages that wait to be sent were due.
    due_ns: VecDeque<u64>,
    /// Control frames to be sent at the next message boundary.
    pending: Vec<u8>,
    pub(super) opening: Option<Box<Opening>>,
}

/// A million connections have to fit in a gigabyte.
const _: () = assert!(size_of::<Connection>() <= 256);

/// What a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Connection {
    pub(super) fn new(id: u32, role: Role, transport: Transport, opening: Opening) -> Self {
        Self {
            id,
            role,
            stage: Stage::Opening,
            blocked: false,
            paused: false,
            mute: false,
            watched: Interest {
                readable: true,
                writable: true,
            },
            transport,
            checker: Checker::new(id),
            since_ns: opening.started_ns,
            sent: 0,
            offset: 0,
            ready_ns: 0,
            flights: VecDeque::new(),
            due_ns: VecDeque::new(),
            pending: Vec::new(),
            opening: Some(Box::new(opening)),
        }
    }

    /// What it waits for.
    #[inline]
    pub(super) fn interest(&self) -> Interest {
        Interest {
            readable: self.role != Role::Slow || self.stage == Stage::Opening,
            writable: match &self.opening {
                Some(opening) => opening.wants_out(),
                None => self.blocked && !self.mute,
            },
        }
    }

    /// A step of its opening. `true` when it is open.
    pub(super) fn open(&mut self, readable: bool, desk: &mut Desk) -> Result<bool, Closed> {
        let Some(opening) = &mut self.opening else {
            return Ok(true);
        };
        let was_upgraded = opening.is_upgraded;
        let step = opening.step(&mut self.transport, readable)?;
        let now_ns = desk.now_ns();
        if opening.is_upgraded && !was_upgraded {
            desk.recorder.handshake(now_ns - opening.started_ns);
        }
        let early = match step {
            Step::Wait => return Ok(false),
            Step::Open(early) => early,
        };
        self.opening = None;
        self.stage = Stage::Open;
        self.since_ns = now_ns;
        desk.early = early;
        Ok(true)
    }

    /// Whether TCP's handshake is behind it.
    pub(super) fn is_connected(&self) -> bool {
        self.opening
            .as_ref()
            .is_none_or(|opening| opening.connected)
    }

    /// Begins to send: what a closed loop owes is due now.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.ready_ns = now_ns;
    }

    /// Owes one more message of an open loop. `true` when it owed none.
    #[inline]
    pub(super) fn owe(&mut self, intended_ns: u64) -> bool {
        self.due_ns.push_back(intended_ns);
        self.due_ns.len() == 1
    }

    /// Gives its load to another connection, and closes when the messages that
    /// are under way are back.
    pub(super) fn retire(&mut self, successor: &mut Self) {
        self.role = Role::Retired;
        successor.due_ns = std::mem::take(&mut self.due_ns);
    }

    /// Does what can be done now: reads once if the socket is readable, sends
    /// what is to be sent, closes when all is done.
    #[inline]
    pub(super) fn work(
        &mut self,
        readable: bool,
        writable: bool,
        desk: &mut Desk,
    ) -> Result<Stage, Failure> {
        desk.fresh_ns = None;
        desk.unblocked = writable && self.blocked;
        if desk.unblocked {
            self.blocked = false;
        }
        if readable {
            self.read(desk)?;
        }
        if self.stage == Stage::Open && self.is_finished(desk) {
            self.close(desk);
        }
        if self.stage != Stage::Closed {
            self.write(desk)?;
        }
        Ok(self.stage)
    }

    /// Takes what came behind the handshake's response.
    pub(super) fn take_early(&mut self, bytes: &[u8], desk: &mut Desk) -> Result<(), Failure> {
        let now_ns = desk.now_ns();
        self.take(bytes, now_ns, desk)
    }

    /// Messages of which at least a byte was sent.
    #[inline]
    pub(super) fn asked(&self) -> u64 {
        self.sent + u64::from(self.offset > 0)
    }

    /// Whether it waits for replies, or has messages to send that are due.
    pub(super) fn owes(&self) -> bool {
        self.asked() != self.checker.received() || !self.due_ns.is_empty()
    }

    /// When the oldest message that is under way was sent.
    pub(super) fn oldest_sent_ns(&self) -> Option<u64> {
        self.flights.front().map(|flight| flight.times.sent_ns)
    }

    /// Messages due before the measurement that are not answered.
    pub(super) fn carried_in(&self) -> u64 {
        let under_way: u64 = self.flights.iter().map(|flight| flight.messages).sum();
        under_way + self.due_ns.len() as u64
    }

    /// Records what will not be waited for any more.
    pub(super) fn give_up(&mut self, now_ns: u64, desk: &mut Desk) {
        for flight in self.flights.drain(..) {
            desk.recorder
                .unanswered(flight.times, now_ns, flight.messages);
        }
        for due_ns in self.due_ns.drain(..) {
            desk.recorder.unsent(due_ns, now_ns, 1);
        }
    }

    fn is_finished(&self, desk: &Desk) -> bool {
        (self.role == Role::Retired || desk.supply == Supply::Spent) && !self.owes()
    }

    /// Begins the closing handshake, or ends a stream that has none.
    fn close(&mut self, desk: &mut Desk) {
        if desk.protocol == Protocol::RawTcp {
            self.stage = Stage::Closed;
            return;
        }
        self.stage = Stage::Closing;
        self.since_ns = desk.now_ns();
        let mask = desk.random.u32(..).to_ne_bytes();
        self.pending
            .extend_from_slice(&close_frame(CLOSE_CODE, mask));
    }

    #[inline]
    fn read(&mut self, desk: &mut Desk) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut desk.read_buffer);
        let room = match self.role {
            Role::Slow => SLOW_READ_LEN,
            _ => buffer.len(),
        };
        let result = self.transport.read(&mut buffer[..room]);
        let now_ns = desk.now_ns();
        let taken = match result {
            Ok(0) => Err(self.lost(Loss::Eof)),
            Ok(count) => {
                desk.fresh_ns = (count <= QUICK_LEN).then_some(now_ns);
                desk.count_read(now_ns);
                self.take(&buffer[..count], now_ns, desk)
            }
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
            .feed(&desk.mix, asked, bytes, &mut desk.controls)
            .map_err(|violation| self.fault(asked, violation))?;
        let after = self.checker.position();
        if after != before {
            self.since_ns = now_ns;
            if self.carries() {
                desk.progress_ns = now_ns;
            }
        }
        if after.0 != before.0 && self.carries() {
            self.land(before.0, now_ns, desk);
        }
        if desk.controls.is_empty() {
            return Ok(());
        }
        self.obey(desk)
    }

    /// What came instead of the reply that was due.
    #[cold]
    fn fault(&mut self, asked: u64, violation: Violation) -> Failure {
        let (connection, got) = (self.id, self.checker.take_wrong());
        if asked == 0 && violation == Violation::Unasked {
            return Failure::Greeting { connection, got };
        }
        Failure::Integrity {
            connection,
            message: self.checker.received(),
            violation,
            got,
        }
    }

    /// Records the replies that came since there were `before`.
    #[inline]
    fn land(&mut self, before: u64, now_ns: u64, desk: &mut Desk) {
        let mut completed = self.checker.received() - before;
        let mut sequence = before;
        desk.in_flight -= completed;
        if let Load::Closed { window } = desk.load
            && self.asked() - before >= u64::from(window)
        {
            // Nothing could be sent until now.
            self.ready_ns = now_ns;
        }
        while completed > 0 {
            // Every message that was asked for is in a flight.
            let flight = self.flights.front_mut().expect("a flight for each reply");
            let landed = completed.min(flight.messages);
            let payload_len = desk.payload_len(self.id, sequence, landed);
            desk.recorder
                .answered(flight.times, now_ns, landed, payload_len);
            flight.messages -= landed;
            completed -= landed;
            sequence += landed;
            if flight.messages == 0 {
                self.flights.pop_front();
            }
        }
    }

    fn carries(&self) -> bool {
        matches!(self.role, Role::Carrier(_) | Role::Retired)
    }

    /// Answers the server's control frames.
    #[cold]
    fn obey(&mut self, desk: &mut Desk) -> Result<(), Failure> {
        for control in std::mem::take(&mut desk.controls) {
            match control {
                Control::Ping(payload) => self.queue_pong(&payload, desk),
                Control::Pong => {}
                Control::Close(Some(CloseReason {
                    code: CLOSE_CODE, ..
                })) if self.stage == Stage::Closing => {
                    self.stage = Stage::Closed;
                }
                Control::Close(reason) => return Err(self.lost(Loss::Close(reason))),
            }
        }
        Ok(())
    }

    fn queue_pong(&mut self, payload: &[u8], desk: &mut Desk) {
        // After Close nothing may be sent.
        if self.stage == Stage::Open && self.pending.len() <= PENDING_LEN_MAX {
            desk.recorder.counts.pings += 1;
            let mask = desk.random.u32(..).to_ne_bytes();
            self.pending.extend_from_slice(&pong_frame(payload, mask));
        }
    }

    /// How many messages may be out in all.
    #[inline]
    fn end(&self, desk: &Desk) -> u64 {
        match (self.role, desk.load) {
            (Role::Carrier(_), Load::Open { .. }) => self.asked() + self.due_ns.len() as u64,
            (Role::Carrier(_), Load::Closed { window }) if desk.supply == Supply::Flowing => {
                let end = self.checker.received() + u64::from(window);
                // What is due before the measurement is no part of its quota.
                match desk.quota {
                    Some(quota) if desk.recorder.window.contains(self.ready_ns) => {
                        end.min(self.asked() + quota)
                    }
                    _ => end,
                }
            }
            (Role::Slow, _) if desk.supply == Supply::Flowing => {
                self.checker.received() + SLOW_WINDOW
            }
            // A message that is out in part has to be finished.
            _ => self.asked(),
        }
    }

    /// Sends until nothing is left or the socket is full.
    #[inline]
    fn write(&mut self, desk: &mut Desk) -> Result<(), Failure> {
        self.paused = false;
        let end = self.end(desk);
        while !self.blocked && !self.mute && !self.paused {
            let result = if self.offset == 0 && !self.pending.is_empty() {
                self.write_pending()
            } else if self.sent < end {
                self.write_messages(end - self.sent, desk)
            } else if desk.unblocked {
                // The stream itself may hold bytes back.
                desk.unblocked = false;
                self.transport.flush()
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
        let sent = if desk.split {
            let frame_len = desk.mix.deck(cursor.next).frame_len();
            let end = desk.random.usize(cursor.offset..frame_len) + 1;
            self.paused = true;
            desk.outbox
                .send_piece(&mut self.transport, &desk.mix, cursor, end)?
        } else {
            desk.outbox
                .send(&mut self.transport, &desk.mix, cursor, count)?
        };
        if sent.written > 0 {
            desk.count_write(now_ns);
            let asked_before = self.asked();
            let cursor = desk.mix.advance(cursor, sent.written);
            self.sent = cursor.next.sequence;
            self.offset = cursor.offset;
            let messages = self.asked() - asked_before;
            if self.carries() {
                self.launch(messages, now_ns, desk);
            }
        }
        Ok(sent.written == sent.offered && self.transport.flush()?)
    }

    /// Takes note of messages that a write call took.
    #[inline]
    fn launch(&mut self, messages: u64, now_ns: u64, desk: &mut Desk) {
        // A full socket that takes more is a server that reads.
        if desk.unblocked || desk.in_flight == 0 {
            desk.progress_ns = now_ns;
        }
        if messages == 0 {
            return;
        }
        desk.in_flight += messages;
        match desk.load {
            Load::Closed { .. } => {
                let times = Times {
                    // A batch may go out at once with what was ready before it.
                    intended_ns: self.ready_ns.min(now_ns),
                    sent_ns: now_ns,
                };
                desk.recorder.due(times.intended_ns, messages);
                desk.spend(times.intended_ns, messages);
                self.push_flight(times, messages, desk);
            }
            Load::Open { .. } => {
                for _ in 0..messages {
                    let intended_ns = self.due_ns.pop_front().expect("only what is due is sent");
                    let times = Times {
                        intended_ns,
                        sent_ns: now_ns,
                    };
                    self.push_flight(times, 1, desk);
                }
            }
        }
    }

    #[inline]
    fn push_flight(&mut self, times: Times, messages: u64, desk: &mut Desk) {
        desk.recorder
            .sent(times.intended_ns, messages, desk.unblocked);
        self.flights.push_back(Flight { times, messages });
    }

    #[cold]
    fn write_pending(&mut self) -> io::Result<bool> {
        let written = taken(self.transport.write(&self.pending))?;
        self.pending.drain(..written);
        Ok(self.pending.is_empty() && self.transport.flush()?)
    }

    #[cold]
    fn lost(&self, reason: Loss) -> Failure {
        if self.role == Role::Idle {
            return Failure::LostIdle {
                connection: self.id,
                reason,
            };
        }
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
