//! What one handler's connection adds to its worker's counters.

use std::rc::Rc;
use std::sync::Arc;

use super::inbox::Counted;
use super::registry::{Guard, HandlerRegistry, SlowReader};
use crate::engine::Drain;
use crate::engine::connection::log_end_of_slow_reader;
use crate::net::peer::Peer;
use crate::observe::connection_record::ConnectionRecord;
use crate::observe::log_limit::{VIOLATION, log_limited};
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::EndReason;
use crate::proto::{CloseCode, Violation};

/// The part of a connection in the counters. What is still open when this is
/// dropped is settled then.
pub(super) struct Account {
    counters: Arc<Counters>,
    record: Rc<ConnectionRecord>,
    guard: Rc<Guard>,
    /// Frames of the last read, until they are counted.
    frames: Option<u32>,
    end_is_counted: bool,
}

impl Account {
    /// A connection that was upgraded, and `leftover` bytes that came with its
    /// handshake.
    pub(super) fn open(
        counters: &Arc<Counters>,
        record: Rc<ConnectionRecord>,
        registry: Rc<HandlerRegistry>,
        leftover: usize,
    ) -> Self {
        counters.count_reads(0, leftover);
        record.read(leftover);
        Self {
            counters: Arc::clone(counters),
            record,
            guard: Rc::new(registry.register()),
            frames: (leftover > 0).then_some(0),
            end_is_counted: false,
        }
    }

    pub(super) fn peer(&self) -> Peer {
        self.record.peer()
    }

    /// Counts a read of `len` bytes.
    pub(super) fn read(&mut self, len: usize) {
        self.counters.count_reads(1, len);
        self.record.read(len);
        self.frames = Some(self.frames.unwrap_or(0));
    }

    /// Counts a write of `len` bytes.
    pub(super) fn wrote(&self, len: usize) {
        self.counters.count_write(len);
        self.record.wrote(len);
    }

    /// Counts a message that is to be sent.
    pub(super) fn sends_message(&self) {
        self.counters.messages_sent.add(1);
        self.record.count_messages(0, 1);
    }

    /// Counts what was found in the bytes that were read.
    pub(super) fn found(&mut self, counted: Counted) {
        if let Some(frames) = &mut self.frames {
            *frames += counted.frames;
        }
        self.counters.messages_received.add(counted.messages.into());
        self.record.count_messages(counted.messages, 0);
        self.counters.pings_received.add(counted.pings.into());
        self.counters.pongs_received.add(counted.pongs.into());
    }

    /// All that was read has been looked at.
    pub(super) fn all_is_found(&mut self) {
        if let Some(frames) = self.frames.take() {
            self.counters.frames_per_read.note(frames);
        }
    }

    /// The connection ends for this reason, if for none before.
    pub(super) fn end(&mut self, reason: EndReason, code: Option<CloseCode>) {
        if !self.end_is_counted {
            self.end_is_counted = true;
            self.counters.count_end(reason, code);
            self.record.ended(reason, code);
            if reason.is_eviction() {
                log_end_of_slow_reader(reason);
            }
        }
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        log_limited!(debug, VIOLATION, %violation, "a client broke the protocol");
        self.counters.violations.add(violation);
        self.end(EndReason::Violation, Some(violation.close_code()));
    }

    /// So many bytes are held now.
    pub(super) fn hold(&self, bytes: usize) {
        self.guard.hold(bytes);
    }

    /// Waits until the connection is evicted, or drained further.
    pub(super) fn notified(&self) -> impl Future<Output = ()> + use<> {
        self.guard.notified()
    }

    /// Why the connection is to end because of what it holds, if it is.
    pub(super) fn evicted_for(&self) -> Option<EndReason> {
        self.guard.evicted_for()
    }

    pub(super) fn draining(&self) -> Option<Drain> {
        self.guard.draining()
    }

    /// Counts the client as a slow reader for as long as the answer lives.
    pub(super) fn slow_reader(&self) -> SlowReading {
        self.guard.set_slow_reader(Some(SlowReader::default()));
        SlowReading(Rc::clone(&self.guard))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.all_is_found();
        // The handler has had enough without saying so.
        self.end(EndReason::Handler, None);
    }
}

/// A client leaves a reply unread.
pub(super) struct SlowReading(Rc<Guard>);

impl SlowReading {
    /// This is how.
    pub(super) fn note(&self, slow_reader: SlowReader) {
        self.0.set_slow_reader(Some(slow_reader));
    }
}

impl Drop for SlowReading {
    fn drop(&mut self) {
        self.0.set_slow_reader(None);
    }
}
