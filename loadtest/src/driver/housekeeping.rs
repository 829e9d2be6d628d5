//! Work without an event of its own: deadlines, slow readers, the end of the drain.

use std::io;

use super::connection::{Connection, Stage};
use super::phases::Phase;
use super::{HOUSEKEEPING_INTERVAL_NS, Worker};
use crate::client::HandshakeError;
use crate::failure::{Failure, Loss};
use crate::outcome::Unclosed;

/// The interval at which slow readers read.
const SLOW_INTERVAL_NS: u64 = 100_000_000;

/// The most connections checked for a missed deadline per tick.
const DEADLINE_CHECKS_MAX: usize = 1024;

impl Worker<'_> {
    /// Does the work that has no event of its own.
    pub(super) fn housekeeping(&mut self, now_ns: u64) -> Result<(), Failure> {
        self.housekeeping_ns = now_ns + HOUSEKEEPING_INTERVAL_NS;
        if now_ns >= self.slow_ns {
            self.slow_ns = now_ns + SLOW_INTERVAL_NS;
            for index in 0..self.slow_readers.len() {
                self.work(self.slow_readers[index], true, false)?;
            }
        }
        self.find_stall(now_ns)?;
        self.check_deadlines(now_ns)?;
        if self.phase == Phase::Drain && now_ns >= self.phase_end_ns {
            self.phase_end_ns = u64::MAX;
            self.abandon(now_ns)?;
        }
        Ok(())
    }

    /// A server that does nothing for any message ends the run.
    fn find_stall(&self, now_ns: u64) -> Result<(), Failure> {
        let quiet_ns = now_ns.saturating_sub(self.state.progress_ns);
        if self.state.in_flight == 0 || quiet_ns < self.timeout_ns {
            return Ok(());
        }
        let oldest = self
            .sockets
            .iter()
            .filter_map(|(_, connection)| Some((connection.oldest_sent_ns()?, connection)))
            .min_by_key(|(sent_ns, connection)| (*sent_ns, connection.id));
        match oldest {
            Some((_, connection)) => Err(self.stalled(connection)),
            None => Ok(()),
        }
    }

    fn stalled(&self, connection: &Connection) -> Failure {
        Failure::Stalled {
            connection: connection.id,
            message: connection.checker.received(),
            timeout: self.plan.timeout,
        }
    }

    /// Checks some connections for missed deadlines.
    fn check_deadlines(&mut self, now_ns: u64) -> Result<(), Failure> {
        let slots = self.sockets.slots();
        for _ in 0..DEADLINE_CHECKS_MAX.min(slots) {
            self.deadline_cursor = (self.deadline_cursor + 1) % slots;
            let slot = self.deadline_cursor;
            let Some(connection) = self.sockets.at(slot) else {
                continue;
            };
            if now_ns.saturating_sub(connection.since_ns) < self.timeout_ns {
                continue;
            }
            let number = connection.id;
            match connection.stage {
                Stage::Opening if connection.is_connected() => {
                    let opening = connection.opening.as_ref();
                    let source = match opening.map(|opening| opening.unfinished()) {
                        None | Some(HandshakeError::Eof) => HandshakeError::Timeout,
                        Some(known) => known,
                    };
                    return Err(Failure::Handshake {
                        target: self.endpoints.of_connection(number).target.to_string(),
                        connection: number,
                        source,
                    });
                }
                Stage::Opening => {
                    return Err(self.no_connection(number, io::ErrorKind::TimedOut.into()));
                }
                Stage::Closing => self.close(slot, Some(Loss::Silence(self.plan.timeout)))?,
                Stage::Open | Stage::Closed => {}
            }
        }
        Ok(())
    }

    /// Ends the wait for replies. Messages of a server that still makes progress are unanswered;
    /// a connection without progress for the whole timeout fails the run.
    fn abandon(&mut self, now_ns: u64) -> Result<(), Failure> {
        self.record_unsent(now_ns);
        let is_lost = |connection: &Connection| {
            let quiet_ns = now_ns.saturating_sub(connection.since_ns);
            connection.stage == Stage::Open
                && connection.has_outstanding()
                && quiet_ns >= self.timeout_ns
        };
        let lost = self
            .sockets
            .iter()
            .find(|(_, connection)| is_lost(connection));
        if let Some((_, connection)) = lost {
            return Err(self.stalled(connection));
        }
        for slot in 0..self.sockets.slots() {
            if let Some(connection) = self.sockets.at(slot)
                && connection.stage == Stage::Open
                && connection.has_outstanding()
            {
                connection.abandon(now_ns, &mut self.state);
                self.close(slot, None)?;
            }
        }
        self.state.in_flight = 0;
        Ok(())
    }

    /// Records the messages that an open loop that fell behind will not send any more.
    pub(super) fn record_unsent(&mut self, now_ns: u64) {
        let zero_ns = self.zero_ns;
        let end_ns = self.state.recorder.window.end_ns;
        let Some(mut schedule) = self.schedule.take() else {
            return;
        };
        // In a run of a number of messages, the quota is the limit, and not the time.
        let most = self.state.quota.unwrap_or(u64::MAX);
        let until_ns = end_ns.min(now_ns).saturating_sub(zero_ns);
        schedule.pop_all(until_ns, most, |intended_ns, messages| {
            let intended_ns = zero_ns + intended_ns;
            self.state.recorder.due(intended_ns, messages);
            self.state.recorder.unsent(intended_ns, now_ns, messages);
        });
    }

    /// Closes a connection, with the reason if it did not close normally.
    pub(super) fn close(&mut self, slot: usize, wrong: Option<Loss>) -> Result<(), Failure> {
        if let Some(connection) = self.sockets.at(slot) {
            let counts = &mut self.state.recorder.counts;
            counts.fragmented += connection.checker.fragmented();
            if let Some(reason) = wrong {
                counts.unclosed += 1;
                let connection = connection.id;
                self.unclosed.get_or_insert(Unclosed { connection, reason });
            }
        }
        self.sockets.remove(slot)
    }
}
