//! The interface to watched threads.

use std::collections::BTreeSet;

use super::accounting::ThreadAccounting;
use super::sample::Sample;

/// Threads whose cost is measured.
pub trait Watched {
    /// Their cost so far.
    fn sample(&mut self) -> Sample;

    /// Begins a span of the measurement, and returns the cost until then.
    fn begin_span(&mut self) -> Sample;

    /// Ends it, likewise.
    fn end_span(&mut self) -> Sample;

    /// The run time of the busiest thread in the spans, in nanoseconds, without those that have
    /// ended.
    fn busiest_ns(&mut self) -> u64;

    /// The cores on which threads were active since the previous call, or since the start.
    fn active_cores(&mut self) -> BTreeSet<usize>;
}

/// Threads with an accounting.
pub(super) trait Accounted {
    /// Samples all threads.
    fn refresh(&mut self);

    /// Their cost until the last sample.
    fn totals(&mut self) -> Sample;

    /// The accounting.
    fn accounting(&mut self) -> &mut ThreadAccounting;
}

impl<T: Accounted> Watched for T {
    fn sample(&mut self) -> Sample {
        self.refresh();
        self.totals()
    }

    fn begin_span(&mut self) -> Sample {
        let sample = self.sample();
        self.accounting().begin_span();
        sample
    }

    fn end_span(&mut self) -> Sample {
        let sample = self.sample();
        self.accounting().end_span();
        sample
    }

    fn busiest_ns(&mut self) -> u64 {
        self.accounting().busiest_ns()
    }

    fn active_cores(&mut self) -> BTreeSet<usize> {
        self.refresh();
        self.accounting().active_cores()
    }
}
