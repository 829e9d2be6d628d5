//! Makes each test run on every engine.

use std::env;
use std::io::Write;

/// The variable that restricts the engines, as a list with commas: most containers
/// forbid `io_uring`.
pub(crate) const RESTRICTION: &str = "RINGBACK_TEST_ENGINES";

/// An engine's name on the command line, with the suffixes below.
pub(crate) type Engine = &'static str;

/// Suffixes for TLS and for a handler.
pub(crate) const OVER_TLS: &str = "+tls";
pub(crate) const WITH_HANDLER: &str = "+handler";

/// Makes each of these functions, which take an [`Engine`], a test in a module.
macro_rules! on_engine {
    ($module:ident, $engine:literal, $($test:ident,)*) => {
        mod $module {
            $(#[test] fn $test() {
                crate::common::engines::run($engine, super::$test);
            })*
        }
    };
}
pub(crate) use on_engine;

/// The same for each engine.
macro_rules! on_every_engine {
    ($($test:ident,)*) => {
        crate::common::engines::on_engine!(epoll, "epoll", $($test,)*);
        crate::common::engines::on_engine!(ring, "ring", $($test,)*);
        crate::common::engines::on_engine!(tokio_uring, "tokio-uring", $($test,)*);
    };
}
pub(crate) use on_every_engine;

/// As [`on_every_engine`], over TLS.
macro_rules! on_every_engine_over_tls {
    ($($test:ident,)*) => {
        crate::common::engines::on_engine!(tls_epoll, "epoll+tls", $($test,)*);
        crate::common::engines::on_engine!(tls_ring, "ring+tls", $($test,)*);
        crate::common::engines::on_engine!(tls_tokio_uring, "tokio-uring+tls", $($test,)*);
    };
}
pub(crate) use on_every_engine_over_tls;

/// Plain and over TLS.
macro_rules! on_every_engine_and_over_tls {
    ($($test:ident,)*) => {
        crate::common::engines::on_every_engine![$($test,)*];
        crate::common::engines::on_every_engine_over_tls![$($test,)*];
    };
}
pub(crate) use on_every_engine_and_over_tls;

/// As [`on_every_engine_and_over_tls`], with a handler.
macro_rules! on_every_engine_with_handler {
    ($($test:ident,)*) => {
        mod handler {
            use super::{$($test,)*};
            crate::common::engines::on_engine!(epoll, "epoll+handler", $($test,)*);
            crate::common::engines::on_engine!(ring, "ring+handler", $($test,)*);
            crate::common::engines::on_engine!(tokio_uring, "tokio-uring+handler", $($test,)*);
            crate::common::engines::on_engine!(tls_epoll, "epoll+tls+handler", $($test,)*);
            crate::common::engines::on_engine!(tls_ring, "ring+tls+handler", $($test,)*);
            crate::common::engines::on_engine!(
                tls_tokio_uring, "tokio-uring+tls+handler", $($test,)*);
        }
    };
}
pub(crate) use on_every_engine_with_handler;

/// The name of the engine without suffixes.
pub(crate) fn plain_name(engine: Engine) -> Engine {
    engine.split_once('+').map_or(engine, |(name, _rest)| name)
}

/// Runs a test on an engine, unless [`RESTRICTION`] excludes it; then a note goes to
/// stderr directly, past the capture of the test harness.
pub(crate) fn run(engine: Engine, test: fn(Engine)) {
    match env::var(RESTRICTION) {
        Ok(wanted)
            if !wanted
                .split(',')
                .any(|name| name.trim() == plain_name(engine)) =>
        {
            let note = format!("not run on {engine}: {RESTRICTION}={wanted}\n");
            // The note is lost if stderr is closed.
            let _ = std::io::stderr().write_all(note.as_bytes());
        }
        _ => test(engine),
    }
}
