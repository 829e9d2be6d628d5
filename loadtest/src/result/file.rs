//! Constraints of a result file beyond the types of its fields.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::document::{Document, Problem, ResultError, read_bounded};
use super::{DecodeError, Numbers, ResultFile, Status, VERSION, decode, decode_latencies};
use crate::failure::Failure;
use crate::outcome::{Interval, Latencies, Outcome};
use crate::verdict::{Facts, Verdict, judge};

impl Document for ResultFile {
    const KIND: &'static str = "result";
    const FORMAT: &'static str = "ringback-loadtest";
    const VERSION: u32 = VERSION;

    fn check(&self) -> Result<(), Problem> {
        self.plan.validate().map_err(Problem::Plan)?;
        let counts = &self.counts;
        let due_most = [
            counts.sent,
            counts.unanswered,
            counts.timed_out,
            counts.blocked,
        ];
        if due_most.iter().any(|&count| count > counts.due) || counts.answered > counts.sent {
            return Err(Problem::Inconsistent("more messages than were due"));
        }
        // Files from before it was counted have 0.
        if counts.sent_total != 0 && counts.sent_total < counts.sent {
            return Err(Problem::Inconsistent("more messages than were sent"));
        }
        if (self.status == Status::Failed) != self.failure.is_some() {
            return Err(Problem::Inconsistent("the status contradicts the failure"));
        }
        let server_busy_max = self.server.as_ref().and_then(|server| server.busy_max);
        let shares = [
            self.steal_share,
            Some(self.generator.busy_max),
            server_busy_max,
        ];
        if shares.iter().flatten().any(|&share| share < 0.0) {
            return Err(Problem::Inconsistent("a share is negative"));
        }
        let latencies = self.latencies()?;
        decode(&self.histograms.handshake_ns)?;
        if !is_sum_of(&latencies, &self.intervals)? {
            return Err(Problem::Inconsistent(
                "the intervals' histograms do not add up to the whole",
            ));
        }
        Ok(())
    }

    fn recompute(&mut self) -> Result<(), Problem> {
        let (outcome, sockets) = (self.outcome()?, self.plan.sockets());
        let own = Numbers::of(&outcome, sockets);
        let as_json = |numbers| serde_json::to_value(numbers).expect("it is written into files");
        if contradicts(&as_json(&self.summary), &as_json(&own)) {
            return Err(Problem::Inconsistent(
                "the summary is not that of the counts and histograms",
            ));
        }
        self.summary = own;
        self.judge_again(&outcome);
        for objective in &mut self.objectives {
            objective.evaluate_again(&outcome, sockets);
        }
        Ok(())
    }
}

/// Whether a number that both have differs. A number that only one has may be of another version.
fn contradicts(stored: &Value, own: &Value) -> bool {
    match (stored, own) {
        (Value::Number(stored), Value::Number(own)) => {
            let (stored, own) = (stored.as_f64(), own.as_f64());
            let (stored, own) = (stored.unwrap_or(f64::NAN), own.unwrap_or(f64::NAN));
            (stored - own).abs() > ROUNDING * own.abs().max(1.0)
        }
        (Value::Object(stored), Value::Object(own)) => stored
            .iter()
            .any(|(key, stored)| own.get(key).is_some_and(|own| contradicts(stored, own))),
        _ => false,
    }
}

/// The tolerance for numbers that were written and read, as a share.
const ROUNDING: f64 = 1e-9;

