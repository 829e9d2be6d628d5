//! The engines, and the choice among them.

use std::fmt;
use std::str::FromStr;

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineKind {
    /// One epoll instance per core; runs everywhere.
    Epoll,
    /// A task per connection on io_uring; needs Linux 6.0.
    TokioUring,
    /// One io_uring per core, with multishot receives; needs Linux 6.1.
    Ring,
}

/// The engine that a server uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The best that works on this machine.
    #[default]
    Auto,
    /// This one, or an error.
    Only(EngineKind),
}

impl EngineKind {
    /// All engines, in no particular order.
    pub const ALL: &'static [Self] = &[Self::Epoll, Self::TokioUring, Self::Ring];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::TokioUring => "tokio-uring",
            Self::Ring => "ring",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        EngineKind::ALL
            .iter()
            .find(|kind| kind.name() == name)
            .map(|&kind| Self::Only(kind))
            .ok_or_else(|| {
                let names: Vec<_> = EngineKind::ALL.iter().map(|kind| kind.name()).collect();
                format!("expected auto, {}", names.join(" or "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_choice_parses_from_its_name() {
        assert_eq!("auto".parse(), Ok(EngineChoice::Auto));
        for &kind in EngineKind::ALL {
            assert_eq!(kind.name().parse(), Ok(EngineChoice::Only(kind)));
        }
        let refused = "kqueue".parse::<EngineChoice>().expect_err("unknown");
        assert!(refused.contains("epoll"), "{refused}");
    }
}
