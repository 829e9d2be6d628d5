//! Rounds of runs: one of each side, in an order left to chance.

use super::bench::{Bench, Entry};
use super::folder::Folder;
use super::order;
use super::progress::View;
use crate::args::Contender;
use crate::comparison::{Settings, Side};
use crate::failure::Failure;
use crate::metric::Metric;
use crate::output::Stderr;
use crate::result::ResultFile;
use crate::statistics::median;

/// One side of a series.
#[derive(Debug, Clone)]
pub(super) struct Turn<'a> {
    /// Whose server it is.
    pub(super) contender: &'a Contender,
    /// What reports call the side.
    pub(super) label: String,
    /// What the files of its runs end in.
    pub(super) suffix: String,
}

/// Rounds that belong together.
#[derive(Debug)]
pub(super) struct Series<'a> {
    /// What a round is called.
    pub(super) round: &'static str,
    /// What the files of its runs begin with.
    pub(super) stem: &'static str,
    /// Who takes turns, the baseline first.
    pub(super) turns: Vec<Turn<'a>>,
}

/// The rounds of a series that are complete.
#[derive(Debug)]
pub(super) struct Rounds<'a> {
    turns: Vec<Turn<'a>>,
    /// The runs of each side.
    by_side: Vec<Vec<ResultFile>>,
}

/// What a series is measured with.
#[derive(Debug)]
pub(super) struct Equipment<'a> {
    pub(super) bench: &'a Bench<'a>,
    pub(super) folder: Option<&'a Folder>,
    pub(super) settings: &'a Settings,
    /// Rounds of each series.
    pub(super) rounds: usize,
    pub(super) view: View<Stderr>,
    /// The failure of a run, or of keeping it. Nothing is measured after that.
    pub(super) failure: Option<Failure>,
}

impl<'a> Series<'a> {
    /// One of each of the contenders.
    pub(super) fn of(contenders: &'a [Contender]) -> Self {
        let turns = contenders.iter().map(|contender| Turn {
            contender,
            label: contender.label.clone(),
            suffix: contender.letter.to_string(),
        });
        Self {
            round: unit(contenders.len()),
            stem: "pair",
            turns: turns.collect(),
        }
    }

    /// One contender, twice.
    pub(super) fn against_itself(contender: &'a Contender) -> Self {
        let turn = |number: u32, label| Turn {
            contender,
            label,
            suffix: number.to_string(),
        };
        Self {
            round: "noise pair",
            stem: "aa",
            turns: vec![
                turn(1, contender.label.clone()),
                turn(2, format!("{} again", contender.label)),
            ],
        }
    }

    /// Measures all rounds, or those until it is interrupted or fails.
    pub(super) fn measure(&self, equipment: &mut Equipment<'_>) -> Rounds<'a> {
        let (count, seed) = (equipment.rounds, equipment.settings.seed);
        let mut by_side = vec![Vec::new(); self.turns.len()];
        for (index, order) in order::rounds(self.turns.len(), count, seed)
            .iter()
            .enumerate()
        {
            let number = index + 1;
            // Those of whole runs come one after the other.
            let slices = equipment.bench.load.plan.slices;
            let together = if slices > 1 { order.len() } else { 1 };
            for sides in order.chunks(together) {
                if equipment.failure.is_some() {
                    return self.rounds(by_side);
                }
                let runs = match self.run(number, sides, equipment) {
                    Ok(Some(runs)) => runs,
                    Ok(None) => return self.rounds(by_side),
                    Err(failure) => {
                        equipment.failure = Some(failure);
                        return self.rounds(by_side);
                    }
                };
                equipment.failure = self.keep(number, sides, &runs, equipment.folder).err();
                for (&side, run) in sides.iter().zip(runs) {
                    by_side[side].push(run);
                }
            }
            let round = format!("{} {number}/{count}", self.round);
            let so_far = self.so_far(&by_side, equipment.settings);
            equipment.view.round(&round, &so_far);
        }
        self.rounds(by_side)
    }

    /// Those that every side had its turn in.
    fn rounds(&self, by_side: Vec<Vec<ResultFile>>) -> Rounds<'a> {
        Rounds {
            turns: self.turns.clone(),
            by_side: complete(by_side),
        }
    }