impl ResultFile {
    /// Reads a file whose run is to be repeated. A plan of a later release may have keys that
    /// would be ignored.
    ///
    /// # Errors
    /// As [`read`](Document::read), and an unknown key in the plan.
    pub fn read_to_repeat(path: &Path) -> Result<Self, ResultError> {
        let file = Self::read(path)?;
        let raw = read_bounded(path)
            .map_err(|problem| problem.of(path))
            .map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap_or_default())?;
        let plan = serde_json::to_value(&file.plan).unwrap_or_default();
        match unknown_key(&raw["plan"], &plan) {
            Some(key) => Err(Problem::Plan(format!(
                "this loadtest does not know its key {key}, so the run cannot be repeated"
            ))
            .of(path)),
            None => Ok(file),
        }
    }

    /// Applies today's rules. Other reasons in the file are kept: they are of the parts of a
    /// merged run, or of facts that the file does not have.
    fn judge_again(&mut self, outcome: &Outcome) {
        let mut own = judge(&Facts {
            failure: self.failure.clone(),
            ..Facts::of(&self.plan, outcome)
        });
        let stored = &mut self.judgement;
        for reason in stored.reasons.drain(..) {
            own.add(reason);
        }
        stored.verdict = own.verdict.max(stored.verdict);
        stored.reasons = own.reasons;
    }

    /// The outcome of the run, as far as the file has it.
    fn outcome(&self) -> Result<Outcome, DecodeError> {
        Ok(Outcome {
            addresses: self.addresses.clone(),
            started_at: UNIX_EPOCH,
            elapsed: Duration::from_nanos(self.elapsed_ns),
            counts: self.counts,
            latencies: self.latencies()?,
            handshake_ns: decode(&self.histograms.handshake_ns)?,
            handshakes_at_a_time: None,
            added_sources: 0,
            unclosed: None,
            intervals: Vec::new(),
            generator: self.generator.clone(),
            server: self.server.as_ref().map(|server| server.usage),
            server_busy_max: self.server.as_ref().and_then(|server| server.busy_max),
            idle_cores: None,
            shared_core: self.shared_core,
            steal_share: self.steal_share,
            interrupted: self.status == Status::Interrupted,
            failure: None,
        })
    }

    /// Whether the verdict is INVALID.
    pub fn is_invalid(&self) -> bool {
        self.judgement.verdict == Verdict::Invalid
    }

    /// Checks that the run came to its end.
    ///
    /// # Errors
    /// One line that names the file and what ended the run.
    pub fn ensure_not_failed(&self, path: &Path) -> Result<(), Failure> {
        self.failure.as_ref().map_or(Ok(()), |failure| {
            let why = format!("{} is of a run that failed: {failure}", path.display());
            Err(Failure::File(why))
        })
    }

    /// The histograms of the messages that were due.
    ///
    /// # Errors
    /// Those of [`decode`]; never for a file that was read.
    pub fn latencies(&self) -> Result<Latencies, DecodeError> {
        decode_latencies(&self.histograms.latencies)
    }
}

/// The first key of an object, or of a nested one, that the other does not have.
fn unknown_key(raw: &Value, known: &Value) -> Option<String> {
    raw.as_object()?.iter().find_map(|(key, value)| {
        let Some(known) = known.get(key) else {
            return Some(key.clone());
        };
        unknown_key(value, known).map(|inner| format!("{key}.{inner}"))
    })
}

