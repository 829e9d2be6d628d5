//! The search for the highest rate that holds an objective: the next rate to try, and the
//! answer. Pure: the caller runs the load.
//!
//! ```text
//!  lowest ─ holds ─▶ highest, or twice as much and again ─ fails ─▶ halve the gap
//!     │ fails, twice                │ holds                             │ small enough
//!     ▼                             ▼                                   ▼
//!  nothing holds                confirm ◀──────────────────────────── confirm
//!                                │    │ one run fails: a little lower, again
//!                                ▼    ▼
//!                              found  unconfirmed, after so many
//! ```
//!
//! A run that holds by chance is detected by the confirmation, whose runs are all new: the one
//! that led there was chosen because it held. A run that fails by chance makes the answer lower
//! than it could be, and never higher. An unknown run, which does not show whether the rate
//! holds, is repeated, and after three in a row the search ends unconfirmed: doubtful runs lead
//! to no conclusion.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rates::rounded;
use crate::plan::RATE_MAX;

/// The number of failures after which the lowest rate does not hold.
pub const LOWEST_TRIES: u32 = 2;

/// The most times that a rate which is not confirmed is lowered.
pub const LOWERINGS_MAX: u32 = 8;

/// The most unknown runs in a row at a rate.
pub(super) const UNKNOWN_TRIES: u32 = 3;

/// Significant digits of the rates that are tried: enough to keep two of them apart at the
/// smallest tolerance.
const DIGITS: usize = 4;

/// The bounds and limits of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bounds {
    /// The lowest rate that is tried, in messages per second.
    pub lowest_per_s: f64,
    /// The highest one; without it, the rate is doubled until one fails.
    pub highest_per_s: Option<f64>,
    /// The largest distance between the rate that holds and the one that fails, as a share: 0.02
    /// is two hundredths.
    pub tolerance: f64,
    /// The most runs until a rate is to be confirmed.
    pub steps: u32,
    /// The number of confirmation runs, all of which have to hold.
    pub confirm: u32,
}

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To come closer.
    Explore,
    /// To be sure.
    Confirm,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explore => "explore",
            Self::Confirm => "confirm",
        })
    }
}

/// The result of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Answer {
    /// The rate held in every run of its confirmation.
    Found {
        /// The rate.
        rate_per_s: f64,
        /// The lowest rate above that failed; null where the highest one held.
        fails_at_per_s: Option<f64>,
        /// Runs of the confirmation.
        confirmed: u32,
    },
    /// Not even the lowest rate held.
    NothingHolds {
        /// The lowest rate.
        lowest_per_s: f64,
    },
    /// The search ended before a rate was confirmed.
    Unconfirmed {
        /// The highest rate that held in a run, below all that failed.
        held_per_s: Option<f64>,
        /// The lowest rate that failed.
        fails_at_per_s: Option<f64>,
    },
}

/// A search in progress.
#[derive(Debug, Clone)]
pub struct Bisection {
    bounds: Bounds,
    /// The highest rate that held, below all that failed.
    holds: Option<f64>,
    /// The lowest that failed.
    fails: Option<f64>,
    steps: u32,
    lowest_failures: u32,
    unknown: u32,
    confirmation: Option<Confirmation>,
    answer: Option<Answer>,
}

/// The runs at a rate that seems to hold.
#[derive(Debug, Clone, Copy)]
struct Confirmation {
    rate: f64,
    held: u32,
    lowered: u32,
}

impl Bisection {
    /// Nothing was tried.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            holds: None,
            fails: None,
            steps: 0,
            lowest_failures: 0,
            unknown: 0,
            confirmation: None,
            answer: None,
        }
    }

    /// The next rate to try, and its purpose; `None` when there is an answer. It does not change
    /// until [`record`](Self::record).
    pub fn next(&self) -> Option<(f64, Purpose)> {
        if self.answer.is_some() {
            return None;
        }
        Some(match self.confirmation {
            Some(confirmation) => (confirmation.rate, Purpose::Confirm),
            None => (self.explored(), Purpose::Explore),
        })
    }

    /// Records whether the rate held, `None` if unknown.
    pub fn record(&mut self, held: Option<bool>) {
        let Some((rate, purpose)) = self.next() else {
            return;
        };
        let Some(held) = held else {
            self.unknown += 1;
            if self.unknown == UNKNOWN_TRIES {
                self.answer = Some(self.answer());
            }
            return;
        };
        self.unknown = 0;
        if held {
            self.holds = Some(rate);
        } else {
            self.fails = Some(rate);
            self.holds = self.holds.filter(|holds| *holds < rate);
        }
        match purpose {
            Purpose::Explore => self.record_exploration(rate, held),
            Purpose::Confirm => self.record_confirmation(held),
        }
    }

    /// The answer so far.
    pub fn answer(&self) -> Answer {
        self.answer.unwrap_or(Answer::Unconfirmed {
            held_per_s: self.holds,
            fails_at_per_s: self.fails,
        })
    }

    fn explored(&self) -> f64 {
        match (self.holds, self.fails) {
            (None, _) => self.bounds.lowest_per_s,
            (Some(holds), None) => self
                .bounds
                .highest_per_s
                .unwrap_or(2.0 * holds)
                .min(RATE_MAX),
            (Some(holds), Some(fails)) => rounded((holds * fails).sqrt(), DIGITS),
        }
    }

    fn record_exploration(&mut self, rate: f64, held: bool) {
        self.steps += 1;
        let Some(holds) = self.holds else {
            self.lowest_failures += 1;
            if self.lowest_failures == LOWEST_TRIES {
                self.answer = Some(Answer::NothingHolds { lowest_per_s: rate });
            }
            return;
        };
        if self.holds == Some(self.bounds.lowest_per_s) && held {
            // An earlier failure at this rate was by chance.
            self.fails = self.fails.filter(|fails| *fails > rate);
        }
        let highest = self.bounds.highest_per_s.unwrap_or(RATE_MAX).min(RATE_MAX);
        let is_close = self
            .fails
            .is_some_and(|fails| fails / holds <= 1.0 + self.bounds.tolerance);
        if is_close || holds >= highest || self.steps >= self.bounds.steps {
            self.confirmation = Some(Confirmation {
                rate: holds,
                held: 0,
                lowered: 0,
            });
        }
    }

    fn record_confirmation(&mut self, held: bool) {
        let Some(confirmation) = &mut self.confirmation else {
            return;
        };
        if held {
            confirmation.held += 1;
            if confirmation.held >= self.bounds.confirm {
                self.answer = Some(Answer::Found {
                    rate_per_s: confirmation.rate,
                    fails_at_per_s: self.fails,
                    confirmed: confirmation.held,
                });
            }
            return;
        }
        let lowest = self.bounds.lowest_per_s;
        if confirmation.rate <= lowest {
            self.answer = Some(Answer::NothingHolds {
                lowest_per_s: lowest,
            });
        } else if confirmation.lowered == LOWERINGS_MAX {
            self.answer = Some(self.answer());
        } else {
            // The step doubles each time, so that the search ends also after a large change.
            let by = self.bounds.tolerance * f64::from(1 << confirmation.lowered);
            confirmation.rate = rounded(confirmation.rate / (1.0 + by), DIGITS).max(lowest);
            confirmation.lowered += 1;
            confirmation.held = 0;
        }
    }
}

#[cfg(test)]
mod tests;
