//! Support for the tests: the program, servers in threads that record or misbehave, and a
//! server in a process.

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

/// The longest wait for something that is immediate on an idle machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Polls until there is a value.
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
