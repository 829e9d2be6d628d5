//! Results of generators that shared a load, merged into one.
//!
//! The parts are runs of one plan, at the same time, each with its share of the
//! connections and of the rate: as pods of an Indexed Job make them. Counts and
//! histograms add up without loss, so what comes out is a result like any other.

mod share;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::args::OutputFlags;
use crate::failure::Failure;
use crate::machine::Environment;
use crate::outcome::{Counts, GeneratorUse, Interval, Latencies, Outcome, histogram};
use crate::output::OutputFile;
use crate::result::{
    DecodeError, Document, KnownRuns, ResultFile, Status, decode, decode_latencies,
    encode_latencies, parse_utc,
};
use crate::session::FinishedRun;
use crate::verdict::{Facts, Judgement, judge};
use crate::watch::Usage;

use share::total_plan;

/// The share of the longest measurement in which all generators have to overlap: outside of it
/// they did not load the server together.
pub const OVERLAP_SHARE_MIN: f64 = 0.9;

/// Reads results, adds them up, and reports the sum.
///
/// # Errors
/// A result that cannot be read or written, or does not match the others.
pub fn merge(paths: &[PathBuf], output: &OutputFlags) -> Result<u8, Failure> {
    let mut parts = Vec::with_capacity(paths.len());
    let mut known = KnownRuns::default();
    for path in paths {
        let part = GeneratorResult::read(path)?;
        known.add_new(&part.file, path)?;
        parts.push(part);
    }
    let files: Vec<_> = parts.iter().map(|part| &part.file).collect();
    let plan = total_plan(&files)?;
    check_overlap(&parts)?;
    let outcome = add_up(&parts).map_err(|error| error.to_string())?;
    let mut judgement = judge(&Facts::of(&plan, &outcome));
    for part in &parts {
        inherit(&mut judgement, part);
    }
    let file = output.file.as_deref().map(OutputFile::open).transpose()?;
    let label = &parts[0].file.label;
    FinishedRun {
        label: &format!("{label} from {} generators", parts.len()),
        plan: &plan,
        outcome: &outcome,
        identity: &(None, None),
        environment: &output.annotate.annotated(environment_of(&parts)),
    }
    .report_judged(&judgement, output, file)
}

/// The environment of the first, with the labels and the note that all have in common.
fn environment_of(parts: &[GeneratorResult]) -> Environment {
    let mut environment = parts[0].file.environment.clone();
    for part in &parts[1..] {
        let other = &part.file.environment;
        environment
            .labels
            .retain(|key, value| other.labels.get(key) == Some(value));
        if environment.note != other.note {
            environment.note = None;
        }
    }
    environment
}

/// One of the results.
struct GeneratorResult {
    name: String,
    file: ResultFile,
    start: SystemTime,
}

impl GeneratorResult {
    fn read(path: &Path) -> Result<Self, Failure> {
        let file = ResultFile::read(path)?;
        file.ensure_not_failed(path)?;
        let name = path.display().to_string();
        let start = parse_utc(&file.started_at)
            .ok_or_else(|| format!("{name}: '{}' is not a time", file.started_at))?;
        Ok(Self { name, file, start })
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.file.elapsed_ns)
    }

    fn end(&self) -> SystemTime {
        self.start.checked_add(self.elapsed()).unwrap_or(self.start)
    }
}

fn check_overlap(parts: &[GeneratorResult]) -> Result<(), Failure> {
    let longest = parts
        .iter()
        .map(GeneratorResult::elapsed)
        .max()
        .unwrap_or_default();
    let latest = parts.iter().max_by_key(|part| part.start);
    let first_end = parts.iter().map(GeneratorResult::end).min();
    let (Some(latest), Some(first_end)) = (latest, first_end) else {
        return Ok(());
    };
    let common = first_end.duration_since(latest.start).unwrap_or_default();
    if common.as_secs_f64() >= OVERLAP_SHARE_MIN * longest.as_secs_f64() {
        return Ok(());
    }
    let why = format!(
        "all measured together for {:.1} s of {:.1} s, {} last: start them at the same time, \
         or run longer",
        common.as_secs_f64(),
        longest.as_secs_f64(),
        latest.name
    );
    Err(why.into())
}

