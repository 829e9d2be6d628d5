//! Shared code of the end-to-end tests: the real server in a process of its own,
//! clients, and waits with a timeout.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test crate uses a part of it"
)]

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod engines;
pub(crate) mod loopback;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod tunnel;
pub(crate) mod wire;

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait of a test before it fails. A busy machine needs a fraction of it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

/// The interval at which conditions are checked that have no event.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `look` returns something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "timed out after {TIMEOUT:?}: {what}"
        );
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until `measure` has been the same for a while. If the machine pauses for that
/// long, the test checks less, but does not fail.
#[track_caller]
pub(crate) fn wait_until_stable(what: &str, mut measure: impl FnMut() -> u64) -> u64 {
    const REST: Duration = Duration::from_millis(300);
    let mut last = measure();
    let mut since = Instant::now();
    wait_for(what, || {
        let now = measure();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() > REST).then_some(last)
    })
}
