//! Counters of one worker, summed when they are read.
//!
//! Each counter has one writer, its worker, so counting is a plain load and store: no
//! locked instruction, no cache line that two workers write. The hot path counts once
//! per read, for all its frames.
//!
//! * [`number`]: counters and gauges
//! * [`histogram`]: batch sizes and handshake times
//! * [`label`]: the fixed sets of labels
//!
//! `admin` exposes them.

pub(crate) mod histogram;
pub(crate) mod label;
pub(crate) mod number;

use crate::proto::{CloseCode, Step, Violation};
use histogram::{Batches, Durations};
use label::{Code, EndReason, HandshakeOutcome, Label, Labelled, RefusalReason, TlsOutcome};
use number::{Counter, Gauge};

/// The counters of one worker, aligned so that two workers never write to the same pair
/// of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    // Once per read or write.
    pub(crate) reads: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) writes: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) frames_per_read: Batches,
    pub(crate) frames_per_write: Batches,

    // Once per connection.
    pub(crate) accepted: Counter,
    pub(crate) accept_pauses: Counter,
    /// Connections within the limits.
    pub(crate) open: Gauge,
    /// Connections over a limit that are being answered.
    pub(crate) rejecting: Gauge,
    pub(crate) handshakes: Labelled<HandshakeOutcome, { HandshakeOutcome::COUNT }>,
    pub(crate) handshake_times: Durations,
    pub(crate) tls_handshakes: Labelled<TlsOutcome, { TlsOutcome::COUNT }>,
    pub(crate) refusals: Labelled<RefusalReason, { RefusalReason::COUNT }>,
    closes: [[Counter; Code::COUNT]; EndReason::COUNT],

    // Seldom.
    pub(crate) violations: Labelled<Violation, { Violation::ALL.len() }>,
    pub(crate) pings_sent: Counter,
    pub(crate) pings_received: Counter,
    pub(crate) pongs_received: Counter,
    pub(crate) slow_readers_cut: Counter,
    pub(crate) handler_panics: Counter,
    /// Connections that were open at the end of the drain timeout.
    pub(crate) cut_off: Counter,
    /// 1 once the worker has ended by a panic or an error.
    pub(crate) failed: Gauge,

    // Once per tick.
    /// Milliseconds from the server's start to the worker's last tick.
    pub(crate) beat_ms: Gauge,
    pub(crate) handshakes_in_progress: Gauge,
    pub(crate) slow_readers: Gauge,
    pub(crate) held_bytes: Gauge,
}

impl Counters {
    /// Counts one or several reads with `len` bytes in all.
    #[inline]
    pub(crate) fn count_reads(&self, reads: u64, len: usize) {
        self.reads.add(reads);
        self.bytes_received.add(len as u64);
    }

    /// Counts a write of `len` bytes.
    #[inline]
    pub(crate) fn count_write(&self, len: usize) {
        self.writes.add(1);
        self.bytes_sent.add(len as u64);
    }

    /// Counts a step of the echo.
    #[inline]
    pub(crate) fn count_step(&self, step: &Step) {
        if !step.reply.is_empty() {
            self.frames_per_write.note(step.reply_frames());
        }
        self.messages_sent.add(u64::from(step.messages));
        self.count_received(step);
    }

    /// Counts what a read has brought.
    #[inline]
    pub(crate) fn count_received(&self, step: &Step) {
        self.frames_per_read.note(step.frames());
        self.messages_received.add(u64::from(step.messages));
        if step.others.pings + step.others.pongs > 0 {
            self.pings_received.add(u64::from(step.others.pings));
            self.pongs_received.add(u64::from(step.others.pongs));
        }
    }

    /// Counts the end of a WebSocket connection, or the start of its closing handshake.
    pub(crate) fn count_end(&self, reason: EndReason, code: Option<CloseCode>) {
        self.closes[reason.index()][Code::of(code).index()].add(1);
    }

    pub(crate) fn ends(&self, reason: EndReason, code: Code) -> u64 {
        self.closes[reason.index()][code.index()].get()
    }

    /// All that ended for this reason, with whichever code.
    pub(crate) fn all_ends(&self, reason: EndReason) -> u64 {
        let codes = self.closes[reason.index()].iter();
        codes.map(Counter::get).sum()
    }

    /// Adds these counters to `snapshot`.
    pub(crate) fn merge_into(&self, snapshot: &mut Snapshot) {
        for (total, counted) in [
            (&mut snapshot.connections_open, self.open.get()),
            (&mut snapshot.connections_accepted, self.accepted.get()),
            (&mut snapshot.connections_refused, self.refusals.total()),
            (&mut snapshot.accept_pauses, self.accept_pauses.get()),
            (
                &mut snapshot.handshakes_upgraded,
                self.handshakes.get(HandshakeOutcome::Upgraded),
            ),
            (
                &mut snapshot.messages_received,
                self.messages_received.get(),
            ),
            (&mut snapshot.messages_sent, self.messages_sent.get()),
            (&mut snapshot.received_bytes, self.bytes_received.get()),
            (&mut snapshot.sent_bytes, self.bytes_sent.get()),
            (&mut snapshot.reads, self.reads.get()),
            (&mut snapshot.writes, self.writes.get()),
            (
                &mut snapshot.closes_by_clients,
                self.all_ends(EndReason::Client),
            ),
            (&mut snapshot.violations, self.violations.total()),
            (&mut snapshot.pings_sent, self.pings_sent.get()),
            (&mut snapshot.slow_readers_cut, self.slow_readers_cut.get()),
            (&mut snapshot.handler_panics, self.handler_panics.get()),
            (&mut snapshot.held_bytes, self.held_bytes.get()),
        ] {
            *total += counted;
        }
    }
}

/// The totals of all workers at one moment, in the names of `/metrics`, where more is
/// counted and by label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Open connections, including handshakes.
    pub connections_open: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections and requests refused, for any reason.
    pub connections_refused: u64,
    /// Times that accept was paused for lack of file descriptors.
    pub accept_pauses: u64,
    /// Handshakes that ended in an upgrade.
    pub handshakes_upgraded: u64,
    /// Complete messages received.
    pub messages_received: u64,
    /// Complete messages sent.
    pub messages_sent: u64,
    /// Bytes of frames read, headers included.
    pub received_bytes: u64,
    /// Bytes of frames written, headers included.
    pub sent_bytes: u64,
    /// Reads that returned bytes.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Close frames received and answered.
    pub closes_by_clients: u64,
    /// Connections ended because the client broke a rule or a limit.
    pub violations: u64,
    /// Pings sent to idle clients.
    pub pings_sent: u64,
    /// Connections cut by the write timeout.
    pub slow_readers_cut: u64,
    /// Panics of handlers.
    pub handler_panics: u64,
    /// Bytes of memory that connections hold.
    pub held_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_sums_the_workers() {
        let (first, second) = (Counters::default(), Counters::default());
        first.messages_received.add(2);
        second.messages_received.add(3);
        second.bytes_received.add(u64::MAX);
        second.count_end(EndReason::Client, None);
        second.count_end(EndReason::Drain, Some(CloseCode::GOING_AWAY));
        second.refusals.add(RefusalReason::Full);
        second.refusals.add(RefusalReason::Path);
        let mut merged = Snapshot::default();
        first.merge_into(&mut merged);
        second.merge_into(&mut merged);
        assert_eq!(
            (
                merged.messages_received,
                merged.received_bytes,
                merged.closes_by_clients
            ),
            (5, u64::MAX, 1)
        );
        assert_eq!(merged.connections_refused, 2);
    }
}
