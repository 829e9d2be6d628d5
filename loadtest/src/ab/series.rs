//! Rounds of runs: one of each side, in random order.

use super::order;
use super::output_directory::OutputDirectory;
use super::progress::ProgressView;
use super::runner::{PlannedRun, Runner};
use crate::args::ServerSpec;
use crate::comparison::{Settings, Side};
use crate::failure::Failure;
use crate::metric::Metric;
use crate::output::Stderr;
use crate::result::ResultFile;
use crate::statistics::median;

/// One side of a series.
#[derive(Debug, Clone)]
pub(super) struct SeriesSide<'a> {
    /// The server to start.
    pub(super) server: &'a ServerSpec,
    /// The label in reports.
    pub(super) label: String,
    /// The suffix of the runs' file names.
    pub(super) suffix: String,
}

/// A series of rounds.
#[derive(Debug)]
pub(super) struct RunSeries<'a> {
    /// The name of a round.
    pub(super) round: &'static str,
    /// The prefix of the runs' file names.
    pub(super) stem: &'static str,
    /// The sides of a round, the baseline first.
    pub(super) sides: Vec<SeriesSide<'a>>,
}

/// The rounds of a series that are complete.
#[derive(Debug)]
pub(super) struct Rounds<'a> {
    sides: Vec<SeriesSide<'a>>,
    /// The runs of each side.
    by_side: Vec<Vec<ResultFile>>,
}

/// What all series of a comparison share.
#[derive(Debug)]
pub(super) struct SeriesContext<'a> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) directory: Option<&'a OutputDirectory>,
    pub(super) settings: &'a Settings,
    /// Rounds of each series.
    pub(super) rounds: usize,
    pub(super) view: ProgressView<Stderr>,
    /// The failure of a run, or of keeping it. Nothing is measured after that.
    pub(super) failure: Option<Failure>,
}

impl<'a> RunSeries<'a> {
    /// A side for each of the servers.
    pub(super) fn of(servers: &'a [ServerSpec]) -> Self {
        let sides = servers.iter().map(|server| SeriesSide {
            server,
            label: server.label.clone(),
            suffix: server.letter.to_string(),
        });
        Self {
            round: unit(servers.len()),
            stem: "pair",
            sides: sides.collect(),
        }
    }

    /// One server, twice.
    pub(super) fn against_itself(server: &'a ServerSpec) -> Self {
        let side = |number: u32, label| SeriesSide {
            server,
            label,
            suffix: number.to_string(),
        };
        Self {
            round: "noise pair",
            stem: "aa",
            sides: vec![
                side(1, server.label.clone()),
                side(2, format!("{} again", server.label)),
            ],
        }
    }

    /// Measures all rounds, until an interrupt or a failure.
    pub(super) fn measure(&self, context: &mut SeriesContext<'_>) -> Rounds<'a> {
        let (count, seed) = (context.rounds, context.settings.seed);
        let mut by_side = vec![Vec::new(); self.sides.len()];
        for (index, order) in order::rounds(self.sides.len(), count, seed)
            .iter()
            .enumerate()
        {
            let number = index + 1;
            // Without slices, the runs of a round follow each other.
            let slices = context.runner.load.plan.slices;
            let together = if slices > 1 { order.len() } else { 1 };
            for turns in order.chunks(together) {
                if context.failure.is_some() {
                    return self.rounds(by_side);
                }
                let runs = match self.run(number, turns, context) {
                    Ok(Some(runs)) => runs,
                    Ok(None) => return self.rounds(by_side),
                    Err(failure) => {
                        context.failure = Some(failure);
                        return self.rounds(by_side);
                    }
                };
                context.failure = self.keep(number, turns, &runs, context.directory).err();
                for (&side, run) in turns.iter().zip(runs) {
                    by_side[side].push(run);
                }
            }
            let round = format!("{} {number}/{count}", self.round);
            let so_far = self.so_far(&by_side, context.settings);
            context.view.round(&round, &so_far);
        }
        self.rounds(by_side)
    }

    /// The rounds that every side completed.
    fn rounds(&self, by_side: Vec<Vec<ResultFile>>) -> Rounds<'a> {
        Rounds {
            sides: self.sides.clone(),
            by_side: complete(by_side),
        }
    }

