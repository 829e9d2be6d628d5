//! News of bytes that somebody else than the engine's own loop has read: the
//! task of a connection, or a handler. Busy polling has to know of them.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether there is such news, on one worker.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Somebody wants to know.
    is_wanted: bool,
    is_new: Cell<bool>,
    arrived: Notify,
}

impl Activity {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted,
            is_new: Cell::new(false),
            arrived: Notify::new(),
        }
    }

    /// Bytes have come.
    #[inline]
    pub(crate) fn note(&self) {
        if self.is_wanted && !self.is_new.replace(true) {
            self.arrived.notify_one();
        }
    }

    /// Whether bytes have come since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.is_new.replace(false)
    }

    /// Waits until bytes have come, and leaves the news to be taken.
    pub(crate) async fn arrived(&self) {
        while !self.is_new.get() {
            self.arrived.notified().await;
        }
    }
}
