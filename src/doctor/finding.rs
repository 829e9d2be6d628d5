//! What one check came to.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing to change.
    Ok,
    /// The server serves, but less, or slower, than it might.
    Warning,
    /// The server will not start, or will not do what its settings promise.
    Problem,
}

impl Level {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was found, and what to change about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or three.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in a line.
    pub found: String,
    /// The command or setting that changes it, where something is to be changed.
    /// Most commands need root.
    pub change: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            change: None,
        }
    }

    pub(super) fn warning(
        check: &'static str,
        found: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self::bad(Level::Warning, check, found, change)
    }

    pub(super) fn problem(
        check: &'static str,
        found: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self::bad(Level::Problem, check, found, change)
    }

    pub(super) fn bad(
        level: Level,
        check: &'static str,
        found: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level,
            found: found.into(),
            change: Some(change.into()),
        }
    }
}
