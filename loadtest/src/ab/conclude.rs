//! The comparison from the measured runs.

use super::runner::Runner;
use super::series::Rounds;
use super::warnings;
use crate::comparison::{
    Comparison, ComparisonFormat, Contrast, Design, Settings, Side, VERSION, paired,
};
use crate::failure::Failure;
use crate::result::ResultFile;
use crate::session::arguments;

/// The fewest rounds that a comparison is made of.
const ROUNDS_MIN: usize = 2;

/// All rounds that are complete.
#[derive(Debug)]
pub(super) struct CompletedRounds<'a> {
    /// The baseline against itself, with `--aa`.
    pub(super) noise: Option<Rounds<'a>>,
    /// The rounds of all servers, if there are several.
    pub(super) pairs: Option<Rounds<'a>>,
    /// The number of rounds requested for each series.
    pub(super) rounds_requested: usize,
    /// The failure that ended the comparison early, if one did.
    pub(super) failure: Option<Failure>,
}

impl CompletedRounds<'_> {
    /// Whether any run is INVALID.
    pub(super) fn any_invalid(&self) -> bool {
        let mut runs = self.all().flat_map(Rounds::runs);
        runs.any(|(_, runs)| runs.iter().any(ResultFile::is_invalid))
    }

    /// The comparison; `None` with too few rounds.
    pub(super) fn conclude(&self, settings: &Settings, runner: &Runner<'_>) -> Option<Comparison> {
        let enough = |rounds: &Option<Rounds<'_>>| {
            let rounds = rounds.as_ref()?;
            (rounds.count() >= ROUNDS_MIN).then(|| rounds.sides(settings))
        };
        let noise_sides = enough(&self.noise);
        let noise = noise_sides
            .as_ref()
            .and_then(|sides| contrasts(sides, settings).pop());
        // After an interrupt in the second half, only the noise is complete.
        let sides = enough(&self.pairs).or_else(|| Some(vec![noise_sides?.swap_remove(0)]))?;
        let mut runs = self.all().flat_map(Rounds::runs);
        let first = runs.find_map(|(_, runs)| runs.first())?;
        Some(Comparison {
            format: ComparisonFormat::Comparison,
            version: VERSION,
            design: Design::Paired,
            settings: settings.clone(),
            args: arguments(),
            started_at: first.started_at.clone(),
            workload: runner.load.plan.to_string(),
            warnings: self.warnings(noise.as_ref(), settings),
            contrasts: contrasts(&sides, settings),
            sides,
            noise,
            environment: runner.environment.clone(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Rounds<'_>> {
        self.noise.iter().chain(&self.pairs)
    }

    fn warnings(&self, noise: Option<&Contrast>, settings: &Settings) -> Vec<String> {
        let mut all = Vec::new();
        let count = self.all().last().map_or(0, Rounds::count);
        if count < self.rounds_requested {
            let failure = self.failure.as_ref();
            all.push(warnings::of_early_end(
                count,
                self.rounds_requested,
                failure,
            ));
        }
        if let Some(pairs) = &self.pairs {
            all.extend(settings.too_few_pairs(count, pairs.unit()));
        }
        all.extend(noise.and_then(warnings::of_noise));
        for (label, runs) in self.noise.iter().flat_map(Rounds::runs) {
            all.extend(warnings::of_runs(&format!("{label} (noise)"), runs));
        }
        for (label, runs) in self.pairs.iter().flat_map(Rounds::runs) {
            all.extend(warnings::of_runs(label, runs));
        }
        all
    }
}

/// The contrast of each other side with the first.
fn contrasts(sides: &[Side], settings: &Settings) -> Vec<Contrast> {
    let others = sides[1..].iter();
    others
        .map(|side| paired(&sides[0], side, settings))
        .collect()
}
