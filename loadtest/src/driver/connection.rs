//! The state of one connection, and its work when its socket is ready.

use std::collections::VecDeque;
use std::io;

use super::batch_writer::taken;
use super::opening::{Closed, OpenProgress, Opening};
use super::thread_state::{SendState, ThreadState};
use super::transport::Transport;
use crate::client::{
    Checker, CloseReason, Control, Cursor, MessageId, Violation, close_frame, pong_frame,
};
use crate::failure::{Failure, Loss};
use crate::plan::{Load, Protocol};
use crate::recorder::Times;

/// The code both sides close with, "normal closure".
const CLOSE_CODE: u16 = 1000;

/// The limit of buffered pongs, in bytes. A server that sends more pings than this, and reads
/// none of the pongs, gets no more of them.
const PENDING_LEN_MAX: usize = 4 << 10;

/// Checking and building this many bytes takes well under a microsecond, so that the clock read
/// after the read call also serves the write call. The error makes latencies longer, never
/// shorter.
const QUICK_LEN: usize = 2 << 10;

/// Messages that a slow reader has in flight: enough to fill the buffers between it and the
/// server.
const SLOW_WINDOW: u64 = 1 << 10;

/// Bytes that a slow reader reads at once.
const SLOW_READ_LEN: usize = 1 << 10;

/// The role of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It carries messages; the index is its place in the schedule.
    Load(u32),
    /// It carried messages, and closes after the last reply.
    Retired,
    /// It is idle.
    Idle,
    /// It sends without pause and reads slowly.
    Slow,
}

/// The stage of a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is in progress.
    Opening,
    /// Messages are sent and received.
    Open,
    /// Close was sent; the server's is awaited.
    Closing,
    /// It is over.
    Closed,
}

/// Messages whose first bytes one write call took, and that were due together.
#[derive(Debug, Clone, Copy)]
struct SentBatch {
    times: Times,
    messages: u64,
}

/// The state of a connection. Bytes to be sent or compared are not part of it: they follow from
/// the cursor and the checker's position.
pub(super) struct Connection {
    pub(super) id: u32,
    pub(super) role: Role,
    pub(super) stage: Stage,
    /// The socket took less than it was offered: wait until it is writable.
    pub(super) blocked: bool,
    /// A frame was split on purpose; its rest is written after the other connections' turn.
    pub(super) paused: bool,
    /// A write failed. Bytes that the server sent before are still read.
    write_closed: bool,
    /// The registered epoll interest.
    pub(super) watched: Interest,
    pub(super) transport: Transport,
    pub(super) checker: Checker,
    /// When the stage began, or when the last bytes of a message came.
    pub(super) since_ns: u64,
    /// The number of messages wholly written, and of bytes of the next one.
    sent: u64,
    offset: usize,
    /// In a closed loop: since when there is a message to send.
    ready_ns: u64,
    batches: VecDeque<SentBatch>,
    /// In an open loop: the due times of the messages that wait to be sent.
    due_ns: VecDeque<u64>,
    /// Control frames to be sent at the next message boundary.
    pending: Vec<u8>,
    pub(super) opening: Option<Box<Opening>>,
}

/// A million connections have to fit in a gigabyte.
const _: () = assert!(size_of::<Connection>() <= 256);

