//! What the end-to-end tests have in common: the real server in a process of
//! its own, clients that keep the rules and clients that do not, and waiting
//! that ends.
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

/// How long anything may take before the test that waits for it fails. Nothing
/// here takes more than a fraction of it, even on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at for which there is no event to wait for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until `measure` stays the same for a while: what it counts has come to
/// rest. A machine that pauses for that long makes a test that relies on this
/// check less, not fail.
#[track_caller]
pub(crate) fn wait_for_rest(what: &str, mut measure: impl FnMut() -> u64) -> u64 {
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
