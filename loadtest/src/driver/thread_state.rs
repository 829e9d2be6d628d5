//! State that all connections of a thread share.

use std::time::Instant;

use fastrand::Rng;

use super::batch_writer::BatchWriter;
use crate::client::{Control, MessageId, Mix};
use crate::plan::{Load, Protocol};
use crate::recorder::Recorder;

/// The size of the shared read buffer, in bytes. With the frame pools and the write buffer it has
/// to fit in L2.
pub(super) const READ_LEN: usize = 128 << 10;

/// Whether there are messages to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendState {
    /// The load has not started.
    NotStarted,
    /// Messages without end.
    Unlimited,
    /// No new messages, but an open loop that fell behind has a backlog.
    Backlog,
    /// None: idle connections are closed.
    Finished,
}

/// The shared buffers and counters of one thread.
pub(super) struct ThreadState {
    pub(super) mix: std::sync::Arc<Mix>,
    pub(super) load: Load,
    pub(super) protocol: Protocol,
    /// Whether frames are cut across writes.
    pub(super) split: bool,
    pub(super) writer: BatchWriter,
    pub(super) read_buffer: Vec<u8>,
    pub(super) controls: Vec<Control>,
    pub(super) recorder: Recorder,
    pub(super) random: Rng,
    /// The clock's zero, the same for all threads.
    pub(super) epoch: Instant,
    /// Whether there are messages to send.
    pub(super) send_state: SendState,
    /// The messages of the measurement still to be sent, if their number is given.
    pub(super) quota: Option<u64>,
    /// Messages sent and not answered, without slow readers'.
    pub(super) in_flight: u64,
    /// When a server last made progress.
    pub(super) progress_ns: u64,
    /// A recent clock reading that may be used once more.
    pub(super) fresh_ns: Option<u64>,
    /// Whether the connection at work was waiting for its socket until now.
    pub(super) unblocked: bool,
    /// The bytes that followed the handshake of the connection that just opened.
    pub(super) early: Vec<u8>,
}

impl ThreadState {
    /// Nanoseconds since the run's epoch.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "64 bits are 584 years")]
    pub(super) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The time for a write that is about to happen.
    #[inline]
    pub(super) fn write_ns(&mut self) -> u64 {
        self.fresh_ns.take().unwrap_or_else(|| self.now_ns())
    }

    #[inline]
    pub(super) fn count_read(&mut self, now_ns: u64) {
        if self.recorder.window.contains(now_ns) {
            self.recorder.counts.reads += 1;
        }
    }

    #[inline]
    pub(super) fn count_write(&mut self, now_ns: u64) {
        if self.recorder.window.contains(now_ns) {
            self.recorder.counts.writes += 1;
        }
    }

    /// The payload bytes of `messages` messages of a connection.
    #[inline]
    pub(super) fn payload_len(&self, connection: u32, sequence: u64, messages: u64) -> u64 {
        if let Some(pool) = self.mix.only_pool() {
            return messages * pool.payload_len() as u64;
        }
        (sequence..sequence + messages)
            .map(|sequence| {
                let id = MessageId {
                    connection,
                    sequence,
                };
                self.mix.pool(id).payload_len() as u64
            })
            .sum()
    }

    /// Subtracts messages of the measurement from the quota.
    #[inline]
    pub(super) fn spend(&mut self, intended_ns: u64, messages: u64) {
        if let Some(quota) = &mut self.quota
            && self.recorder.window.contains(intended_ns)
        {
            *quota = quota.saturating_sub(messages);
        }
    }
}
