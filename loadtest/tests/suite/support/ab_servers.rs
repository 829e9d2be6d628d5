//! Servers for `ab` to compare.

use std::collections::BTreeSet;

use super::child_server::{Behavior, ChildServer, is_alive};
use super::program::{Run, loadtest};

/// Runs that are over soon.
pub(crate) const SHORT: [&str; 4] = ["--", "-c2", "-d150ms", "--warmup=20ms"];

/// Servers to compare, and their commands as arguments.
pub(crate) struct Servers {
    pub(crate) servers: Vec<ChildServer>,
    arguments: Vec<String>,
}

impl Servers {
    pub(crate) fn new(behaviors: &[(&str, Behavior)]) -> Self {
        let mut servers = Vec::new();
        let mut arguments = vec!["ab".to_owned()];
        for (flag, behavior) in behaviors {
            let server = ChildServer::new(*behavior);
            arguments.push(format!("{flag}{}", server.command_at_free_port()));
            servers.push(server);
        }
        Self { servers, arguments }
    }

    pub(crate) fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own = self.arguments.iter().map(String::as_str);
        own.chain(more.iter().copied()).collect()
    }

    /// Compares them with these flags and in short runs.
    pub(crate) fn compared(&self, flags: &[&str]) -> Run {
        loadtest(&self.arguments(&[flags, &SHORT[..]].concat()))
    }

    /// Asserts that each was started `count` times, as another process each time, and that none
    /// is left.
    pub(crate) fn assert_starts(&self, count: usize) {
        for server in &self.servers {
            let starts = server.starts();
            assert_eq!(starts.len(), count);
            assert_eq!(starts.iter().collect::<BTreeSet<_>>().len(), count);
        }
        self.assert_stopped();
    }

    pub(crate) fn assert_stopped(&self) {
        for server in &self.servers {
            let alive: Vec<_> = server
                .starts()
                .into_iter()
                .filter(|&it| is_alive(it))
                .collect();
            assert_eq!(alive, [0; 0]);
        }
    }
}
