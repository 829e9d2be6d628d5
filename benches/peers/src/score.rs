//! What the rounds of a server come to, by themselves and against the floor.

use loadtest::verdict::Verdict;
use serde::Serialize;

use crate::results::{Measurement, Run, Runs};
use crate::spread::Spread;

/// The rounds of one server under one load, without those that say nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// CPU time of the server per message, in nanoseconds.
    pub cpu_ns_per_message: Option<Spread>,
    /// The same as a multiple of the floor's, round by round.
    pub cpu_to_floor: Option<Spread>,
    /// Replies per second.
    pub messages_per_s: Option<Spread>,
    /// The same as a multiple of the floor's, round by round.
    pub messages_to_floor: Option<Spread>,
    /// CPU time of the server over time.
    pub server_cores: Option<Spread>,
    /// What loadtest thinks of the rounds.
    pub verdicts: Verdicts,
}

/// How many rounds were of which kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Nothing speaks against them.
    pub valid: usize,
    /// They count, but something disturbed them.
    pub suspect: usize,
    /// They do not count.
    pub invalid: usize,
    /// The server or loadtest failed; they do not count either.
    pub failed: usize,
}

impl Score {
    /// That of some rounds, beside the floor's under the same load if that was
    /// measured.
    pub fn of(runs: &Runs, floor: Option<&Runs>) -> Self {
        let spread = |of: fn(&Measurement) -> f64| {
            Spread::of(runs.values().filter_map(Run::measurement).map(of))
        };
        let to_floor = |of: fn(&Measurement) -> f64| Spread::of(ratios(runs, floor?, of));
        Self {
            cpu_ns_per_message: spread(|run| run.cpu_ns_per_message),
            cpu_to_floor: to_floor(|run| run.cpu_ns_per_message),
            messages_per_s: spread(|run| run.messages_per_s),
            messages_to_floor: to_floor(|run| run.messages_per_s),
            server_cores: spread(|run| run.server_cores),
            verdicts: Verdicts::of(runs),
        }
    }
}

impl Verdicts {
    fn of(runs: &Runs) -> Self {
        let mut verdicts = Self::default();
        for run in runs.values() {
            *match run {
                Run::Measured(run) if run.verdict == Verdict::Valid => &mut verdicts.valid,
                Run::Measured(_) => &mut verdicts.suspect,
                Run::Invalid(_) => &mut verdicts.invalid,
                Run::Failed(_) => &mut verdicts.failed,
            } += 1;
        }
        verdicts
    }
}

/// A round's number over the floor's of the same round, for every round that
/// both have.
fn ratios(runs: &Runs, floor: &Runs, of: fn(&Measurement) -> f64) -> Vec<f64> {
    let ratio = |(round, run): (&u32, &Run)| {
        let floor = of(floor.get(round)?.measurement()?);
        let number = of(run.measurement()?);
        (floor > 0.0).then(|| number / floor)
    };
    runs.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::measured;

    fn runs(runs: impl IntoIterator<Item = Run>) -> Runs {
        (1..).zip(runs).collect()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let floor = runs([measured(100.0, 10.0), measured(200.0, 5.0)]);
        let server = runs([measured(150.0, 5.0), measured(300.0, 2.5)]);
        let score = Score::of(&server, Some(&floor));
        assert_eq!(score.cpu_ns_per_message, Spread::of([150.0, 300.0]));
        assert_eq!(score.cpu_to_floor, Spread::of([1.5]));
        assert_eq!(score.messages_to_floor, Spread::of([0.5]));
    }

    #[test]
    fn a_round_counts_against_the_floor_only_where_both_have_numbers() {
        let invalid = || Run::Invalid("x".to_owned());
        let floor = runs([measured(100.0, 1.0), invalid(), measured(100.0, 1.0)]);
        let server = runs([invalid(), measured(500.0, 1.0), measured(200.0, 1.0)]);
        let score = Score::of(&server, Some(&floor));
        assert_eq!(score.cpu_ns_per_message, Spread::of([500.0, 200.0]));
        assert_eq!(score.cpu_to_floor, Spread::of([2.0]));
    }

    #[test]
    fn without_a_floor_there_is_nothing_to_compare_with() {
        let score = Score::of(&runs([measured(1.0, 1.0)]), None);
        assert!(score.cpu_ns_per_message.is_some());
        assert_eq!(score.cpu_to_floor, None);
    }

    #[test]
    fn what_says_nothing_is_counted_and_left_out() {
        let mut suspect = measured(3.0, 1.0);
        if let Run::Measured(run) = &mut suspect {
            run.verdict = Verdict::Suspect;
        }
        let failed = Run::Failed("y".to_owned());
        let invalid = Run::Invalid("x".to_owned());
        let score = Score::of(&runs([measured(1.0, 1.0), suspect, invalid, failed]), None);
        assert_eq!(score.cpu_ns_per_message, Spread::of([1.0, 3.0]));
        let expected = Verdicts {
            valid: 1,
            suspect: 1,
            invalid: 1,
            failed: 1,
        };
        assert_eq!(score.verdicts, expected);
        assert_eq!(Score::of(&Runs::new(), None).cpu_ns_per_message, None);
    }
}
