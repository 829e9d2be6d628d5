//! From an engine's name to the engine, and to the runtime it needs.

use std::future::Future;
use std::io;
use std::rc::Rc;

use tokio::task::LocalSet;

use crate::config::engine_kind::{EngineChoice, EngineKind};
use crate::config::error::Error;
use crate::engine::epoll::EpollEngine;
use crate::engine::ring::{self, RingEngine};
use crate::engine::tokio_uring::{self, TokioUringEngine};
use crate::engine::{Engine, Settings, diagnosis};

/// What `auto` tries, in this order; the last one works everywhere.
pub(crate) const PREFERENCE: [EngineKind; 2] = [EngineKind::Ring, EngineKind::Epoll];

impl EngineKind {
    /// Finds out, by a real echo, whether this engine works here.
    ///
    /// # Errors
    /// [`Error::Engine`] with the reason, as something an operator can act on.
    pub fn probe(self) -> Result<(), Error> {
        let probed = match self {
            Self::Epoll => Ok(()),
            Self::TokioUring => tokio_uring::probe(),
            Self::Ring => ring::probe(),
        };
        probed.map_err(|reason| Error::Engine {
            engine: self,
            reason,
        })
    }

    /// Why there is no such engine, or no runtime for it.
    fn cannot(self, source: io::Error) -> Error {
        let min_kernel = match self {
            Self::Epoll => {
                return Error::Start {
                    what: "a worker",
                    source,
                };
            }
            Self::TokioUring => tokio_uring::MIN_KERNEL,
            Self::Ring => ring::MIN_KERNEL,
        };
        Error::Engine {
            engine: self,
            reason: diagnosis::explain(&source, min_kernel),
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
                let [preferred @ .., last] = PREFERENCE;
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

/// The runtime of one worker, on the thread that made it.
pub(crate) enum Runtime {
    Tokio(::tokio::runtime::Runtime),
    TokioUring(::tokio_uring::Runtime),
}

impl Runtime {
    /// A runtime on this thread, as this kind of engine needs it.
    ///
    /// # Errors
    /// As [`engine`].
    pub(crate) fn new(kind: EngineKind) -> Result<Self, Error> {
        let made = match kind {
            EngineKind::Epoll | EngineKind::Ring => ::tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(Self::Tokio),
            EngineKind::TokioUring => tokio_uring::runtime().map(Self::TokioUring),
        };
        made.map_err(|error| kind.cannot(error))
    }

    /// Runs `future` to its end, and the tasks it spawns locally meanwhile.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Tokio(runtime) => LocalSet::new().block_on(runtime, future),
            Self::TokioUring(runtime) => runtime.block_on(future),
        }
    }
}

/// An engine on the current thread's runtime, which is of the same kind.
///
/// # Errors
/// [`Error::Engine`] where another kind may work, mostly because there is no room
/// for one more ring.
pub(crate) fn engine(kind: EngineKind, settings: Rc<Settings>) -> Result<Rc<dyn Engine>, Error> {
    let made = || -> io::Result<Rc<dyn Engine>> {
        Ok(match kind {
            EngineKind::Epoll => Rc::new(EpollEngine::new(settings)?),
            EngineKind::TokioUring => Rc::new(TokioUringEngine::new(settings)),
            EngineKind::Ring => Rc::new(RingEngine::new(settings)?),
        })
    };
    made().map_err(|error| kind.cannot(error))
}

#[cfg(test)]
pub(crate) mod tests;
