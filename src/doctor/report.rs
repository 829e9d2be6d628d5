//! All findings, for people and for programs.

use std::fmt;

use host::finding::{Finding, Level, count, write_table};
use serde_json::{Value, json};

/// The words for the levels.
const LEVELS: [&str; 3] = ["ok", "warning", "problem"];

/// What an examination came to, in the order of its checks.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether something will keep the server from doing what its settings
    /// promise.
    pub fn has_problem(&self) -> bool {
        count(&self.findings, Level::Problem) > 0
    }

    /// A JSON array with an object for each finding: `check`, `level` (`ok`,
    /// `warning`, `problem`), `found`, and `change`, a string or null.
    pub fn to_json(&self) -> String {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.check,
                "level": LEVELS[finding.level as usize],
                "found": finding.found,
                "change": finding.change,
            })
        });
        format!("{:#}\n", Value::Array(findings.collect()))
    }
}

/// A line for each finding, with what to change below it, and a sum.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not wrapped: to a script, a finding is a line.
        let whole = |text: &str, _indent| vec![text.to_owned()];
        write_table(f, &self.findings, LEVELS, whole)?;
        let [problems, warnings] =
            [Level::Problem, Level::Warning].map(|level| count(&self.findings, level));
        let plural = |count| if count == 1 { "" } else { "s" };
        writeln!(
            f,
            "{problems} problem{}, {warnings} warning{}",
            plural(problems),
            plural(warnings)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok("threads", "2 on 2 cores"),
            Finding::problem("open files", "1024").advise("ulimit -n 4096"),
            Finding::warning("CPU governor", "powersave").advise("cpupower"),
        ])
    }

    #[test]
    fn people_get_a_table_with_what_to_change_below() {
        assert_eq!(
            report().to_string(),
            "\
ok       threads       2 on 2 cores
problem  open files    1024
                       -> ulimit -n 4096
warning  CPU governor  powersave
                       -> cpupower
1 problem, 1 warning
"
        );
        let well = Report::new(Vec::new());
        assert_eq!(well.to_string(), "0 problems, 0 warnings\n");
        assert!(report().has_problem() && !well.has_problem());
    }

    #[test]
    fn programs_get_json() {
        let findings: Value = serde_json::from_str(&report().to_json()).expect("JSON");
        let open_files = json!({
            "check": "open files",
            "level": "problem",
            "found": "1024",
            "change": "ulimit -n 4096",
        });
        assert_eq!(findings[1], open_files);
        assert_eq!(findings[0]["change"], Value::Null);
    }
}
