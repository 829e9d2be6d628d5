//! From a signal to the end: drain, deadline, exit.

use std::fmt;
use std::future::Future;
use std::io;
use std::process;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;
use crate::output;

/// The time that the log has when a second signal ends the process.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Tells everybody who waits for it that the server is about to stop.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<Option<Departure>>);

/// The other end of a [`Trigger`], one for everybody who waits.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<Option<Departure>>);

/// How a server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// For good.
    Stopped,
    /// A successor has its listening sockets.
    HandedOver,
}

/// A trigger that was not pulled yet.
pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    pub(crate) fn pull(&self, departure: Departure) {
        self.0.send_replace(Some(departure));
    }
}

impl Shutdown {
    /// Waits until the trigger is pulled, or is gone.
    pub(crate) async fn begun(&mut self) {
        // An error means that nobody is left to pull it.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Whether somebody else accepts connections from now on.
    pub(crate) fn is_handed_over(&self) -> bool {
        *self.0.borrow() == Some(Departure::HandedOver)
    }
}

/// SIGTERM, SIGINT, SIGHUP and SIGUSR2, caught from the moment this is made.
///
/// It is to be made before the server that it stops, so that no signal meets a
/// server that has started and does not know what to do with it, and so that
/// its descriptors are there before clients can use them up.
pub struct Signals {
    runtime: Runtime,
    stream: Stream,
}

/// Whichever comes first.
pub(crate) struct Stream {
    terminate: Signal,
    interrupt: Signal,
    user_defined_2: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// To end, by this signal.
    Stop(SignalKind),
    /// To start a successor.
    Replace,
    /// To read files again.
    Hangup,
}

impl Signals {
    /// Catches the signals, which end the process no longer.
    ///
    /// # Errors
    /// [`Error::Start`] with what the kernel says.
    pub fn catch() -> Result<Self, Error> {
        let start = |source| Error::Start {
            what: "catching signals",
            source,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(start)?;
        let stream = runtime.block_on(async { Stream::new() }).map_err(start)?;
        Ok(Self { runtime, stream })
    }

    /// Runs what waits for the signals, and perhaps for something else.
    pub(crate) fn block_on<F: Future>(self, wait: impl FnOnce(Stream) -> F) -> F::Output {
        self.runtime.block_on(wait(self.stream))
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Stream {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user_defined_2: signal(SignalKind::user_defined2())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop(SignalKind::terminate()),
            _ = self.interrupt.recv() => Request::Stop(SignalKind::interrupt()),
            _ = self.user_defined_2.recv() => Request::Replace,
            _ = self.hangup.recv() => Request::Hangup,
        }
    }
}

/// Ends the process at once, with the status that shells give to a process that
/// was ended by this signal. Lines of the log that wait for a reader get a moment.
pub(crate) fn exit_at_once(signal: SignalKind) -> ! {
    output::stderr().flush(LAST_LINES);
    process::exit(128 + signal.as_raw_value())
}
