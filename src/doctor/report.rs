//! All findings, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::finding::{Finding, Level};

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
        self.count(Level::Problem) > 0
    }

    /// A JSON array with an object for each finding: `check`, `level` (`ok`,
    /// `warning`, `problem`), `found`, and `change`, a string or null.
    pub fn to_json(&self) -> String {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.check,
                "level": finding.level.name(),
                "found": finding.found,
                "change": finding.change,
            })
        });
        format!("{:#}\n", Value::Array(findings.collect()))
    }

    fn count(&self, level: Level) -> usize {
        let of_level = |finding: &&Finding| finding.level == level;
        self.findings.iter().filter(of_level).count()
    }
}

/// A line for each finding, with what to change below it, and a sum.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len());
        let width = width.max().unwrap_or(0);
        for Finding {
            check,
            level,
            found,
            change,
        } in &self.findings
        {
            writeln!(f, "{level:<7}  {check:<width$}  {found}")?;
            if let Some(change) = change {
                writeln!(f, "{:<7}  {:<width$}  -> {change}", "", "")?;
            }
        }
        let (problems, warnings) = (self.count(Level::Problem), self.count(Level::Warning));
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
            Finding::problem("open files", "1024", "ulimit -n 4096"),
            Finding::warning("CPU governor", "powersave", "cpupower"),
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
