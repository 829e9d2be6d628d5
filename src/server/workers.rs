//! The workers' threads: start and join.

use std::io;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::observe::metrics::Counters;
use crate::server::signals::Interrupt;
use crate::sys::task::panic_message;
use crate::worker::{self, Assignment};

/// All workers of a server.
pub(super) struct Workers {
    pub(super) engine: EngineKind,
    pub(super) threads: Vec<Worker>,
    pub(super) thread_ids: Vec<i32>,
    /// Receives the index of each worker that ends.
    pub(super) ended: mpsc::UnboundedReceiver<usize>,
}

pub(super) struct Worker {
    pub(super) thread: JoinHandle<Result<(), Error>>,
    pub(super) counters: Arc<Counters>,
}

impl Workers {
    /// Starts all workers or none: they accept connections once each of them has its
    /// engine's resources, which the kernel may grant to some of them only.
    ///
    /// # Errors
    /// One of them cannot start.
    pub(super) fn start(
        engine: EngineKind,
        threads: usize,
        assignment: impl Fn(usize) -> io::Result<Assignment>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let mut workers = Self {
            engine,
            threads: Vec::with_capacity(threads),
            thread_ids: Vec::with_capacity(threads),
            ended,
        };
        let mut go_senders = Vec::with_capacity(threads);
        for index in 0..threads {
            let assigned = if interrupt.is_set() {
                Err(Error::Interrupted)
            } else {
                assignment(index).map_err(|source| Error::Start {
                    what: "a worker's listeners",
                    source,
                })
            };
            let started = assigned
                .and_then(|assignment| Worker::start(index, assignment, ended_sender.clone()));
            match started {
                Ok((worker, thread_id, go_sender)) => {
                    workers.threads.push(worker);
                    workers.thread_ids.push(thread_id);
                    go_senders.push(go_sender);
                }
                Err(error) => {
                    drop(go_senders);
                    for worker in workers.threads {
                        // It has no connection yet.
                        let _ = worker.thread.join();
                    }
                    return Err(error);
                }
            }
        }
        for go_sender in go_senders {
            // A worker that has ended reports that through `ended`.
            let _ = go_sender.send(());
        }
        Ok(workers)
    }

    /// Waits for the end of all workers.
    ///
    /// # Errors
    /// [`Error::Worker`] if one of them has failed.
    pub(super) fn join(self) -> Result<(), Error> {
        let mut result = Ok(());
        for (index, worker) in self.threads.into_iter().enumerate() {
            let ended = worker.thread.join().unwrap_or_else(|panic| {
                Err(Error::Worker {
                    worker: index,
                    reason: panic_message(&*panic),
                })
            });
            result = result.and(ended);
        }
        result
    }
}

impl Worker {
    /// Starts a worker's thread, waits until it is ready, and returns its thread id and
    /// a `go` channel: the worker accepts connections once it receives from that, and
    /// ends if the sender is dropped.
    fn start(
        index: usize,
        assignment: Assignment,
        ended: mpsc::UnboundedSender<usize>,
    ) -> Result<(Self, i32, std_mpsc::Sender<()>), Error> {
        let counters = Arc::clone(&assignment.counters);
        let (ready_sender, ready) = std_mpsc::channel();
        let (go_sender, go) = std_mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("ringback-{index}"))
            .spawn(move || {
                let mut report = ReportEnd {
                    index,
                    ended,
                    counters: Arc::clone(&assignment.counters),
                    has_failed: true,
                };
                let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
                let result = worker::run(assignment, || {
                    // If the receiver is gone, `go` is closed too and the worker ends.
                    let _ = ready_sender.send(thread_id);
                    go.recv().is_ok()
                });
                report.has_failed = result.is_err();
                result
            })
            .map_err(|source| Error::Start {
                what: "a worker's thread",
                source,
            })?;
        match ready.recv() {
            Ok(thread_id) => Ok((Self { thread, counters }, thread_id, go_sender)),
            // It ended before it was ready.
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) => Error::Worker {
                    worker: index,
                    reason: "it stopped before it started".into(),
                },
                Err(panic) => Error::Worker {
                    worker: index,
                    reason: panic_message(&*panic),
                },
            }),
        }
    }
}

/// Reports the end of a worker's thread, even by a panic.
struct ReportEnd {
    index: usize,
    ended: mpsc::UnboundedSender<usize>,
    counters: Arc<Counters>,
    has_failed: bool,
}

impl Drop for ReportEnd {
    fn drop(&mut self) {
        if self.has_failed {
            self.counters.failed.set(1);
        }
        // The server may have been dropped.
        let _ = self.ended.send(self.index);
    }
}
