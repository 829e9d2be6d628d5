//! The order in which connections that flood are read.

use std::cell::Cell;
use std::io;

use tokio::sync::Notify;

/// Connections that flood and are let through in one turn of the runtime.
const FLOODS_PER_TURN: usize = 3;

/// Lets a few of those that flood through in each turn, first come, first
/// served.
///
/// What all tasks ask for in one turn goes to the kernel together, which
/// reads and writes for one after the other; the next turn begins when all of it
/// is done. Large reads and writes of everybody at once would have a short
/// message wait for all of them.
#[derive(Default)]
pub(super) struct BulkQueue {
    waiting: Cell<usize>,
    arrived: Notify,
    opened: Notify,
}

impl BulkQueue {
    /// Waits for one's turn. Needs [`BulkQueue::turn`] to run.
    pub(super) async fn pass(&self) {
        self.waiting.set(self.waiting.get() + 1);
        self.arrived.notify_one();
        self.opened.notified().await;
    }

    /// Turns for ever; ends only with an error. While nobody waits, it sleeps.
    pub(super) async fn turn(&self) -> io::Error {
        loop {
            self.arrived.notified().await;
            while self.waiting.get() > 0 {
                let next = self.waiting.get().min(FLOODS_PER_TURN);
                self.waiting.set(self.waiting.get() - next);
                for _ in 0..next {
                    self.opened.notify_one();
                }
                // Waiting for an operation is what parks the runtime, and
                // submits what those who were let through ask for.
                if let Err(error) = tokio_uring::no_op().await {
                    return error;
                }
            }
        }
    }
}