fn is_sum_of(whole: &Latencies, intervals: &[Interval]) -> Result<bool, DecodeError> {
    let mut sum = Latencies::new();
    for interval in intervals {
        sum.add(&decode_latencies(&interval.latencies)?);
    }
    Ok(sum.response_ns == whole.response_ns
        && sum.service_ns == whole.service_ns
        && sum.lag_ns == whole.lag_ns)
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;
    use crate::result::encode;
    use serde_json::json;
    use std::path::PathBuf;
    use std::{env, fs, process};

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("loadtest-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The error of reading the example after a change to its JSON.
    fn after(change: impl FnOnce(&mut Value)) -> String {
        let mut value = serde_json::to_value(example()).unwrap();
        change(&mut value);
        match ResultFile::from_json(value.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn a_written_document_is_read_back() {
        let scratch = Scratch::new("written");
        let path = scratch.0.join("run.json");
        fs::write(&path, "before").unwrap();
        example().write(&path).unwrap();
        assert_eq!(ResultFile::read(&path).unwrap(), example());
        let names: Vec<_> = fs::read_dir(&scratch.0).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
    }

    #[test]
    fn a_link_stays_and_a_device_is_not_replaced() {
        let scratch = Scratch::new("link");
        let (path, link) = (scratch.0.join("run.json"), scratch.0.join("link.json"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        example().write(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(ResultFile::read(&path).unwrap(), example());

        let device = scratch.0.join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        example().write(&device).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn errors_of_files_name_them_in_one_line() {
        let scratch = Scratch::new("errors");
        let missing = scratch.0.join("no/run.json");
        for text in [
            ResultFile::read(&missing).unwrap_err().to_string(),
            example().write(&missing).unwrap_err().to_string(),
        ] {
            assert!(text.starts_with(missing.to_str().unwrap()), "{text}");
            assert!(text.contains("No such file"), "{text}");
        }
        let error = example().write(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let text = example().to_json();
        let whole = text.trim_end().len();
        for len in (0..whole).step_by(97).chain([whole - 1]) {
            let problem = ResultFile::from_json(&text.as_bytes()[..len]).unwrap_err();
            assert!(matches!(problem, Problem::Truncated), "{len}: {problem}");
        }
    }

    #[test]
    fn a_file_of_another_program_is_an_error() {
        for text in [
            "PK\u{3}\u{4}",
            "{\"a\": 1}",
            "3",
            "{\"format\": 3}",
            "{\"format\": \"x\"}",
        ] {
            let problem = ResultFile::from_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                problem.starts_with("this is not a result of loadtest ("),
                "{problem}"
            );
        }
        assert_eq!(
            ResultFile::from_json(b" [{}]").unwrap_err().to_string(),
            "this is an array of results; a file with one is needed"
        );
        assert_eq!(
            after(|value| value["format"] = json!("wrk")),
            "this is not a result of loadtest (its format is not \"ringback-loadtest\")"
        );
    }

    #[test]
    fn an_unknown_version_is_an_error() {
        assert_eq!(
            after(|value| value["version"] = json!(0)),
            "version 0 of the format does not exist"
        );
        assert_eq!(
            // A later version may have any fields.
            after(|value| *value = json!({"format": "ringback-loadtest", "version": 7})),
            "version 7 of the format is newer than this loadtest, which reads up to 1"
        );
        assert_eq!(
            after(|value| *value = json!({"format": "ringback-loadtest"})),
            "broken result: the version is missing"
        );
    }

    #[test]
    fn unknown_keys_are_ignored() {
        for pointer in [
            "",
            "/plan",
            "/plan/load",
            "/plan/sizes/0",
            "/counts",
            "/summary",
            "/summary/response_ns",
            "/summary/server",
            "/histograms",
            "/histograms/latencies",
            "/intervals/0",
            "/intervals/0/latencies",
            "/generator",
            "/generator/usage",
            "/server",
            "/environment",
            "/judgement",
            "/objectives/0",
        ] {
            let mut value = serde_json::to_value(example()).unwrap();
            value.pointer_mut(pointer).unwrap()["of_a_later_release"] = json!({"a": [1]});
            let text = value.to_string();
            let read = ResultFile::from_json(text.as_bytes());
            assert_eq!(read.unwrap(), example(), "{pointer}");
        }
    }

    #[test]
    fn a_plan_with_unknown_keys_is_not_repeated() {
        let scratch = Scratch::new("repeat");
        let path = scratch.0.join("run.json");
        example().write(&path).unwrap();
        assert_eq!(ResultFile::read_to_repeat(&path).unwrap(), example());
        for (pointer, key) in [("/plan", "more"), ("/plan/load", "load.more")] {
            let mut value = serde_json::to_value(example()).unwrap();
            value.pointer_mut(pointer).unwrap()["more"] = json!(1);
            fs::write(&path, value.to_string()).unwrap();
            let error = ResultFile::read_to_repeat(&path).unwrap_err().to_string();
            let expected = format!("broken plan: this loadtest does not know its key {key}");
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn malformed_fields_are_errors() {
        let error = after(|value| value["elapsed_ns"] = json!(-1));
        assert!(error.starts_with("broken result: invalid value"), "{error}");
        let error = after(|value| value["status"] = json!("no\nsuch"));
        assert!(
            error.starts_with("broken result: unknown variant"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error:?}");
        assert_eq!(
            after(|value| value["plan"]["connections"] = json!(0)),
            "broken plan: connections: 0 is not within 1 and 16777216"
        );
        assert_eq!(
            after(|value| value["histograms"]["handshake_ns"] = json!("*")),
            "broken result: a histogram is not in base64"
        );
    }

    #[test]
    fn a_file_from_before_the_total_was_counted_is_read() {
        assert_eq!(
            after(|value| {
                value["counts"]
                    .as_object_mut()
                    .unwrap()
                    .remove("sent_total");
            }),
            ""
        );
    }

    #[test]
    fn a_summary_that_contradicts_counts_and_histograms_is_an_error() {
        for (pointer, value) in [
            ("/summary/response_ns/percentiles/p50", json!(50_014)),
            ("/summary/response_ns/percentiles/p99.99", json!(1)),
            ("/summary/service_ns/max", json!(4_000_000)),
            ("/summary/lag_ns/samples", json!(499_999)),
            ("/summary/handshake_ns/mean", json!(1.0)),
            ("/summary/rate_per_s", json!(50_001.0)),
            ("/summary/payload_bytes_per_s", json!(0.0)),
            ("/summary/server/cpu_ns_per_message", json!(4_999.0)),
            ("/summary/generator/cores", json!(0.1)),
            ("/counts/echoed", json!(500_001)),
            ("/elapsed_ns", json!(9_000_000_000_u64)),
            ("/server/usage/cpu_ns", json!(1)),
        ] {
            assert_eq!(
                after(|document| *document.pointer_mut(pointer).unwrap() = value),
                "inconsistent result: the summary is not that of the counts and histograms",
                "{pointer}"
            );
        }
    }

    /// An earlier version counted less, or showed more.
    #[test]
    fn a_summary_with_fewer_or_more_numbers_is_accepted() {
        let mut value = serde_json::to_value(example()).unwrap();
        let summary = &mut value["summary"];
        let percentiles = summary["response_ns"]["percentiles"].as_object_mut();
        percentiles.unwrap().remove("p90");
        summary["service_ns"]["max"] = Value::Null;
        // 100 handshakes are too few for a p99.
        summary["handshake_ns"]["percentiles"]["p99"] = json!(1);
        let read = ResultFile::from_json(value.to_string().as_bytes()).unwrap();
        assert_eq!(read.summary, example().summary);
    }

    #[test]
    fn the_verdict_is_derived_again_from_the_numbers() {
        let mut value = serde_json::to_value(example()).unwrap();
        value["generator"]["busy_max"] = json!(0.99);
        value["server"]["busy_max"] = json!(0.5);
        let read = |value: &Value| ResultFile::from_json(value.to_string().as_bytes()).unwrap();
        let judgement = read(&value).judgement;
        assert_eq!(judgement.verdict, Verdict::Suspect);
        let reason = "a generator thread worked 99 % of the time";
        assert_eq!(judgement.reasons[0].what, reason);
        // A reason that the file has and that is found again is listed once.
        value["judgement"] = serde_json::to_value(&judgement).unwrap();
        assert_eq!(read(&value).judgement, judgement);
    }

    #[test]
    fn reasons_beyond_the_numbers_are_kept() {
        let mut value = serde_json::to_value(example()).unwrap();
        let reason = json!({"verdict": "invalid", "what": "a.json: lost", "advice": "look"});
        value["judgement"] = json!({"verdict": "valid", "reasons": [reason], "notes": ["so"]});
        let read = ResultFile::from_json(value.to_string().as_bytes()).unwrap();
        assert!(read.is_invalid());
        assert_eq!(read.judgement.worst().unwrap().what, "a.json: lost");
        assert_eq!(read.judgement.notes, ["so"]);
    }

    #[test]
    fn objectives_are_evaluated_again() {
        let mut value = serde_json::to_value(example()).unwrap();
        let stored = |objective| json!({"objective": objective, "observed": "1 ns", "met": true, "supported": true});
        value["objectives"] = json!([stored("p50<1ns"), stored("p50<1h"), stored("joy>3")]);
        let read = ResultFile::from_json(value.to_string().as_bytes()).unwrap();
        let found: Vec<_> = read
            .objectives
            .iter()
            .map(|it| (it.met, it.supported))
            .collect();
        assert_eq!(found, [(false, true), (true, true), (false, false)]);
        assert_ne!(read.objectives[0].observed, "1 ns");
    }

    #[test]
    fn contradictions_are_errors() {
        assert_eq!(
            after(|value| value["counts"]["answered"] = json!(500_001)),
            "inconsistent result: more messages than were due"
        );
        assert_eq!(
            after(|value| value["counts"]["sent_total"] = json!(499_999)),
            "inconsistent result: more messages than were sent"
        );
        assert_eq!(
            after(|value| value["status"] = json!("failed")),
            "inconsistent result: the status contradicts the failure"
        );
        assert_eq!(
            after(|value| value["steal_share"] = json!(-0.5)),
            "inconsistent result: a share is negative"
        );
        let unlike_the_sum = "inconsistent result: the intervals' histograms do not add up to the \
                              whole";
        assert_eq!(
            after(|value| {
                value["intervals"].as_array_mut().unwrap().pop();
            }),
            unlike_the_sum
        );
        let empty = encode(&crate::outcome::histogram());
        assert_eq!(
            after(|value| value["intervals"][3]["latencies"]["lag_ns"] = json!(empty)),
            unlike_the_sum
        );
    }
}
