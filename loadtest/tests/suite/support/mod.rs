//! What the tests share: the program, servers that look at what it sends or answer as
//! they like, and one that can be started as a process.

pub(crate) mod ab_servers;
pub(crate) mod child_server;
pub(crate) mod example;
pub(crate) mod frames;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod scratch;
pub(crate) mod server;

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that happens at once on an idle machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Asks again and again until there is an answer.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
