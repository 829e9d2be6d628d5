//! One suite, every engine.

use std::env;
use std::io::Write;

/// Names the engines to be tested, separated by commas, where not all of them
/// work: containers mostly forbid `io_uring`.
pub(crate) const RESTRICTION: &str = "RINGBACK_TEST_ENGINES";

/// An engine's name on the command line.
pub(crate) type Engine = &'static str;

/// Makes each of these functions, which take an [`Engine`], a test for each
/// engine.
macro_rules! on_every_engine {
    ($($test:ident,)*) => {
        mod epoll {
            $(#[test] fn $test() {
                crate::common::engines::run("epoll", super::$test);
            })*
        }
        mod ring {
            $(#[test] fn $test() {
                crate::common::engines::run("ring", super::$test);
            })*
        }
        mod tokio_uring {
            $(#[test] fn $test() {
                crate::common::engines::run("tokio-uring", super::$test);
            })*
        }
    };
}
pub(crate) use on_every_engine;

/// What an engine's name ends in where its clients come over TLS.
pub(crate) const OVER_TLS: &str = "+tls";

/// As [`on_every_engine`], for clients whose connections are encrypted on their
/// way.
macro_rules! on_every_engine_over_tls {
    ($($test:ident,)*) => {
        mod tls_epoll {
            $(#[test] fn $test() {
                crate::common::engines::run("epoll+tls", super::$test);
            })*
        }
        mod tls_ring {
            $(#[test] fn $test() {
                crate::common::engines::run("ring+tls", super::$test);
            })*
        }
        mod tls_tokio_uring {
            $(#[test] fn $test() {
                crate::common::engines::run("tokio-uring+tls", super::$test);
            })*
        }
    };
}
pub(crate) use on_every_engine_over_tls;

/// Both of these.
macro_rules! on_every_engine_and_over_tls {
    ($($test:ident,)*) => {
        crate::common::engines::on_every_engine![$($test,)*];
        crate::common::engines::on_every_engine_over_tls![$($test,)*];
    };
}
pub(crate) use on_every_engine_and_over_tls;

/// The name of the engine alone.
pub(crate) fn plain_name(engine: Engine) -> Engine {
    engine.strip_suffix(OVER_TLS).unwrap_or(engine)
}

/// Runs a test on an engine, unless the environment says otherwise; then the
/// test says so, past the harness that would swallow it.
pub(crate) fn run(engine: Engine, test: fn(Engine)) {
    match env::var(RESTRICTION) {
        Ok(wanted)
            if !wanted
                .split(',')
                .any(|name| name.trim() == plain_name(engine)) =>
        {
            let note = format!("not run on {engine}: {RESTRICTION}={wanted}\n");
            // If stderr is gone, nobody reads this anyway.
            let _ = std::io::stderr().write_all(note.as_bytes());
        }
        _ => test(engine),
    }
}
