//! What tells the threads of a server that it stops.

use tokio::sync::watch;

/// Tells everybody who waits for it that the server is about to stop.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<Stage>);

/// The other end of a [`Trigger`], one for everybody who waits.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<Stage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// It serves, and wants no new connections.
    Announced,
    Initiated(StopReason),
}

/// How a server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// For good.
    Stopped,
    /// A successor has its listening sockets.
    HandedOver,
}

/// A trigger that was not pulled yet.
pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Says that it will be pulled.
    pub(crate) fn announce(&self) {
        self.0.send_replace(Stage::Announced);
    }

    pub(crate) fn initiate(&self, departure: StopReason) {
        self.0.send_replace(Stage::Initiated(departure));
    }
}

impl Shutdown {
    /// Waits until the trigger is pulled, or is gone.
    pub(crate) async fn initiated(&mut self) {
        // An error means that nobody is left to pull it.
        let is_initiated = |stage: &Stage| matches!(stage, Stage::Initiated(_));
        let _ = self.0.wait_for(is_initiated).await;
    }

    pub(crate) fn is_initiated(&self) -> bool {
        matches!(*self.0.borrow(), Stage::Initiated(_))
    }

    /// Whether the server stops, or is going to.
    pub(crate) fn is_announced(&self) -> bool {
        *self.0.borrow() != Stage::Serving
    }

    /// Whether somebody else accepts connections from now on.
    pub(crate) fn is_handed_over(&self) -> bool {
        *self.0.borrow() == Stage::Initiated(StopReason::HandedOver)
    }
}
