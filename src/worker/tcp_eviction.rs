//! Evicts clients that do not read while TCP memory exceeds `max-tcp-memory`.
//!
//! A client's replies wait in the server only once they fill its socket, which may be
//! megabytes in the kernel. A full socket does not prove that the client does not read:
//! it has room again only when a part is acknowledged. So the send queue is measured
//! twice, and a client is evicted if its queue has not become shorter.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::mem;

use crate::engine::Millis;
use crate::engine::eviction::EvictionCandidate;
use crate::limits::tcp_memory::READ_INTERVAL;
use crate::net::socket_memory::SocketMemory;
use crate::observe::log_limit::{TCP_MEMORY, log_limited};
use crate::observe::metrics::label::EndReason;

use super::{Key, Worker};

/// The state of one worker.
#[derive(Debug, Default)]
pub(super) struct TcpEviction {
    checked_at: Option<Millis>,
    /// The send queues, in bytes, of the candidates at the last check.
    send_queues: HashMap<Key, u32>,
}

/// A connection whose socket has taken nothing for a while.
struct Candidate {
    key: Key,
    /// The client does not send either.
    is_stalled: bool,
    memory: SocketMemory,
}

impl TcpEviction {
    /// Checks the memory if a check is due. Called at each tick.
    pub(super) fn check(&mut self, worker: &Worker) {
        let now = worker.settings.clock.now();
        let is_due = |before: Millis| before.is_over(READ_INTERVAL, now);
        if !self.checked_at.is_none_or(is_due) {
            return;
        }
        self.checked_at = Some(now);
        let memory = worker.admission.tcp_memory();
        let excess = memory.excess();
        if excess == 0 {
            self.send_queues = HashMap::new();
            return;
        }
        log_limited!(
            warn,
            TCP_MEMORY,
            excess,
            "TCP memory of this machine exceeds max-tcp-memory: evicting clients that do not read"
        );
        for candidate in self.still_unread(candidates(worker)) {
            if memory.excess() == 0 {
                break;
            }
            worker.evict(candidate.key, EndReason::TcpMemory);
            memory.evicted(candidate.memory.total);
        }
    }

    /// The candidates whose send queues have not become shorter since the last check, in the
    /// order of eviction.
    fn still_unread(&mut self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let queue = |it: &Candidate| (it.key, it.memory.send_queue);
        let queues = candidates.iter().map(queue).collect();
        let before = mem::replace(&mut self.send_queues, queues);
        let is_shorter = |it: &Candidate, &queue: &u32| it.memory.send_queue < queue;
        candidates.retain(|it| {
            before
                .get(&it.key)
                .is_some_and(|queue| !is_shorter(it, queue))
        });
        candidates.sort_unstable_by_key(|it| Reverse((it.is_stalled, it.memory.total)));
        candidates
    }
}

fn candidates(worker: &Worker) -> Vec<Candidate> {
    let unread = worker
        .eviction_candidates()
        .filter_map(EvictionCandidate::unread);
    let candidate = |(is_stalled, key)| {
        let memory = worker.socket_memory(key)?;
        (memory.send_queue > 0).then_some(Candidate {
            key,
            is_stalled,
            memory,
        })
    };
    unread.filter_map(candidate).collect()
}

impl Worker {
    /// The kernel's memory for a connection.
    fn socket_memory(&self, key: Key) -> Option<SocketMemory> {
        match key {
            Key::Plain(key) => self.engine.socket_memory(key),
            Key::Encrypted(key) => self.encrypted.socket_memory(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(key: u32, is_stalled: bool, send_queue: u32, received: u64) -> Candidate {
        let total = u64::from(send_queue) + received;
        Candidate {
            key: Key::Plain(key),
            is_stalled,
            memory: SocketMemory { send_queue, total },
        }
    }

    #[test]
    fn candidates_without_progress_are_evicted_stalled_first_then_largest() {
        let mut eviction = TcpEviction::default();
        let mut keys = |candidates| {
            let evicted = eviction.still_unread(candidates);
            evicted.iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let first = [
            candidate(1, true, 500, 0),
            candidate(2, false, 900, 0),
            candidate(3, true, 600, 0),
            candidate(4, true, 500, 300),
        ];
        assert_eq!(keys(first.into()), []);
        let second = [
            candidate(1, true, 500, 0),
            candidate(2, false, 900, 0),
            // It has read.
            candidate(3, true, 599, 0),
            candidate(4, true, 500, 300),
            // Not a candidate before.
            candidate(5, true, 9999, 0),
        ];
        assert_eq!(keys(second.into()), [4, 1, 2].map(Key::Plain));
        assert_eq!(keys(vec![candidate(3, true, 599, 0)]), [Key::Plain(3)]);
    }
}
