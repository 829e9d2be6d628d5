//! The engine that works here, and that was asked for.

use std::io;
use std::rc::Rc;
use std::thread;

use crate::config::engine_kind::{EngineChoice, EngineKind};
use crate::config::error::Error;
use crate::engine::runtime::Runtime;
use crate::engine::spec::AUTO;
use crate::engine::{Engine, Settings, diagnosis};

impl EngineKind {
    /// Finds out, by a real echo, whether this engine works here.
    ///
    /// # Errors
    /// [`Error::Engine`] with the reason, as something an operator can act on.
    pub fn probe(self) -> Result<(), Error> {
        let Some(probe) = self.spec().probe else {
            return Ok(());
        };
        // A ring belongs to the thread that made it.
        let thread = thread::Builder::new()
            .name("ringback-probe".into())
            .spawn(probe);
        let probed = thread.and_then(|thread| {
            let panicked = |_panic| Err(io::Error::other("the probe panicked"));
            thread.join().unwrap_or_else(panicked)
        });
        probed.map_err(|source| self.unavailable(source))
    }

    /// Why there is no such engine, or no runtime for it.
    pub(super) fn unavailable(self, source: io::Error) -> Error {
        match self.spec().min_kernel {
            None => Error::Start {
                what: "a worker",
                source,
            },
            Some(min_kernel) => Error::Engine {
                engine: self,
                reason: diagnosis::explain(&source, min_kernel),
            },
        }
    }
}

impl EngineChoice {
    /// Starts something with the engine to use here: one whose
    /// [probe](EngineKind::probe) works, and with which `start` works. What `auto`
    /// passes over is logged, with the reason.
    ///
    /// # Errors
    /// [`Error::Engine`] if the only engine that may be used does not work, or
    /// what else `start` fails with.
    pub(crate) fn start<T>(
        self,
        mut start: impl FnMut(EngineKind) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut try_start = |kind: EngineKind| kind.probe().and_then(|()| start(kind));
        match self {
            Self::Only(kind) => try_start(kind),
            Self::Auto => {
                let [preferred @ .., last] = AUTO;
                for kind in preferred {
                    match try_start(kind) {
                        Ok(started) => {
                            tracing::info!(engine = %kind, "auto: a probe echo came back");
                            return Ok(started);
                        }
                        Err(error @ Error::Engine { .. }) => {
                            tracing::warn!("auto: falling back: {error}");
                        }
                        Err(error) => return Err(error),
                    }
                }
                try_start(last)
            }
        }
    }
}

/// A runtime on this thread, as this kind of engine needs it.
///
/// # Errors
/// As [`engine`].
pub(crate) fn runtime(kind: EngineKind) -> Result<Runtime, Error> {
    (kind.spec().runtime)().map_err(|error| kind.unavailable(error))
}

/// An engine on the current thread's runtime, which is of the same kind.
///
/// # Errors
/// [`Error::Engine`] where another kind may work, mostly because there is no room
/// for one more ring.
pub(crate) fn engine(kind: EngineKind, settings: Rc<Settings>) -> Result<Rc<dyn Engine>, Error> {
    (kind.spec().engine)(settings).map_err(|error| kind.unavailable(error))
}
