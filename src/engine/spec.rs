//! The table of engines: what differs from one to the other, apart from how they move
//! bytes.

use std::io;
use std::rc::Rc;

use crate::config::engine_kind::EngineKind;
use crate::engine::epoll::EpollEngine;
use crate::engine::ring::{self, RingEngine};
use crate::engine::runtime::Runtime;
use crate::engine::tokio_uring::{self, TokioUringEngine};
use crate::engine::{Engine, Settings};

/// The engines that `auto` tries, in this order; the last one works everywhere.
pub(crate) const AUTO: [EngineKind; 2] = [EngineKind::Ring, EngineKind::Epoll];

/// A row of the table.
pub(crate) struct EngineSpec {
    /// What the doctor calls its finding.
    pub(crate) check: &'static str,
    /// The oldest Linux with everything that the engine asks for; `None` for any.
    pub(crate) min_kernel: Option<(u32, u32)>,
    /// Echoes a message through an engine's operations; `None` if it works everywhere.
    pub(crate) probe: Option<fn() -> io::Result<()>>,
    /// The runtime of a worker, on the current thread.
    pub(crate) runtime: fn() -> io::Result<Runtime>,
    /// The engine of a worker, on that runtime.
    pub(crate) engine: fn(Rc<Settings>) -> io::Result<Rc<dyn Engine>>,
    /// Bytes of a worker: its stack, its buffers, and the pool of the ring.
    pub(crate) worker_bytes: u64,
    /// Bytes of an idle connection in user space, as `cargo bench --bench idle_memory`
    /// has them, rounded up.
    pub(crate) connection_bytes: u64,
    /// KiB of locked memory that a worker's ring is charged with, measured on 6.18 and
    /// rounded up.
    pub(crate) ring_kib: u64,
}

const EPOLL: EngineSpec = EngineSpec {
    check: "engine epoll",
    min_kernel: None,
    probe: None,
    runtime: Runtime::tokio,
    engine: |settings| Ok(Rc::new(EpollEngine::new(settings)?)),
    worker_bytes: 2 << 20,
    connection_bytes: 384,
    ring_kib: 0,
};

const TOKIO_URING: EngineSpec = EngineSpec {
    check: "engine tokio-uring",
    // For IORING_SETUP_SINGLE_ISSUER.
    min_kernel: Some((6, 0)),
    probe: Some(tokio_uring::probe),
    runtime: || tokio_uring::runtime().map(Runtime::TokioUring),
    engine: |settings| Ok(Rc::new(TokioUringEngine::new(settings))),
    worker_bytes: 2 << 20,
    connection_bytes: 3584,
    ring_kib: 104,
};

const RING: EngineSpec = EngineSpec {
    check: "engine ring",
    // For IORING_SETUP_DEFER_TASKRUN.
    min_kernel: Some((6, 1)),
    probe: Some(ring::probe),
    runtime: Runtime::tokio,
    engine: |settings| Ok(Rc::new(RingEngine::new(settings)?)),
    worker_bytes: 8 << 20,
    connection_bytes: 192,
    ring_kib: 160,
};

impl EngineKind {
    pub(crate) const fn spec(self) -> &'static EngineSpec {
        match self {
            Self::Epoll => &EPOLL,
            Self::TokioUring => &TOKIO_URING,
            Self::Ring => &RING,
        }
    }
}
