//! State shared by the threads of a run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::failure::Failure;
use crate::outcome::{Counts, Histogram, Unclosed};
use crate::recorder::IntervalRecord;

/// Read by all threads, and hardly ever written.
#[derive(Debug)]
pub struct Shared {
    /// The clock's zero.
    pub epoch: Instant,
    /// When the load begins, `u64::MAX` until all connections are open.
    start_ns: AtomicU64,
    /// Whether the measurement is to end now.
    cut_short: AtomicBool,
    /// Whether everything is to end now.
    aborted: AtomicBool,
    /// Connections of the plan that are open, for the progress view.
    opened: AtomicU64,
}

impl Shared {
    /// Nothing has begun; the clock starts now.
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            start_ns: AtomicU64::new(u64::MAX),
            cut_short: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            opened: AtomicU64::new(0),
        }
    }

    /// Sets when the load begins, or begins again, on the epoch's clock.
    pub fn start_at(&self, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Release);
    }

    /// When the load begins, `u64::MAX` while that is open.
    #[inline]
    pub fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Acquire)
    }

    /// Ends the measurement; replies that are due are still waited for.
    pub fn cut_short(&self) {
        self.cut_short.store(true, Ordering::Release);
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Acquire)
    }

    /// Ends everything.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    pub(super) fn count_open(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections of the plan that are open.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

/// What a thread reports to the coordinator.
#[derive(Debug)]
pub enum ThreadEvent {
    /// Its connections are open.
    Ready {
        /// The kernel's number of the thread.
        thread_id: i32,
    },
    /// A second of the measurement, or the drain, is over.
    Interval {
        /// The thread.
        thread: u32,
        /// The record of the interval.
        part: IntervalRecord,
    },
    /// Its measurement, or a slice of it, is over.
    Measured,
    /// A slice is over, and all replies are there.
    Drained,
    /// It could not begin.
    Failed(Failure),
    /// It is done.
    Done(Box<ThreadEnd>),
}

/// The results of a thread.
#[derive(Debug)]
pub struct ThreadEnd {
    /// The thread.
    pub thread: u32,
    /// Its counts.
    pub counts: Counts,
    /// Its handshakes.
    pub handshake_ns: Histogram,
    /// The most concurrent handshakes at the start.
    pub opening_max: u32,
    /// The part that was being recorded.
    pub part: IntervalRecord,
    /// The length of its measurement, in nanoseconds.
    pub measured_ns: u64,
    /// CPU time it used while measuring, in nanoseconds.
    pub cpu_ns: u64,
    /// The part of it spent on waiting awake.
    pub spin_ns: u64,
    /// Source addresses that all threads added because ports ran out.
    pub added_sources: u32,
    /// The first connection that did not answer Close 1000 with Close 1000.
    pub unclosed: Option<Unclosed>,
    /// Its failure.
    pub failure: Option<Failure>,
}
