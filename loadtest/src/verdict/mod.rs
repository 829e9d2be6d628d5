//! Whether a run's numbers may be believed.
//!
//! Pure: [`Facts`] are plain numbers, [`judge`] turns them into a verdict with
//! its reasons. Each rule is a function of `rules`, its threshold a constant.

mod facts;
mod notes;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use facts::{BLOCKED_SHARE_MAX, BUSY_MAX, FLUCTUATION_SIGMAS, Facts};
pub use rules::{
    ACHIEVED_SHARE_MAX, ACHIEVED_SHARE_MIN, HICCUP_S_MAX, HICCUP_SHARE_MAX, IDLE_CORES_MAX,
    LAG_SHARE_MAX, RUN_QUEUE_WAIT_SHARE_MAX, STEAL_SHARE_MAX,
};

/// The validity of a run's numbers. Ordered: the worst reason decides.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No reason against them was found.
    Valid,
    /// They may be those of the generator or the machine rather than the server.
    Suspect,
    /// They do not answer the question of the run.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        })
    }
}

/// A reason against a run, with advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// Its weight: never valid.
    pub verdict: Verdict,
    /// The observation.
    pub what: String,
    /// The advice.
    pub advice: String,
}

/// A verdict with its reasons, and notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The verdict of the worst reason.
    pub verdict: Verdict,
    /// The reasons against the run.
    pub reasons: Vec<Reason>,
    /// Notes that do not affect the verdict.
    pub notes: Vec<String>,
}

impl Judgement {
    /// The worst reason.
    pub fn worst(&self) -> Option<&Reason> {
        self.reasons.iter().max_by_key(|reason| reason.verdict)
    }

    /// Adds a reason from elsewhere, unless it is there.
    pub fn add(&mut self, reason: Reason) {
        self.verdict = self.verdict.max(reason.verdict);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Judges a run.
///
/// A run that failed, or in which nothing was answered, is not judged further, as its other
/// reasons follow from that.
pub fn judge(facts: &Facts) -> Judgement {
    let fatal = rules::FATAL.iter().find_map(|rule| rule(facts));
    let reasons: Vec<Reason> = if fatal.is_some() {
        fatal.into_iter().collect()
    } else {
        let rules = rules::INDEPENDENT.iter();
        rules.filter_map(|rule| rule(facts)).collect()
    };
    Judgement {
        verdict: reasons
            .iter()
            .map(|reason| reason.verdict)
            .max()
            .unwrap_or(Verdict::Valid),
        reasons,
        notes: notes::of(facts),
    }
}
