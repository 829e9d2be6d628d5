//! The runtimes that engines need.

use std::future::Future;
use std::io;

use tokio::task::LocalSet;

/// The runtime of one worker, on the thread that made it.
pub(crate) enum Runtime {
    Tokio(::tokio::runtime::Runtime),
    TokioUring(::tokio_uring::Runtime),
}

impl Runtime {
    pub(super) fn tokio() -> io::Result<Self> {
        let mut builder = ::tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().map(Self::Tokio)
    }

    /// Runs `future` to its end, and the tasks it spawns locally meanwhile.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Tokio(runtime) => LocalSet::new().block_on(runtime, future),
            Self::TokioUring(runtime) => runtime.block_on(future),
        }
    }
}
