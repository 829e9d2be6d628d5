//! Whole engines on the test's own thread, where the kernel and the clock do what
//! the test wants; see `calls/faulty.rs`.
//!
//! * [`rig`]: an engine, its connections, and what must be left of them: nothing
//! * [`client`]: what is said to it, and what must come back
//! * [`faults`]: every call of a conversation fails once, and all of them often
//! * [`shortage`]: more at once than the buffers of a ring's pool take
//! * [`late`]: operations that complete late, are not started yet, or are not cancelled
//! * [`clock`]: a clock that jumps, and one that goes back

pub(crate) mod client;
mod clock;
mod faults;
mod late;
pub(crate) mod rig;
mod shortage;

use std::env;
use std::io::Write;

use rustix::io::Errno;

use crate::config::engine_kind::{EngineChoice, EngineKind};
use crate::config::error::Error;

/// Makes each of these functions, which take an engine's name, a test for each
/// engine.
macro_rules! on_every_engine {
    ($($test:ident,)*) => {
        mod epoll {
            $(#[test] fn $test() {
                crate::engine::tests::run(crate::config::engine_kind::EngineKind::Epoll, super::$test);
            })*
        }
        mod ring {
            $(#[test] fn $test() {
                crate::engine::tests::run(crate::config::engine_kind::EngineKind::Ring, super::$test);
            })*
        }
        mod tokio_uring {
            $(#[test] fn $test() {
                crate::engine::tests::run(crate::config::engine_kind::EngineKind::TokioUring, super::$test);
            })*
        }
    };
}
pub(crate) use on_every_engine;

/// Names the engines to be tested where not all of them work, as it does for
/// the tests in `tests/`.
const RESTRICTION: &str = "RINGBACK_TEST_ENGINES";

/// Runs a test on an engine, unless the environment says otherwise; then it is
/// said, past the harness that would swallow it.
pub(crate) fn run(kind: EngineKind, test: fn(EngineKind)) {
    match env::var(RESTRICTION) {
        Ok(wanted) if !wanted.split(',').any(|name| name.trim() == kind.name()) => {
            let note = format!("not run on {kind}: {RESTRICTION}={wanted}\n");
            // If stderr is gone, nobody reads this anyway.
            let _ = std::io::stderr().write_all(note.as_bytes());
        }
        _ => test(kind),
    }
}

/// A probe that works says nothing of the workers' own rings.
#[test]
fn auto_goes_on_to_epoll_where_an_engine_works_but_does_not_start() {
    let mut tried = Vec::new();
    let started = EngineChoice::Auto.start(|kind| {
        tried.push(kind);
        match kind {
            EngineKind::Epoll => Ok("on epoll"),
            _ => Err(kind.unavailable(Errno::NOMEM.into())),
        }
    });
    assert_eq!(started.expect("epoll works everywhere"), "on epoll");
    assert_eq!(tried.pop(), Some(EngineKind::Epoll));
    // Where a probe does not work, it is not even tried.
    let expected = EngineKind::Ring.probe().is_ok().then_some(EngineKind::Ring);
    assert_eq!(tried, Vec::from_iter(expected));
}

#[test]
fn what_is_not_of_the_engine_is_no_reason_for_another() {
    let mut tries = 0;
    let started = EngineChoice::Auto.start(|_| -> Result<(), Error> {
        tries += 1;
        Err(Error::Start {
            what: "a worker's thread",
            source: Errno::AGAIN.into(),
        })
    });
    assert!(matches!(started, Err(Error::Start { .. })), "{started:?}");
    assert_eq!(tries, 1);
}

#[test]
fn an_engine_that_is_named_is_the_only_one_that_is_tried() {
    let mut tries = 0;
    let started = EngineChoice::Only(EngineKind::Epoll).start(|kind| -> Result<(), Error> {
        tries += 1;
        Err(kind.unavailable(Errno::MFILE.into()))
    });
    assert!(started.is_err());
    assert_eq!(tries, 1);
}
