//! The result file: all of a run, in one versioned JSON document.
//!
//! It holds the plan, so that the run can be repeated, and the histograms, so
//! that results can be added up and compared without loss. [`schema`] describes
//! it; `loadtest/schema/result-v1.schema.json` is that description.

mod document;
mod file;
mod histogram;
mod identity;
pub(crate) mod numbers;
mod schema;
mod timestamp;

pub(crate) use document::to_pretty_json;
pub use document::{
    Document, FILE_LEN_MAX, Problem, ResultError, format_of, json_files, read_bounded,
};
pub use histogram::{DecodeError, decode, decode_latencies, encode, encode_latencies};
pub use identity::KnownRuns;
pub use numbers::{Cost, LATER_STATISTICS, Numbers, RSS_SOCKETS_MIN, STATISTICS, Spread};
pub use schema::schema;
pub use timestamp::{format_utc, parse_utc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::environment::Environment;
use crate::outcome::{Counts, EncodedLatencies, GeneratorUse, Interval, Outcome};
use crate::plan::Plan;
use crate::slo::SloResult;
use crate::verdict::Judgement;
use crate::watch::Usage;

/// The version of the format that is written, and the highest that is read.
pub const VERSION: u32 = 1;

/// A run's result, as it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultFile {
    /// Marks the file as a result.
    pub format: ResultFormat,
    /// The version of the format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The label in reports: the server's URL or engine.
    pub label: String,
    /// The plan of the run.
    pub plan: Plan,
    /// The address and port of each of the plan's targets. A name may have several addresses, of
    /// which one is chosen.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The command line, without the program's name.
    pub args: Vec<String>,
    /// When the measurement began, in UTC, in RFC 3339 format.
    pub started_at: String,
    /// How the run ended.
    pub status: Status,
    /// The failure that ended it.
    pub failure: Option<String>,
    /// The length of the measurement.
    pub elapsed_ns: u64,
    /// The counters.
    pub counts: Counts,
    /// Numbers computed from the counts and histograms.
    pub summary: Numbers,
    /// All times that were recorded.
    pub histograms: Histograms,
    /// The most handshakes that were concurrent, at most; null
    /// where it is not known.
    #[serde(default)]
    pub handshakes_at_a_time: Option<u64>,
    /// The measurement second by second, and the drain.
    pub intervals: Vec<Interval>,
    /// The generator's own cost.
    pub generator: GeneratorUse,
    /// The server and its cost, where its process is known.
    pub server: Option<ServerInfo>,
    /// Whether server and generator were seen on the same core, where the
    /// server's process is known.
    pub shared_core: Option<bool>,
    /// The share of steal time in the measurement, 0 to 1, if the kernel counts it.
    pub steal_share: Option<f64>,
    /// The machine.
    pub environment: Environment,
    /// Whether the numbers may be believed.
    pub judgement: Judgement,
    /// The results of the run's objectives.
    pub objectives: Vec<SloResult>,
}

/// The value of the `format` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResultFormat {
    /// A result of this program.
    #[serde(rename = "ringback-loadtest")]
    RingbackLoadtest,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As planned.
    Complete,
    /// The user ended it before its time.
    Interrupted,
    /// It ended early, or a failure was found at its end.
    Failed,
}

/// The histograms of a run, each in HDR V2 format, deflated, in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histograms {
    /// The latencies of the messages that were due in the measurement.
    pub latencies: EncodedLatencies,
    /// From connect to the handshake's response.
    pub handshake_ns: String,
}

/// The server's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// Its cost.
    pub usage: Usage,
    /// Share of the measurement that its busiest thread ran, 0 to 1.
    #[serde(default)]
    pub busy_max: Option<f64>,
    /// The command it was started with, if it is known.
    pub command: Option<String>,
    /// The SHA-256 of its binary in hexadecimal digits, if it could be read.
    pub binary_sha256: Option<String>,
}

/// The input of a result file.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The label in reports: the server's URL or engine.
    pub label: &'a str,
    /// The plan of the run.
    pub plan: &'a Plan,
    /// The command line, without the program's name.
    pub args: &'a [String],
    /// The outcome.
    pub outcome: &'a Outcome,
    /// Whether it may be believed.
    pub judgement: &'a Judgement,
    /// The results of the run's objectives.
    pub objectives: &'a [SloResult],
    /// The server's command, if it is known.
    pub server_command: Option<&'a str>,
    /// The SHA-256 of the server's binary, if it could be read.
    pub server_sha256: Option<&'a str>,
    /// The machine.
    pub environment: &'a Environment,
}

