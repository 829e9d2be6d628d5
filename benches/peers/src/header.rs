//! Where and with what a table was made, so that it can be made again.

use loadtest::machine::Environment;
use loadtest::units::format_duration;
use serde::Serialize;

use crate::contest::Contest;

/// Facts in the order in which they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// The command that makes the table.
    pub command: String,
    /// How it was measured.
    pub method: String,
    /// The kernel's release and version.
    pub kernel: String,
    /// The CPU, its cores and who sets their clock.
    pub cpu: String,
    /// The commit of ringback, if it is known.
    pub commit: Option<String>,
    /// Each server's name and what it is made of.
    pub versions: Vec<(String, String)>,
}

impl Header {
    /// That of a contest on this machine.
    pub fn new(
        arguments: &[String],
        contest: &Contest,
        environment: &Environment,
        versions: Vec<(String, String)>,
    ) -> Self {
        let mut command = vec!["cargo run --release -p ringback-peers".to_owned()];
        if !arguments.is_empty() {
            command.extend(["--".to_owned(), shell_words::join(arguments)]);
        }
        let unknown = || "unknown".to_owned();
        Self {
            command: command.join(" "),
            method: method(contest),
            kernel: environment.kernel.clone().unwrap_or_else(unknown),
            cpu: cpu(environment),
            commit: environment.commit.clone(),
            versions,
        }
    }

    /// A title and a text for each fact.
    pub fn lines(&self) -> Vec<(&str, &str)> {
        let mut lines = vec![
            ("command", self.command.as_str()),
            ("method", &self.method),
            ("kernel", &self.kernel),
            ("CPU", &self.cpu),
        ];
        lines.extend(self.commit.as_deref().map(|commit| ("commit", commit)));
        let versions = self.versions.iter();
        lines.extend(versions.map(|(name, version)| (name.as_str(), version.as_str())));
        lines
    }
}

fn method(contest: &Contest) -> String {
    let rounds = match contest.rounds {
        1 => "1 round".to_owned(),
        rounds => format!("{rounds} rounds"),
    };
    format!(
        "{rounds} of {} each after {} warm-up, in an order drawn anew each time (seed {}); \
         a fresh server on core {}, the generator on core {}",
        format_duration(contest.duration),
        format_duration(contest.warmup),
        contest.seed,
        contest.server_core,
        contest.generator_core
    )
}

fn cpu(environment: &Environment) -> String {
    let mut facts = vec![
        environment
            .cpu_model
            .clone()
            .unwrap_or("unknown".to_owned()),
    ];
    facts.extend(environment.cores_online.map(|cores| match cores {
        1 => "1 core".to_owned(),
        cores => format!("{cores} cores"),
    }));
    if environment.virtual_machine == Some(true) {
        facts.push("virtual".to_owned());
    }
    let governors = environment.governors.iter().flatten();
    facts.extend(governors.map(|governor| format!("governor {governor}")));
    facts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_told_with_what_decides_its_speed() {
        let environment = Environment {
            cpu_model: Some("a CPU".to_owned()),
            cores_online: Some(2),
            virtual_machine: Some(true),
            governors: Some(["powersave".to_owned()].into()),
            ..Environment::default()
        };
        assert_eq!(
            cpu(&environment),
            "a CPU, 2 cores, virtual, governor powersave"
        );
        assert_eq!(cpu(&Environment::default()), "unknown");
    }
}