fn add_up(parts: &[GeneratorResult]) -> Result<Outcome, DecodeError> {
    let mut addresses: Vec<_> = parts
        .iter()
        .flat_map(|it| it.file.addresses.clone())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut sum = Outcome {
        addresses,
        started_at: parts[0].start,
        elapsed: Duration::ZERO,
        counts: Counts::default(),
        latencies: Latencies::new(),
        handshake_ns: histogram(),
        handshakes_at_a_time: Some(0),
        intervals: Vec::new(),
        generator: GeneratorUse {
            usage: Usage {
                run_queue_wait_ns: Some(0),
                ..Usage::default()
            },
            ..GeneratorUse::default()
        },
        // Each generator has sampled its own machine, if at all.
        server: None,
        server_busy_max: None,
        idle_cores: None,
        shared_core: None,
        steal_share: None,
        added_sources: 0,
        unclosed: None,
        interrupted: false,
        failure: None,
    };
    for part in parts {
        let file = &part.file;
        sum.started_at = sum.started_at.min(part.start);
        sum.elapsed = sum.elapsed.max(part.elapsed());
        sum.counts += file.counts;
        sum.latencies.add(&file.latencies()?);
        let handshake_ns = decode(&file.histograms.handshake_ns)?;
        sum.handshake_ns.add(handshake_ns).expect("the same bounds");
        add_generator(&mut sum.generator, &file.generator);
        // They connected at about the same time.
        sum.handshakes_at_a_time = sum
            .handshakes_at_a_time
            .zip(file.handshakes_at_a_time)
            .map(|(sum, part)| sum + part);
        sum.shared_core = sum.shared_core.max(file.shared_core);
        sum.steal_share = larger(sum.steal_share, file.steal_share);
        sum.interrupted |= file.status == Status::Interrupted;
    }
    sum.intervals = add_intervals(parts)?;
    Ok(sum)
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

fn add_generator(sum: &mut GeneratorUse, part: &GeneratorUse) {
    let (to, from) = (&mut sum.usage, &part.usage);
    to.run_queue_wait_ns = to
        .run_queue_wait_ns
        .zip(from.run_queue_wait_ns)
        .map(|(sum, part)| sum + part);
    to.cpu_ns += from.cpu_ns;
    to.user_ns += from.user_ns;
    to.system_ns += from.system_ns;
    to.voluntary_switches += from.voluntary_switches;
    to.involuntary_switches += from.involuntary_switches;
    to.rss_before += from.rss_before;
    to.rss_after += from.rss_after;
    to.threads += from.threads;
    sum.spin_ns += part.spin_ns;
    sum.busy_max = sum.busy_max.max(part.busy_max);
}

/// The seconds of all parts, each counted from its part's own start.
fn add_intervals(parts: &[GeneratorResult]) -> Result<Vec<Interval>, DecodeError> {
    let mut seconds: BTreeMap<Duration, (Interval, Latencies)> = BTreeMap::new();
    for interval in parts.iter().flat_map(|part| &part.file.intervals) {
        let latencies = decode_latencies(&interval.latencies)?;
        match seconds.get_mut(&interval.start) {
            None => {
                seconds.insert(interval.start, (interval.clone(), latencies));
            }
            Some((sum, sum_of_latencies)) => {
                sum.length = sum.length.max(interval.length);
                sum.due += interval.due;
                sum.echoed += interval.echoed;
                sum.timed_out += interval.timed_out;
                sum_of_latencies.add(&latencies);
            }
        }
    }
    let encoded = seconds.into_values().map(|(mut interval, latencies)| {
        interval.latencies = encode_latencies(&latencies);
        interval
    });
    Ok(encoded.collect())
}

/// The reasons against a part count against the sum, which may hide them.
fn inherit(judgement: &mut Judgement, part: &GeneratorResult) {
    for reason in &part.file.judgement.reasons {
        let mut reason = reason.clone();
        reason.what = format!("{}: {}", part.name, reason.what);
        judgement.add(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::result::Record;
    use crate::verdict::Verdict;

    fn part(name: &str, change: impl FnOnce(&mut Outcome)) -> GeneratorResult {
        let plan = fixture::plan();
        let mut outcome = fixture::outcome();
        change(&mut outcome);
        let file = ResultFile::new(&Record {
            label: "epoll",
            plan: &plan,
            args: &[],
            outcome: &outcome,
            judgement: &judge(&Facts::of(&plan, &outcome)),
            objectives: &[],
            server_command: None,
            server_sha256: None,
            environment: &Environment::default(),
        });
        GeneratorResult {
            name: name.to_owned(),
            start: parse_utc(&file.started_at).expect("a time"),
            file,
        }
    }

    #[test]
    fn two_halves_add_up_to_the_whole() {
        let parts = [part("a", |_| {}), part("b", |_| {})];
        check_overlap(&parts).expect("at the same time");
        let sum = add_up(&parts).expect("added up");
        let one = fixture::outcome();
        assert_eq!(sum.counts.due, 2 * one.counts.due);
        assert_eq!(sum.elapsed, one.elapsed);
        assert!((sum.rate() - 2.0 * one.rate()).abs() < 1e-6);
        let (sums, ones) = (&sum.latencies.response_ns, &one.latencies.response_ns);
        assert_eq!(sums.len(), 2 * ones.len());
        assert_eq!(sums.value_at_quantile(0.99), ones.value_at_quantile(0.99));
        assert_eq!(sum.handshake_ns.len(), 2 * one.handshake_ns.len());
        assert_eq!(sum.intervals.len(), one.intervals.len());
        assert_eq!(sum.intervals[3].due, 2 * one.intervals[3].due);
        assert_eq!(sum.generator.usage.threads, 2);
    }

    #[test]
    fn the_sum_has_the_worst_verdict_of_its_parts() {
        let busy = part("result-1.json", |outcome| outcome.generator.busy_max = 0.99);
        assert_eq!(busy.file.judgement.verdict, Verdict::Suspect);
        let mut judgement = judge(&Facts::of(&fixture::plan(), &fixture::outcome()));
        assert_eq!(judgement.verdict, Verdict::Valid);
        inherit(&mut judgement, &busy);
        assert_eq!(judgement.verdict, Verdict::Suspect);
        assert!(judgement.reasons[0].what.starts_with("result-1.json: "));
    }

    #[test]
    fn runs_that_do_not_overlap_are_not_merged() {
        let late = |by_ms| {
            part("late.json", |outcome| {
                outcome.started_at += Duration::from_millis(by_ms);
            })
        };
        check_overlap(&[part("a", |_| {}), late(900)]).expect("nine tenths");
        for by_ms in [1_100, 60_000] {
            let why = check_overlap(&[part("a", |_| {}), late(by_ms)]).expect_err("apart");
            assert!(why.to_string().contains("late.json last"), "{why}");
        }
    }
}
