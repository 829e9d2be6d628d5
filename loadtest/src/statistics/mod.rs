//! The statistics of comparing the runs of two servers: numbers in, numbers out.
//!
//! The sample is the run, never the message. The messages of a run share its server, its
//! machine and its time, so a million of them are one observation.
//!
//! # How often the intervals hold what is true
//!
//! Found by `tests/coverage.rs` with `LOADTEST_TRIALS=400`, so give or take 2 to 3 %. The
//! samples are normal, Laplace, lognormal less its median, and normal with one run of ten far
//! off. Where a range is given, these differ. The confidence is 95 %.
//!
//! | Interval                         |  n = 6    |  10       |  20       |  40       |
//! |----------------------------------|-----------|-----------|-----------|-----------|
//! | of one median, so of pairs       | 96 – 97 % | 97 – 99 % | 94 – 97 % | 96 – 97 % |
//! | the same by the sign test        | 96.9 %    | 97.9 %    | 95.9 %    | 96.2 %    |
//! | of the ratio of two groups' own  | 97 – 99 % | 98 – 99 % | 97 – 98 % | 97 %      |
//! | the same, b five times as spread | 95 %      | 98 %      | 95 %      | 94 %      |
//!
//! With two to five pairs, or four or five runs a group, it is 95 % to 99 % for the first two,
//! and not known for the others: those intervals rest on Student's.

mod bootstrap;
mod holm;
mod interval;
mod median;
mod paired;
mod power;
mod rank_sum;
mod ranks;
mod signed_rank;
mod spread;
mod student;
#[cfg(test)]
pub(crate) mod tests;
mod unpaired;

pub use holm::adjusted;
pub use interval::ConfidenceInterval;
pub use median::{median, median_interval};
pub use paired::{PAIRS_MAX, Paired};
pub use power::{
    SPREAD_RUNS_MIN, least_p_value, pairs_for_margin, pairs_min, pairs_needed, runs_min,
    runs_needed,
};
pub use unpaired::{SAMPLES_MAX, SAMPLES_MIN, Unpaired};
