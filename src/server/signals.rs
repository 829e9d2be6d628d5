//! The signals that stop a server, replace it, or have it read files again.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::error::Error;
use crate::observe::output;

/// The time that the log has when a second signal ends the process.
const LAST_LINES: Duration = Duration::from_millis(100);

/// The time that a server which is starting has to end when a signal asks it to.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The signals that ask a server for something, caught from the moment this is
/// made: `docs/deploy.md` has what each of them does.
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
    stopping: Vec<(Signal, SignalKind)>,
    others: Vec<(Signal, Request)>,
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
    /// To open the log again, of which there is no need.
    ReopenLog,
}

/// What ends a process by default, and is sent by people and tools who mean that:
/// the usual three, `SIGPWR` and `SIGRTMIN+3` by what stops containers, and
/// `SIGALRM` and `SIGXCPU` by limits on time.
///
/// `SIGPROF` and `SIGVTALRM` are left to profilers, and what a fault raises to the
/// kernel.
fn stopping() -> [SignalKind; 7] {
    [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::alarm(),
        SignalKind::from_raw(libc::SIGXCPU),
        SignalKind::from_raw(libc::SIGPWR),
        SignalKind::from_raw(libc::SIGRTMIN() + 3),
    ]
}

/// Whether a signal has asked a server to stop that has not started yet.
#[derive(Debug, Default)]
pub(crate) struct Interrupt(AtomicBool);

impl Interrupt {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
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
        let output = self.runtime.block_on(wait(self.stream));
        // Files are read on its threads, which a file system may keep for ever.
        self.runtime.shutdown_background();
        output
    }

    /// Runs what starts a server, and interrupts it when a signal asks the
    /// server to stop. Says whether one has. What does not end then, as it waits
    /// for a file that cannot be read, ends with the process.
    pub(crate) fn during<T>(&mut self, start: impl FnOnce(&Interrupt) -> T) -> (T, bool) {
        let interrupt = Interrupt::default();
        let (done_sender, done) = oneshot::channel();
        let Self { runtime, stream } = self;
        let watch = async {
            let mut done = done;
            let signal = tokio::select! {
                // One that came before the end of the start was meant to prevent it.
                biased;
                signal = stream.stop() => signal,
                _ = &mut done => return false,
            };
            interrupt.0.store(true, Relaxed);
            if timeout(INTERRUPT_TIMEOUT, done).await.is_err() {
                exit_at_once(signal);
            }
            true
        };
        thread::scope(|scope| {
            let watcher = scope.spawn(|| runtime.block_on(watch));
            let started = start(&interrupt);
            // The watcher may have ended with the process only.
            let _ = done_sender.send(());
            let is_interrupted = watcher.join().expect("it does nothing but wait");
            (started, is_interrupted)
        })
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Stream {
    fn new() -> io::Result<Self> {
        // A log file that may not grow is no reason to end: writing to it fails
        // instead. The handler outlives this.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        let stopping = stopping().map(|kind| signal(kind).map(|signal| (signal, kind)));
        let others = [
            (SignalKind::user_defined1(), Request::ReopenLog),
            (SignalKind::user_defined2(), Request::Replace),
            (SignalKind::hangup(), Request::Hangup),
        ];
        let others = others.map(|(kind, request)| signal(kind).map(|signal| (signal, request)));
        Ok(Self {
            stopping: stopping.into_iter().collect::<io::Result<_>>()?,
            others: others.into_iter().collect::<io::Result<_>>()?,
        })
    }

    /// Waits for the next signal. This may be cancelled.
    pub(crate) async fn next(&mut self) -> Request {
        let Self { stopping, others } = self;
        tokio::select! {
            kind = first_of(stopping) => Request::Stop(kind),
            request = first_of(others) => request,
        }
    }

    /// Waits for one that asks to stop, and leaves the others for later. This may
    /// be cancelled.
    async fn stop(&mut self) -> SignalKind {
        first_of(&mut self.stopping).await
    }
}

/// What the first signal of these means that comes.
async fn first_of<T: Copy>(signals: &mut [(Signal, T)]) -> T {
    poll_fn(|context| {
        for (signal, meaning) in &mut *signals {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(*meaning);
            }
        }
        Poll::Pending
    })
    .await
}

/// Ends the process at once, with the status that shells give to a process that
/// was ended by this signal. Lines of the log that wait for a reader get a moment.
pub(crate) fn exit_at_once(signal: SignalKind) -> ! {
    output::stderr().flush(LAST_LINES);
    process::exit(128 + signal.as_raw_value())
}
