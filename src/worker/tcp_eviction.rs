//! Evicts clients that do not read while TCP has more memory than it may.
//!
//! A client's replies wait in the server only once they fill its socket, for which the
//! kernel keeps megabytes. That its socket takes nothing does not mean that it does not
//! read: there is room again only when a part of it is acknowledged. So the send queue
//! is looked at twice: a client goes whose queue has not become shorter meanwhile.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::mem;

use crate::engine::Millis;
use crate::engine::eviction::EvictionCandidate;
use crate::limits::tcp_memory::LOOK_INTERVAL;
use crate::net::socket_memory::SocketMemory;
use crate::observe::log_limit::{TCP_MEMORY, log_limited};
use crate::observe::metrics::label::EndReason;

use super::{Key, Worker};

/// A worker's part in it.
#[derive(Debug, Default)]
pub(super) struct TcpEviction {
    looked_at: Option<Millis>,
    /// The send queues, in bytes, of those that may not read, when last looked at.
    send_queues: HashMap<Key, u32>,
}

/// A connection that has made no room in its socket for a while.
struct Candidate {
    key: Key,
    /// It does not send either.
    is_stalled: bool,
    memory: SocketMemory,
}

impl TcpEviction {
    /// To be called at each tick.
    pub(super) fn look(&mut self, worker: &Worker) {
        let now = worker.settings.clock.now();
        let is_due = |before: Millis| before.is_over(LOOK_INTERVAL, now);
        if !self.looked_at.is_none_or(is_due) {
            return;
        }
        self.looked_at = Some(now);
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
            "TCP has more memory on this machine than max-tcp-memory: clients that do not \
             read are evicted"
        );
        for candidate in self.unread_since_last_look(candidates(worker)) {
            if memory.excess() == 0 {
                break;
            }
            worker.evict(candidate.key, EndReason::TcpMemory);
            memory.evicted(candidate.memory.total);
        }
    }

    /// Those whose send queues have not become shorter since the last look, in the
    /// order in which they go.
    fn unread_since_last_look(&mut self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
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
    /// What the kernel keeps for a connection.
    fn socket_memory(&self, key: Key) -> Option<SocketMemory> {
        match key {
            Key::Plain(key) => self.engine.socket_memory(key),
            Key::Encrypted(key) => self.encrypted.socket_memory(key),
            Key::Handled(key) => self.handled.socket_memory(key),
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
    fn who_has_acknowledged_something_stays_and_the_largest_of_the_others_go_first() {
        let mut eviction = TcpEviction::default();
        let mut keys = |candidates| {
            let leaving = eviction.unread_since_last_look(candidates);
            leaving.iter().map(|it| it.key).collect::<Vec<_>>()
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
            // It was not there before.
            candidate(5, true, 9999, 0),
        ];
        assert_eq!(keys(second.into()), [4, 1, 2].map(Key::Plain));
        assert_eq!(keys(vec![candidate(3, true, 599, 0)]), [Key::Plain(3)]);
    }
}
