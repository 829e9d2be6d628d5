//! From an engine's name to the engine, and to the runtime it needs.

use std::future::Future;
use std::io;
use std::rc::Rc;

use tokio::task::LocalSet;

use crate::engine::epoll::EpollEngine;
use crate::engine::ring::{self, RingEngine};
use crate::engine::tokio_uring::{self, TokioUringEngine};
use crate::engine::{Engine, EngineChoice, EngineKind, Settings};
use crate::error::Error;

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
}

impl EngineChoice {
    /// The engine to use here. What `auto` passes over is logged, with the
    /// reason.
    ///
    /// # Errors
    /// [`Error::Engine`] if the only engine that may be used does not work.
    pub(crate) fn resolve(self) -> Result<EngineKind, Error> {
        match self {
            Self::Only(kind) => kind.probe().map(|()| kind),
            Self::Auto => {
                let [preferred @ .., last] = PREFERENCE;
                for kind in preferred {
                    match kind.probe() {
                        Ok(()) => {
                            tracing::info!(engine = %kind, "auto: a probe echo came back");
                            return Ok(kind);
                        }
                        Err(error) => tracing::warn!("auto: falling back: {error}"),
                    }
                }
                last.probe().map(|()| last)
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
    pub(crate) fn new(kind: EngineKind) -> io::Result<Self> {
        match kind {
            EngineKind::Epoll | EngineKind::Ring => ::tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(Self::Tokio),
            EngineKind::TokioUring => tokio_uring::runtime().map(Self::TokioUring),
        }
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
pub(crate) fn engine(kind: EngineKind, settings: Rc<Settings>) -> io::Result<Rc<dyn Engine>> {
    Ok(match kind {
        EngineKind::Epoll => Rc::new(EpollEngine::new(settings)?),
        EngineKind::TokioUring => Rc::new(TokioUringEngine::new(settings)),
        EngineKind::Ring => Rc::new(RingEngine::new(settings)?),
    })
}

#[cfg(test)]
pub(crate) mod tests;
