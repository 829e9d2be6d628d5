//! What tests ask of the engine that nobody else has to know.

use super::RingEngine;

impl RingEngine {
    /// Whether no buffer of the pool is in use, and none is lost.
    pub(crate) fn has_all_buffers(&self) -> bool {
        self.core.borrow().shared.pool.is_whole()
    }
}