    fn run(
        &self,
        number: usize,
        turns: &[usize],
        context: &mut SeriesContext<'_>,
    ) -> Result<Option<Vec<ResultFile>>, Failure> {
        let (round, count) = (self.round, context.rounds);
        let sides = || turns.iter().map(|&side| &self.sides[side]);
        let labels: Vec<_> = sides().map(|side| side.label.as_str()).collect();
        let entries: Vec<_> = sides()
            .map(|side| PlannedRun {
                server: side.server,
                name: format!("{round} {number}, {}", side.label),
            })
            .collect();
        let runner = context.runner;
        let slices = order::rounds(
            turns.len(),
            runner.load.plan.slices as usize,
            context.settings.seed.wrapping_add(number as u64),
        );
        let view = &mut context.view;
        view.begin(format!("{round} {number}/{count}: {}", labels.join(", ")));
        let measured = runner.measure(&entries, &slices.concat(), view);
        view.end(turns.len());
        measured
    }

    fn keep(
        &self,
        number: usize,
        turns: &[usize],
        runs: &[ResultFile],
        directory: Option<&OutputDirectory>,
    ) -> Result<(), Failure> {
        let Some(directory) = directory else {
            return Ok(());
        };
        for (&side, run) in turns.iter().zip(runs) {
            let (stem, suffix) = (self.stem, &self.sides[side].suffix);
            directory.keep(&format!("{stem}-{number:02}-{suffix}"), run)?;
        }
        Ok(())
    }

    /// The median ratios of the rounds so far, in the first metric that was measured, preferably
    /// CPU time.
    fn so_far(&self, by_side: &[Vec<ResultFile>], settings: &Settings) -> String {
        let metrics = settings.metrics.iter().copied();
        let cpu = metrics.clone().filter(|it| *it == Metric::CpuPerMessage);
        let text = cpu.chain(metrics).find_map(|metric| {
            let ratios: Option<Vec<_>> = self.sides[1..]
                .iter()
                .zip(&by_side[1..])
                .map(|(side, runs)| {
                    let ratio = median_ratio(metric, &by_side[0], runs)?;
                    let (side, baseline) = (&side.label, &self.sides[0].label);
                    Some(format!("{side}/{baseline} {ratio:.3}"))
                })
                .collect();
            Some(format!("{} {}", metric.title(), ratios?.join(", ")))
        });
        text.unwrap_or_default()
    }
}

impl Rounds<'_> {
    /// The name of a round.
    pub(super) fn unit(&self) -> &'static str {
        unit(self.sides.len())
    }

    /// The number of rounds.
    pub(super) fn count(&self) -> usize {
        self.by_side[0].len()
    }

    /// All runs, with the label of their side.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&str, &[ResultFile])> {
        let sides = self.sides.iter().zip(&self.by_side);
        sides.map(|(side, runs)| (side.label.as_str(), runs.as_slice()))
    }

    /// The sides, the baseline first.
    pub(super) fn sides(&self, settings: &Settings) -> Vec<Side> {
        let sides = self.sides.iter().zip(&self.by_side);
        let side = |(side, runs): (&SeriesSide<'_>, &Vec<_>)| Side {
            // With `{port}`, as it was given: each run has another port.
            command: Some(side.server.template().to_owned()),
            ..Side::of(&side.label, runs, settings)
        };
        sides.map(side).collect()
    }
}

/// The name of a round of this number of sides.
fn unit(sides: usize) -> &'static str {
    if sides == 2 { "pair" } else { "round" }
}

/// Drops the runs of a round that not every side completed.
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
    fn incomplete_rounds_are_dropped() {
        let run = fixture::result();
        let by_side = complete(vec![vec![run.clone(); 3], vec![run; 2]]);
        assert_eq!(by_side.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn the_median_ratio_is_of_the_pairs() {
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
