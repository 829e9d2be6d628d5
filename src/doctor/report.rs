//! All findings, as text and as JSON.

use std::fmt;

use host::finding::{Finding, Level, count, write_table};
use serde_json::{Value, json};

/// The names of the levels.
const LEVELS: [&str; 3] = ["ok", "warning", "problem"];

/// All findings, in the order of the checks.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// In the order of the checks.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether a finding keeps the server from what its settings promise.
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

/// A line for each finding, its advice below it, and the totals.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not wrapped: scripts read a finding as one line.
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
    fn text_is_a_table_with_advice_below_each_finding() {
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
        let healthy = Report::new(Vec::new());
        assert_eq!(healthy.to_string(), "0 problems, 0 warnings\n");
        assert!(report().has_problem() && !healthy.has_problem());
    }

    #[test]
    fn json_has_every_finding() {
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