impl ResultFile {
    /// Combines what is known of a run.
    pub fn new(record: &Record<'_>) -> Self {
        let outcome = record.outcome;
        let status = match (&outcome.failure, outcome.interrupted) {
            (Some(_), _) => Status::Failed,
            (None, true) => Status::Interrupted,
            (None, false) => Status::Complete,
        };
        Self {
            format: ResultFormat::RingbackLoadtest,
            version: VERSION,
            label: record.label.to_owned(),
            plan: record.plan.clone(),
            addresses: outcome.addresses.clone(),
            args: record.args.to_vec(),
            started_at: format_utc(outcome.started_at),
            status,
            failure: outcome.failure.as_ref().map(ToString::to_string),
            elapsed_ns: u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: outcome.counts,
            summary: Numbers::of(outcome, record.plan.sockets()),
            histograms: Histograms {
                latencies: encode_latencies(&outcome.latencies),
                handshake_ns: encode(&outcome.handshake_ns),
            },
            handshakes_at_a_time: outcome.handshakes_at_a_time,
            intervals: outcome.intervals.clone(),
            generator: outcome.generator.clone(),
            server: outcome.server.map(|usage| ServerInfo {
                usage,
                busy_max: outcome.server_busy_max,
                command: record.server_command.map(str::to_owned),
                binary_sha256: record.server_sha256.map(str::to_owned),
            }),
            shared_core: outcome.shared_core,
            steal_share: outcome.steal_share,
            environment: record.environment.clone(),
            judgement: record.judgement.clone(),
            objectives: record.objectives.to_vec(),
        }
    }
}

/// Several results as one JSON array, with a line break at its end.
pub fn to_json_array(results: &[ResultFile]) -> String {
    to_pretty_json(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::fixture;
    use crate::outcome::Latencies;

    /// The fixture's run as a file.
    pub(super) fn example() -> ResultFile {
        fixture::result()
    }

    fn of(outcome: &Outcome) -> ResultFile {
        fixture::result_of(&fixture::plan(), outcome)
    }

    #[test]
    fn the_status_is_how_the_run_ended() {
        assert_eq!(example().status, Status::Complete);
        let mut outcome = fixture::outcome();
        outcome.interrupted = true;
        assert_eq!(of(&outcome).status, Status::Interrupted);
        outcome.failure = Some(Failure::NoEngine);
        let failed = of(&outcome);
        assert_eq!(failed.status, Status::Failed);
        assert_eq!(failed.failure, Some(Failure::NoEngine.to_string()));
    }

    #[test]
    fn the_intervals_add_up_to_the_whole() {
        let mut random = fastrand::Rng::with_seed(11);
        for intervals in 0..8 {
            let mut outcome = fixture::outcome();
            outcome.latencies.reset();
            outcome.intervals.truncate(intervals);
            for interval in &mut outcome.intervals {
                let latencies = some_latencies(&mut random);
                outcome.latencies.add(&latencies);
                interval.latencies = encode_latencies(&latencies);
            }

            let file = of(&outcome);
            let mut sum = Latencies::new();
            for interval in &file.intervals {
                sum.add(&decode_latencies(&interval.latencies).unwrap());
            }
            let whole = file.latencies().unwrap();
            assert_eq!(sum.response_ns, whole.response_ns);
            assert_eq!(sum.service_ns, whole.service_ns);
            assert_eq!(sum.lag_ns, whole.lag_ns);
            ResultFile::from_json(file.to_json().as_bytes()).unwrap();
        }
    }

    /// From none to 200 messages that took up to four seconds.
    fn some_latencies(random: &mut fastrand::Rng) -> Latencies {
        let mut latencies = Latencies::new();
        for _ in 0..random.u32(0..200) {
            let (lag_ns, service_ns) = (random.u64(0..1 << 31), random.u64(0..1 << 31));
            latencies.lag_ns.record(lag_ns).unwrap();
            latencies.service_ns.record(service_ns).unwrap();
            latencies.response_ns.record(lag_ns + service_ns).unwrap();
        }
        latencies
    }

    #[test]
    fn several_results_are_an_array() {
        let text = to_json_array(&[example(), example()]);
        let read: Vec<ResultFile> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [example(), example()]);
    }
}
