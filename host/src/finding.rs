//! The result of one check of a machine, and the table that lists the results.

use std::fmt;
use std::iter;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing to change.
    Ok,
    /// It works, but could work better, or matters when results are compared.
    Warning,
    /// It does not work as promised, or results will be wrong.
    Problem,
}

/// What a check found, and the change that is advised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check, one to three words.
    pub check: &'static str,
    /// The severity.
    pub level: Level,
    /// The finding, in one line.
    pub found: String,
    /// The command or setting that changes it, if any. Most commands need root.
    pub change: Option<String>,
}

impl Finding {
    /// A finding without advice.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, found)
    }

    /// A finding at [`Level::Warning`].
    pub fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, found)
    }

    /// A finding at [`Level::Problem`].
    pub fn problem(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, found)
    }

    /// A finding at a given level.
    pub fn new(level: Level, check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level,
            found: found.into(),
            change: None,
        }
    }

    /// Adds advice, unless the level is [`Level::Ok`].
    #[must_use]
    pub fn advise(mut self, change: impl Into<String>) -> Self {
        if self.level > Level::Ok {
            self.change = Some(change.into());
        }
        self
    }
}

/// The number of findings at a level.
pub fn count(findings: &[Finding], level: Level) -> usize {
    let at_level = |finding: &&Finding| finding.level == level;
    findings.iter().filter(at_level).count()
}

/// Writes a line for each finding, with the advised change below it. `marks` are the names of the
/// levels, in their order; `lines` breaks a text into lines, each of which is indented by the
/// given number of blanks.
///
/// # Errors
/// The formatter's.
pub fn write_table(
    f: &mut fmt::Formatter<'_>,
    findings: &[Finding],
    marks: [&str; 3],
    lines: impl Fn(&str, usize) -> Vec<String>,
) -> fmt::Result {
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let mark_width = longest(&mut marks.iter().map(|mark| mark.len()));
    let check_width = longest(&mut findings.iter().map(|finding| finding.check.len()));
    let indent = mark_width + check_width + 4;
    for finding in findings {
        let mark = marks[finding.level as usize];
        let check = finding.check;
        let change = finding.change.iter().map(|change| format!("-> {change}"));
        let texts = iter::once(finding.found.clone()).chain(change);
        for (index, line) in texts.flat_map(|text| lines(&text, indent)).enumerate() {
            match index {
                0 => writeln!(f, "{mark:<mark_width$}  {check:<check_width$}  {line}")?,
                _ => writeln!(f, "{:indent$}{line}", "")?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown([Finding; 2]);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let halves = |text: &str, indent: usize| {
                assert_eq!(indent, "BAD".len() + "governor".len() + 4);
                text.split('|').map(str::to_owned).collect()
            };
            write_table(f, &self.0, ["ok", "so", "BAD"], halves)
        }
    }

    #[test]
    fn advice_is_on_the_line_below_the_finding() {
        let findings = [
            Finding::ok("cores", "8").advise("never shown"),
            Finding::problem("governor", "power|save").advise("set it"),
        ];
        assert_eq!(count(&findings, Level::Problem), 1);
        assert_eq!(count(&findings, Level::Warning), 0);
        assert_eq!(
            Shown(findings).to_string(),
            "\
ok   cores     8
BAD  governor  power
               save
               -> set it
"
        );
    }
}