/// The epoll interest of a socket.
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
            write_closed: false,
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
            batches: VecDeque::new(),
            due_ns: VecDeque::new(),
            pending: Vec::new(),
            opening: Some(Box::new(opening)),
        }
    }

    /// The events that it waits for.
    #[inline]
    pub(super) fn interest(&self) -> Interest {
        Interest {
            readable: self.role != Role::Slow || self.stage == Stage::Opening,
            writable: match &self.opening {
                Some(opening) => opening.wants_out(),
                None => self.blocked && !self.write_closed,
            },
        }
    }

    /// A step of its opening. `true` when it is open.
    pub(super) fn open(&mut self, readable: bool, state: &mut ThreadState) -> Result<bool, Closed> {
        let Some(opening) = &mut self.opening else {
            return Ok(true);
        };
        let was_upgraded = opening.is_upgraded;
        let step = opening.step(&mut self.transport, readable)?;
        let now_ns = state.now_ns();
        if opening.is_upgraded && !was_upgraded {
            state.recorder.handshake(now_ns - opening.started_ns);
        }
        let early = match step {
            OpenProgress::Pending => return Ok(false),
            OpenProgress::Open(early) => early,
        };
        self.opening = None;
        self.stage = Stage::Open;
        self.since_ns = now_ns;
        state.early = early;
        Ok(true)
    }

    /// Whether the TCP connection is established.
    pub(super) fn is_connected(&self) -> bool {
        self.opening
            .as_ref()
            .is_none_or(|opening| opening.connected)
    }

    /// Starts to send: in a closed loop the first messages are due now.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.ready_ns = now_ns;
    }

    /// Adds a message that an open loop has due. `true` if there was none before.
    #[inline]
    pub(super) fn add_due(&mut self, intended_ns: u64) -> bool {
        self.due_ns.push_back(intended_ns);
        self.due_ns.len() == 1
    }

    /// Gives its load to another connection, and closes when the messages that
    /// are in flight are answered.
    pub(super) fn retire(&mut self, successor: &mut Self) {
        self.role = Role::Retired;
        successor.due_ns = std::mem::take(&mut self.due_ns);
    }

    /// Does the work that is possible now: reads once if the socket is readable, sends due
    /// messages, closes when all is done.
    #[inline]
    pub(super) fn work(
        &mut self,
        readable: bool,
        writable: bool,
        state: &mut ThreadState,
    ) -> Result<Stage, Failure> {
        state.fresh_ns = None;
        state.unblocked = writable && self.blocked;
        if state.unblocked {
            self.blocked = false;
        }
        if readable {
            self.read(state)?;
        }
        if self.stage == Stage::Open && self.is_finished(state) {
            self.close(state);
        }
        if self.stage != Stage::Closed {
            self.write(state)?;
        }
        Ok(self.stage)
    }

    /// Processes the bytes that followed the handshake's response.
    pub(super) fn take_early(
        &mut self,
        bytes: &[u8],
        state: &mut ThreadState,
    ) -> Result<(), Failure> {
        let now_ns = state.now_ns();
        self.take(bytes, now_ns, state)
    }

    /// The number of messages of which at least a byte was sent.
    #[inline]
    pub(super) fn begun(&self) -> u64 {
        self.sent + u64::from(self.offset > 0)
    }

    /// Whether it waits for replies, or has messages to send that are due.
    pub(super) fn has_outstanding(&self) -> bool {
        self.begun() != self.checker.received() || !self.due_ns.is_empty()
    }

    /// When the oldest message in flight was sent.
    pub(super) fn oldest_sent_ns(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.times.sent_ns)
    }

    /// Messages due before the measurement that are not answered.
    pub(super) fn carried_in(&self) -> u64 {
        let under_way: u64 = self.batches.iter().map(|batch| batch.messages).sum();
        under_way + self.due_ns.len() as u64
    }

    /// Records the messages whose replies are not awaited any more.
    pub(super) fn abandon(&mut self, now_ns: u64, state: &mut ThreadState) {
        for batch in self.batches.drain(..) {
            state
                .recorder
                .unanswered(batch.times, now_ns, batch.messages);
        }
        for due_ns in self.due_ns.drain(..) {
            state.recorder.unsent(due_ns, now_ns, 1);
        }
    }

    fn is_finished(&self, state: &ThreadState) -> bool {
        (self.role == Role::Retired || state.send_state == SendState::Finished)
            && !self.has_outstanding()
    }

    /// Begins the closing handshake, or ends a stream that has none.
    fn close(&mut self, state: &mut ThreadState) {
        if state.protocol == Protocol::RawTcp {
            self.stage = Stage::Closed;
            return;
        }
        self.stage = Stage::Closing;
        self.since_ns = state.now_ns();
        let mask = state.random.u32(..).to_ne_bytes();
        self.pending
            .extend_from_slice(&close_frame(CLOSE_CODE, mask));
    }

    #[inline]
    fn read(&mut self, state: &mut ThreadState) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut state.read_buffer);
        let room = match self.role {
            Role::Slow => SLOW_READ_LEN,
            _ => buffer.len(),
        };
        let result = self.transport.read(&mut buffer[..room]);
        let now_ns = state.now_ns();
        let taken = match result {
            Ok(0) => Err(self.lost(Loss::Eof)),
            Ok(count) => {
                state.fresh_ns = (count <= QUICK_LEN).then_some(now_ns);
                state.count_read(now_ns);
                self.take(&buffer[..count], now_ns, state)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.lost(error.into())),
        };
        state.read_buffer = buffer;
        taken
    }

    /// Checks received bytes and records the replies they complete.
    #[inline]
    fn take(&mut self, bytes: &[u8], now_ns: u64, state: &mut ThreadState) -> Result<(), Failure> {
        let before = self.checker.position();
        let begun = self.begun();
        self.checker
            .feed(&state.mix, begun, bytes, &mut state.controls)
            .map_err(|violation| self.integrity_failure(begun, violation))?;
        let after = self.checker.position();
        if after != before {
            self.since_ns = now_ns;
            if self.carries() {
                state.progress_ns = now_ns;
            }
        }
        if after.0 != before.0 && self.carries() {
            self.note_replies(before.0, now_ns, state);
        }
        if state.controls.is_empty() {
            return Ok(());
        }
        self.answer_controls(state)
    }

    /// The failure for a wrong reply.
    #[cold]
    fn integrity_failure(&mut self, begun: u64, violation: Violation) -> Failure {
        let (connection, got) = (self.id, self.checker.take_wrong());
        if begun == 0 && violation == Violation::Unsolicited {
            return Failure::Greeting { connection, got };
        }
        Failure::Integrity {
            connection,
            message: self.checker.received(),
            violation,
            got,
        }
    }

    /// Records the replies since there were `before`.
    #[inline]
    fn note_replies(&mut self, before: u64, now_ns: u64, state: &mut ThreadState) {
        let mut completed = self.checker.received() - before;
        let mut sequence = before;
        state.in_flight -= completed;
        if let Load::Closed { window } = state.load
            && self.begun() - before >= u64::from(window)
        {
            // The window was full until now.
            self.ready_ns = now_ns;
        }
        while completed > 0 {
            // Every message that was sent is in a batch.
            let batch = self.batches.front_mut().expect("a flight for each reply");
            let landed = completed.min(batch.messages);
            let payload_len = state.payload_len(self.id, sequence, landed);
            state
                .recorder
                .answered(batch.times, now_ns, landed, payload_len);
            batch.messages -= landed;
            completed -= landed;
            sequence += landed;
            if batch.messages == 0 {
                self.batches.pop_front();
            }
        }
    }

    fn carries(&self) -> bool {
        matches!(self.role, Role::Load(_) | Role::Retired)
    }

    /// Answers the server's control frames.
    #[cold]
    fn answer_controls(&mut self, state: &mut ThreadState) -> Result<(), Failure> {
        for control in std::mem::take(&mut state.controls) {
            match control {
                Control::Ping(payload) => self.queue_pong(&payload, state),
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

    fn queue_pong(&mut self, payload: &[u8], state: &mut ThreadState) {
        // No frame may be sent after Close.
        if self.stage == Stage::Open && self.pending.len() <= PENDING_LEN_MAX {
            state.recorder.counts.pings += 1;
            let mask = state.random.u32(..).to_ne_bytes();
            self.pending.extend_from_slice(&pong_frame(payload, mask));
        }
    }

    /// The number of messages that may have been sent in all.
    #[inline]
    fn end(&self, state: &ThreadState) -> u64 {
        match (self.role, state.load) {
            (Role::Load(_), Load::Open { .. }) => self.begun() + self.due_ns.len() as u64,
            (Role::Load(_), Load::Closed { window })
                if state.send_state == SendState::Unlimited =>
            {
                let end = self.checker.received() + u64::from(window);
                // Messages due before the measurement do not count against the quota.
                match state.quota {
                    Some(quota) if state.recorder.window.contains(self.ready_ns) => {
                        end.min(self.begun() + quota)
                    }
                    _ => end,
                }
            }
            (Role::Slow, _) if state.send_state == SendState::Unlimited => {
                self.checker.received() + SLOW_WINDOW
            }
            // A message that is out in part has to be finished.
            _ => self.begun(),
        }
    }

    /// Sends until nothing is left or the socket is full.
    #[inline]
    fn write(&mut self, state: &mut ThreadState) -> Result<(), Failure> {
        self.paused = false;
        let end = self.end(state);
        while !self.blocked && !self.write_closed && !self.paused {
            let result = if self.offset == 0 && !self.pending.is_empty() {
                self.write_pending()
            } else if self.sent < end {
                self.write_messages(end - self.sent, state)
            } else if state.unblocked {
                // The stream itself may hold bytes back.
                state.unblocked = false;
                self.transport.flush()
            } else {
                break;
            };
            match result {
                Ok(whole) => self.blocked = !whole,
                // A server that gave up may have sent its reason before: that
                // is what the next read brings.
                Err(error) if is_hang_up(&error) => self.write_closed = true,
                Err(error) => return Err(self.lost(error.into())),
            }
        }
        Ok(())
    }

    /// Writes messages with one call; `false` if the socket did not accept all.
    #[inline]
    fn write_messages(&mut self, count: u64, state: &mut ThreadState) -> io::Result<bool> {
        let cursor = Cursor {
            next: MessageId {
                connection: self.id,
                sequence: self.sent,
            },
            offset: self.offset,
        };
        let now_ns = state.write_ns();
        let sent = if state.split {
            let frame_len = state.mix.pool(cursor.next).frame_len();
            let end = state.random.usize(cursor.offset..frame_len) + 1;
            self.paused = true;
            state
                .writer
                .send_piece(&mut self.transport, &state.mix, cursor, end)?
        } else {
            state
                .writer
                .send(&mut self.transport, &state.mix, cursor, count)?
        };
        if sent.written > 0 {
            state.count_write(now_ns);
            let begun_before = self.begun();
            let cursor = state.mix.advance(cursor, sent.written);
            self.sent = cursor.next.sequence;
            self.offset = cursor.offset;
            let messages = self.begun() - begun_before;
            if self.carries() {
                self.note_sent(messages, now_ns, state);
            }
        }
        Ok(sent.written == sent.offered && self.transport.flush()?)
    }

    /// Records messages that a write call took.
    #[inline]
    fn note_sent(&mut self, messages: u64, now_ns: u64, state: &mut ThreadState) {
        // A full socket that takes more is a server that reads.
        if state.unblocked || state.in_flight == 0 {
            state.progress_ns = now_ns;
        }
        if messages == 0 {
            return;
        }
        state.in_flight += messages;
        match state.load {
            Load::Closed { .. } => {
                let times = Times {
                    // A batch may go out at once with what was ready before it.
                    intended_ns: self.ready_ns.min(now_ns),
                    sent_ns: now_ns,
                };
                state.recorder.due(times.intended_ns, messages);
                state.spend(times.intended_ns, messages);
                self.push_batch(times, messages, state);
            }
            Load::Open { .. } => {
                for _ in 0..messages {
                    let intended_ns = self.due_ns.pop_front().expect("only what is due is sent");
                    let times = Times {
                        intended_ns,
                        sent_ns: now_ns,
                    };
                    self.push_batch(times, 1, state);
                }
            }
        }
    }

    #[inline]
    fn push_batch(&mut self, times: Times, messages: u64, state: &mut ThreadState) {
        state
            .recorder
            .sent(times.intended_ns, messages, state.unblocked);
        self.batches.push_back(SentBatch { times, messages });
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
