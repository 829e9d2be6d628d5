//! What came of all runs.

use std::collections::BTreeMap;

use loadtest::result::ResultFile;
use loadtest::verdict::Verdict;
use serde::Serialize;

/// The numbers of a run that tables are made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// CPU time of the server's process per message, in nanoseconds.
    pub cpu_ns_per_message: f64,
    /// Replies per second.
    pub messages_per_s: f64,
    /// CPU time of the server over time: 1 is a core that is always busy.
    pub server_cores: f64,
    /// Whether loadtest believes it.
    pub verdict: Verdict,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// There are numbers.
    Measured(Measurement),
    /// There are none that say what was asked, for this reason.
    Invalid(String),
    /// The server, or loadtest, failed for this reason.
    Failed(String),
}

impl Run {
    /// What a result file comes to.
    pub fn of(result: &ResultFile) -> Self {
        if let Some(failure) = &result.failure {
            return Self::Failed(failure.clone());
        }
        let judgement = &result.judgement;
        if judgement.verdict == Verdict::Invalid {
            let reasons = judgement.reasons.iter().map(|reason| reason.what.clone());
            return Self::Invalid(reasons.collect::<Vec<_>>().join("; "));
        }
        let server = result.summary.server.as_ref();
        let cpu_ns = server.and_then(|server| server.cpu_ns_per_message);
        let (Some(server), Some(cpu_ns_per_message)) = (server, cpu_ns) else {
            return Self::Invalid("the server's CPU time is not known".to_owned());
        };
        Self::Measured(Measurement {
            cpu_ns_per_message,
            messages_per_s: result.summary.rate_per_s,
            server_cores: server.cores,
            verdict: judgement.verdict,
        })
    }

    /// Its numbers, if it has any.
    pub fn measurement(&self) -> Option<&Measurement> {
        match self {
            Self::Measured(measurement) => Some(measurement),
            Self::Invalid(_) | Self::Failed(_) => None,
        }
    }
}

/// The runs of one server under one load, by their rounds, which count from 1.
pub type Runs = BTreeMap<u32, Run>;

/// The runs of all servers under all loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// By load, then by server.
    runs: Vec<Vec<Runs>>,
}

impl Results {
    /// None yet, for so many loads and servers.
    pub fn new(shapes: usize, servers: usize) -> Self {
        Self {
            runs: vec![vec![Runs::new(); servers]; shapes],
        }
    }

    /// Takes in a run.
    ///
    /// # Panics
    /// When there is no such load or server.
    pub fn add(&mut self, shape: usize, server: usize, round: u32, run: Run) {
        self.runs[shape][server].insert(round, run);
    }

    /// The runs under a load, by server.
    ///
    /// # Panics
    /// When there is no such load.
    pub fn of_shape(&self, shape: usize) -> &[Runs] {
        &self.runs[shape]
    }

    /// Whether a server has failed under a load.
    ///
    /// # Panics
    /// When there is no such load or server.
    pub fn has_failed(&self, shape: usize, server: usize) -> bool {
        let runs = &self.runs[shape][server];
        runs.values().any(|run| matches!(run, Run::Failed(_)))
    }

    /// All runs.
    pub fn all(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().flatten().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with numbers that are easy to tell apart.
    pub(crate) fn measured(cpu_ns_per_message: f64, messages_per_s: f64) -> Run {
        Run::Measured(Measurement {
            cpu_ns_per_message,
            messages_per_s,
            server_cores: 1.0,
            verdict: Verdict::Valid,
        })
    }

    #[test]
    fn a_failure_is_remembered_for_its_load_and_server_only() {
        let mut results = Results::new(2, 2);
        results.add(1, 0, 1, Run::Failed("it is".to_owned()));
        results.add(1, 1, 1, Run::Invalid("it is not".to_owned()));
        let failed = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(s, i)| results.has_failed(s, i));
        assert_eq!(failed, [false, false, true, false]);
        assert_eq!(results.all().count(), 2);
    }
}
