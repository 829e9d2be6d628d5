//! From a signal to the end: drain, deadline, exit.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells everybody who waits for it that the server is about to stop.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<bool>);

/// The other end of a [`Trigger`], one for everybody who waits.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

/// A trigger that was not pulled yet.
pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    pub(crate) fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits until the trigger is pulled, or is gone.
    pub(crate) async fn begun(&mut self) {
        // An error means that nobody is left to pull it.
        let _ = self.0.wait_for(|&pulled| pulled).await;
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

/// SIGTERM and SIGINT, caught from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called on a tokio runtime.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Ends the process at once, with the status that shells give to a process that
/// was ended by this signal.
pub(crate) fn exit_at_once(signal: SignalKind) -> ! {
    process::exit(128 + signal.as_raw_value())
}
