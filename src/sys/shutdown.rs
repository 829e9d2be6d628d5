//! The channel that stops the threads of a server.

use tokio::sync::watch;

/// Sends the stop to all receivers.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<Stage>);

/// A receiver of a [`Trigger`].
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<Stage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The server serves, and `/readyz` returns 503.
    Announced,
    Initiated(StopReason),
}

/// Why a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    Stopped,
    /// A replacement has the listening sockets.
    HandedOver,
}

pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Announces the stop, before `--shutdown-delay`.
    pub(crate) fn announce(&self) {
        self.0.send_replace(Stage::Announced);
    }

    pub(crate) fn initiate(&self, reason: StopReason) {
        self.0.send_replace(Stage::Initiated(reason));
    }
}

impl Shutdown {
    /// Waits until the stop is initiated, or the trigger is dropped.
    pub(crate) async fn initiated(&mut self) {
        // An error means that the trigger is dropped.
        let is_initiated = |stage: &Stage| matches!(stage, Stage::Initiated(_));
        let _ = self.0.wait_for(is_initiated).await;
    }

    pub(crate) fn is_initiated(&self) -> bool {
        matches!(*self.0.borrow(), Stage::Initiated(_))
    }

    /// Whether the stop is announced or initiated.
    pub(crate) fn is_announced(&self) -> bool {
        *self.0.borrow() != Stage::Serving
    }

    /// Whether a replacement accepts connections from now on.
    pub(crate) fn is_handed_over(&self) -> bool {
        *self.0.borrow() == Stage::Initiated(StopReason::HandedOver)
    }
}
