//! What is asked of threads that are watched, whosever they are.

use std::collections::BTreeSet;

use super::accounting::ThreadAccounting;
use super::sample::Sample;

/// Threads whose cost is of interest.
pub trait Watched {
    /// What they took so far.
    fn sample(&mut self) -> Sample;

    /// Begins a span of the measurement, and says what was taken until then.
    fn begin_span(&mut self) -> Sample;

    /// Ends it, likewise.
    fn end_span(&mut self) -> Sample;

    /// How long the busiest thread ran in the spans, in nanoseconds, those that
    /// have ended left out.
    fn busiest_ns(&mut self) -> u64;

    /// The cores on which threads were active since the previous call, or since
    /// they are watched.
    fn active_cores(&mut self) -> BTreeSet<usize>;
}

/// Threads that a ledger is kept of.
pub(super) trait Accounted {
    /// Looks at all threads there are now.
    fn refresh(&mut self);

    /// What they took until that look.
    fn totals(&mut self) -> Sample;

    /// Where it is kept.
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
