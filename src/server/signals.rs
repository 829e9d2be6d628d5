//! The signals that stop a server, replace it, or reload its certificate.

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

/// The time to flush the log when a second signal ends the process.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// The time that a start has to end after a signal to stop.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Catches the signals that a server handles, from its creation on: `docs/deploy.md`
/// lists them.
///
/// Create it before the server, so that no signal reaches a running server that does not
/// handle it, and so that clients cannot use up its descriptors.
pub struct Signals {
    runtime: Runtime,
    stream: Stream,
}

/// Yields the signals as they come.
pub(crate) struct Stream {
    stopping: Vec<(Signal, SignalKind)>,
    others: Vec<(Signal, Request)>,
}

/// The request that a signal makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Drain and end; the signal is that of the exit status.
    Stop(SignalKind),
    /// Start a replacement.
    Replace,
    /// Reload the certificate.
    Hangup,
    /// Reopen the log: ignored, since it is stderr.
    ReopenLog,
}

/// Signals that end a process by default and are sent to stop it: the usual three,
/// `SIGPWR` and `SIGRTMIN+3` from container managers, and `SIGALRM` and `SIGXCPU` from
/// limits on time.
///
/// `SIGPROF` and `SIGVTALRM` belong to profilers; signals of faults keep their default.
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

/// Set if a signal to stop comes while the server starts.
#[derive(Debug, Default)]
pub(crate) struct Interrupt(AtomicBool);

impl Interrupt {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Signals {
    /// Catches the signals, which then no longer end the process.
    ///
    /// # Errors
    /// [`Error::Start`] with the kernel's error.
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

    /// Runs a future that waits for the signals.
    pub(crate) fn block_on<F: Future>(self, wait: impl FnOnce(Stream) -> F) -> F::Output {
        let output = self.runtime.block_on(wait(self.stream));
        // Its threads read files, and may hang in a file system for ever.
        self.runtime.shutdown_background();
        output
    }

    /// Runs `start`, and sets its interrupt on a signal to stop; returns whether one came.
    /// If `start` does not end then, as it waits for a file, the process exits.
    pub(crate) fn run_interruptibly<T>(
        &mut self,
        start: impl FnOnce(&Interrupt) -> T,
    ) -> (T, bool) {
        let interrupt = Interrupt::default();
        let (done_sender, done) = oneshot::channel();
        let Self { runtime, stream } = self;
        let watch = async {
            let mut done = done;
            let signal = tokio::select! {
                // A signal that came before the start was done stops the server.
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
            // The watcher may have ended already.
            let _ = done_sender.send(());
            let is_interrupted = watcher.join().expect("it only waits");
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
        // A log file at its size limit must not end the process: the write fails
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

    /// Waits for a signal to stop; the others stay queued. This may be cancelled.
    async fn stop(&mut self) -> SignalKind {
        first_of(&mut self.stopping).await
    }
}

/// Waits for the first of these signals; returns its value.
async fn first_of<T: Copy>(signals: &mut [(Signal, T)]) -> T {
    poll_fn(|context| {
        for (signal, value) in &mut *signals {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(*value);
            }
        }
        Poll::Pending
    })
    .await
}

/// Flushes the log briefly, and ends the process with the status that shells give to a
/// process ended by this signal.
pub(crate) fn exit_at_once(signal: SignalKind) -> ! {
    output::stderr().flush(LOG_FLUSH_TIMEOUT);
    process::exit(128 + signal.as_raw_value())
}