    fn run(
        &self,
        number: usize,
        sides: &[usize],
        equipment: &mut Equipment<'_>,
    ) -> Result<Option<Vec<ResultFile>>, Failure> {
        let (round, count) = (self.round, equipment.rounds);
        let turns = || sides.iter().map(|&side| &self.turns[side]);
        let labels: Vec<_> = turns().map(|turn| turn.label.as_str()).collect();
        let entries: Vec<_> = turns()
            .map(|turn| Entry {
                contender: turn.contender,
                name: format!("{round} {number}, {}", turn.label),
            })
            .collect();
        let bench = equipment.bench;
        let slices = order::rounds(
            sides.len(),
            bench.load.plan.slices as usize,
            equipment.settings.seed.wrapping_add(number as u64),
        );
        let view = &mut equipment.view;
        view.begin(format!("{round} {number}/{count}: {}", labels.join(", ")));
        let measured = bench.measure(&entries, &slices.concat(), view);
        view.end(sides.len());
        measured
    }

    fn keep(
        &self,
        number: usize,
        sides: &[usize],
        runs: &[ResultFile],
        folder: Option<&Folder>,
    ) -> Result<(), Failure> {
        let Some(folder) = folder else {
            return Ok(());
        };
        for (&side, run) in sides.iter().zip(runs) {
            let (stem, suffix) = (self.stem, &self.turns[side].suffix);
            folder.keep(&format!("{stem}-{number:02}-{suffix}"), run)?;
        }
        Ok(())
    }

    /// The median ratios of the rounds so far, in the first metric that there is,
    /// CPU time if possible.
    fn so_far(&self, by_side: &[Vec<ResultFile>], settings: &Settings) -> String {
        let metrics = settings.metrics.iter().copied();
        let cpu = metrics.clone().filter(|it| *it == Metric::CpuPerMessage);
        let told = cpu.chain(metrics).find_map(|metric| {
            let ratios: Option<Vec<_>> = self.turns[1..]
                .iter()
                .zip(&by_side[1..])
                .map(|(turn, runs)| {
                    let ratio = median_ratio(metric, &by_side[0], runs)?;
                    let (side, baseline) = (&turn.label, &self.turns[0].label);
                    Some(format!("{side}/{baseline} {ratio:.3}"))
                })
                .collect();
            Some(format!("{} {}", metric.title(), ratios?.join(", ")))
        });
        told.unwrap_or_default()
    }
}

impl Rounds<'_> {
    /// What one of them is called.
    pub(super) fn unit(&self) -> &'static str {
        unit(self.turns.len())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.by_side[0].len()
    }

    /// All runs, with the label of their side.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&str, &[ResultFile])> {
        let sides = self.turns.iter().zip(&self.by_side);
        sides.map(|(turn, runs)| (turn.label.as_str(), runs.as_slice()))
    }

    /// The sides, the baseline first.
    pub(super) fn sides(&self, settings: &Settings) -> Vec<Side> {
        let sides = self.turns.iter().zip(&self.by_side);
        let side = |(turn, runs): (&Turn<'_>, &Vec<_>)| Side {
            // As it was given: the port of a run says nothing.
            command: Some(turn.contender.template().to_owned()),
            ..Side::of(&turn.label, runs, settings)
        };
        sides.map(side).collect()
    }
}

/// What a round of so many is called.
fn unit(sides: usize) -> &'static str {
    if sides == 2 { "pair" } else { "round" }
}

/// Without the runs of a round that not every side had its turn in.
fn complete(mut by_side: Vec<Vec<ResultFile>>) -> Vec<Vec<ResultFile>> {
    let count = by_side.iter().map(Vec::len).min().unwrap_or(0);
    for runs in &mut by_side {
        runs.truncate(count);
    }
    by_side
}

fn median_ratio(metric: Metric, baseline: &[ResultFile], side: &[ResultFile]) -> Option<f64> {
    let ratios: Vec<_> = baseline
        .iter()
        .zip(side)
        .filter_map(|(a, b)| Some(metric.of(b)? / metric.of(a)?))
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_round_that_is_not_complete_does_not_count() {
        let run = fixture::result();
        let by_side = complete(vec![vec![run.clone(); 3], vec![run; 2]]);
        assert_eq!(by_side.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn a_ratio_is_that_of_the_pairs() {
        let run = |rate_per_s| {
            let mut run = fixture::result();
            run.summary.rate_per_s = rate_per_s;
            run
        };
        let baseline = [run(100.0), run(200.0), run(400.0)];
        let side = [run(110.0), run(180.0), run(480.0)];
        let ratio = median_ratio(Metric::Throughput, &baseline, &side);
        assert!((ratio.unwrap() - 1.1).abs() < 1e-9);
    }
}
