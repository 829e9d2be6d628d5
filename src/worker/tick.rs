//! The tick of a worker: timeouts, the limit on held bytes, the heartbeat.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant as StdInstant};

use tokio::time::{Instant, sleep, sleep_until};

use super::tcp_eviction::TcpEviction;
use super::{Key, Worker};
use crate::engine::SLOW_READER;
use crate::engine::eviction::{EvictionCandidate, largest_first};
use crate::engine::timers;
use crate::limits::memory_budget::TICK_WHEN_HIGH;
use crate::net::byte_queue;
use crate::observe::log_limit::{self, BUFFERED_BYTES, log_limited};
use crate::observe::metrics::label::EndReason;

pub(super) async fn tick(worker: Rc<Worker>) -> Infallible {
    let interval = worker.settings.tick_interval();
    let budget = worker.admission.held();
    budget.join();
    worker.settings.backlog_room.set(budget.room());
    let (mut reported, mut is_soon) = (0, false);
    let mut tcp_eviction = TcpEviction::default();
    loop {
        let wait = match (budget.is_high(), is_soon) {
            (true, _) => interval.min(TICK_WHEN_HIGH),
            (false, true) => interval.min(SLOW_READER),
            (false, false) => interval,
        };
        let wait = if worker.settings.timers.was_short() {
            wait.min(timers::PAUSE)
        } else {
            wait
        };
        let start = Instant::now();
        tokio::select! {
            () = sleep_and_free(wait) => {}
            () = worker.settings.timers.wanted() => {}
            () = worker.handshakes.grown() => {
                sleep_until(start + wait.min(start.elapsed() + TICK_WHEN_HIGH)).await;
            }
            () = worker.settings.backlog_begun.notified() => {
                // A reader counts as slow only after that time.
                sleep_until(start + wait.min(start.elapsed() + SLOW_READER)).await;
            }
        }
        let now;
        (now, is_soon) = worker.tick_connections();
        let excess = budget.report(reported, now);
        reported = now - excess;
        if excess > 0 {
            log_limited!(
                warn,
                BUFFERED_BYTES,
                excess,
                "buffered bytes exceed max-held-bytes"
            );
            worker.free(excess);
        }
        tcp_eviction.check(&worker);
        // Memory of dropped backlogs is not yet freed.
        let room = budget.room().saturating_sub(byte_queue::free_some());
        worker.settings.backlog_room.set(room);
        worker.beat();
        log_limit::report_suppressed();
    }
}

/// Sleeps, and frees memory of dropped backlogs meanwhile.
async fn sleep_and_free(time: Duration) {
    let end = Instant::now() + time;
    while byte_queue::free_some() > 0 && Instant::now() < end {
        sleep(timers::PAUSE).await;
    }
    sleep_until(end).await;
}

impl Worker {
    /// Handles due timeouts, and counts buffered bytes; returns these, and whether the next
    /// tick has to come soon.
    pub(super) fn tick_connections(&self) -> (usize, bool) {
        self.settings.timers.refill();
        let mut buffered = self.engine.tick();
        buffered.add(self.encrypted.tick());
        let counters = &self.settings.counters;
        let (count, held) = (self.handshakes.count(), self.handshakes.held());
        counters.handshakes_in_progress.set(count as u64);
        buffered.bytes += held;
        counters.held_bytes.set(buffered.bytes as u64);
        counters.slow_readers.set(buffered.slow_readers as u64);
        (buffered.bytes, buffered.paused > 0)
    }

    /// Evicts handshakes, and then the connections with most buffered bytes, until `excess`
    /// bytes are freed.
    fn free(&self, excess: usize) {
        let freed = self.handshakes.evict(excess, StdInstant::now());
        let excess = excess.saturating_sub(freed);
        for key in largest_first(self.eviction_candidates().collect(), excess) {
            self.evict(key, EndReason::HeldBytes);
        }
    }

    pub(super) fn eviction_candidates(
        &self,
    ) -> impl Iterator<Item = EvictionCandidate<Key>> + use<> {
        let plain = self.engine.eviction_candidates().into_iter();
        let encrypted = self.encrypted.eviction_candidates().into_iter();
        plain
            .map(|candidate| candidate.rename(Key::Plain))
            .chain(encrypted.map(|candidate| candidate.rename(Key::Encrypted)))
    }

    pub(super) fn evict(&self, key: Key, reason: EndReason) {
        match key {
            Key::Plain(key) => self.engine.evict(key, reason),
            Key::Encrypted(key) => self.encrypted.evict(key, reason),
        }
    }

    /// Sets the worker's heartbeat.
    pub(super) fn beat(&self) {
        let beat_ms = self.shared.epoch.elapsed().as_millis();
        let counters = &self.settings.counters;
        counters
            .beat_ms
            .set(u64::try_from(beat_ms).unwrap_or(u64::MAX));
    }
}
